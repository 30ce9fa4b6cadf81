//! The node benchmark in a guest whose one CPU counts instructions: its figures repeat, whatever else this machine does.
//! They are instructions at a nanosecond each, not time: they compare two programs in the same guest.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::kernels;
use crate::vm::{Guest, shell};

/// The kernel that the figures in the documents are from.
const KERNEL: &str = "6.12";
/// Guest seconds cost twenty to fifty of ours.
const USUAL: &[&str] = &["--rounds", "2", "--seconds", "2", "--clients", "8", "--brief"];

pub(super) fn bench(args: &[String]) -> Result<()> {
    let mut kernel = KERNEL.to_owned();
    let xtask = std::env::current_exe()?.display().to_string();
    let mut words: Vec<String> =
        [xtask.as_str(), "bench", "node"].iter().chain(USUAL).map(|w| (*w).to_owned()).collect();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--kernel" {
            kernel.clone_from(args.next().context("--kernel wants a series such as 6.12")?);
        } else {
            // Later ones win.
            words.push(arg.clone());
        }
    }
    let mut guest = Guest::new(shell(&words));
    guest.icount = true;
    guest.timeout = Duration::from_secs(3600);
    let status = guest.run(&kernels::folder(&kernel)?)?;
    if status != 0 {
        bail!("the benchmark failed in the guest (exit status {status})");
    }
    Ok(())
}
