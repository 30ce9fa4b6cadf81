//! What runs a program, and what its threads therefore say about its requests.

use std::path::Path;

use super::elf;
use super::proc::ProcFs;
use super::service::asgi;
use super::targets::file_name;
use crate::span::Scheduling;

/// Bytes of a JDK's `release` file.
const RELEASE_BYTES: u64 = 16 << 10;

/// The runtime or interpreter of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// None that matters here, or none that is known: C, C++, Rust.
    #[default]
    Native,
    /// Go.
    Go,
    /// Node.js.
    Node,
    /// Bun.
    Bun,
    /// Deno.
    Deno,
    /// CPython or PyPy, also inside uWSGI.
    Python,
    /// A JVM.
    Java,
    /// .NET.
    DotNet,
    /// Erlang's and Elixir's virtual machine.
    Beam,
    /// Ruby.
    Ruby,
    /// PHP.
    Php,
    /// Perl.
    Perl,
    /// A POSIX shell.
    Shell,
}

/// What runs a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runtime {
    /// Which.
    pub language: Language,
    /// Its version, where it costs nothing to know.
    pub version: Option<String>,
}

impl Runtime {
    /// `process.runtime.name` as the semantic conventions spell it; `None` where they want what only the runtime itself
    /// could say (`java.runtime.name`), and for programs without one. `program` is the path of the executable.
    #[must_use]
    pub fn attribute(&self, program: &str) -> Option<&'static str> {
        match self.language {
            Language::Python if file_name(program).starts_with("pypy") => Some("pypy"),
            Language::Go => Some("go"),
            Language::Node => Some("nodejs"),
            Language::Bun => Some("bun"),
            Language::Deno => Some("deno"),
            Language::Python => Some("cpython"),
            Language::DotNet => Some(".NET"),
            Language::Beam => Some("BEAM"),
            Language::Ruby => Some("ruby"),
            Language::Php => Some("php"),
            Language::Native | Language::Java | Language::Perl | Language::Shell => None,
        }
    }
}

/// Tells the runtime by the name of the executable, else by its sections, else by the libraries that it has mapped.
/// `at` is the process in whose root the program is looked for where it is gone itself. With the version of a Go program's main module.
pub(super) fn detect(proc: &ProcFs, pid: u32, at: u32, program: &str) -> (Runtime, Option<String>) {
    if let Some(language) = by_name(file_name(program)) {
        let version = if language == Language::Java { java_version(proc, at, program) } else { None };
        return (Runtime { language, version }, None);
    }
    let file = if at == pid { proc.open_exe(pid) } else { proc.open(at, Path::new(program)) };
    if let Some(go) = file.as_ref().and_then(elf::go_program) {
        return (Runtime { language: Language::Go, version: go.version }, go.module);
    }
    (Runtime { language: by_libraries(proc, pid), version: None }, None)
}

/// `java.runtime.version` of the JDK or JRE whose `bin/java` a program is, as its `release` file says.
fn java_version(proc: &ProcFs, at: u32, program: &str) -> Option<String> {
    let home = Path::new(program).parent()?.parent()?;
    let release = proc.file(at, &home.join("release"), RELEASE_BYTES)?;
    let release = String::from_utf8_lossy(&release);
    let version = |name| release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let version = version("JAVA_RUNTIME_VERSION").or_else(|| version("JAVA_VERSION"))?;
    Some(version.trim_matches('"').to_owned()).filter(|version| !version.is_empty())
}

/// The interpreter that an executable's name stands for: `python3.11`, `ruby2.7`, `php-fpm8.2`.
fn by_name(name: &str) -> Option<Language> {
    let stem =
        name.split(|c: char| c.is_ascii_digit()).next().unwrap_or(name).trim_end_matches(['-', '.', '_']);
    match stem {
        "python" | "pypy" | "uwsgi" | "uwsgi-core" => Some(Language::Python),
        "node" | "nodejs" => Some(Language::Node),
        "bun" => Some(Language::Bun),
        "deno" => Some(Language::Deno),
        "java" => Some(Language::Java),
        "dotnet" => Some(Language::DotNet),
        "beam.smp" | "beam" => Some(Language::Beam),
        "ruby" | "jruby" => Some(Language::Ruby),
        "php" | "php-fpm" | "php-cgi" => Some(Language::Php),
        "perl" => Some(Language::Perl),
        "sh" | "bash" | "dash" | "ash" | "zsh" | "ksh" | "fish" => Some(Language::Shell),
        _ => None,
    }
}

/// The runtime that a program brings as a library: `libnode` (Debian's Node, Electron), `libjvm` (jpackage), `libcoreclr`
/// (.NET's own launchers), `libpython` (PyInstaller).
fn by_libraries(proc: &ProcFs, pid: u32) -> Language {
    const LIBRARIES: [(&[u8], Language); 5] = [
        (b"libnode.so", Language::Node),
        (b"libjvm.so", Language::Java),
        (b"libcoreclr.so", Language::DotNet),
        (b"libpython", Language::Python),
        (b"libruby", Language::Ruby),
    ];
    let mut language = Language::Native;
    proc.maps_any(pid, |path| {
        let file = file_of(path);
        let found = LIBRARIES.iter().find(|(library, _)| file.starts_with(library));
        found.inspect(|(_, brought)| language = *brought).is_some()
    });
    language
}

/// What the threads of a process say about its requests, as far as a look from outside tells.
pub(super) fn scheduling(
    proc: &ProcFs,
    pid: u32,
    program: &str,
    runtime: &Runtime,
    args: &[String],
) -> Scheduling {
    let moving = match runtime.language {
        Language::Go
        | Language::Node
        | Language::Bun
        | Language::Deno
        | Language::DotNet
        | Language::Beam => true,
        Language::Native => match native(file_name(program)) {
            Some(scheduling) => return scheduling,
            None => proc.thread_any(pid, is_native_worker),
        },
        Language::Python => python_moves(proc, pid, args),
        Language::Java => proc.thread_any(pid, is_java_carrier),
        // Falcon serves each request on a fiber.
        Language::Ruby => args.iter().any(|argument| file_name(argument).starts_with("falcon")),
        Language::Php | Language::Perl | Language::Shell => false,
    };
    if moving { Scheduling::Moving } else { Scheduling::Unknown }
}

/// Programs that are known by name, workers like masters: the executable is the same.
fn native(name: &str) -> Option<Scheduling> {
    match name {
        "nginx" | "nginx-debug" | "openresty" | "angie" | "haproxy" => Some(Scheduling::RunToCompletion),
        // Its writes wait for a later turn of the event loop, when other requests have been read.
        "envoy" => Some(Scheduling::Moving),
        _ => None,
    }
}

/// Threads of runtimes that are linked into programs: tokio (`tokio-runtime-worker` until 1.47, then `tokio-rt-worker`),
/// actix, async-std, and .NET compiled ahead of time. The kernel keeps 15 bytes of a name.
fn is_native_worker(name: &str) -> bool {
    const WORKERS: [&str; 5] = ["tokio-runtime-w", "tokio-rt-worker", "actix-rt", "async-std/runti", ".NET "];
    WORKERS.iter().any(|worker| name.starts_with(worker))
}

/// Threads that only a JVM with virtual threads, coroutines or an event loop has. HotSpot cuts long names
/// (JDK 17 and 25 as seen); later ones keep their first seven and last six characters (`Virtual..parker`).
fn is_java_carrier(name: &str) -> bool {
    const EXACT: [&str; 5] =
        ["Virtual..parker", "VirtualThread-u", "Read-Poller", "Write-Poller", "MasterPoller"];
    const START: [&str; 6] =
        ["ForkJoinPool-1-", "DefaultDispatch", "reactor", "vert.x-", "nioEven", "epollEv"];
    EXACT.contains(&name)
        || START.iter().any(|start| name.starts_with(start))
        || name.starts_with("Default..rker")
}

/// An event loop is one where a module for it is loaded and the process holds an epoll descriptor: asyncio alone is also
/// loaded by programs that never run it (Django), and greenlet by SQLAlchemy. Where asyncio is compiled into the
/// interpreter, the server's name has to do.
fn python_moves(proc: &ProcFs, pid: u32, args: &[String]) -> bool {
    if asgi(args) {
        return true;
    }
    let mut maybe = false;
    let surely = proc.maps_any(pid, |path| {
        let file = file_of(path);
        maybe |= file.starts_with(b"_asyncio.") || file.starts_with(b"_greenlet.");
        let loops =
            memchr::memmem::find(path, b"/uvloop/").or_else(|| memchr::memmem::find(path, b"/gevent/"));
        loops.is_some()
    });
    surely || (maybe && proc.polls_epoll(pid))
}

fn file_of(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}
