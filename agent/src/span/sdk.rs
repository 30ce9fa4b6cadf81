//! Processes that make telemetry of their own: how one shows that, and what of it is then left to it.
//!
//! Shown by its own calls: it exports over OTLP, or writes a context of its own into a call that it makes for a request of
//! the same trace. Where a call exports nobody knows what (gRPC on a connection older than Sonde), any sampled context of its own
//! says the rest. Who receives exports passes on those of others, which shows nothing of itself.

use crate::proto::otlp::{Export, Exported};
use crate::telemetry::Evidence;

/// What becomes of the telemetry of processes that make their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnSdk {
    /// No spans of a process that makes spans, and no metrics of one that exports metrics.
    #[default]
    Skip,
    /// No spans of a process that makes spans; metrics of all.
    MetricsOnly,
    /// Everything, as of any other process.
    Keep,
}

impl OnSdk {
    /// All of them by their names.
    pub const ALL: [(&'static str, Self); 3] =
        [("skip", Self::Skip), ("metrics_only", Self::MetricsOnly), ("keep", Self::Keep)];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::MetricsOnly => "metrics_only",
            Self::Keep => "keep",
        }
    }
}

/// A process has shown something more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The process.
    pub tgid: u32,
    /// What it has shown.
    pub evidence: Evidence,
    /// It has spans of its own, as far as is known from here on.
    pub has_spans: bool,
    /// It has metrics of its own.
    pub has_metrics: bool,
    /// Nothing of the kind was known of it before, or its spans were taken for the opposite.
    pub is_news: bool,
}

/// What one process has shown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shown {
    /// A bit for each [`Evidence`].
    evidence: u8,
    /// It receives exports.
    receives: bool,
    /// Its runtime writes contexts of its own, whether or not anything is made of the spans that they name.
    writes_anyway: bool,
    /// It exports something that is not known.
    exports: bool,
    /// It writes sampled contexts of its own.
    writes: bool,
}

impl Shown {
    const fn has(self, evidence: Evidence) -> bool {
        self.evidence & 1 << evidence as u8 != 0
    }

    /// It has spans of its own. Contexts alone say little of one that is seen to export other things than spans.
    pub(super) const fn has_spans(self) -> bool {
        let others = self.has(Evidence::Metrics) || self.has(Evidence::Logs);
        self.has(Evidence::Traces) || self.has(Evidence::Context) && !others
    }

    /// It has metrics of its own.
    pub(super) const fn has_metrics(self) -> bool {
        self.has(Evidence::Metrics)
    }

    /// Nothing is known of it.
    pub(super) const fn is_nothing(self) -> bool {
        self.evidence == 0
    }

    /// What it serves is an export.
    pub(super) fn receives(&mut self) {
        self.receives = true;
    }

    /// Its contexts show nothing.
    pub(super) fn writes_anyway(&mut self) {
        self.writes_anyway = true;
    }

    /// It makes a call that is an export.
    pub(super) fn exports(&mut self, tgid: u32, export: Export) -> Option<Notice> {
        let evidence = match export.what {
            Exported::Traces => Evidence::Traces,
            Exported::Metrics => Evidence::Metrics,
            Exported::Logs => Evidence::Logs,
            Exported::Profiles => return None,
            Exported::Unknown => Evidence::Context,
        };
        if self.receives || export.passed_on {
            return None;
        }
        if export.what == Exported::Unknown {
            self.exports = true;
            if !self.writes {
                return None;
            }
        }
        self.shows(tgid, evidence)
    }

    /// It wrote a sampled context of its own; `for_request`: for a request of that trace.
    pub(super) fn writes(&mut self, tgid: u32, for_request: bool) -> Option<Notice> {
        self.writes = !self.writes_anyway;
        let tells = self.writes && (for_request || self.exports);
        if tells { self.shows(tgid, Evidence::Context) } else { None }
    }

    fn shows(&mut self, tgid: u32, evidence: Evidence) -> Option<Notice> {
        if self.has(evidence) {
            return None;
        }
        let before = *self;
        self.evidence |= 1 << evidence as u8;
        let has_spans = self.has_spans();
        let is_news = before.is_nothing() || before.has_spans() != has_spans;
        Some(Notice { tgid, evidence, has_spans, has_metrics: self.has_metrics(), is_news })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn export(what: Exported) -> Export {
        Export { what, passed_on: false }
    }

    #[test]
    fn only_who_exports_spans_has_them() {
        let mut shown = Shown::default();
        let notice = shown.exports(1, export(Exported::Logs)).unwrap();
        assert!(notice.is_news && !notice.has_spans && !notice.has_metrics);
        assert_eq!(shown.exports(1, export(Exported::Logs)), None, "once");
        assert_eq!(shown.exports(1, export(Exported::Profiles)), None);
        let notice = shown.exports(1, export(Exported::Metrics)).unwrap();
        assert!(!notice.is_news && !notice.has_spans && notice.has_metrics);
        assert!(!shown.writes(1, true).unwrap().has_spans);
        let notice = shown.exports(1, export(Exported::Traces)).unwrap();
        assert!(notice.is_news && notice.has_spans);
    }

    #[test]
    fn contexts_count_until_exports_of_something_else_are_seen() {
        let mut shown = Shown::default();
        assert_eq!(shown.writes(1, false), None, "perhaps somebody wrote it by hand");
        assert!(shown.writes(1, true).unwrap().has_spans);
        assert_eq!(shown.writes(1, true), None);
        let notice = shown.exports(1, export(Exported::Metrics)).unwrap();
        assert!(notice.is_news && !notice.has_spans);
        let mut shown = Shown::default();
        shown.writes_anyway();
        assert_eq!(shown.writes(1, true), None);
        assert!(!shown.has_spans());
    }

    #[test]
    fn an_export_of_something_and_a_context_of_its_own_show_it_in_either_order() {
        let unknown = export(Exported::Unknown);
        let mut shown = Shown::default();
        assert_eq!(shown.exports(1, unknown), None);
        assert!(shown.writes(1, false).unwrap().has_spans);
        let mut shown = Shown::default();
        assert_eq!(shown.writes(1, false), None);
        assert!(shown.exports(1, unknown).unwrap().has_spans);
        assert_eq!(shown.exports(1, unknown), None);
    }

    #[test]
    fn who_passes_exports_on_shows_nothing() {
        let mut shown = Shown::default();
        let passed_on = Export { passed_on: true, ..export(Exported::Traces) };
        assert_eq!(shown.exports(1, passed_on), None);
        shown.receives();
        assert_eq!(shown.exports(1, export(Exported::Traces)), None);
        assert!(shown.is_nothing());
    }

    #[test]
    fn names() {
        for (name, on_sdk) in OnSdk::ALL {
            assert_eq!(on_sdk.name(), name);
        }
    }
}
