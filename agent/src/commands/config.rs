//! `sonde config`: what the configuration comes to, and whether a file can be followed.

use std::path::Path;
use std::sync::Arc;

use super::Failure;
use crate::config::{Config, ConfigAction, Document, Environment, RunArgs};

/// Prints or checks.
pub(super) fn run(action: &ConfigAction, file: Option<&Path>) -> Result<(), Failure> {
    match action {
        ConfigAction::Print(args) => {
            print!("{}", Config::new(args, &Environment::with_config(file)?)?.print());
        }
        ConfigAction::Check(args) => {
            let keys = check(&args.file)?;
            println!("{}: {keys} keys, all of them can be followed", args.file.display());
        }
    }
    Ok(())
}

/// Judges a file alone: what the environment says here has nothing to do with where it will be used.
fn check(path: &Path) -> Result<usize, Failure> {
    let document = Document::read(path).map_err(crate::config::ConfigError::Problems)?;
    let keys = document.entries().count();
    let environment = Environment::default().with_file(Some(Arc::new(document)));
    Config::new(&RunArgs::default(), &environment)?;
    Ok(keys)
}
