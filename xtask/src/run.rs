//! `run`: from a checkout to a running agent.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, bail};

use crate::build::{self, Options};
use crate::process;
use crate::setup;
use crate::workspace;

pub(crate) const COMMAND: crate::Command = crate::Command {
    name: "run",
    usage: "[ARGS of sonde run]",
    about: "Sets up, builds, and runs target/release/sonde (through sudo where needed): every process's HTTP on the console.",
    run: |args| {
        build::build(&setup::tools()?, &Options::default())?;
        let sonde = workspace::sonde();
        let mut command = if process::is_root() {
            Command::new(&sonde)
        } else if let Some(sudo) = process::find("sudo") {
            let mut command = Command::new(sudo);
            // The exporter's variables and the terminal's have to reach sonde.
            command.arg("--preserve-env").arg(&sonde);
            command
        } else {
            bail!("loading kernel programs wants root; as root: {} run {}", sonde.display(), args.join(" "));
        };
        let error = command.arg("run").args(args).exec();
        Err(error).with_context(|| format!("cannot start {}", sonde.display()))
    },
};
