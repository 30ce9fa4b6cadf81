//! What the field lines of a head mean: framing (RFC 9112, section 6), trace context, and what spans tell.

use std::borrow::Cow;
use std::sync::Arc;

use super::wire::{Field, Fields};
use crate::proto::HttpCall;
use crate::proto::TraceHeaders;
use crate::proto::capture::{self, Capture, CapturedHeader, HeaderNames};
use crate::proto::grpc::{self, web};
use crate::proto::otlp;

/// How long a body is, as its head says it. RFC 9112, section 6.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// That many bytes.
    Length(u64),
    /// The chunked transfer coding.
    Chunked,
    /// All bytes until the connection closes.
    Close,
    /// The head contradicts itself, or its end was not captured.
    Unknown,
}

/// The fields that decide the framing, gathered from all field lines.
#[derive(Clone, Copy, Debug, Default)]
struct Lengths {
    content_length: Option<Result<u64, Contradiction>>,
    /// The last transfer coding is (`true`) or is not chunked.
    coding: Option<bool>,
}

/// `Content-Length` values that are no number or differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Contradiction;

/// Longest value that is kept for the next request of its connection.
const KEPT_VALUE: usize = 256;

/// Values that the requests of one connection repeat, as the last of them had them.
#[derive(Debug, Default)]
pub(in crate::proto) struct Repeated {
    host: Option<Arc<str>>,
    user_agent: Option<Arc<str>>,
}

/// Reads the fields of a request into `call` and `trace`.
pub(super) fn request(
    lines: &[u8],
    call: &mut HttpCall,
    trace: &mut Option<Box<TraceHeaders>>,
    repeated: &mut Repeated,
) -> Framing {
    let mut lengths = Lengths::default();
    let mut meaning = Meaning::default();
    for field in Fields(lines) {
        if !lengths.field(&field) {
            meaning.request(&field, call, trace, repeated);
        }
    }
    match lengths {
        Lengths { coding: Some(true), .. } => Framing::Chunked,
        Lengths { coding: Some(false), .. } | Lengths { content_length: Some(Err(Contradiction)), .. } => {
            Framing::Unknown
        }
        Lengths { content_length: Some(Ok(length)), .. } => Framing::Length(length),
        Lengths { content_length: None, coding: None } => Framing::Length(0),
    }
}

/// Reads the fields of requests that no framing depends on: what they mean is the same in all versions of HTTP.
#[derive(Debug, Default)]
pub(in crate::proto) struct Meaning {
    /// A `Forwarded` field was read, which outranks others.
    forwarded: bool,
}

impl Meaning {
    /// Reads the next field.
    pub(in crate::proto) fn request(
        &mut self,
        field: &Field<'_>,
        call: &mut HttpCall,
        trace: &mut Option<Box<TraceHeaders>>,
        repeated: &mut Repeated,
    ) {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name.as_bytes());
        // The length first: it tells nearly all names apart in one step.
        match field.name.len() {
            4 if is("host") => keep_first(&mut call.host, &mut repeated.host, field),
            7 if is("baggage") => trace.get_or_insert_default().baggage.push(owned(field)),
            9 if is("forwarded") => {
                if !self.forwarded {
                    self.forwarded = read_forwarded(&unfolded(field), call);
                }
            }
            10 if is("user-agent") => keep_first(&mut call.user_agent, &mut repeated.user_agent, field),
            10 if is("tracestate") => trace.get_or_insert_default().tracestate.push(owned(field)),
            11 if is("traceparent") => trace.get_or_insert_default().traceparent.push(owned(field)),
            12 if is("content-type") => {
                call.otlp_content = otlp::is_content(field.value);
                if grpc::is_grpc(field.value) == Some(true) {
                    call.rpc.get_or_insert_default().web = true;
                }
            }
            15 if is("x-forwarded-for") && call.forwarded_for.is_none() => {
                call.forwarded_for = first_element(field).and_then(node);
            }
            17 if is("x-forwarded-proto") && call.forwarded_proto.is_none() => {
                call.forwarded_proto = first_element(field).map(text);
            }
            _ => {}
        }
    }
}

/// Reads the fields of a response that may have a body.
pub(super) fn response(lines: &[u8]) -> Framing {
    let mut lengths = Lengths::default();
    for field in Fields(lines) {
        lengths.field(&field);
    }
    match lengths {
        Lengths { coding: Some(true), .. } => Framing::Chunked,
        Lengths { coding: Some(false), .. } => Framing::Close,
        Lengths { content_length: Some(Err(Contradiction)), .. } => Framing::Unknown,
        Lengths { content_length: Some(Ok(length)), .. } => Framing::Length(length),
        Lengths { content_length: None, coding: None } => Framing::Close,
    }
}

/// Reads what was asked for beside.
pub(super) fn asked_of_request(
    lines: &[u8],
    capture: &Capture,
    call: &mut HttpCall,
    trace: &mut Option<Box<TraceHeaders>>,
) {
    if !capture.request.is_empty() {
        captured(lines, &capture.request, false, call);
    }
    if !capture.propagators.is_default() {
        let fields: Vec<(&[u8], &[u8])> = Fields(lines)
            .filter(|field| capture.propagators.wants(field.name))
            .map(|field| (field.name, field.value))
            .collect();
        capture.propagators.apply(&fields, trace.get_or_insert_default());
    }
}

/// The same of a response.
pub(super) fn asked_of_response(lines: &[u8], capture: &Capture, call: &mut HttpCall) {
    if let Some(rpc) = &mut call.rpc {
        // The status of a call that has no messages stands here; else it is in the body.
        for field in Fields(lines) {
            match field.name.len() {
                11 if field.name.eq_ignore_ascii_case(b"grpc-status") => {
                    rpc.status = grpc::status(field.value);
                }
                12 if field.name.eq_ignore_ascii_case(b"grpc-message") => {
                    rpc.message = Some(grpc::message(field.value));
                }
                _ => {}
            }
        }
    }
    if !capture.response.is_empty() {
        captured(lines, &capture.response, true, call);
    }
}

fn captured(lines: &[u8], names: &HeaderNames, of_response: bool, call: &mut HttpCall) {
    for field in Fields(lines) {
        capture_field(&field, names, of_response, call);
    }
}

/// Keeps a field that was asked for.
pub(in crate::proto) fn capture_field(
    field: &Field<'_>,
    names: &HeaderNames,
    of_response: bool,
    call: &mut HttpCall,
) {
    let Some(name) = names.find(field.name) else { return };
    if call.headers.len() >= capture::HEADERS {
        return;
    }
    let value = unfolded(field);
    let value = text(value.get(..capture::VALUE_BYTES).unwrap_or(&value));
    call.headers.push(CapturedHeader { name: Arc::clone(name), value, of_response });
}

impl Lengths {
    /// Takes note of a field that decides the framing; `false` for any other.
    fn field(&mut self, field: &Field<'_>) -> bool {
        match field.name.len() {
            14 if field.name.eq_ignore_ascii_case(b"content-length") => {
                let value = content_length(field.value);
                self.content_length = Some(match self.content_length {
                    Some(before) if before != value => Err(Contradiction),
                    _ => value,
                });
                true
            }
            17 if field.name.eq_ignore_ascii_case(b"transfer-encoding") => {
                let last =
                    field.value.rsplit(|&byte| byte == b',').map(<[u8]>::trim_ascii).find(|c| !c.is_empty());
                // "identity" was a coding of RFC 2616 and says nothing.
                if let Some(coding) = last.filter(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
                    self.coding = Some(coding.eq_ignore_ascii_case(b"chunked"));
                }
                true
            }
            _ => false,
        }
    }
}

/// A number, or a list of the same number (RFC 9110, section 8.6).
fn content_length(value: &[u8]) -> Result<u64, Contradiction> {
    let mut numbers = value.split(|&byte| byte == b',').map(|number| decimal(number.trim_ascii()));
    let first = numbers.next().flatten().ok_or(Contradiction)?;
    if numbers.all(|number| number == Some(first)) { Ok(first) } else { Err(Contradiction) }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// `Forwarded`, RFC 7239: the first element's `for` and `proto` outrank the `X-` fields. `false` where it names neither.
fn read_forwarded(value: &[u8], call: &mut HttpCall) -> bool {
    let mut found = false;
    let first = value.split(|&byte| byte == b',').next().unwrap_or_default();
    for parameter in first.split(|&byte| byte == b';') {
        let mut sides = parameter.splitn(2, |&byte| byte == b'=').map(<[u8]>::trim_ascii);
        let (Some(name), Some(value)) = (sides.next(), sides.next()) else { continue };
        if name.eq_ignore_ascii_case(b"for") {
            call.forwarded_for = node(value).or(call.forwarded_for.take());
            found = true;
        } else if name.eq_ignore_ascii_case(b"proto") {
            call.forwarded_proto = Some(text(unquoted(value)));
            found = true;
        }
    }
    found
}

/// An address without quotes, brackets and port (RFC 7239, section 6); `None` where nothing is left.
fn node(value: &[u8]) -> Option<Box<str>> {
    let value = unquoted(value);
    let address = match value.strip_prefix(b"[") {
        Some(inner) => inner.split(|&byte| byte == b']').next().unwrap_or_default(),
        // One colon parts address and port, more of them are an IPv6 address.
        None if value.iter().filter(|&&byte| byte == b':').count() == 1 => {
            value.split(|&byte| byte == b':').next().unwrap_or_default()
        }
        None => value,
    };
    (!address.is_empty()).then(|| text(address))
}

fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|inner| inner.strip_suffix(b"\"")).unwrap_or(value)
}

fn first_element<'a>(field: &Field<'a>) -> Option<&'a [u8]> {
    field.value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).next().filter(|first| !first.is_empty())
}

/// Takes the value, unless an earlier field of the same name had one; the text of the request before where it is the same.
fn keep_first(slot: &mut Option<Arc<str>>, before: &mut Option<Arc<str>>, field: &Field<'_>) {
    if slot.is_some() {
        return;
    }
    if let Some(same) = before.as_ref().filter(|before| before.as_bytes() == field.value) {
        *slot = Some(Arc::clone(same));
        return;
    }
    let value: Arc<str> = text(&unfolded(field)).into();
    *before = (value.len() <= KEPT_VALUE).then(|| Arc::clone(&value));
    *slot = Some(value);
}

fn owned(field: &Field<'_>) -> Box<[u8]> {
    unfolded(field).into_owned().into_boxed_slice()
}

/// The value with each fold replaced by one space (RFC 9112, section 5.2).
fn unfolded<'a>(field: &Field<'a>) -> Cow<'a, [u8]> {
    if !field.folded() {
        return Cow::Borrowed(field.value);
    }
    let lines: Vec<_> = field.value.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).collect();
    Cow::Owned(lines.join(&b' '))
}

/// How a body of gRPC-Web is written; `None` where it is none.
pub(super) fn web_format(lines: &[u8]) -> Option<web::Format> {
    let mut types = Fields(lines).filter(|field| field.name.eq_ignore_ascii_case(b"content-type"));
    web::Format::of(types.next()?.value)
}

/// Whether a 101 response agrees on a protocol: `h2c` (RFC 7540, section 3.2), `websocket` (RFC 6455, section 4.2.2).
pub(super) fn agrees_on(lines: &[u8], protocol: &str) -> bool {
    Fields(lines).any(|field| {
        field.name.eq_ignore_ascii_case(b"upgrade") && field.value.eq_ignore_ascii_case(protocol.as_bytes())
    })
}

/// Text as received, invalid UTF-8 replaced.
pub(in crate::proto) fn text(bytes: &[u8]) -> Box<str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => String::from_utf8_lossy(bytes).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Framing, Repeated, request, response};
    use crate::proto::HttpCall;
    use crate::proto::TraceHeaders;

    fn read(lines: &str) -> (Framing, HttpCall, TraceHeaders) {
        let (mut call, mut trace) = (HttpCall::default(), None);
        let framing = request(lines.as_bytes(), &mut call, &mut trace, &mut Repeated::default());
        (framing, call, trace.map(|trace| *trace).unwrap_or_default())
    }

    #[test]
    fn framing() {
        for (lines, of_request, of_response) in [
            ("", Framing::Length(0), Framing::Close),
            ("Content-Length: 5\r\n", Framing::Length(5), Framing::Length(5)),
            ("content-length:5\r\nCONTENT-LENGTH: 5\r\n", Framing::Length(5), Framing::Length(5)),
            ("Content-Length: 5, 5\r\n", Framing::Length(5), Framing::Length(5)),
            ("Content-Length: 5, 6\r\n", Framing::Unknown, Framing::Unknown),
            ("Content-Length: 5\r\nContent-Length: 6\r\n", Framing::Unknown, Framing::Unknown),
            (
                "Content-Length: 5\r\nContent-Length: 6\r\nContent-Length: 6\r\n",
                Framing::Unknown,
                Framing::Unknown,
            ),
            ("Content-Length: -5\r\n", Framing::Unknown, Framing::Unknown),
            ("Content-Length: +5\r\n", Framing::Unknown, Framing::Unknown),
            ("Content-Length: \r\n", Framing::Unknown, Framing::Unknown),
            ("Content-Length: 99999999999999999999\r\n", Framing::Unknown, Framing::Unknown),
            ("Transfer-Encoding: chunked\r\n", Framing::Chunked, Framing::Chunked),
            ("Transfer-Encoding: gzip, Chunked\r\n", Framing::Chunked, Framing::Chunked),
            ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", Framing::Chunked, Framing::Chunked),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Framing::Chunked, Framing::Chunked),
            ("Transfer-Encoding: chunked, gzip\r\n", Framing::Unknown, Framing::Close),
            ("Transfer-Encoding: identity\r\nContent-Length: 5\r\n", Framing::Length(5), Framing::Length(5)),
        ] {
            assert_eq!(read(lines).0, of_request, "{lines}");
            assert_eq!(response(lines.as_bytes()), of_response, "{lines}");
        }
    }

    #[test]
    fn trace_context_in_any_case_and_number() {
        let (_, _, trace) =
            read("TraceParent: a\r\ntraceparent:b\r\nTRACESTATE: x=1\r\n\t,y=2\r\nBaggage: k=v \r\n");
        assert_eq!(trace.traceparent, [Box::from(*b"a"), Box::from(*b"b")]);
        assert_eq!(trace.tracestate, [Box::from(*b"x=1 ,y=2")]);
        assert_eq!(trace.baggage, [Box::from(*b"k=v")]);
    }

    #[test]
    fn who_it_was_forwarded_for() {
        for (lines, of, proto) in [
            (
                "X-Forwarded-For: 1.2.3.4, 5.6.7.8\r\nX-Forwarded-Proto: https\r\n",
                Some("1.2.3.4"),
                Some("https"),
            ),
            ("X-Forwarded-For: 1.2.3.4:80\r\n", Some("1.2.3.4"), None),
            ("X-Forwarded-For: 2001:db8::1\r\n", Some("2001:db8::1"), None),
            ("X-Forwarded-For: \r\n", None, None),
            (
                "Forwarded: for=\"[2001:db8::1]:47\";proto=https, for=x\r\n",
                Some("2001:db8::1"),
                Some("https"),
            ),
            ("X-Forwarded-For: 9.9.9.9\r\nForwarded: For=1.1.1.1\r\n", Some("1.1.1.1"), None),
            ("Forwarded: For=1.1.1.1\r\nX-Forwarded-For: 9.9.9.9\r\n", Some("1.1.1.1"), None),
        ] {
            let call = read(lines).1;
            assert_eq!(
                (call.forwarded_for.as_deref(), call.forwarded_proto.as_deref()),
                (of, proto),
                "{lines}"
            );
        }
    }
}
