//! The `sonde` command.

use std::process::ExitCode;

use clap::Parser;
use sonde::commands;
use sonde::config::Cli;

fn main() -> ExitCode {
    commands::run(Cli::parse())
}
