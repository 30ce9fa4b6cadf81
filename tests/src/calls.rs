//! What a client is asked to do, and what it says it did.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;

/// A request to make. Paths are unique: the id at their end tells which span belongs to which request, and Sonde does
/// not know about it.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Method.
    pub method: &'static str,
    /// Path.
    pub path: String,
    /// Bytes of the request's body.
    pub body: usize,
    /// `traceparent` to send, `None` for none.
    pub traceparent: Option<String>,
}

/// What a client did and got.
#[derive(Clone, Debug, Deserialize)]
pub struct Call {
    /// Method.
    pub method: String,
    /// Path.
    pub path: String,
    /// Status of the response.
    pub status: u16,
    /// Bytes of the request's body.
    pub sent: u64,
    /// Bytes of the response's body.
    pub received: u64,
    /// Start, nanoseconds of a clock of the client's.
    pub start: u64,
    /// End on the same clock.
    pub end: u64,
    /// The client's process.
    pub pid: u32,
}

impl Planned {
    /// GET of a path.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: "GET", path: path.into(), body: 0, traceparent: None }
    }

    /// POST of so many bytes.
    #[must_use]
    pub fn post(path: impl Into<String>, body: usize) -> Self {
        Self { method: "POST", path: path.into(), body, traceparent: None }
    }

    /// With this `traceparent`.
    #[must_use]
    pub fn with_traceparent(mut self, value: String) -> Self {
        self.traceparent = Some(value);
        self
    }

    /// The line that the client applications read.
    #[must_use]
    pub fn line(&self) -> String {
        let traceparent = self.traceparent.as_deref().unwrap_or("-");
        format!("{}\t{}\t{}\t{traceparent}\n", self.method, self.path, self.body)
    }
}

/// An id that no other request of this run has.
#[must_use]
pub fn fresh(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{prefix}{}n{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// `count` requests to the pages that every application has: small answers, bodies up and down, sizes that need several
/// writes, chunked answers, error statuses.
#[must_use]
pub fn mixed(count: usize) -> Vec<Planned> {
    (0..count)
        .map(|i| {
            let id = fresh("m");
            match i % 10 {
                0 => Planned::post(format!("/echo/{id}"), 1 + i * 7 % 3000),
                1 => Planned::get(format!("/bytes/{}/{id}", 1 + i * 1237 % 200_000)),
                2 => Planned::get(format!("/stream/{}/{id}", 1 + i * 613 % 20_000)),
                3 => Planned::get(format!("/status/404/{id}")),
                4 => Planned::get(format!("/status/503/{id}")),
                5 => Planned::get(format!("/sleep/{}/{id}", i % 7)),
                6 => Planned::get(format!("/nothing/{id}")),
                _ => Planned::get(format!("/hello/{id}")),
            }
        })
        .collect()
}

/// The id at the end of a path.
#[must_use]
pub fn id_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
