//! What the agent's core costs on one core: a recording run again and again through decode, conn, proto and span, in
//! memory. `cargo xtask bench pipeline` makes the recording, keeps this to one core, and shows what it says.
//!
//! `sonde-bench RECORDING core|json|console`. The report goes to standard error: standard output is the console's, and
//! meant to go nowhere.

mod allocations;
mod core;
mod script;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::time::{ClockId, clock_gettime};
use sonde::config::{Batching, MetricReading, MetricsConfig, OutputSpec, OutputsConfig, WhenFull};
use sonde::export::Outputs;
use sonde::telemetry::{Counters, Lost};

use crate::allocations::{Allocations, Counted};
use crate::core::{Cost, STAGES, Staged, Whole};
use crate::script::Script;

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// Repetitions that are measured, behind one that warms up.
const ROUNDS: usize = 9;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [file, what] = args.as_slice() else {
        bail!("usage: sonde-bench RECORDING core|json|console (`cargo xtask bench pipeline` runs it)");
    };
    let script = Script::read(Path::new(file))?;
    match what.as_str() {
        "core" => whole(script, "without outputs", None).and_then(stages),
        "json" => whole(script, "with json", Some(OutputSpec::Json(Some("/dev/null".into())))).map(drop),
        "console" => whole(script, "with console", Some(OutputSpec::Console)).map(drop),
        other => bail!("no benchmark `{other}`"),
    }
}

/// Measures the agent's own way from records to spans, and on to an output.
fn whole(mut script: Script, title: &str, output: Option<OutputSpec>) -> Result<Script> {
    let counters = Arc::new(Counters::default());
    let outputs = match output {
        Some(output) => Some(Outputs::start(
            &OutputsConfig {
                outputs: vec![output],
                otlp: None,
                otlp_metrics: None,
                metrics: MetricsConfig::default(),
                metric_reading: MetricReading::default(),
                batching: Batching::default(),
                when_full: WhenFull::Wait,
                plain: true,
            },
            &counters,
        )?),
        None => None,
    };
    let mut whole = Whole::new(&script, Arc::clone(&counters));
    let mut rates = Vec::new();
    for round in 0..=ROUNDS {
        let begun = cpu();
        let spans = whole.round(&script, outputs.as_ref());
        let took = cpu() - begun;
        script.advance();
        if spans == 0 {
            bail!("the recording holds no exchange");
        }
        if round > 0 {
            rates.push(spans as f64 / took.as_secs_f64());
        }
    }
    rates.sort_by(f64::total_cmp);
    let median = rates.get(rates.len() / 2).copied().context("no round")?;
    let (least, most) = (rates.first().copied().unwrap_or(0.0), rates.last().copied().unwrap_or(0.0));
    eprintln!(
        "{title}: {median:.0} exchanges/s on one core ({least:.0} to {most:.0} in {ROUNDS} rounds of {} records)",
        script.records()
    );
    if let Some(outputs) = outputs {
        outputs.shutdown(Instant::now() + Duration::from_secs(10));
        return Ok(script);
    }
    let mut spans = 0;
    let all = Allocations::of(|| spans = whole.round(&script, None));
    let each = |number: u64| number as f64 / spans as f64;
    eprintln!("  allocations per exchange: {:.1}, {:.0} bytes", each(all.number), each(all.bytes));
    let mut fresh = Whole::new(&script, Arc::default());
    let half = Allocations::of(|| fresh.half(&script));
    let held = half.bytes.saturating_sub(half.freed) as f64 / script.ends().max(1) as f64;
    eprintln!("  held half-way: {held:.0} bytes for each of {} ends of connections", script.ends());
    for why in Lost::ALL.into_iter().filter(|&why| counters.lost(why) > 0) {
        eprintln!("  lost, {}: {} in all rounds", why.reason(), counters.lost(why));
    }
    script.advance();
    Ok(script)
}

/// CPU time of this process, of all its threads: on one core that is the time it takes when nobody else wants the core.
pub(crate) fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// Measures the stages one by one. Each runs over all records between two ticks before the next one does, so their sum
/// differs a little from the agent's own way, which takes each record through all of them.
fn stages(mut script: Script) -> Result<()> {
    let mut staged = Staged::new(&script);
    let mut rounds: [Vec<f64>; 5] = Default::default();
    for round in 0..=ROUNDS {
        let (spans, costs) = staged.round(&script, false);
        script.advance();
        for (all, cost) in rounds.iter_mut().zip(costs).filter(|_| round > 0) {
            all.push(cost.time.as_secs_f64() * 1e9 / spans as f64);
        }
    }
    let (spans, counted) = staged.round(&script, true);
    eprintln!("  stage                ns per exchange   allocations     bytes");
    for ((name, mut times), Cost { allocations, .. }) in STAGES.into_iter().zip(rounds).zip(counted) {
        times.sort_by(f64::total_cmp);
        let median = times.get(times.len() / 2).copied().context("no round")?;
        let each = |number: u64| number as f64 / spans as f64;
        eprintln!(
            "  {name:20} {median:15.0} {:13.1} {:9.0}",
            each(allocations.number),
            each(allocations.bytes)
        );
    }
    Ok(())
}
