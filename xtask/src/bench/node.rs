//! nginx under wrk with and without Sonde in turn, on this machine (or in the lab's guest, which calls this with `--brief`).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::measured::{Observe, Sonde, cpu, memory, server_spans};
use super::median;
use super::server::{Load, Nginx, Scratch};
use crate::workspace;

/// Keep-alive connections of the memory measurement.
const MANY: u32 = 1000;

struct Options {
    rounds: u32,
    seconds: u32,
    clients: u32,
    observe: Observe,
    /// Without the memory of many connections.
    brief: bool,
}

/// A pair of runs, the first without Sonde.
struct Round {
    without: Load,
    with: Load,
    sonde_cpu: f64,
    spans: f64,
    start: (f64, f64),
    idle: f64,
    peak: f64,
}

pub(super) fn bench(args: &[String]) -> Result<()> {
    let options = parse(args)?;
    let sonde = &options.observe.sonde;
    if !sonde.is_file() {
        bail!("no {}; `cargo xtask build` makes it", sonde.display());
    }
    let scratch = Scratch::new()?;
    let nginx = Nginx::start(&scratch.0)?;
    // Warms nginx and the path to it.
    nginx.load(options.clients, 1)?;
    let mut rounds = Vec::new();
    for number in 1..=options.rounds {
        let round = round(&options, &nginx, &scratch)?;
        eprintln!(
            "round {number}: {:.0} -> {:.0} requests/s, {:.0} spans of {:.0} requests",
            round.without.rate, round.with.rate, round.spans, round.with.requests
        );
        rounds.push(round);
    }
    let of = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure).collect());
    let micro = 1e6;
    let ends = if options.observe.both_ends { "nginx and wrk" } else { "nginx" };
    println!(
        "nginx `return 200`, wrk -t1 -c{}, {} rounds of {} s, medians; spans of {ends}, output {}",
        options.clients, options.rounds, options.seconds, options.observe.output
    );
    println!("throughput ratio            {:10.3}", of(|r| r.with.rate / r.without.rate));
    println!("nginx per request, without  {:10.2} us", micro * of(|r| r.without.cpu / r.without.requests));
    println!("nginx per request, with     {:10.2} us", micro * of(|r| r.with.cpu / r.with.requests));
    println!("sonde per request           {:10.2} us", micro * of(|r| r.sonde_cpu / r.with.requests));
    println!("server spans per request    {:10.4}", of(|r| r.spans / r.with.requests));
    println!("sonde memory idle           {:10.1} MiB", of(|r| r.idle));
    println!("sonde memory peak           {:10.1} MiB", of(|r| r.peak));
    println!("start to observing          {:10.3} s, {:.3} s of CPU", of(|r| r.start.0), of(|r| r.start.1));
    if options.observe.output == "json" {
        let (wall, cpu) = first_span(&options, &nginx)?;
        println!("start to first span         {wall:10.3} s, {cpu:.3} s of CPU");
    }
    if !options.brief {
        println!("sonde memory, {MANY} clients  {:10.1} MiB", many(&options, &nginx, &scratch)?);
    }
    Ok(())
}

fn round(options: &Options, nginx: &Nginx, scratch: &Scratch) -> Result<Round> {
    let without = nginx.load(options.clients, options.seconds)?;
    let sonde = Sonde::start(&options.observe, nginx.port, scratch.file("spans")?.into())?;
    let idle = memory(sonde.pid(), "VmRSS")?;
    let before = cpu(sonde.pid())?;
    let with = nginx.load(options.clients, options.seconds)?;
    let sonde_cpu = cpu(sonde.pid())? - before;
    let peak = memory(sonde.pid(), "VmHWM")?;
    let start = sonde.start;
    sonde.stop()?;
    // wrk does not count what it still waits for when its time is up: a few spans more than requests are right.
    let spans = server_spans(&scratch.0.join("spans"))? as f64;
    Ok(Round { without, with, sonde_cpu, spans, start, idle, peak })
}

/// Seconds from the start to the first span of a request made as soon as Sonde observes, and the CPU until then.
fn first_span(options: &Options, nginx: &Nginx) -> Result<(f64, f64)> {
    let mut sonde = Sonde::start(&options.observe, nginx.port, Stdio::piped())?;
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, nginx.port))?;
    client.write_all(b"GET /first HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    client.read_to_end(&mut Vec::new())?;
    let mut line = String::new();
    let mut output = BufReader::new(sonde.stdout()?);
    while !line.contains("\"spanId\"") {
        line.clear();
        if output.read_line(&mut line)? == 0 {
            bail!("sonde ended without a span");
        }
    }
    let cost = sonde.since_start()?;
    sonde.stop()?;
    Ok(cost)
}

/// Memory while many keep-alive connections are busy.
fn many(options: &Options, nginx: &Nginx, scratch: &Scratch) -> Result<f64> {
    let sonde = Sonde::start(&options.observe, nginx.port, scratch.file("spans")?.into())?;
    let mut wrk = nginx.wrk(MANY, 3).stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    // By then all connections are open and none is closed yet.
    thread::sleep(Duration::from_secs(2));
    let used = memory(sonde.pid(), "VmRSS")?;
    wrk.wait()?;
    sonde.stop()?;
    Ok(used)
}

fn parse(args: &[String]) -> Result<Options> {
    let mut options = Options {
        rounds: 5,
        seconds: 5,
        clients: 8,
        observe: Observe {
            sonde: workspace::sonde(),
            hooks: "auto".to_owned(),
            output: "json".to_owned(),
            both_ends: false,
        },
        brief: false,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} wants a value"));
        match arg.as_str() {
            "--rounds" => options.rounds = value()?.parse()?,
            "--seconds" => options.seconds = value()?.parse()?,
            "--clients" => options.clients = value()?.parse()?,
            "--hooks" => options.observe.hooks.clone_from(value()?),
            "--sonde" => options.observe.sonde = value()?.into(),
            "--output" => options.observe.output.clone_from(value()?),
            "--both-ends" => options.observe.both_ends = true,
            "--brief" => options.brief = true,
            _ => bail!("usage: cargo xtask bench {}", super::COMMAND.usage),
        }
    }
    Ok(options)
}
