//! Where spans go: flags, environment and defaults against each other.

use clap::Parser;

use super::*;
use crate::config::{Cli, Command, Config, ConfigAction, RunArgs};

const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");

fn run(args: &[&str]) -> RunArgs {
    let command = Cli::try_parse_from(["sonde", "run"].iter().chain(args)).unwrap().command;
    match command {
        Command::Run(args) => args,
        other => panic!("{other:?}"),
    }
}

fn resolve(args: &[&str], variables: &[(&str, &str)]) -> Result<Resolved, ConfigError> {
    Resolved::new(&run(args).outputs, &Environment::of(variables.iter().copied()))
}

/// Flags, environment, and what they should give: outputs and source.
type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str, &'a str);

#[test]
fn outputs_are_chosen() {
    let cases: &[Case<'_>] = &[
        (&[], &[], "console", "default"),
        (&[], &[ENDPOINT], "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        (
            &[],
            &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c")],
            "otlp",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        ),
        (&[], &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")], "console", "default"),
        (&[], &[("OTEL_TRACES_EXPORTER", "otlp,console")], "otlp,console", "OTEL_TRACES_EXPORTER"),
        (&[], &[("OTEL_TRACES_EXPORTER", "none"), ENDPOINT], "none", "OTEL_TRACES_EXPORTER"),
        (&[], &[("OTEL_TRACES_EXPORTER", "otlp/stdout")], "json", "OTEL_TRACES_EXPORTER"),
        (&[], &[("OTEL_SDK_DISABLED", "True"), ENDPOINT], "none", "OTEL_SDK_DISABLED"),
        (&["--output", "json"], &[("OTEL_SDK_DISABLED", "true")], "json", "--output"),
        (&["--output", "json:/x", "--output", "otlp"], &[], "json:/x,otlp", "--output"),
        (&["--output", "console", "--output", "console"], &[ENDPOINT], "console", "--output"),
        (&["--output", "none"], &[ENDPOINT], "none", "--output"),
    ];
    for (args, variables, outputs, source) in cases {
        let resolved = resolve(args, variables).unwrap();
        let setting = resolved.settings.iter().find(|setting| setting.name == "outputs").unwrap();
        assert_eq!(
            (setting.value.as_str(), setting.source.to_string().as_str()),
            (*outputs, *source),
            "{args:?}"
        );
        assert_eq!(resolved.outputs.otlp.is_some(), outputs.contains("otlp"));
    }
}

#[test]
fn unknown_exporters_are_warned_of() {
    let resolved = resolve(&[], &[("OTEL_TRACES_EXPORTER", "zipkin"), ENDPOINT]).unwrap();
    assert_eq!(resolved.outputs.outputs, [OutputSpec::Otlp]);
    assert_eq!(
        resolved.warnings,
        ["OTEL_TRACES_EXPORTER: zipkin is ignored: write otlp, console, otlp/stdout or none"]
    );
}

#[test]
fn outputs_that_exclude_each_other_say_what_to_do() {
    let error = |args: &[&str]| resolve(args, &[]).unwrap_err().to_string();
    assert!(error(&["--output", "json", "--output", "console"]).contains("hint: write json:FILE"));
    assert!(error(&["--output", "none", "--output", "console"]).contains("hint: leave out none"));
}

#[test]
fn colours_are_off_where_the_environment_says_so() {
    for (variable, plain) in [
        (("NO_COLOR", "1"), true),
        (("NO_COLOR", ""), false),
        (("TERM", "dumb"), true),
        (("TERM", "xterm"), false),
    ] {
        assert_eq!(resolve(&[], &[variable]).unwrap().outputs.plain, plain, "{variable:?}");
    }
}

#[test]
fn a_bad_command_line_ends_with_2_and_a_hint() {
    for (args, hint) in [
        (vec!["run", "--port", "http"], "write numbers from 1 to 65535"),
        (vec!["run", "--port", "90-80"], "write 80-90"),
        (vec!["run", "--exe", "["], "write a name with"),
        (vec!["run", "--pid", "0"], "1.."),
        (vec!["run", "--output", "xml"], "write console, json, json:FILE, otlp or none"),
        (vec!["run", "--output", "json:"], "write json:spans.jsonl"),
        (vec!["run", "--output", "otlp:http://c"], "OTEL_EXPORTER_OTLP_ENDPOINT"),
        (vec!["run", "--hooks", "kprobes"], "auto, lengths, syscalls"),
        (vec!["run", "--log", "sonde=loud"], "write a level"),
        (vec!["run", "--prot", "80"], "--port"),
        (vec!["rnu"], "Usage"),
        (vec!["replay"], "FILE"),
        (vec!["record"], "FILE"),
        (vec![], "Usage"),
    ] {
        let error = Cli::try_parse_from(["sonde"].iter().chain(&args)).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{args:?}");
        assert!(error.to_string().contains(hint), "{args:?}: {error}");
    }
    // An empty variable, which clap hands over as an empty value, counts as none.
    let empty = Cli::try_parse_from(["sonde", "--log", "", "run"]).unwrap();
    assert_eq!(empty.log, "info");
    let help = Cli::try_parse_from(["sonde", "run", "--help"]).unwrap_err();
    assert_eq!(help.exit_code(), 0);
}

#[test]
fn every_command_parses() {
    for args in [
        vec![
            "run",
            "--port",
            "80",
            "--port",
            "443,8000-8100",
            "--exe",
            "nginx",
            "--pid",
            "1",
            "--service",
            "shop*",
        ],
        vec![
            "run",
            "--output",
            "console",
            "--output",
            "json:/tmp/x",
            "--hooks",
            "syscalls",
            "--log",
            "debug",
        ],
        vec!["record", "x.sonde", "--yes", "--port", "80", "--hooks", "lengths"],
        vec!["replay", "x.sonde", "--output", "json"],
        vec!["doctor", "--json"],
        vec!["config", "print", "--port", "80"],
    ] {
        Cli::try_parse_from(["sonde"].iter().chain(&args)).unwrap();
    }
}

#[test]
fn the_configuration_prints_with_sources_and_without_secrets() {
    let args = ["sonde", "config", "print", "--port", "443,80-90", "--exe", "nginx"];
    let Command::Config(config) = Cli::try_parse_from(args).unwrap().command else { panic!() };
    let ConfigAction::Print(args) = config.action else { panic!() };
    let environment = Environment::of([
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://user:secret@c:4318/base"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=secret"),
        ("OTEL_BSP_SCHEDULE_DELAY", "soon"),
    ]);
    let text = Config::new(&args, &environment).unwrap().print();
    assert!(!text.contains("secret"), "{text}");
    insta::assert_snapshot!(text);
}
