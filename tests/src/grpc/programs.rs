//! Real implementations of gRPC: the echo services and the client that each has.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::apps::{build, run, sources};
use crate::processes::{Process, free_port};

use super::session::Session;
use super::{Call, Planned};

/// A library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Library {
    /// grpcio: a server with a pool of threads, a client on asyncio.
    Python,
    /// @grpc/grpc-js.
    Node,
    /// grpc-netty-shaded.
    Java,
    /// grpc-go.
    Go,
    /// tonic.
    Tonic,
}

/// A server that listens.
pub struct Server {
    /// Its process.
    pub process: Process,
    /// Its port.
    pub port: u16,
    /// What it is made with.
    pub library: Library,
}

impl Library {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Python, Self::Node, Self::Java, Self::Go, Self::Tonic];

    /// Starts the echo services and waits until they listen.
    #[must_use]
    pub fn serve(self) -> Server {
        let port = free_port();
        let mut command = self.command(false);
        let mut process = Process::start(&format!("{self:?} server"), command.arg(port.to_string()));
        process.wait_port(port);
        Server { process, port, library: self }
    }

    /// Makes the calls over so many connections, at most so many at once, and the last when all others are over: a client that
    /// has written that has written everything, and may end.
    ///
    /// # Panics
    /// When the client fails or does not tell of each call.
    #[must_use]
    pub fn call(self, port: u16, concurrency: usize, channels: usize, plan: &[Planned]) -> Vec<Call> {
        let mut session = Session::start(self, port, concurrency, channels);
        let (last, others) = plan.split_last().expect("something to do");
        session.make(others);
        let mut calls: Vec<Call> = others.iter().map(|_| session.ended()).collect();
        session.make(std::slice::from_ref(last));
        calls.extend(session.finish());
        assert_eq!(calls.len(), plan.len(), "{self:?} did not make every call");
        calls
    }

    /// The client program: what to call stands in its standard input, what it did in its standard output.
    #[must_use]
    pub fn client(self, port: u16, concurrency: usize, channels: usize) -> Command {
        let mut command = self.command(true);
        command.args([usize::from(port), concurrency, channels].map(|number| number.to_string()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    }

    fn command(self, client: bool) -> Command {
        let which = if client { "client" } else { "server" };
        match self {
            Self::Python => {
                let mut command = Command::new(python());
                command.arg(sources().join(format!("python/grpc/{which}.py")));
                command
            }
            Self::Node => {
                let mut command = Command::new("node");
                command.arg(node().join(format!("{which}.mjs")));
                command
            }
            Self::Java => {
                let folder = java();
                let mut command = Command::new("java");
                command.args(["-Xmx256m", "-cp"]);
                command.arg(format!("{}:{}/lib/*", folder.display(), folder.display()));
                command.arg(if client { "GrpcClient" } else { "GrpcServer" });
                command
            }
            Self::Go => Command::new(go().join(which)),
            Self::Tonic => {
                let mut command = Command::new(crate::apps::program("sonde-tests-grpc"));
                command.arg(which);
                command
            }
        }
    }
}

/// What a client wrote.
///
/// # Panics
/// Where that is not what it should be.
#[must_use]
pub fn read(told: &str) -> Vec<Call> {
    let call = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    told.lines().map(call).collect()
}

/// Python with grpcio.
#[must_use]
pub fn python() -> PathBuf {
    let built = build("python/grpc", &["requirements.txt"], crate::apps::venv);
    built.join("bin/python")
}

/// The folder with the programs for Node and their modules.
#[must_use]
pub fn node() -> PathBuf {
    let files = ["package.json", "package-lock.json", "echo.mjs", "server.mjs", "client.mjs"];
    build("node/grpc", &files, |from, to| crate::apps::npm(&files, from, to))
}

/// The folder with the Java classes, and what they need in `lib`.
#[must_use]
pub fn java() -> PathBuf {
    let files = ["pom.xml", "GrpcEcho.java", "GrpcServer.java", "GrpcClient.java"];
    build("java/grpc", &files, |from, to| {
        let lib = to.join("lib");
        let mut maven = Command::new("mvn");
        maven.args(["--quiet", "--batch-mode", "--file"]).arg(from.join("pom.xml"));
        maven.arg("org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies");
        run(maven.arg(format!("-DoutputDirectory={}", lib.display())).arg("-DincludeScope=runtime"));
        let mut javac = Command::new("javac");
        javac.arg("-cp").arg(format!("{}/*", lib.display())).arg("-d").arg(to);
        run(javac.args(files.iter().skip(1).map(|file| from.join(file))));
    })
}

/// The folder with the Go programs `server`, `client` and `etcd`.
#[must_use]
pub fn go() -> PathBuf {
    let files = ["go.mod", "go.sum", "echo.go", "server/main.go", "client/main.go", "etcd/main.go"];
    build("go/grpc", &files, |from, to| {
        let mut go = Command::new("go");
        go.args(["build", "-mod=readonly", "-trimpath", "-o"]).arg(to).current_dir(from);
        run(go.args(["./server", "./client", "./etcd"]));
    })
}
