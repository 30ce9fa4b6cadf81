//! Captures of real traffic by tcpdump, and their replay.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use tempfile::TempDir;

use crate::gate;
use crate::namespaces::Place;
use crate::processes::{PATIENCE, Process, output, run};
use crate::spans::{self, Span};

/// tcpdump, capturing.
pub struct Tcpdump {
    process: Process,
    folder: TempDir,
    file: PathBuf,
}

/// A capture file. The folder goes with it.
pub struct Capture {
    folder: TempDir,
    /// As tcpdump wrote it.
    pub file: PathBuf,
}

impl Tcpdump {
    /// Starts capturing on an interface, with more arguments and a filter, and waits until it does.
    #[must_use]
    pub fn start(place: &Place, interface: &str, args: &[&str], filter: &str) -> Self {
        let folder = TempDir::new().expect("folder");
        let file = folder.path().join("tcpdump.pcap");
        let mut command = place.command("tcpdump");
        // A ring of 64 MiB has room for all that a scenario sends, however busy the machine is. (In immediate mode it would
        // be divided into slots of the longest packet, and 256 of them are soon full.)
        command.args(["-i", interface, "-U", "-B", "65536", "-Z", "root", "-w"]);
        command.arg(&file).args(args).arg(filter);
        let mut process = Process::start("tcpdump", &mut command);
        process.wait_line("listening on");
        Self { process, folder, file }
    }

    /// Ends it once these bytes are so often in the file: what came last, as often as a device shows it.
    ///
    /// # Panics
    /// When they do not come, or packets were dropped: nothing is shown by a capture that lacks some.
    #[must_use]
    pub fn finish(self, last: &str, times: usize) -> Capture {
        let deadline = Instant::now() + PATIENCE;
        while occurrences(&self.file, last.as_bytes()) < times {
            assert!(Instant::now() < deadline, "{last} was not captured");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let Self { process, folder, file } = self;
        let (_, log) = process.terminate();
        assert!(log.contains("0 packets dropped by kernel"), "tcpdump: {log}");
        Capture { folder, file }
    }
}

impl Capture {
    /// The spans that a replay makes of a file, and what it says.
    ///
    /// # Panics
    /// When the replay fails.
    #[must_use]
    pub fn replay(&self, file: &Path, perspective: &str) -> (Vec<Span>, String) {
        self.replay_with(file, perspective, &[])
    }

    /// The same with settings in its environment.
    ///
    /// # Panics
    /// When the replay fails.
    #[must_use]
    pub fn replay_with(&self, file: &Path, perspective: &str, env: &[(&str, &str)]) -> (Vec<Span>, String) {
        let json = self.folder.path().join("spans.jsonl");
        drop(std::fs::remove_file(&json));
        let output = format!("json:{}", json.display());
        let path = file.to_str().expect("paths of tests are text");
        let mut command = Command::new(gate::sonde_path());
        command.args(["replay", path, "--perspective", perspective, "--output", &output]);
        let (status, _, err) = run("sonde", command.envs(env.iter().copied()), "");
        assert!(status.success(), "{err}");
        (spans::read(&json), err)
    }

    /// The capture as another program writes it: `editcap` with these arguments.
    #[must_use]
    pub fn edited(&self, name: &str, args: &[&str]) -> PathBuf {
        let to = self.folder.path().join(name);
        output("editcap", Command::new("editcap").args(args).arg(&self.file).arg(&to), "");
        to
    }

    /// The capture packed by gzip.
    #[must_use]
    pub fn packed(&self) -> PathBuf {
        let to = self.folder.path().join("packed.pcap.gz");
        let (status, _, err) = run("gzip", Command::new("gzip").arg("--keep").arg(&self.file), "");
        assert!(status.success(), "{err}");
        std::fs::rename(self.file.with_extension("pcap.gz"), &to).expect("rename");
        to
    }
}

fn occurrences(file: &Path, what: &[u8]) -> usize {
    let bytes = std::fs::read(file).unwrap_or_default();
    bytes.windows(what.len()).filter(|window| *window == what).count()
}
