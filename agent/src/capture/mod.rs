//! Captures of packets: pcap and pcapng files take the place of the kernel programs. Packets become the records that one
//! end of each TCP connection would have given, and these go through the same pipeline.
//!
//! [`Packets`] reads the file, [`Dissector`] finds the TCP segment in a packet, [`Flows`] puts the segments of each
//! connection in order, and [`Views`] says from which end its exchanges are told. Nothing here knows what the
//! bytes mean.

mod bytes;
mod file;
mod flow;
mod flows;
mod fragments;
mod half;
mod ip;
mod link;
mod pcap;
mod pcapng;
mod segment;
mod tap;
#[cfg(test)]
mod tests;
mod views;
mod window;

pub use crate::replay::Ending;
pub use file::{CaptureError, Packet, Packets, is_capture};
pub use flows::{Flows, Limits};
pub use ip::{Dissector, Unread};
pub use segment::{Endpoint, Flags, TcpSegment};
pub use tap::{Tally, Tap};
pub use views::{Perspective, Views};
