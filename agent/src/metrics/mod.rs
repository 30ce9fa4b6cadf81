//! RED metrics (rate, errors, duration), made from every span before any sampling.
//!
//! Part of the functional core: no clock, no I/O. Whoever asks says which time has passed.

mod histogram;
mod red;

pub use histogram::Histogram;
pub use red::{Red, Row, Series, SeriesKey, Snapshot};
