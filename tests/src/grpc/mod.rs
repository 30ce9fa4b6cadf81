//! Calls of gRPC: what clients are asked to do, what they say they did, and spans against that.

pub mod compare;
pub mod programs;
pub mod raw;
pub mod session;

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::calls::fresh;

/// A call to make. Its id goes along as metadata, `x-call`, and names the span where Sonde is asked to show that.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Planned {
    /// Unique.
    pub id: String,
    /// `package.Service/Method`; the method's name says what streams.
    pub method: String,
    /// Messages to send, where they stream.
    pub count: usize,
    /// Bytes of each.
    pub size: usize,
    /// Milliseconds between them.
    pub pause: u64,
    /// Milliseconds until the deadline, 0 for none.
    pub deadline: u64,
    /// Milliseconds until the client cancels, 0 for never.
    pub cancel: u64,
    /// Messages are compressed.
    pub gzip: bool,
    /// `traceparent` to send, empty for none.
    pub traceparent: String,
    /// What the server is asked for, as metadata, `x-do`: replies, bytes of each, status, milliseconds to wait before it.
    #[serde(rename = "do")]
    pub wish: String,
}

/// What a client did and got.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Call {
    /// As planned.
    pub id: String,
    /// As planned.
    pub method: String,
    /// Status.
    pub code: u32,
    /// And its text.
    pub message: String,
    /// Messages that were given to the library, all of which are on the wire where the call succeeded.
    pub sent: u64,
    /// Bytes of them.
    pub sent_bytes: u64,
    /// Messages that the library gave.
    pub received: u64,
    /// Bytes of them.
    pub received_bytes: u64,
    /// Nanoseconds since the epoch.
    pub start: u64,
    /// Nanoseconds since the epoch.
    pub end: u64,
    /// The client's process.
    pub pid: u32,
    /// The client's port, told by the server where that was asked (`Where`).
    pub port: u16,
}

impl Planned {
    /// One of a service's methods, with messages of so many bytes and a reply of as many.
    #[must_use]
    pub fn to(service: usize, method: &str, size: usize) -> Self {
        Self {
            id: fresh("g"),
            method: format!("test.Echo{service}/{method}"),
            count: 1,
            size,
            wish: format!("0,{size},0,0"),
            ..Self::default()
        }
    }

    /// With so many messages.
    #[must_use]
    pub fn sending(self, count: usize) -> Self {
        Self { count, ..self }
    }

    /// With a wish.
    #[must_use]
    pub fn wishing(self, replies: usize, size: usize, status: u32, sleep: u64) -> Self {
        Self { wish: format!("{replies},{size},{status},{sleep}"), ..self }
    }

    /// The line that the client programs read.
    #[must_use]
    pub fn line(&self) -> String {
        serde_json::to_string(self).expect("text and numbers") + "\n"
    }
}

impl Call {
    /// A call that begins.
    #[must_use]
    pub fn begin(planned: &Planned) -> Self {
        Self {
            id: planned.id.clone(),
            method: planned.method.clone(),
            pid: std::process::id(),
            start: epoch(),
            ..Self::default()
        }
    }

    /// It is over.
    pub fn finish(&mut self) {
        self.end = epoch();
    }

    /// Messages were sent.
    pub fn sent(&mut self, count: usize, size: usize) {
        self.sent += count as u64;
        self.sent_bytes += (count * size) as u64;
    }

    /// A message was received.
    pub fn received(&mut self, size: usize) {
        self.received += 1;
        self.received_bytes += size as u64;
    }
}

/// Nanoseconds since the epoch.
fn epoch() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("later than the epoch").as_nanos() as u64
}

/// `count` calls of every kind, one after the other: streaming either way, sizes, statuses, deadlines, cancellations.
#[must_use]
pub fn mixed(count: usize) -> Vec<Planned> {
    (0..count).map(|i| Planned { traceparent: traceparent(i), ..one_of_all(i) }).collect()
}

fn one_of_all(i: usize) -> Planned {
    let (service, size) = (i % 16, i * 7 % 300);
    let unary = |size| Planned::to(service, "Unary", size);
    match i % 40 {
        // Before there is a connection a call may be over without ever having been made.
        36..39 if i < 120 => unary(size),
        0..12 => unary(size),
        12 | 13 => unary(0),
        14 | 15 => unary(20 << 10),
        16 => unary(1 << 20),
        17 | 18 => Planned { gzip: true, ..unary(20 << 10) },
        19 => Planned::to(service, "Where", size),
        20..23 => Planned::to(service, "Collect", 1000).sending(5 + i % 7),
        23..26 => Planned::to(service, "Spread", size).wishing(7, 3000, 0, 0),
        26..29 => Planned::to(service, "Chat", size).sending(8).wishing(100, 300, 0, 0),
        // Either end may be done first.
        29 => Planned::to(service, "Chat", 100).sending(3).wishing(3, 50, 0, 0),
        30 => Planned::to(service, "Chat", 100).sending(3).wishing(3, 50, 13, 0),
        31 => Planned::to(service, "Spread", 100).wishing(3, 5000, 8, 0),
        32 | 33 => unary(size).wishing(0, 0, 5, 0),
        34 => unary(size).wishing(0, 0, 13, 0),
        35 => Planned::to(service, "Missing", size),
        36 => Planned { deadline: 500, ..unary(size).wishing(0, 0, 0, 1500) },
        37 => Planned { cancel: 150, ..unary(size).wishing(0, 0, 0, 1500) },
        38 => {
            // grpc-js ends its request before it cancels: without a wait, the server's OK would come first.
            let chat = Planned::to(service, "Chat", 10).sending(1000).wishing(1000, 10, 0, 1500);
            Planned { cancel: 150, pause: 10, ..chat }
        }
        // In good time for either.
        _ => Planned { deadline: 60_000, ..unary(size).wishing(0, 10, 0, 20) },
    }
}

/// A context of its own for every third call.
fn traceparent(i: usize) -> String {
    if !i.is_multiple_of(3) {
        return String::new();
    }
    let id = fresh("");
    let unique = id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    format!("00-4bf92f3577b34da6{unique:016x}-{unique:016x}-01")
}
