//! Sonde's kernel programs: the list. Each hook family is a module; what they share is in [`conn`] (who moved bytes, and
//! where in the stream) and [`emit`] (what of it crosses the ring).
#![no_std]
#![feature(asm_experimental_arch)]
#![no_main]

mod access;
mod conn;
mod emit;
mod frames;
mod head;
mod lengths;
mod lifetime;
mod maps;
mod messages;
mod perf;
mod processes;
mod recognise;
mod syscalls;
mod user;

/// The helpers used are GPL-only in the kernel; the sources are Apache-2.0 as the rest of the project.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // Nothing here panics: indexing is by `get`, arithmetic wraps. The verifier would refuse a reachable loop.
    loop {}
}
