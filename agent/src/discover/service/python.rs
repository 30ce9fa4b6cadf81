//! What a Python interpreter runs: a script, a module, or an application that a server was told to load.

use std::path::Path;

use super::super::targets::file_name;
use super::program::{Place, first_operand, is_generic, is_stream, parent, stem, title};

/// Servers that run applications of others, named as `package.module:attribute`.
const SERVERS: [&str; 7] =
    ["gunicorn", "uvicorn", "hypercorn", "daphne", "granian", "waitress-serve", "waitress"];

/// Servers that run an event loop whatever they load.
const ASGI_SERVERS: [&str; 6] = ["uvicorn", "hypercorn", "daphne", "granian", "aiohttp.web", "sanic"];

/// What the interpreter was told to run, and the arguments behind it.
enum Told<'a> {
    Script(&'a str, &'a [String]),
    Module(&'a str, &'a [String]),
}

/// Whether the arguments start a server that runs an event loop.
pub(in crate::discover) fn asgi(args: &[String]) -> bool {
    let name = match told(args) {
        Some(Told::Script(script, _)) => stem(script),
        Some(Told::Module(module, _)) => module,
        None => {
            return title(args)
                .is_some_and(|title| ASGI_SERVERS.iter().any(|server| title.starts_with(server)));
        }
    };
    ASGI_SERVERS.contains(&name)
}

/// Whether this is a child that `multiprocessing` spawned, which knows its program only from its parent.
pub(super) fn is_spawned(args: &[String]) -> bool {
    args.iter().any(|argument| argument.starts_with("from multiprocessing"))
}

/// The name of what the interpreter runs; `None` for `-c`, and where it reads from a terminal.
pub(super) fn name(place: &Place<'_>, program: &str, args: &[String]) -> Option<String> {
    if file_name(program).starts_with("uwsgi") {
        return uwsgi(place, args.get(1..).unwrap_or_default());
    }
    if let Some(title) = title(args) {
        return of_title(place, title);
    }
    match told(args)? {
        Told::Script(script, rest) => match launcher(place, stem(script), rest) {
            Some(name) => Some(name),
            None => Some(place.script(script)),
        },
        Told::Module(module, rest) => {
            let module = module.strip_suffix(".__main__").unwrap_or(module);
            // Told in full, so said in full: `http.server`, `shop.web`.
            let named = || place.unless_nameless(module, ".");
            Some(launcher(place, module, rest).unwrap_or_else(named))
        }
    }
}

/// Bytes of a source file that are looked through for its version.
const SOURCE_BYTES: u64 = 64 << 10;

/// The `__version__` that the script, the module or its package sets, or that of the application which a server loads.
pub(super) fn version(place: &Place<'_>, args: &[String]) -> Option<String> {
    let tag = title(args).and_then(|title| Some(title.strip_suffix(']')?.rsplit_once('[')?.1));
    let (module, directory) = match (tag, told(args)) {
        (Some(tag), _) => (tag, "."),
        (None, Some(Told::Script(script, rest))) => match loaded(stem(script), rest) {
            Some(loaded) => loaded,
            None => return source_version(place, script),
        },
        (None, Some(Told::Module(module, rest))) => loaded(module, rest).unwrap_or((module, ".")),
        (None, None) => return None,
    };
    let package = module.split(['.', ':', '(']).next()?;
    let at = |file: &str| source_version(place, &format!("{directory}/{package}{file}"));
    at("/__init__.py").or_else(|| at("/__about__.py")).or_else(|| at("/_version.py")).or_else(|| at(".py"))
}

/// What a server among the programs was told to load, and from where.
fn loaded<'a>(program: &str, rest: &'a [String]) -> Option<(&'a str, &'a str)> {
    if !SERVERS.contains(&program) {
        return None;
    }
    let directory = option(rest, &["--chdir", "--app-dir"]).unwrap_or(".");
    rest.iter().find(|argument| names_attribute(argument)).map(|loaded| (loaded.as_str(), directory))
}

/// `__version__ = "1.4.2"`, at the start of a line.
fn source_version(place: &Place<'_>, path: &str) -> Option<String> {
    let bytes = place.proc.file(place.pid, Path::new(&place.absolute(path)), SOURCE_BYTES)?;
    let text = String::from_utf8_lossy(&bytes);
    let value = text.lines().find_map(|line| {
        let (annotation, value) = line.strip_prefix("__version__")?.split_once('=')?;
        (annotation.trim().is_empty() || annotation.starts_with(':')).then_some(value.trim_start())
    })?;
    let quote = value.chars().next().filter(|first| ['"', '\''].contains(first))?;
    value.get(1..)?.split_once(quote).map(|(version, _)| version.to_owned())
}

/// The interpreter's own options end at a script, `-m module` or `-c command` (python(1)). Short options may be joined, and so
/// may their values.
fn told(args: &[String]) -> Option<Told<'_>> {
    let mut rest = args.get(1..)?;
    while let Some((argument, after)) = rest.split_first() {
        rest = after;
        if argument == "--check-hash-based-pycs" {
            rest = rest.get(1..)?;
            continue;
        }
        if argument.starts_with("--") {
            continue;
        }
        let Some(options) = argument.strip_prefix('-').filter(|options| !options.is_empty()) else {
            return (!argument.is_empty() && !is_stream(argument)).then_some(Told::Script(argument, rest));
        };
        let Some(at) = options.find(['c', 'm', 'W', 'X']) else { continue };
        let (option, joined) = options.get(at..)?.split_at(1);
        let value = if joined.is_empty() {
            let (value, after) = rest.split_first()?;
            rest = after;
            value
        } else {
            joined
        };
        match option {
            "c" => return None,
            "m" => return Some(Told::Module(value, rest)),
            _ => {}
        }
    }
    None
}

/// The application behind a program that runs those of others; `None` for any other program.
fn launcher(place: &Place<'_>, program: &str, rest: &[String]) -> Option<String> {
    let after = |flags: &[&str]| option(rest, flags);
    let here = after(&["--chdir", "--app-dir"]).unwrap_or(".");
    if SERVERS.contains(&program) {
        if program == "gunicorn"
            && let Some(name) = after(&["-n", "--name"])
        {
            return Some(name.to_owned());
        }
        let loaded = rest.iter().enumerate().find(|(at, argument)| {
            let before = at.checked_sub(1).and_then(|at| rest.get(at));
            // `gunicorn -c python:settings` names a module too.
            !before.is_some_and(|flag| flag == "-c" || flag == "--config") && names_attribute(argument)
        });
        let last = || rest.last().filter(|argument| is_module(argument));
        let loaded = loaded.map(|(_, argument)| argument).or_else(last)?;
        return Some(application(place, loaded, here));
    }
    match program {
        "flask" => match after(&["-A", "--app"]) {
            Some(loaded) => Some(application(place, loaded, ".")),
            None => place.directory("."),
        },
        "celery" => after(&["-A", "--app"]).map(|loaded| application(place, loaded, ".")),
        "fastapi" | "streamlit" | "sanic" => {
            let operand =
                rest.iter().find(|argument| argument.ends_with(".py") || names_attribute(argument))?;
            Some(if operand.ends_with(".py") {
                place.script(operand)
            } else {
                application(place, operand, ".")
            })
        }
        "django-admin" => place.directory("."),
        // Tools that run another script in the same process.
        "debugpy" | "coverage" | "memray" | "scalene" | "cProfile" | "pdb" => {
            first_operand(rest, &["--listen", "--connect", "-o"])
                .filter(|script| script.ends_with(".py"))
                .map(|script| place.script(script))
        }
        _ => None,
    }
}

/// `uwsgi --module shop.wsgi:application`, `--wsgi-file shop.py`, `--chdir /srv/shop`.
fn uwsgi(place: &Place<'_>, rest: &[String]) -> Option<String> {
    let here = option(rest, &["--chdir"]).unwrap_or(".");
    if let Some(module) = option(rest, &["--module", "-w"]) {
        return Some(application(place, module, here));
    }
    match option(rest, &["--wsgi-file", "--file"]) {
        Some(file) => Some(place.unless_nameless(stem(file), here)),
        None => option(rest, &["--ini"])
            .map(|file| place.unless_nameless(stem(file), parent(file)))
            .or_else(|| place.directory(here)),
    }
}

/// A title of setproctitle: `gunicorn: worker [shop.wsgi:application]`.
fn of_title(place: &Place<'_>, title: &str) -> Option<String> {
    let (_, tag) = title.strip_suffix(']')?.rsplit_once('[')?;
    title.starts_with("gunicorn: ").then(|| application(place, tag, "."))
}

/// `shop.wsgi:application` is `shop`: the module without what could be anyone's, else the directory, else the module.
fn application(place: &Place<'_>, loaded: &str, directory: &str) -> String {
    let module = loaded.split([':', '(']).next().unwrap_or(loaded);
    let module = module.strip_suffix(".py").unwrap_or(module);
    if module.contains('/') {
        return place.script(module);
    }
    let mut said = module;
    while let Some((start, last)) = said.rsplit_once('.') {
        if !is_generic(last) {
            return said.to_owned();
        }
        said = start;
    }
    place.unless_nameless(said, directory)
}

/// The value of the first of `flags`, behind it or joined by `=`.
fn option<'a>(rest: &'a [String], flags: &[&str]) -> Option<&'a str> {
    rest.iter().enumerate().find_map(|(at, argument)| {
        if flags.contains(&argument.as_str()) {
            return rest.get(at + 1).map(String::as_str);
        }
        let (flag, value) = argument.split_once('=')?;
        flags.contains(&flag).then_some(value)
    })
}

/// `package.module:attribute` or `package.module:factory()`, not `host:port`.
fn names_attribute(argument: &str) -> bool {
    argument.split_once(':').is_some_and(|(module, attribute)| {
        let attribute = attribute.split('(').next().unwrap_or(attribute);
        is_module(module) && is_module(attribute)
    })
}

/// Identifiers between dots.
fn is_module(text: &str) -> bool {
    text.split('.').all(|part| {
        let mut characters = part.chars();
        characters.next().is_some_and(|first| first.is_alphabetic() || first == '_')
            && characters.all(|other| other.is_alphanumeric() || other == '_')
    })
}
