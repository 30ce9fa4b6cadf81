//! Recordings: the stream of records as it left the kernel, with all that a replay needs to make the same spans of it
//! on another machine at another time. The format is described at [`recording`].

mod process;
mod reader;
pub mod recording;
#[cfg(test)]
mod tests;
mod writer;

pub use reader::Reader;
pub use recording::{Ending, Frame, Header, KERNEL_LOSSES, Losses, RecordingError};
pub use writer::Writer;
