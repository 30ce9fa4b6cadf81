//! HTTP/1.0 and HTTP/1.1 (RFC 9110, RFC 9112), read passively.

/// What HTTP says of one exchange. Strings are as received, each at most as long as the captured head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpCall {
    /// Request method; empty where the request's start was not seen.
    pub method: Box<str>,
    /// Request target as received (origin, absolute, authority or asterisk form), invalid UTF-8 replaced.
    pub target: Box<str>,
    /// Minor version of HTTP/1 of the request: 0 or 1.
    pub version: u8,
    /// `Host` header.
    pub host: Option<Box<str>>,
    /// `User-Agent` header.
    pub user_agent: Option<Box<str>>,
    /// First element of `X-Forwarded-For` or of `Forwarded: for=`.
    pub forwarded_for: Option<Box<str>>,
    /// Scheme that `X-Forwarded-Proto` or `Forwarded: proto=` names.
    pub forwarded_proto: Option<Box<str>>,
    /// Status code of the final response; `None` where none was seen.
    pub status: Option<u16>,
    /// The connection was handed on: 101, or a 2xx answer to CONNECT.
    pub upgraded: bool,
}
