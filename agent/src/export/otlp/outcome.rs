//! What became of one attempt to send, by the OTLP specification ("Failures", "Throttling").

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use prost::Message;
use tonic::Code;

use super::encode::Answer;

/// What became of one attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The backend took the spans, or most of them.
    Accepted(Answer),
    /// It may work later.
    Retry {
        /// What the backend asks to wait at least.
        after: Option<Duration>,
        /// What happened.
        why: String,
    },
    /// It will not work with these spans.
    Refused(String),
}

impl Outcome {
    /// No answer: the connection failed, broke, or took too long.
    pub(super) fn unanswered(why: &(impl ToString + ?Sized)) -> Self {
        Self::Retry { after: None, why: why.to_string() }
    }

    /// An answer over HTTP that is no success.
    pub(super) fn of_http(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let why = match RpcStatus::decode(body) {
            Ok(RpcStatus { message, .. }) if is_printable(&message) => format!("HTTP {status}: {message}"),
            _ => format!("HTTP {status}"),
        };
        match status.as_u16() {
            429 | 502 | 503 | 504 => Self::Retry { after: retry_after(headers), why },
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
