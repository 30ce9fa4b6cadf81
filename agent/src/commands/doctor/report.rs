//! All of it: the kernel, the clock, the endpoints that are configured, and the processes; and what the worst of it means.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::processes::{self, Connections, Looked, Traffic};
use super::text::{Mark, Page, Paint, size};
use super::{Findings, Time};
use crate::config::{Config, Environment, Otlp, RunArgs, Targets};
use crate::export::{Checked, Reached, check};
use crate::kernel::Features;
use crate::telemetry::Signal;

/// Processes that are shown to people; `--json` has all.
const SHOWN: usize = 30;

/// Kinds of connections that are shown of one process.
const SHOWN_CONNECTIONS: usize = 6;

/// A clock before this is wrong: 2026-01-01, before this program was.
const EARLIEST: Duration = Duration::from_secs(1_767_225_600);

/// Everything that was found, as `--json` prints it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    #[serde(flatten)]
    pub(super) findings: Findings,
    /// The exit status: 0 fine, 1 an endpoint would not take spans, 2 the configuration cannot be followed, 3 `sonde run` would
    /// not start.
    pub(super) status: u8,
    /// Why the configuration cannot be followed; `null` where it can.
    pub(super) configuration_error: Option<String>,
    pub(super) clock: Time,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) traffic: Traffic,
}

/// An OTLP endpoint.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Endpoint {
    /// Signals that go there.
    pub(super) signals: Vec<&'static str>,
    /// Without the user and password that it may hold.
    pub(super) url: String,
    pub(super) protocol: &'static str,
    pub(super) reached: Reached,
    pub(super) address: Option<String>,
    /// What stands in the way; `null` where nothing does.
    pub(super) problem: Option<String>,
}

impl Report {
    /// Looks at everything.
    pub(super) fn of(features: &Features, file: Option<&Path>) -> Self {
        let config = Environment::with_config(file)
            .and_then(|environment| Config::new(&RunArgs::default(), &environment));
        let (config, configuration_error) = match config {
            Ok(config) => (Some(config), None),
            Err(why) => (None, Some(why.to_string())),
        };
        let outputs = config.as_ref().map(|config| &config.outputs);
        let configured = [
            (Signal::Traces, outputs.and_then(|outputs| outputs.otlp.as_ref())),
            (Signal::Metrics, outputs.and_then(|outputs| outputs.otlp_metrics.as_ref())),
        ];
        let (mut endpoints, mut backends) = (Vec::new(), Vec::new());
        for (signal, otlp) in configured {
            let Some(otlp) = otlp else { continue };
            let checked = check(otlp, signal);
            if checked.address.is_some_and(|address| address.ip().is_loopback()) {
                backends.push(otlp.endpoint.port());
            }
            endpoints.push(Endpoint::of(signal, otlp, checked));
        }
        let targets = config.as_ref().map_or_else(Targets::default, |config| config.targets.clone());
        Self::judged(
            Findings::of(features),
            configuration_error,
            Time::read(),
            endpoints,
            processes::look(&targets, &backends),
        )
    }

    fn judged(
        findings: Findings,
        configuration_error: Option<String>,
        clock: Time,
        endpoints: Vec<Endpoint>,
        traffic: Traffic,
    ) -> Self {
        let status = if !findings.can_run {
            3
        } else if configuration_error.is_some() {
            2
        } else {
            u8::from(endpoints.iter().any(|endpoint| endpoint.problem.is_some()))
        };
        Self { findings, status, configuration_error, clock, endpoints, traffic }
    }

    /// All of it as aligned text.
    pub(super) fn render(&self, paint: Paint) -> String {
        let mut page = Page { text: self.findings.render(paint), paint };
        page.title("Clock");
        let (mark, text) = self.clock.words();
        page.row(mark, "time", &text);
        page.title("Configuration");
        match &self.configuration_error {
            Some(why) => page.row(Mark::Bad, "configuration", why.lines().next().unwrap_or_default()),
            None => page.row(Mark::Good, "configuration", "can be followed"),
        }
        for endpoint in &self.endpoints {
            let (mark, text) = endpoint.words();
            page.row(mark, &format!("OTLP {}", endpoint.signals.join(", ")), &text);
        }
        if self.endpoints.is_empty() && self.configuration_error.is_none() {
            page.row(Mark::None, "OTLP", "no endpoint is configured (OTEL_EXPORTER_OTLP_ENDPOINT)");
        }
        self.traffic.render(&mut page);
        page.text
    }
}

impl Endpoint {
    fn of(signal: Signal, otlp: &Otlp, checked: Checked) -> Self {
        Self {
            signals: vec![signal.name()],
            url: otlp.endpoint.shown(),
            protocol: otlp.protocol.name(),
            reached: checked.reached,
            address: checked.address.map(|address| address.to_string()),
            problem: checked.problem,
        }
    }

    fn words(&self) -> (Mark, String) {
        let Self { url, protocol, .. } = self;
        let at = self.address.as_ref().map_or(String::new(), |address| format!(" at {address}"));
        match &self.problem {
            None => (Mark::Good, format!("{url}{at} takes {protocol}")),
            Some(problem) => (Mark::Bad, format!("{url}{at}: {problem}")),
        }
    }
}

impl Time {
    fn read() -> Self {
        let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
        let source = std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { source, unix_seconds: now.as_secs(), is_plausible: now >= EARLIEST }
    }

    fn words(&self) -> (Mark, String) {
        let now = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(self.unix_seconds));
        let source = self.source.as_deref().unwrap_or("not readable");
        if !self.is_plausible {
            return (Mark::Warn, format!("{now} cannot be: spans would carry it"));
        }
        match source {
            // Read over a bus, at a microsecond and more; each record is stamped.
            "hpet" | "acpi_pm" | "jiffies" => {
                (Mark::Warn, format!("{now}, clock source {source}: each time stamp is slow"))
            }
            _ => (Mark::Good, format!("{now}, clock source {source}")),
        }
    }
}

impl Traffic {
    fn render(&self, page: &mut Page) {
        page.title("Processes with TCP sockets");
        if let Some(why) = &self.error {
            page.row(Mark::Warn, "sockets", why);
            return;
        }
        for process in self.processes.iter().take(SHOWN) {
            let (mark, text) = process.words();
            page.row(mark, &format!("{:<8} {}", process.pid, process.service), &text);
            for at in process.connections.iter().take(SHOWN_CONNECTIONS) {
                page.row(Mark::None, "", &at.words(self.bytes));
            }
        }
        if let Some(more) = self.processes.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            page.row(Mark::None, "and", &format!("{more} more; --json has them"));
        }
        let share = percent(self.unreadable_bytes, self.bytes);
        page.row(
            Mark::None,
            "not read",
            &format!("{share} of {} on open connections, as far as ports tell", size(self.bytes)),
        );
        for (n, words) in [
            (
                self.in_other_namespaces,
                "processes in other network namespaces: not looked at here, Sonde sees them",
            ),
            (self.without_process, "connections whose process may not be looked at"),
        ] {
            if n > 0 {
                page.row(Mark::None, "", &format!("{n} {words}"));
            }
        }
    }
}

impl Looked {
    fn words(&self) -> (Mark, String) {
        let mark = match (self.observed, self.why) {
            (true, None) => Mark::Good,
            (true, Some(_)) => Mark::Warn,
            (false, _) => Mark::None,
        };
        let listens: Vec<String> = self.listens.iter().map(u16::to_string).collect();
        let listens =
            if listens.is_empty() { String::new() } else { format!(", listens on {}", listens.join(", ")) };
        let verdict = if self.observed { "observed" } else { "not observed" };
        let why = self.why.map_or(String::new(), |why| format!(": {why}"));
        (mark, format!("{verdict}{why} ({}{listens})", self.program))
    }
}

impl Connections {
    fn words(&self, all: u64) -> String {
        let Self { port, open, bytes, .. } = self;
        let usual = match (self.usual, self.readable) {
            (Some(name), Some(true)) => format!("usually {name}"),
            (Some(name), _) => format!("usually {name}, which Sonde cannot read"),
            (None, _) => "not known by its port: Sonde looks at the bytes".to_owned(),
        };
        format!("port {port}: {open} open, {} ({} of all), {usual}", size(*bytes), percent(*bytes, all))
    }
}

fn percent(part: u64, whole: u64) -> String {
    match whole {
        0 => "0 %".to_owned(),
        _ => format!("{:.1} %", part as f64 * 100.0 / whole as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::tests::Laid;

    fn report(problem: Option<&str>, error: Option<&str>, laid: &Laid) -> Report {
        let endpoint = Endpoint {
            signals: vec!["traces"],
            url: "https://c:4318/v1/traces".to_owned(),
            protocol: "http/protobuf",
            reached: if problem.is_some() { Reached::Connected } else { Reached::Accepted },
            address: Some("192.0.2.1:4318".to_owned()),
            problem: problem.map(str::to_owned),
        };
        let looked = |pid, service: &str, observed, why, connections: Vec<Connections>| Looked {
            pid,
            service: service.to_owned(),
            program: format!("/usr/bin/{service}"),
            observed,
            why,
            listens: vec![80],
            bytes: connections.iter().map(|at| at.bytes).sum(),
            connections,
        };
        let at = |port, bytes| Connections {
            port,
            usual: processes::usual(port).map(|(name, _)| name),
            readable: processes::usual(port).map(|(_, readable)| readable),
            open: 2,
            bytes,
        };
        let traffic = Traffic {
            error: None,
            processes: vec![
                looked(12, "shop", true, None, vec![at(443, 3_000), at(80, 1_000), at(45_678, 0)]),
                looked(1, "systemd", false, Some("it runs the machine"), vec![]),
            ],
            bytes: 4_000,
            unreadable_bytes: 3_000,
            in_other_namespaces: 3,
            without_process: 0,
        };
        let clock = Time { source: Some("tsc".to_owned()), unix_seconds: 1_790_000_000, is_plausible: true };
        Report::judged(
            Findings::of(&laid.features()),
            error.map(str::to_owned),
            clock,
            vec![endpoint],
            traffic,
        )
    }

    #[test]
    fn people_read_what_is_seen_and_what_is_not() {
        let text = report(Some("its certificate has expired"), None, &Laid::new()).render(Paint::Plain);
        let (_, own) = text.split_once("\nClock").unwrap();
        insta::assert_snapshot!(own);
    }

    #[test]
    fn the_worst_finding_is_the_status() {
        let good = Laid::new();
        assert_eq!(report(None, None, &good).status, 0);
        assert_eq!(report(Some("nobody listens"), None, &good).status, 1);
        assert_eq!(report(Some("nobody listens"), Some("bad"), &good).status, 2);
        let without = Laid::new().without("sys/kernel/btf/vmlinux");
        assert_eq!(report(Some("nobody listens"), Some("bad"), &without).status, 3);
    }

    #[test]
    fn machines_read_one_object() {
        let json = serde_json::to_value(report(None, None, &Laid::new())).unwrap();
        assert_eq!(json["status"], 0);
        assert_eq!(json["endpoints"][0]["reached"], "accepted");
        assert_eq!(json["traffic"]["processes"][0]["connections"][0]["usual"], "HTTP over TLS");
        assert_eq!(json["can_run"], true);
    }
}
