//! What the versions of HTTP have in common.

use std::borrow::Cow;
use std::sync::Arc;

use super::capture::CapturedHeader;
use super::grpc::RpcCall;
use super::websocket::Session;

/// What HTTP says of one exchange. Strings are as received, each at most as long as the captured head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpCall {
    /// Request method; borrowed where it is a common one.
    pub method: Cow<'static, str>,
    /// Request target as received (origin, absolute, authority or asterisk form), invalid UTF-8 replaced.
    pub target: Box<str>,
    /// Version of the protocol: the minor one of HTTP/1, 0 or 1, or 2 for HTTP/2.
    pub version: u8,
    /// `:scheme` of HTTP/2.
    pub scheme: Option<Box<str>>,
    /// `Host` header, shared by the requests of its connection that say the same.
    pub host: Option<Arc<str>>,
    /// `User-Agent` header, shared likewise.
    pub user_agent: Option<Arc<str>>,
    /// Address in the first element of `Forwarded: for=`, else of `X-Forwarded-For`, without quotes, brackets and port.
    pub forwarded_for: Option<Box<str>>,
    /// Scheme that `Forwarded: proto=` names, else `X-Forwarded-Proto`.
    pub forwarded_proto: Option<Box<str>>,
    /// Status code of the final response; `None` where none was seen.
    pub status: Option<u16>,
    /// Headers that were asked for, in their order, the request's first.
    pub headers: Vec<CapturedHeader>,
    /// `Content-Type` of the request is one that exports of telemetry have.
    pub otlp_content: bool,
    /// The connection was handed on: 101, or a 2xx answer to CONNECT.
    pub upgraded: Option<Upgrade>,
    /// This is no call, but the session that followed one on its connection.
    pub session: Option<Box<Session>>,
    /// What gRPC says, where the call is one of it.
    pub rpc: Option<Box<RpcCall>>,
}

/// What a connection was handed on to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// WebSocket: what it carries is told when it is over ([`super::Event::Followed`]).
    WebSocket,
    /// Anything else.
    Other,
}
