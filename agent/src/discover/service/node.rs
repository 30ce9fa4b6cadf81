//! What Node.js, Bun or Deno run: the package that the script belongs to, else the script.

use std::path::Path;

use super::super::runtime::Language;
use super::program::{Place, first_operand, parent, title};

/// Options whose value is the next argument (`node --help`).
const VALUED: [&str; 13] = [
    "-r",
    "--require",
    "--import",
    "--loader",
    "--experimental-loader",
    "-C",
    "--conditions",
    "--env-file",
    "--title",
    "--preload",
    "-c",
    "--config",
    "--import-map",
];

/// Directories that are searched for `package.json`, the script's own first.
const LEVELS: usize = 6;
/// Bytes of a `package.json`; a longer one is not read.
const PACKAGE_BYTES: u64 = 256 << 10;

/// The name of the package, else of the script; `None` for `-e` and a terminal.
pub(super) fn name(place: &Place<'_>, language: Language, args: &[String]) -> Option<String> {
    // `next-server (v15.1.0)`: the title is the framework's, the package the application's.
    if title(args).is_some() {
        return package(place, &place.absolute(".")).or_else(|| place.directory("."));
    }
    let script = script(place, language, args)?;
    if let Some((project, inside)) = script.split_once("/node_modules/") {
        // A tool of the project (`node_modules/.bin/next`) runs the project; one that is installed for all
        // (`/usr/lib/node_modules/npm/bin/npm-cli.js`) is what runs.
        if !project.ends_with("/lib") {
            return package(place, project).or_else(|| place.directory(project));
        }
        let mut parts = inside.split('/');
        let first = parts.next()?;
        return Some(match parts.next().filter(|_| first.starts_with('@')) {
            Some(second) => format!("{first}/{second}"),
            None => first.to_owned(),
        });
    }
    // The script may be a directory (`node .`), with a package of its own.
    package(place, &script).or_else(|| Some(place.script(&script)))
}

/// The version of the package that gives the name.
pub(super) fn version(place: &Place<'_>, language: Language, args: &[String]) -> Option<String> {
    let path = if title(args).is_some() { place.absolute(".") } else { script(place, language, args)? };
    let project = path.split_once("/node_modules/").map(|(project, _)| project);
    let path = project.filter(|project| !project.ends_with("/lib")).unwrap_or(&path);
    Some(nearest(place, path)?.get("version")?.as_str()?.to_owned())
}

/// Absolute path of the script.
fn script(place: &Place<'_>, language: Language, args: &[String]) -> Option<String> {
    let mut rest = args.get(1..)?;
    let evaluates =
        |argument: &String| ["-e", "--eval", "-p", "--print", "-pe", "-"].contains(&argument.as_str());
    if language != Language::Node {
        // `bun run [script]`, `deno run|serve script`.
        let subcommand = |argument: &String| ["run", "serve", "start"].contains(&argument.as_str());
        let at = rest.iter().position(subcommand).map_or(0, |at| at + 1);
        rest = rest.get(at..)?;
    }
    let script = first_operand(rest, &VALUED)?;
    if rest.iter().take_while(|argument| *argument != script).any(evaluates) {
        return None;
    }
    Some(place.absolute(script))
}

/// The name in the nearest `package.json` at or above a path. One without a name only sets the module type of its directory.
fn package(place: &Place<'_>, path: &str) -> Option<String> {
    let package = nearest(place, path)?;
    let name = name_in(&package)?;
    Some(if super::program::is_generic(name) {
        place.unless_nameless(name, parent(path))
    } else {
        name.to_owned()
    })
}

/// The nearest `package.json` with a name at or above a path.
fn nearest(place: &Place<'_>, path: &str) -> Option<serde_json::Value> {
    let mut directories = Path::new(path).ancestors().take(LEVELS);
    directories.find_map(|directory| {
        let bytes = place.proc.file(place.pid, &directory.join("package.json"), PACKAGE_BYTES)?;
        serde_json::from_slice(&bytes).ok().filter(|package| name_in(package).is_some())
    })
}

fn name_in(package: &serde_json::Value) -> Option<&str> {
    let name = package.get("name")?.as_str()?.trim();
    // npm's own bound on names.
    (!name.is_empty() && name.len() <= 214).then_some(name)
}
