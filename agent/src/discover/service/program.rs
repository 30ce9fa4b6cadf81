//! The program that a process runs: its executable, or what an interpreter was told to run.
//!
//! Names that say nothing (`__main__.py`, `wsgi.py`, `index.js`) give way to the directory that they stand in, and that, where
//! it says nothing either (`/app`, `/usr/src/app`), to the one above.

use super::super::proc::ProcFs;
use super::super::runtime::Language;
use super::super::targets::file_name;
use super::{Seen, java, node, python};

/// Forked and spawned workers ask their parents, so deep.
const ANCESTORS: u32 = 3;

/// Names that a language or a framework gives to the entry of every program, so that the directory says more. A name that
/// somebody chose for a file, were it `app` or `server`, is the program's.
const NAMELESS: [&str; 11] = [
    "__main__",
    "__init__",
    "wsgi",
    "asgi",
    "index",
    "manage",
    "bootstrap",
    "config",
    "router",
    "entrypoint",
    "start-server",
];

/// Names of modules that say less than the package that they are in.
const GENERIC_MODULES: [&str; 11] =
    ["app", "application", "main", "server", "run", "start", "service", "web", "api", "cli", "program"];

/// Names of directories that could be anyone's.
const GENERIC_DIRECTORIES: [&str; 33] = [
    "",
    ".",
    "..",
    "app",
    "apps",
    "src",
    "source",
    "code",
    "bin",
    "sbin",
    "lib",
    "libs",
    "dist",
    "build",
    "target",
    "out",
    "release",
    "releases",
    "current",
    "usr",
    "opt",
    "srv",
    "var",
    "www",
    "html",
    "home",
    "root",
    "tmp",
    "local",
    "public",
    "workspace",
    "work",
    "workdir",
];

/// Everything that finding a program's name may need, read only when it is needed.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub proc: &'a ProcFs,
    pub pid: u32,
}

impl Place<'_> {
    /// Joins a path with the working directory and resolves `.` and `..` by text.
    pub(super) fn absolute(&self, path: &str) -> String {
        let start =
            if path.starts_with('/') { String::new() } else { self.proc.cwd(self.pid).unwrap_or_default() };
        let mut parts: Vec<&str> = Vec::new();
        for part in start.split('/').chain(path.split('/')) {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        format!("/{}", parts.join("/"))
    }

    /// `name`, or where it says nothing the directory that says more: `directory` (absolute or not) or one above.
    pub(super) fn unless_nameless(&self, name: &str, directory: &str) -> String {
        if !is_nameless(name) {
            return name.to_owned();
        }
        self.directory(directory).unwrap_or_else(|| name.to_owned())
    }

    /// The innermost directory of a path whose name says something.
    pub(super) fn directory(&self, path: &str) -> Option<String> {
        let path = self.absolute(path);
        let inside =
            |root: &str| path.strip_prefix(root).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        // Directories below these are called by chance.
        if ["/tmp", "/var/tmp", "/dev/shm", "/run", "/proc"].iter().any(|root| inside(root).is_some()) {
            return None;
        }
        // The name of a person is none of a service.
        let path = match inside("/home") {
            Some(rest) => rest.splitn(3, '/').nth(2).unwrap_or(""),
            None => &path,
        };
        let says = |part: &&str| !GENERIC_DIRECTORIES.contains(&part.to_ascii_lowercase().as_str());
        path.rsplit('/').find(says).map(ToOwned::to_owned)
    }

    /// A script: its name without the suffix, unless that is generic.
    pub(super) fn script(&self, path: &str) -> String {
        self.unless_nameless(stem(path), parent(path))
    }
}

/// Whether a name says nothing of the program.
fn is_nameless(name: &str) -> bool {
    NAMELESS.contains(&name.to_ascii_lowercase().as_str())
}

/// Whether a module says less than the package that it is in.
pub(super) fn is_generic(name: &str) -> bool {
    is_nameless(name) || GENERIC_MODULES.contains(&name.to_ascii_lowercase().as_str())
}

/// The name of the program that a process runs; `None` where the interpreter was not told one.
pub(super) fn name(proc: &ProcFs, pid: u32, seen: &Seen<'_>) -> Option<String> {
    let place = Place { proc, pid };
    of_arguments(&place, seen.language, seen.program, seen.args).or_else(|| {
        // A worker that was spawned rather than forked runs its master's program (Python's multiprocessing).
        let spawned = seen.language == Language::Python && python::is_spawned(seen.args);
        if spawned { of_parent(proc, seen.ppid, seen.program) } else { None }
    })
}

fn of_parent(proc: &ProcFs, mut pid: u32, program: &str) -> Option<String> {
    for _ in 0..ANCESTORS {
        // Only below the same interpreter: a shell's name is not its child's.
        if proc.exe(pid).is_none_or(|exe| file_name(&exe) != file_name(program)) {
            return None;
        }
        let args = proc.cmdline(pid);
        if !python::is_spawned(&args) {
            return of_arguments(&Place { proc, pid }, Language::Python, program, &args);
        }
        pid = proc.stat(pid)?.ppid;
    }
    None
}

fn of_arguments(place: &Place<'_>, language: Language, program: &str, args: &[String]) -> Option<String> {
    let rest = args.get(1..).unwrap_or_default();
    match language {
        Language::Native | Language::Go => native(place, program, args),
        Language::Python => python::name(place, program, args),
        Language::Node | Language::Bun | Language::Deno => node::name(place, language, args),
        Language::Java => java::name(place, args),
        Language::DotNet => dot_net(place, program, rest),
        Language::Beam => beam(rest),
        Language::Ruby => ruby(place, args),
        Language::Php => php(place, program, rest),
        Language::Perl if is_one_liner(rest, &['e', 'E']) => None,
        Language::Perl => first_operand(rest, &["-I"]).map(|script| place.script(script)),
        Language::Shell => shell(rest).map(|script| place.script(script)),
    }
}

/// The file name of the executable. A multi-call program is what it was called as.
fn native(place: &Place<'_>, program: &str, args: &[String]) -> Option<String> {
    let called = args.first().map(|first| file_name(first));
    match file_name(program) {
        "" => None,
        "busybox" | "toybox" | "coreutils" => match called {
            Some("busybox" | "toybox" | "coreutils") => args.get(1).cloned(),
            called => called.map(ToOwned::to_owned),
        },
        // The dynamic loader, called to run a program.
        name if name.starts_with("ld-linux") || name.starts_with("ld-musl") => {
            let rest = args.get(1..).unwrap_or_default();
            let loaded = first_operand(rest, &["--library-path", "--argv0", "--preload", "--audit"]);
            loaded.map(|loaded| place.unless_nameless(file_name(loaded), parent(loaded)))
        }
        name => Some(place.unless_nameless(name, parent(program))),
    }
}

/// `dotnet Shop.dll`, `dotnet exec Shop.dll`, or a launcher of its own.
fn dot_net(place: &Place<'_>, program: &str, rest: &[String]) -> Option<String> {
    if file_name(program) != "dotnet" {
        return Some(place.unless_nameless(file_name(program), parent(program)));
    }
    let library = rest.iter().find(|argument| argument.ends_with(".dll"))?;
    Some(place.script(library))
}

/// The node's name: `-sname rabbit@host`, `-name shop@10.0.0.1`.
fn beam(rest: &[String]) -> Option<String> {
    let after =
        |flag: &str| rest.iter().position(|argument| argument == flag).and_then(|at| rest.get(at + 1));
    let node = after("-sname").or_else(|| after("-name"))?;
    node.split('@').next().filter(|name| !name.is_empty()).map(ToOwned::to_owned)
}

/// Servers that load the application of their working directory, else the script.
fn ruby(place: &Place<'_>, args: &[String]) -> Option<String> {
    if let Some(title) = title(args) {
        // `puma 6.4.2 (tcp://0.0.0.0:3000) [shop]`, `puma: cluster worker 0: 17 [shop]`: the directory's name.
        let tagged = title.strip_suffix(']').and_then(|title| title.rsplit_once('[')).map(|(_, tag)| tag);
        return tagged
            .filter(|_| title.starts_with("puma"))
            .map_or_else(|| place.directory("."), |tag| Some(place.unless_nameless(tag, ".")));
    }
    let rest = args.get(1..).unwrap_or_default();
    if is_one_liner(rest, &['e']) {
        return None;
    }
    let script = first_operand(rest, &["-I", "-r", "-C", "-E", "-S"])?;
    match stem(script) {
        "puma" | "unicorn" | "rackup" | "thin" | "falcon" | "passenger" | "rails" | "bundle" | "sidekiq"
        | "rake" => place.directory(".").or_else(|| Some(stem(script).to_owned())),
        _ => Some(place.script(script)),
    }
}

/// `php-fpm`, whose workers rewrite their arguments; `php script.php`; `php -S address -t root [router]`.
fn php(place: &Place<'_>, program: &str, rest: &[String]) -> Option<String> {
    if file_name(program).starts_with("php-fpm") {
        return Some("php-fpm".to_owned());
    }
    if let Some(served) = rest.iter().position(|argument| argument == "-S") {
        let root = rest.get(served..)?.iter().skip_while(|argument| *argument != "-t").nth(1);
        return place.directory(root.map_or(".", String::as_str));
    }
    if is_one_liner(rest, &['r', 'B', 'R', 'E']) {
        return None;
    }
    let script = first_operand(rest, &["-c", "-d", "-z", "-t"])?;
    if stem(script) == "artisan" { place.directory(parent(script)) } else { Some(place.script(script)) }
}

/// Whether the program stands in the arguments themselves, behind an option such as `-e`, which may be joined with others
/// (`-ne`). Operands are the program's own then.
fn is_one_liner(rest: &[String], options: &[char]) -> bool {
    let before_script =
        rest.iter().take_while(|argument| argument.starts_with('-') && argument.as_str() != "--");
    let mut short = before_script.filter(|argument| !argument.starts_with("--"));
    short.any(|argument| argument.len() <= 4 && argument.ends_with(options))
}

fn shell(rest: &[String]) -> Option<&str> {
    // With `-c` the operand is a command.
    let is_command = |argument: &String| {
        argument.starts_with('-') && !argument.starts_with("--") && argument.contains('c')
    };
    if rest.first().is_some_and(is_command) {
        return None;
    }
    let script = first_operand(rest, &["-o", "+o", "-O", "--rcfile", "--init-file"]);
    script.filter(|script| !is_stream(script))
}

/// A script that comes from a descriptor has no name.
pub(super) fn is_stream(script: &str) -> bool {
    script == "-" || script.starts_with("/dev/") || script.starts_with("/proc/")
}

/// The first argument that is neither an option nor the value of one of `valued`.
pub(super) fn first_operand<'a>(rest: &'a [String], valued: &[&str]) -> Option<&'a str> {
    let mut rest = rest.iter();
    while let Some(argument) = rest.next() {
        if argument == "--" {
            return rest.next().map(String::as_str);
        }
        if valued.contains(&argument.as_str()) {
            rest.next();
        } else if !argument.starts_with('-') && !argument.is_empty() {
            return Some(argument);
        }
    }
    None
}

/// Arguments that the process has overwritten with one line about itself (setproctitle).
pub(super) fn title(args: &[String]) -> Option<&str> {
    let (first, rest) = args.split_first()?;
    let rewritten = rest.iter().all(String::is_empty) && first.contains(' ') && !first.starts_with('/');
    rewritten.then(|| first.trim_end())
}

/// The file name of a path without its last suffix.
pub(super) fn stem(path: &str) -> &str {
    let name = file_name(path);
    name.rsplit_once('.').map_or(name, |(stem, _)| if stem.is_empty() { name } else { stem })
}

/// The directory part of a path, `.` where there is none.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or(".", |(directory, _)| if directory.is_empty() { "/" } else { directory })
}
