//! The reader against BTF made here ([`reader`]), against bpftool ([`oracle`]), and the judgement of kernels laid out as
//! files ([`judge`]).

mod builder;
mod judge;
mod oracle;
mod reader;

pub(crate) use judge::Laid;
