//! Exports of telemetry over OTLP, told by their requests: OpenTelemetry protocol specification, "OTLP/gRPC" and "OTLP/HTTP".

use super::HttpCall;

/// What is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exported {
    /// Spans.
    Traces,
    /// Data points.
    Metrics,
    /// Log records.
    Logs,
    /// Profiles.
    Profiles,
    /// Anything, and perhaps it is no export: a request on a connection of HTTP/2 joined late, whose path nobody saw. Whom it is
    /// made to tells more.
    Unknown,
}

/// The port of OTLP/gRPC.
pub const PORT: u16 = 4317;

/// A request that exports telemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Export {
    /// What it exports.
    pub what: Exported,
    /// A proxy says in it that somebody else sent it first.
    pub passed_on: bool,
}

/// The service of each signal has one method.
const METHODS: [(&str, Exported); 4] = [
    ("/opentelemetry.proto.collector.trace.v1.TraceService/Export", Exported::Traces),
    ("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", Exported::Metrics),
    ("/opentelemetry.proto.collector.logs.v1.LogsService/Export", Exported::Logs),
    ("/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export", Exported::Profiles),
];

/// What stands behind the base of an endpoint.
const PATHS: [(&str, Exported); 4] = [
    ("/v1/traces", Exported::Traces),
    ("/v1/metrics", Exported::Metrics),
    ("/v1/logs", Exported::Logs),
    ("/v1development/profiles", Exported::Profiles),
];

/// Whether a `content-type` is one of OTLP/HTTP.
pub(super) fn is_content(value: &[u8]) -> bool {
    let kind = value.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    [&b"application/x-protobuf"[..], b"application/json"].iter().any(|known| kind.eq_ignore_ascii_case(known))
}

/// The export that a request is.
pub(super) fn export(call: &HttpCall) -> Option<Export> {
    let passed_on = call.forwarded_for.is_some() || call.forwarded_proto.is_some();
    let is_post = &*call.method == "POST";
    // On a connection joined late, not even that it is gRPC may be known.
    if call.target.is_empty() && call.version == 2 && is_post {
        return Some(Export { what: Exported::Unknown, passed_on });
    }
    let path = call.target.split(['?', '#']).next().unwrap_or_default();
    // The methods' names are nobody else's, so they say it also where the content was not seen to be gRPC's.
    let by_method = || METHODS.into_iter().find(|(method, _)| *method == path && is_post);
    let is_http = call.rpc.is_none() && call.otlp_content && is_post;
    let by_path = || PATHS.into_iter().find(|(end, _)| is_http && path.ends_with(end));
    let (_, what) = by_method().or_else(by_path)?;
    Some(Export { what, passed_on })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::grpc::RpcCall;

    fn told(method: &'static str, target: &str, content: &str) -> Option<Exported> {
        let rpc = content.starts_with("application/grpc").then(|| Box::new(RpcCall::default()));
        let otlp_content = is_content(content.as_bytes());
        let version = if rpc.is_some() { 2 } else { 1 };
        let call = HttpCall {
            version,
            method: method.into(),
            target: target.into(),
            otlp_content,
            rpc,
            ..HttpCall::default()
        };
        export(&call).map(|export| export.what)
    }

    #[test]
    fn exports_are_told_by_method_path_and_content() {
        let (protobuf, json, grpc) = ("application/x-protobuf", "application/json", "application/grpc");
        for (method, target, content, expected) in [
            ("POST", "/v1/traces", protobuf, Some(Exported::Traces)),
            ("POST", "/v1/metrics", "Application/JSON; charset=utf-8", Some(Exported::Metrics)),
            ("POST", "/otlp/v1/logs?tenant=a", protobuf, Some(Exported::Logs)),
            ("POST", "http://collector:4318/v1/traces", json, Some(Exported::Traces)),
            ("POST", "/v1development/profiles", protobuf, Some(Exported::Profiles)),
            ("GET", "/v1/traces", json, None),
            ("POST", "/v1/traces", "text/plain", None),
            ("POST", "/v1/traces", "application/jsonx", None),
            ("POST", "/v1/traces", "", None),
            ("POST", "/v1/traces/7", json, None),
            ("POST", "/v1/orders", json, None),
            ("POST", "/?/v1/traces", json, None),
            ("POST", METHODS[0].0, grpc, Some(Exported::Traces)),
            ("POST", METHODS[1].0, "application/grpc+proto", Some(Exported::Metrics)),
            ("POST", METHODS[2].0, grpc, Some(Exported::Logs)),
            ("POST", METHODS[2].0, "", Some(Exported::Logs)),
            ("GET", METHODS[2].0, "", None),
            ("POST", "/v1/traces", grpc, None),
            ("POST", "", grpc, Some(Exported::Unknown)),
            ("POST", "", protobuf, None),
            ("POST", "/opentelemetry.proto.collector.trace.v1.TraceService/Explain", grpc, None),
        ] {
            assert_eq!(told(method, target, content), expected, "{method} {target} {content}");
        }
    }
}
