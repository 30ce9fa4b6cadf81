//! The project's own commands: `cargo xtask help` lists them.
//!
//! Built by whichever recent stable cargo runs it; what it builds is built by the toolchain that `toolchain` pins.

mod backends;
mod bench;
mod build;
mod elf;
mod fuzz;
mod kernels;
mod lint;
mod process;
mod run;
mod setup;
mod test;
mod tidy;
mod toolchain;
mod vm;
mod workspace;

use std::process::ExitCode;

use anyhow::{Result, bail};

/// One command, as `help` shows it.
struct Command {
    name: &'static str,
    usage: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Result<ExitCode>,
}

const COMMANDS: &[Command] = &[
    setup::COMMAND,
    build::COMMAND,
    run::COMMAND,
    test::COMMAND,
    lint::COMMAND,
    tidy::COMMAND,
    fuzz::COMMAND,
    vm::COMMAND,
    bench::COMMAND,
    backends::COMMAND,
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[String]) -> Result<ExitCode> {
    let Some((name, rest)) = args.split_first() else {
        eprint!("{}", help());
        return Ok(ExitCode::from(2));
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        print!("{}", help());
        return Ok(ExitCode::SUCCESS);
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        bail!("no command `{name}`; `cargo xtask help` lists them");
    };
    if rest.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--help") && command.name != "run" {
        println!("cargo xtask {} {}\n    {}", command.name, command.usage, command.about);
        return Ok(ExitCode::SUCCESS);
    }
    (command.run)(rest)
}

fn help() -> String {
    let mut text = String::from("cargo xtask COMMAND\n\n");
    for command in COMMANDS {
        text += &format!("  {} {}\n      {}\n", command.name, command.usage, command.about);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_command() {
        for command in COMMANDS {
            assert!(help().contains(&format!("  {} ", command.name)), "{}", command.name);
        }
    }

    #[test]
    fn unknown_command_is_refused() {
        assert!(dispatch(&["no-such".to_owned()]).is_err());
    }
}
