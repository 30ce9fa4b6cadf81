//! The applications under `tests/apps`: what they need is installed and built once, under `target/test-apps`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::gate::{root, target};

/// The folder of the applications' sources.
#[must_use]
pub fn sources() -> PathBuf {
    root().join("tests/apps")
}

/// Python with what `requirements.txt` pins.
#[must_use]
pub fn python() -> PathBuf {
    build("python", &["requirements.txt"], venv).join("bin/python")
}

pub(crate) fn venv(from: &Path, to: &Path) {
    run(Command::new("python3").args(["-m", "venv"]).arg(to));
    let mut pip = Command::new(to.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]);
    run(pip.arg(from.join("requirements.txt")));
}

/// The folder with the Node applications and their modules.
#[must_use]
pub fn node() -> PathBuf {
    let files = ["package.json", "package-lock.json", "server.mjs", "client.mjs"];
    build("node", &files, |from, to| npm(&files, from, to))
}

pub(crate) fn npm(files: &[&str], from: &Path, to: &Path) {
    for file in files {
        fs::copy(from.join(file), to.join(file)).expect("copy");
    }
    run(Command::new("npm").args(["ci", "--silent", "--no-fund", "--no-audit"]).current_dir(to));
}

/// The folder with the Java classes.
#[must_use]
pub fn java() -> PathBuf {
    let sources = ["Server.java", "Client.java", "H2Client.java"];
    build("java", &sources, |from, to| {
        let mut javac = Command::new("javac");
        run(javac.arg("-d").arg(to).args(sources.map(|source| from.join(source))));
    })
}

/// The folder with the Go programs, `server` and `client`.
#[must_use]
pub fn go() -> PathBuf {
    build("go", &["go.mod", "server/main.go", "client/main.go"], |from, to| {
        for program in ["server", "client"] {
            let mut go = Command::new("go");
            go.args(["build", "-o"]).arg(to.join(program)).arg(format!("./{program}")).current_dir(from);
            run(&mut go);
        }
    })
}

/// Python with what rides on HTTP/1.
#[must_use]
pub fn rides_python() -> PathBuf {
    let built = build("python/rides", &["requirements.txt"], |from, to| {
        run(Command::new("python3").args(["-m", "venv"]).arg(to));
        let mut pip = Command::new(to.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]);
        run(pip.arg(from.join("requirements.txt")));
    });
    built.join("bin/python")
}

/// The folder with the Node programs of what rides on HTTP/1, and their modules.
#[must_use]
pub fn rides_node() -> PathBuf {
    const FILES: [&str; 5] =
        ["package.json", "package-lock.json", "server.mjs", "ws_client.mjs", "web_client.mjs"];
    build("node/rides", &FILES, |from, to| {
        for file in FILES {
            fs::copy(from.join(file), to.join(file)).expect("copy");
        }
        run(Command::new("npm").args(["ci", "--silent", "--no-fund", "--no-audit"]).current_dir(to));
    })
}

/// The folder with the Go programs of what rides on HTTP/1, `ws` and `web`.
#[must_use]
pub fn rides_go() -> PathBuf {
    build("go/rides", &["go.mod", "go.sum", "ws/main.go", "web/main.go"], |from, to| {
        for program in ["ws", "web"] {
            let mut go = Command::new("go");
            go.args(["build", "-o"]).arg(to.join(program)).arg(format!("./{program}")).current_dir(from);
            run(&mut go);
        }
    })
}

/// Python with OpenTelemetry's distribution and what `sdk/requirements.txt` pins beside.
#[must_use]
pub fn python_sdk() -> PathBuf {
    let built = build("python/sdk", &["requirements.txt"], |from, to| {
        run(Command::new("python3").args(["-m", "venv"]).arg(to));
        let mut pip = Command::new(to.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]);
        run(pip.arg(from.join("requirements.txt")));
    });
    built.join("bin")
}

/// The folder with the Node application that OpenTelemetry traces, and its modules.
#[must_use]
pub fn node_sdk() -> PathBuf {
    const FILES: &[&str] = &["package.json", "package-lock.json", "server.cjs"];
    build("node/sdk", FILES, |from, to| {
        for file in FILES {
            fs::copy(from.join(file), to.join(file)).expect("copy");
        }
        run(Command::new("npm").args(["ci", "--silent", "--no-fund", "--no-audit"]).current_dir(to));
    })
}

/// The Go program that otelhttp traces.
#[must_use]
pub fn go_sdk() -> PathBuf {
    let built = build("go/sdk", &["go.mod", "go.sum", "main.go"], |from, to| {
        let mut go = Command::new("go");
        run(go.args(["build", "-o"]).arg(to.join("app")).arg(".").current_dir(from));
    });
    built.join("app")
}

/// The Go program that serves and calls over HTTP/2.
#[must_use]
pub fn go_h2() -> PathBuf {
    let built = build("go/h2", &["go.mod", "go.sum", "main.go", "server.go"], |from, to| {
        run(Command::new("go").args(["build", "-o"]).arg(to.join("h2")).arg(".").current_dir(from));
    });
    built.join("h2")
}

/// The Rust server of this package.
#[must_use]
pub fn hyper() -> PathBuf {
    program("sonde-tests-hyper")
}

/// A program of this package.
pub(crate) fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("own path");
    // Test binaries stand in `deps`, one below the programs.
    let folder = own.ancestors().skip(1).find(|folder| folder.join(name).is_file());
    folder.unwrap_or_else(|| panic!("no {name} near {}", own.display())).join(name)
}

/// Runs `make` into a fresh folder unless that was done with the same inputs before.
pub(crate) fn build(folder: &str, inputs: &[&str], make: impl FnOnce(&Path, &Path)) -> PathBuf {
    let from = sources().join(folder);
    let name = folder.replace('/', "-");
    let to = target().join("test-apps").join(&name);
    fs::create_dir_all(target().join("test-apps")).expect("target folder");
    let lock = fs::File::create(target().join("test-apps").join(format!("{name}.lock"))).expect("lock file");
    lock.lock().expect("lock");
    let stamp: String = inputs
        .iter()
        .map(|input| fs::read_to_string(from.join(input)).unwrap_or_else(|error| panic!("{input}: {error}")))
        .collect();
    let stamp_file = to.join(".inputs");
    if fs::read_to_string(&stamp_file).is_ok_and(|built| built == stamp) {
        return to;
    }
    drop(fs::remove_dir_all(&to));
    fs::create_dir_all(&to).expect("folder");
    make(&from, &to);
    fs::write(stamp_file, stamp).expect("stamp");
    to
}

pub(crate) fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
}
