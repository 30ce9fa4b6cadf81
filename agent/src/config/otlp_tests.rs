//! The exporter's variables as the specification reads them.

use super::*;
use crate::config::Environment;
use crate::config::reading::Reading;

fn reading<T>(variables: &[(&str, &str)], read: impl Fn(&mut Reading<'_>) -> T) -> (T, Vec<String>) {
    let environment = Environment::of(variables.iter().copied());
    let mut reading = Reading::new(&environment);
    let value = read(&mut reading);
    (value, reading.warnings)
}

fn otlp(variables: &[(&str, &str)]) -> (Otlp, Vec<String>) {
    let (otlp, warnings) = reading(variables, |reading| reading.otlp(Signal::Traces));
    (otlp.unwrap(), warnings)
}

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";

#[test]
fn endpoints() {
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[], "http://localhost:4318/v1/traces"),
        (&[(PROTOCOL, "grpc")], "http://localhost:4317/"),
        (&[(ENDPOINT, "http://c:4318")], "http://c:4318/v1/traces"),
        (&[(ENDPOINT, "http://c:4318/")], "http://c:4318/v1/traces"),
        (&[(ENDPOINT, "https://c/base/")], "https://c/base/v1/traces"),
        (&[(ENDPOINT, "https://c/base")], "https://c/base/v1/traces"),
        (&[(TRACES, "http://c:4318")], "http://c:4318/"),
        (&[(TRACES, "http://c:4318/x?y=1"), (ENDPOINT, "http://d")], "http://c:4318/x?y=1"),
        (&[(TRACES, ""), (ENDPOINT, "http://d")], "http://d/v1/traces"),
        (&[(ENDPOINT, "http://c:4317"), (PROTOCOL, "grpc")], "http://c:4317/"),
        (&[(ENDPOINT, "c:4317"), (PROTOCOL, "grpc")], "https://c:4317/"),
        (
            &[(ENDPOINT, "c:4317"), (PROTOCOL, "grpc"), ("OTEL_EXPORTER_OTLP_INSECURE", "TRUE")],
            "http://c:4317/",
        ),
        (
            &[(ENDPOINT, "https://c:4317"), (PROTOCOL, "grpc"), ("OTEL_EXPORTER_OTLP_INSECURE", "true")],
            "https://c:4317/",
        ),
        (&[(ENDPOINT, "http://[::1]:4318")], "http://[::1]:4318/v1/traces"),
    ];
    for (variables, expected) in cases {
        let (otlp, warnings) = otlp(variables);
        assert_eq!(otlp.endpoint.uri().to_string(), *expected, "{variables:?}");
        assert_eq!(otlp.endpoint.is_secure(), expected.starts_with("https"));
        assert_eq!(warnings, Vec::<String>::new());
    }
}

#[test]
fn bad_endpoints_are_errors_with_a_hint() {
    for (endpoint, problem) in [
        ("localhost:4318", "the scheme is missing"),
        ("ftp://c", "the scheme must be http or https"),
        ("http://", "it is no URL"),
        ("http://a b", "it is no URL"),
        ("http://:4318", "the host is missing"),
    ] {
        let (result, _) = reading(&[(ENDPOINT, endpoint)], |reading| reading.otlp(Signal::Traces));
        let text = result.unwrap_err().to_string();
        let hint = "hint: write a URL such as http://localhost:4318";
        assert!(text.starts_with(&format!("{ENDPOINT}={endpoint}: {problem}\n")), "{text}");
        assert!(text.ends_with(hint), "{text}");
    }
}

#[test]
fn a_bad_value_is_warned_of_and_the_default_holds() {
    let (otlp, warnings) = otlp(&[
        (PROTOCOL, "http/xml"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "br"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "1"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key.pem"),
    ]);
    assert_eq!(otlp.protocol, Protocol::HttpProtobuf);
    assert_eq!(otlp.compression, Compression::None);
    assert_eq!(otlp.timeout, Duration::from_secs(10));
    assert_eq!(
        warnings,
        [
            "OTEL_EXPORTER_OTLP_PROTOCOL=http/xml is ignored: write grpc, http/protobuf or http/json",
            "OTEL_EXPORTER_OTLP_INSECURE=1 is taken as false: write true or false",
            "OTEL_EXPORTER_OTLP_COMPRESSION=br is ignored: write gzip, zstd or none",
            "OTEL_EXPORTER_OTLP_TIMEOUT=10s is ignored: write whole milliseconds, such as 5000",
            "OTEL_EXPORTER_OTLP_CLIENT_KEY is ignored: OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE has to be set as well",
        ]
    );
}

#[test]
fn the_signal_beats_the_general_variable() {
    let (otlp, warnings) = otlp(&[
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
        (PROTOCOL, "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "7"),
        ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "none"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
    ]);
    assert_eq!(otlp.protocol, Protocol::Grpc);
    assert_eq!(otlp.timeout, Duration::from_millis(u32::MAX.into()));
    assert_eq!(otlp.compression, Compression::None);
    assert_eq!(otlp.certificate, Some(PathBuf::from("/ca.pem")));
    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn headers_are_decoded_and_bad_ones_left_out() {
    let text = "authorization=Bearer%20a%3Db, X-Tenant = t1 ,,=x,no-value,bad name=1,x=%G0,y=%0a,z=";
    let (otlp, warnings) = otlp(&[("OTEL_EXPORTER_OTLP_HEADERS", text)]);
    let headers: Vec<(&str, &str)> =
        otlp.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(headers, [("authorization", "Bearer a=b"), ("x-tenant", "t1"), ("z", "")]);
    assert_eq!(warnings.len(), 5);
    assert!(warnings.iter().all(|warning| warning.contains("write name=value")), "{warnings:?}");
}

#[test]
fn batching() {
    let default = Batching::default();
    let with = |variables: &[(&str, &str)]| reading(variables, |reading| reading.batching());
    assert_eq!(with(&[]), (default, vec![]));
    let (batching, warnings) = with(&[
        ("OTEL_BSP_SCHEDULE_DELAY", "0"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
        ("OTEL_BSP_EXPORT_TIMEOUT", "1000"),
    ]);
    let expected =
        Batching { delay: Duration::ZERO, queue: 100, batch: 100, timeout: Duration::from_millis(1000) };
    assert_eq!((batching, warnings), (expected, vec![]));
    let (batching, warnings) = with(&[
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "20000"),
        ("OTEL_BSP_SCHEDULE_DELAY", "-5"),
    ]);
    assert_eq!(batching, default);
    assert_eq!(warnings.len(), 3);
}
