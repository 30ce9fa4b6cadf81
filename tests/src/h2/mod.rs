//! HTTP/2 without TLS: clients that speak it, what watches them, and calls that lie in each other's way on one connection.

pub mod busy;
pub mod clients;
pub mod eye;
pub mod wire;

use crate::calls::{Planned, fresh};

/// `count` requests to the pages that every application over HTTP/2 has: bodies up and down from one byte on, trailers, HEAD,
/// 204, errors; with `large` some of a few MiB.
#[must_use]
pub fn mixed(count: usize, large: bool) -> Vec<Planned> {
    (0..count)
        .map(|i| {
            let id = fresh("h");
            match i % 14 {
                0 => Planned::post(format!("/echo/{id}"), 1),
                1 => Planned::post(format!("/echo/{id}"), 1024),
                2 => Planned::post(format!("/echo/{id}"), 102_400),
                3 => Planned::get(format!("/bytes/{}/{id}", 1 + i * 1237 % 200_000)),
                4 => Planned::get(format!("/stream/{}/{id}", 1 + i * 613 % 20_000)),
                5 => Planned::get(format!("/status/404/{id}")),
                6 => Planned::get(format!("/status/500/{id}")),
                7 => Planned::get(format!("/status/204/{id}")),
                8 => Planned { method: "HEAD", ..Planned::get(format!("/hello/{id}")) },
                9 => Planned::get(format!("/nothing/{id}")),
                10 => Planned::post(format!("/trailers/{}/{id}", 1 + i * 71 % 5000), 1 + i * 97 % 5000),
                11 => Planned::get(format!("/sleep/{}/{id}", i % 7)),
                12 if large && i % 70 == 12 => Planned::post(format!("/echo/{id}"), 3 << 20),
                _ => Planned::get(format!("/hello/{id}")),
            }
        })
        .collect()
}
