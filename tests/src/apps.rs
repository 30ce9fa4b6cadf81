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
    let built = build("python", &["requirements.txt"], |from, to| {
        run(Command::new("python3").args(["-m", "venv"]).arg(to));
        let mut pip = Command::new(to.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]);
        run(pip.arg(from.join("requirements.txt")));
    });
    built.join("bin/python")
}

/// The folder with the Node applications and their modules.
#[must_use]
pub fn node() -> PathBuf {
    build("node", &["package.json", "package-lock.json", "server.mjs", "client.mjs"], |from, to| {
        for file in ["package.json", "package-lock.json", "server.mjs", "client.mjs"] {
            fs::copy(from.join(file), to.join(file)).expect("copy");
        }
        run(Command::new("npm").args(["ci", "--silent", "--no-fund", "--no-audit"]).current_dir(to));
    })
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

/// The Go program that serves and calls over HTTP/2.
#[must_use]
pub fn go_h2() -> PathBuf {
    let built = build("go-h2", &["go.mod", "go.sum", "main.go", "server.go"], |from, to| {
        run(Command::new("go").args(["build", "-o"]).arg(to.join("h2")).arg(".").current_dir(from));
    });
    built.join("h2")
}

/// The Rust server of this package.
#[must_use]
pub fn hyper() -> PathBuf {
    let own = std::env::current_exe().expect("own path");
    // Test binaries stand in `deps`, one below the programs.
    let folder = own.ancestors().skip(1).find(|folder| folder.join("sonde-tests-hyper").is_file());
    folder.unwrap_or_else(|| panic!("no sonde-tests-hyper near {}", own.display())).join("sonde-tests-hyper")
}

/// Runs `make` into a fresh folder unless that was done with the same inputs before.
fn build(name: &str, inputs: &[&str], make: impl FnOnce(&Path, &Path)) -> PathBuf {
    let from = sources().join(name);
    let to = target().join("test-apps").join(name);
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

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
}
