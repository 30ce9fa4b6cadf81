//! What became of one attempt to send, by the OTLP specification ("Failures", "Throttling").

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use prost::Message;
use serde::Deserialize;
use tonic::Code;

/// What became of one attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The backend took the items, or most of them.
    Accepted(Answer),
    /// It may work later.
    Retry {
        /// What the backend asks to wait at least.
        after: Option<Duration>,
        /// What happened.
        why: String,
    },
    /// It will not work with these items.
    Refused(String),
    /// It may work with fewer of them at once.
    TooLarge(String),
}

/// What a backend says of items that it took.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// Items that it did not take after all.
    pub(super) rejected: u64,
    /// Why, or some other advice; empty where there is none.
    pub(super) message: String,
}

impl Outcome {
    /// No answer: the connection failed, broke, or took too long.
    pub(super) fn unanswered(why: &(impl ToString + ?Sized)) -> Self {
        Self::Retry { after: None, why: why.to_string() }
    }

    /// A whole answer over HTTP.
    pub(super) fn of_http(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is_json = kind.starts_with("application/json");
        if status.is_success() {
            return if kind.starts_with("text/html") {
                Self::Refused(format!("HTTP {status} with a web page: this is no OTLP endpoint"))
            } else {
                Self::Accepted(Answer::read(is_json, body))
            };
        }
        let message = match is_json {
            true => serde_json::from_slice::<JsonStatus>(body).ok().map(|status| status.message),
            false => RpcStatus::decode(body).ok().map(|status| status.message),
        };
        let message = message.filter(|message| is_printable(message));
        let why = match &message {
            Some(message) => format!("HTTP {status}: {message}"),
            None => format!("HTTP {status}"),
        };
        match status.as_u16() {
            429 | 502 | 503 | 504 => Self::Retry { after: retry_after(headers), why },
            413 => Self::TooLarge(why),
            // What the Collector answers past its `max_request_body_size`; others answer in plain text.
            400 if says_too_large(&message.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned())) => {
                Self::TooLarge(why)
            }
            _ => Self::Refused(why),
        }
    }

    /// A gRPC status other than OK.
    pub(super) fn of_grpc(status: &tonic::Status) -> Self {
        if let Some(source) = std::error::Error::source(status) {
            // Not from the backend: the connection failed or broke. The innermost error says how.
            let chain = std::iter::successors(Some(source), |error| error.source());
            return Self::unanswered(&chain.last().map_or_else(String::new, ToString::to_string));
        }
        let after = retry_info(status.details());
        let why = match status.message() {
            message if is_printable(message) => format!("gRPC {:?}: {message}", status.code()),
            _ => format!("gRPC {:?}", status.code()),
        };
        match status.code() {
            // Some servers call it exhaustion, others that the length is out of range.
            Code::ResourceExhausted | Code::OutOfRange
                if after.is_none() && says_too_large(status.message()) =>
            {
                Self::TooLarge(why)
            }
            Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss => Self::Retry { after, why },
            // Recovery is possible only where the backend says when.
            Code::ResourceExhausted if after.is_some() => Self::Retry { after, why },
            _ => Self::Refused(why),
        }
    }
}

impl Answer {
    /// Reads the body of a success. One that makes no sense comes from a backend that took the items and says nothing of
    /// them.
    pub(super) fn read(is_json: bool, body: &[u8]) -> Self {
        if is_json {
            let response: JsonResponse = serde_json::from_slice(body).unwrap_or_default();
            let JsonPartial { rejected_spans, rejected_data_points, error_message } =
                response.partial_success;
            let rejected = rejected_spans.or(rejected_data_points).and_then(Number::value);
            Self { rejected: rejected.unwrap_or(0), message: error_message }
        } else {
            let partial =
                ExportResponse::decode(body).unwrap_or_default().partial_success.unwrap_or_default();
            Self { rejected: partial.rejected.try_into().unwrap_or(0), message: partial.error_message }
        }
    }
}

/// Whether a refusal means the size of the message: there is no code for it that means nothing else.
fn says_too_large(message: &str) -> bool {
    // grpc-go and the C core; grpc-java; tonic; Go's http.MaxBytesReader.
    ["larger than max", "exceeds maximum size", "message length too large", "body too large"]
        .iter()
        .any(|words| message.contains(words))
}

fn is_printable(message: &str) -> bool {
    !message.is_empty() && message.len() < 1_000 && !message.chars().any(char::is_control)
}

/// `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date, which counts from the backend's own `Date`.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let then = httpdate::parse_http_date(text).ok()?;
    let now =
        headers.get(header::DATE)?.to_str().ok().and_then(|date| httpdate::parse_http_date(date).ok())?;
    Some(then.duration_since(now).unwrap_or_default())
}

/// `google.rpc.RetryInfo` within the details of a gRPC status.
fn retry_info(details: &[u8]) -> Option<Duration> {
    let status = RpcStatus::decode(details).ok()?;
    let info = status.details.iter().find(|detail| detail.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(info.value.as_slice()).ok()?.retry_delay?;
    Some(Duration::new(delay.seconds.try_into().ok()?, delay.nanos.try_into().ok()?))
}

/// `Export{Trace,Metrics}ServiceResponse`: both have the same numbers and types.
#[derive(Clone, PartialEq, Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

/// `Export{Trace,Metrics}PartialSuccess`.
#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

/// [`ExportResponse`] as JSON.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct JsonResponse {
    partial_success: JsonPartial,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct JsonPartial {
    rejected_spans: Option<Number>,
    rejected_data_points: Option<Number>,
    error_message: String,
}

/// Protobuf's JSON mapping writes 64-bit numbers as strings and reads both.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Plain(u64),
    Quoted(String),
}

impl Number {
    fn value(self) -> Option<u64> {
        match self {
            Self::Plain(number) => Some(number),
            Self::Quoted(text) => text.parse().ok(),
        }
    }
}

/// [`RpcStatus`] as JSON.
#[derive(Deserialize)]
struct JsonStatus {
    #[serde(default)]
    message: String,
}

/// `google.rpc.Status` (google/rpc/status.proto).
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo` (google/rpc/error_details.proto).
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// Details of a gRPC status that ask for a wait.
#[cfg(test)]
pub(super) fn details(seconds: i64) -> Vec<u8> {
    let info = RetryInfo { retry_delay: Some(Delay { seconds, nanos: 0 }) };
    let type_url = "type.googleapis.com/google.rpc.RetryInfo".to_owned();
    let details = vec![Any { type_url, value: info.encode_to_vec() }];
    RpcStatus { message: String::new(), details }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(status: u16, headers: &[(header::HeaderName, &str)]) -> Outcome {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        Outcome::of_http(StatusCode::from_u16(status).unwrap(), &headers, b"")
    }

    fn after(outcome: &Outcome) -> Option<Duration> {
        match outcome {
            Outcome::Retry { after, .. } => *after,
            other => panic!("{other:?}"),
        }
    }

    fn answer(kind: &str, body: &[u8]) -> Outcome {
        let headers = [(header::CONTENT_TYPE, kind.parse().unwrap())].into_iter().collect();
        Outcome::of_http(StatusCode::OK, &headers, body)
    }

    #[test]
    fn successes() {
        let took =
            |rejected, message: &str| Outcome::Accepted(Answer { rejected, message: message.to_owned() });
        let protobuf = "application/x-protobuf";
        assert_eq!(answer(protobuf, b""), took(0, ""));
        assert_eq!(answer(protobuf, &[0x0a, 7, 8, 3, 0x12, 3, b'o', b'd', b'd']), took(3, "odd"));
        assert_eq!(answer(protobuf, b"garbage"), took(0, ""));
        for body in [
            r#"{"rejectedSpans":"3","errorMessage":"odd"}"#,
            r#"{"rejectedDataPoints":3,"errorMessage":"odd"}"#,
        ] {
            let body = format!(r#"{{"partialSuccess":{body},"new":1}}"#);
            assert_eq!(answer("application/json; charset=utf-8", body.as_bytes()), took(3, "odd"));
        }
        for body in
            ["", "{}", "[1]", r#"{"partialSuccess":{}}"#, r#"{"partialSuccess":{"rejectedSpans":-1}}"#]
        {
            assert_eq!(answer("application/json", body.as_bytes()), took(0, ""), "{body}");
        }
        assert!(matches!(answer("text/html", b"<html>"), Outcome::Refused(_)));
    }

    #[test]
    fn what_is_too_large_is_told_from_what_is_wrong() {
        let of = |status: u16, body: &[u8]| {
            Outcome::of_http(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body)
        };
        assert!(matches!(of(413, b""), Outcome::TooLarge(_)));
        assert!(matches!(of(400, b"http: request body too large"), Outcome::TooLarge(_)));
        assert!(matches!(of(400, b"bad"), Outcome::Refused(_)));
        let of = |code, message: &str| Outcome::of_grpc(&tonic::Status::new(code, message));
        for (code, message) in [
            (Code::ResourceExhausted, "grpc: received message larger than max (9 vs. 4)"),
            (Code::ResourceExhausted, "gRPC message exceeds maximum size 4: 9"),
            (
                Code::OutOfRange,
                "Error, decoded message length too large: found 9 bytes, the limit is: 4 bytes",
            ),
        ] {
            assert!(matches!(of(code, message), Outcome::TooLarge(_)), "{message}");
        }
        assert!(matches!(of(Code::ResourceExhausted, "quota"), Outcome::Refused(_)));
        assert!(matches!(of(Code::InvalidArgument, "larger than max"), Outcome::Refused(_)));
    }

    #[test]
    fn http_statuses() {
        for status in 300..600 {
            let is_retryable = matches!(http(status, &[]), Outcome::Retry { .. });
            assert_eq!(is_retryable, [429, 502, 503, 504].contains(&status), "{status}");
        }
    }

    #[test]
    fn retry_after_in_seconds_or_as_a_date() {
        let seconds = |text| after(&http(503, &[(header::RETRY_AFTER, text)]));
        assert_eq!(seconds("7"), Some(Duration::from_secs(7)));
        assert_eq!(seconds("0"), Some(Duration::ZERO));
        for bad in ["-1", "soon", "1.5", "99999999999", "Wed, 21 Oct 2026 07:28:00 GMT"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
        let date = |then| {
            let now = (header::DATE, "Wed, 21 Oct 2026 07:28:00 GMT");
            after(&http(429, &[(header::RETRY_AFTER, then), now]))
        };
        assert_eq!(date("Wed, 21 Oct 2026 07:29:30 GMT"), Some(Duration::from_secs(90)));
        assert_eq!(date("Wed, 21 Oct 2026 07:27:00 GMT"), Some(Duration::ZERO));
    }

    #[test]
    fn the_body_of_a_refusal_says_why() {
        let headers = [(header::CONTENT_TYPE, "application/json".parse().unwrap())].into_iter().collect();
        let body = br#"{"code":3,"message":"span 3 is odd"}"#;
        let outcome = Outcome::of_http(StatusCode::BAD_REQUEST, &headers, body);
        assert_eq!(outcome, Outcome::Refused("HTTP 400 Bad Request: span 3 is odd".to_owned()));
        let body = RpcStatus { message: "span 3 is odd".to_owned(), details: vec![] }.encode_to_vec();
        let outcome = Outcome::of_http(StatusCode::BAD_REQUEST, &HeaderMap::new(), &body);
        assert_eq!(outcome, Outcome::Refused("HTTP 400 Bad Request: span 3 is odd".to_owned()));
        let outcome = Outcome::of_http(StatusCode::BAD_REQUEST, &HeaderMap::new(), b"<html>\x1b");
        assert_eq!(outcome, Outcome::Refused("HTTP 400 Bad Request".to_owned()));
    }

    #[test]
    fn grpc_statuses() {
        let retryable = [1, 4, 10, 11, 14, 15];
        for code in 1..=16 {
            let outcome = Outcome::of_grpc(&tonic::Status::new(Code::from_i32(code), "no"));
            assert_eq!(matches!(outcome, Outcome::Retry { .. }), retryable.contains(&code), "{code}");
        }
    }

    #[test]
    fn retry_info_makes_exhaustion_retryable() {
        let info = RetryInfo { retry_delay: Some(Delay { seconds: 2, nanos: 500_000_000 }) };
        let any = |type_url: &str, value| Any { type_url: type_url.to_owned(), value };
        let details = RpcStatus {
            message: String::new(),
            details: vec![
                any("type.googleapis.com/google.rpc.BadRequest", vec![]),
                any("type.googleapis.com/google.rpc.RetryInfo", info.encode_to_vec()),
            ],
        };
        let details = details.encode_to_vec();
        for code in [Code::ResourceExhausted, Code::Unavailable] {
            let status = tonic::Status::with_details(code, "full", details.clone().into());
            assert_eq!(after(&Outcome::of_grpc(&status)), Some(Duration::from_millis(2_500)));
        }
        let status = tonic::Status::with_details(Code::Internal, "", details.into());
        assert_eq!(Outcome::of_grpc(&status), Outcome::Refused("gRPC Internal".to_owned()));
    }
}
