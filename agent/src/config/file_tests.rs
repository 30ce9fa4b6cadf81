//! What the file may hold, and what is said where it may not.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::super::{Config, ConfigError, Environment, KEYS, RunArgs, Source};
use super::*;

/// The annotated file that users start from.
const ANNOTATED: &str = include_str!("../../../deploy/sonde.yaml");

fn parse(text: &str) -> Result<Document, Vec<Problem>> {
    Document::parse(Path::new("sonde.yaml"), text)
}

fn effective(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let document = parse(text).map_err(ConfigError::Problems)?;
    let environment = Environment::of(variables.iter().copied()).with_file(Some(Arc::new(document)));
    Config::new(&RunArgs::default(), &environment)
}

fn refused(text: &str) -> String {
    effective(text, &[]).map(|config| config.print()).unwrap_err().to_string()
}

/// A key without a description, or a description without a key, is a mistake of ours.
#[test]
fn the_annotated_file_has_every_key_with_its_default() {
    fn leaves(prefix: &str, value: &serde_json::Value, found: &mut BTreeSet<String>) {
        let known = KEYS.iter().any(|key| key.path == prefix);
        match value {
            serde_json::Value::Object(map) if !known => {
                for (name, value) in map {
                    let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                    leaves(&path, value, found);
                }
            }
            _ => drop(found.insert(prefix.to_owned())),
        }
    }
    let mut found = BTreeSet::new();
    leaves("", &serde_saphyr::from_str(ANNOTATED).unwrap(), &mut found);
    let known: BTreeSet<String> = KEYS.iter().map(|key| key.path.to_owned()).collect();
    assert_eq!(found, known);
    for key in KEYS {
        assert!(ANNOTATED.contains(key.variable), "{} is not named beside {}", key.variable, key.path);
        let live = ANNOTATED.lines().any(|line| line.contains(key.variable) && line.contains("(live)"));
        assert_eq!(live, key.reload == super::super::Reload::Live, "{}: (live)", key.path);
    }

    let values = |config: &Config| -> Vec<(&'static str, String)> {
        config.settings.iter().map(|setting| (setting.name, setting.value.clone())).collect()
    };
    let annotated = effective(ANNOTATED, &[]).unwrap();
    let default = Config::new(&RunArgs::default(), &Environment::default()).unwrap();
    assert_eq!(values(&annotated), values(&default));
    // The sections that a console alone does not read.
    let exporting = |text: &str| values(&effective(text, &[("SONDE_OUTPUTS", "otlp")]).unwrap());
    assert_eq!(exporting(ANNOTATED), exporting(""));
}

#[test]
fn variables_win_over_the_file_and_the_file_over_defaults() {
    let text = "
outputs: [otlp]
otlp:
  endpoint: http://file:4318
  timeout: 2m
  headers:
    authorization: Bearer a, b=c
targets: {ports: [80, 8000-8100], services: 'shop-{a,b}'}
";
    let config = effective(
        text,
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://variable:4318"), ("SONDE_HOOKS", "lengths")],
    )
    .unwrap();
    let find = |name: &str| config.settings.iter().find(|setting| setting.name == name).unwrap();
    let file = |line| Source::File("sonde.yaml".into(), line);
    let otlp = config.outputs.otlp.as_ref().unwrap();
    assert_eq!(otlp.endpoint.uri().to_string(), "http://variable:4318/v1/traces");
    assert_eq!(otlp.headers[0].1.to_str().unwrap(), "Bearer a, b=c");
    assert_eq!(otlp.timeout.as_secs(), 120);
    assert_eq!(find("otlp.traces.endpoint").source, Source::Variable("OTEL_EXPORTER_OTLP_ENDPOINT"));
    assert_eq!(find("otlp.traces.timeout").source, file(5));
    assert_eq!(find("otlp.traces.compression").source, Source::Default);
    assert_eq!(find("targets.ports").source, file(8));
    assert_eq!(find("hooks").source, Source::Variable("SONDE_HOOKS"));
    assert_eq!(config.targets.ports.ranges(), [(80, 80), (8000, 8100)]);
    assert!(config.targets.services[0].matches("shop-b"));
    assert!(!config.print().contains("Bearer"), "{}", config.print());
}

#[test]
fn a_flag_for_targets_replaces_the_files() {
    use clap::Parser;
    let super::super::Command::Run(args) =
        super::super::Cli::try_parse_from(["sonde", "run", "--pid", "7"]).unwrap().command
    else {
        panic!()
    };
    let document = parse("targets: {ports: [80]}\nhooks: syscalls").unwrap();
    let environment = Environment::default().with_file(Some(Arc::new(document)));
    let config = Config::new(&args, &environment).unwrap();
    assert!(config.targets.ports.is_empty());
    assert_eq!(config.targets.pids, [7]);
    assert_eq!(config.hooks, crate::kernel::HookChoice::Syscalls);
}

#[test]
fn everything_wrong_is_told_at_once_with_its_line() {
    insta::assert_snapshot!(refused(
        "
target: {ports: [80]}
outputs: [otlp, jsom]
hooks: fast
timeout: 5s
targets:
  ports: [80, http]
  pids: nginx
  exe: nginx
otlp: http://localhost:4318
batch:
  delay: 5
  queue: many
  size: [1]
  timeout: 30sec
"
    ));
    insta::assert_snapshot!(refused(
        "
hooks: fast
outputs: [otlp, jsom]
targets:
  ports: [80, http]
  pids: nginx
otlp:
  endpoint: localhost:4318
  protocol: http
  headers: {}
  timeout: 100000h
batch:
  queue: 0
"
    ));
}

#[test]
fn what_is_no_yaml_says_where() {
    insta::assert_snapshot!(refused("targets:\n  ports: [80\nhooks: auto\n"));
    insta::assert_snapshot!(refused("hooks: auto\nhooks: lengths\n"));
    insta::assert_snapshot!(refused("- hooks: auto\n"));
    insta::assert_snapshot!(refused("otlp:\n  headers: [a, b]\n  timeout: {a: b}\n"));
    for empty in ["", "# nothing\n", "targets:\notlp: {}\n", "---\n"] {
        effective(empty, &[]).unwrap();
    }
}

#[test]
fn a_file_that_is_not_there() {
    let problems = Document::read(Path::new("/nonexistent/sonde.yaml")).unwrap_err();
    assert_eq!(problems[0].to_string(), "/nonexistent/sonde.yaml: No such file or directory (os error 2)");
}

#[test]
fn units() {
    let seconds = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
    for (text, expected) in [
        ("5s", Some("5000")),
        ("500ms", Some("500")),
        ("2 m", Some("120000")),
        ("1h", Some("3600000")),
        ("0", Some("0")),
        ("5", None),
        ("5S", None),
        ("-5s", None),
        ("s", None),
        ("", None),
        ("99999999999999999999s", None),
        ("9999999999999999999h", None),
    ] {
        assert_eq!(measure(text, &seconds).as_deref(), expected, "{text}");
    }
    assert_eq!(scalar(Kind::Size, "64KiB").unwrap(), "65536");
    assert_eq!(scalar(Kind::Size, "10MB").unwrap(), "10000000");
    assert!(scalar(Kind::Ratio, "1.5").is_err() && scalar(Kind::Ratio, "NaN").is_err());
}

#[test]
fn lists_survive_their_variable() {
    for items in [vec![], vec!["a"], vec!["a", "b"], vec!["a,b", "c"], vec![" a"], vec!["[a]"], vec![""]] {
        let items: Vec<String> = items.into_iter().map(str::to_owned).collect();
        assert_eq!(list_items(&list_text(&items)).unwrap(), items);
    }
    assert_eq!(list_items(" a, b ,,").unwrap(), ["a", "b"]);
    assert!(list_items("[a").is_err());
}
