//! What a header block means: RFC 9113, section 8.3, and the fields of HTTP and gRPC.

use super::hpack::Field;
use crate::proto::HttpCall;
use crate::proto::capture::Capture;
use crate::proto::grpc;
use crate::proto::http1::fields::{Meaning, Repeated, capture_field, text};
use crate::proto::http1::heads::method;
use crate::proto::http1::wire;
use crate::proto::{Quality, TraceHeaders};

/// What a block turned out to be, by its pseudo-headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Request,
    Response,
}

/// The fields of a block.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// `None` for trailers, or where no pseudo-header is known.
    pub(super) of: Option<Of>,
    pub(super) call: HttpCall,
    pub(super) trace: Option<Box<TraceHeaders>>,
    /// What a part that nobody saw says of the exchange.
    pub(super) mark: Option<Quality>,
    /// `content-type` is gRPC's, or another; `None` where there is none, or it is not known.
    pub(super) grpc: Option<bool>,
    pub(super) grpc_status: Option<u32>,
    pub(super) grpc_message: Option<Box<str>>,
    pub(super) timeout: Option<u64>,
    /// No request begins so.
    pub(super) malformed: bool,
    /// `content-length`, in bytes.
    pub(super) length: Option<u64>,
    meaning: Meaning,
    authority: Option<Box<str>>,
    /// Fields that may be a trace context in another format.
    contexts: Vec<[Box<[u8]>; 2]>,
}

/// What reading a block needs.
pub(super) struct Reading<'a> {
    pub(super) capture: &'a Capture,
    pub(super) repeated: &'a mut Repeated,
    /// What unknown parts are marked with.
    pub(super) unknown: Quality,
}

impl Head {
    /// The next field.
    pub(super) fn field(&mut self, field: Field<'_>, reading: &mut Reading<'_>) {
        let (Some(name), Some(value)) = (field.name, field.value) else {
            self.mark(reading.unknown);
            return;
        };
        if let [b':', pseudo @ ..] = name {
            return self.pseudo(pseudo, value);
        }
        let Reading { capture, repeated, .. } = reading;
        let field = wire::Field { name, value };
        match name {
            b"content-type" => self.grpc = Some(grpc::is_grpc(value) == Some(false)),
            b"grpc-status" => self.grpc_status = grpc::status(value),
            b"grpc-message" => self.grpc_message = Some(grpc::message(value)),
            b"content-length" => self.length = str::from_utf8(value).ok().and_then(|text| text.parse().ok()),
            b"grpc-timeout" => self.timeout = grpc::timeout(value),
            _ => {}
        }
        match self.of {
            Some(Of::Request) => {
                self.meaning.request(&field, &mut self.call, &mut self.trace, repeated);
                if !capture.request.is_empty() {
                    capture_field(&field, &capture.request, false, &mut self.call);
                }
                if !capture.propagators.is_default() && capture.propagators.wants(name) {
                    self.contexts.push([name.into(), value.into()]);
                }
            }
            _ if !capture.response.is_empty() => {
                capture_field(&field, &capture.response, true, &mut self.call);
            }
            _ => {}
        }
    }

    /// All fields were shown.
    pub(super) fn finish(&mut self, capture: &Capture) {
        if self.of != Some(Of::Request) {
            return;
        }
        if let Some(authority) = self.authority.take() {
            if &*self.call.method == "CONNECT" && self.call.target.is_empty() {
                self.call.target.clone_from(&authority);
            }
            // It outranks `Host` (RFC 9113, section 8.3.1).
            if self.call.host.as_deref() != Some(&*authority) {
                self.call.host = Some(authority.into());
            }
        }
        if !capture.propagators.is_default() {
            let fields: Vec<(&[u8], &[u8])> =
                self.contexts.iter().map(|[name, value]| (&**name, &**value)).collect();
            capture.propagators.apply(&fields, self.trace.get_or_insert_default());
        }
    }

    /// The weightier of two marks stays.
    pub(super) fn mark(&mut self, quality: Quality) {
        quality.add_to(&mut self.mark);
    }

    fn pseudo(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b"status" => {
                self.of = Some(Of::Response);
                let digits = value.len() == 3 && value.iter().all(u8::is_ascii_digit);
                let code = || value.iter().fold(0, |code, digit| code * 10 + u16::from(digit & 0xf));
                self.call.status = digits.then(code);
                return;
            }
            b"method" => {
                self.malformed |= !wire::is_method(value);
                self.call.method = method(value);
            }
            b"path" => self.call.target = text(value),
            b"scheme" => self.call.scheme = Some(text(value)),
            b"authority" => self.authority = Some(text(value)),
            _ => return,
        }
        self.of = Some(Of::Request);
    }
}
