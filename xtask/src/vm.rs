//! `vm`: runs a command as root on other kernels, under QEMU, with this machine's root file system inside.
//!
//! The guest reads the root over 9p below a RAM disk, so that what it writes vanishes; only the folder of `--out` stays.

mod initrd;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::kernels;
use crate::process;
use crate::workspace;

pub(crate) const COMMAND: crate::Command = crate::Command {
    name: "vm",
    usage: "[--kernels 5.10,6.1,6.12,7] [--icount] [--mem 3G] [--cpus 2] [--timeout SECONDS] [--out DIR] -- COMMAND...",
    about: "Boots each kernel and runs the command in it; --icount counts instructions as time on one CPU, --out is /mnt there.",
    run: |args| {
        let (kernels, guest) = parse(args)?;
        let mut code = 0;
        for version in &kernels {
            let status = guest.run(&kernels::folder(version)?, Stdio::inherit())?;
            if code == 0 {
                code = status;
            }
        }
        Ok(ExitCode::from(code))
    },
};

/// The guest could not be given longer.
const TIMED_OUT: u8 = 124;
/// The guest ended without a status.
const DIED: u8 = 125;
const CONSOLE_TAIL: usize = 25;
const GUEST: &str = include_str!("vm/guest.sh");

/// A command and the machine that it gets.
pub(crate) struct Guest {
    /// For bash, in the folder that xtask runs in.
    pub(crate) command: String,
    /// One virtual CPU whose clock counts instructions, a nanosecond each: what is measured repeats whatever else this
    /// machine does.
    pub(crate) icount: bool,
    /// As QEMU spells it.
    pub(crate) memory: String,
    pub(crate) cpus: u32,
    pub(crate) timeout: Duration,
    /// A folder of this machine that the guest writes to as `/mnt`.
    pub(crate) out: Option<PathBuf>,
}

impl Guest {
    /// A guest of the usual size for a command.
    pub(crate) fn new(command: String) -> Self {
        let timeout = Duration::from_secs(600);
        Self { command, icount: false, memory: "3G".to_owned(), cpus: 2, timeout, out: None }
    }

    /// Boots a kernel, and returns the command's exit status: [`TIMED_OUT`] and [`DIED`] beside its own.
    pub(crate) fn run(&self, kernel: &Path, output: Stdio) -> Result<u8> {
        let release = kernel.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let job = workspace::target().join("vm").join(format!("{release}.{}", std::process::id()));
        fs::create_dir_all(&job)?;
        let result = self.run_in(&job, kernel, &release, output);
        fs::remove_dir_all(&job)?;
        result
    }

    fn run_in(&self, job: &Path, kernel: &Path, release: &str, output: Stdio) -> Result<u8> {
        fs::write(job.join("guest.sh"), GUEST)?;
        fs::write(job.join("command"), &self.command)?;
        fs::write(job.join("path"), std::env::var("PATH").context("PATH")?)?;
        fs::write(job.join("folder"), std::env::current_dir()?.display().to_string())?;
        fs::write(
            job.join("initrd"),
            initrd::build(kernel).with_context(|| format!("preparing kernel {release}"))?,
        )?;
        eprintln!("xtask: kernel {release}: {}", self.command);
        let start = Instant::now();
        let status = self.qemu(job, kernel)?.stdin(Stdio::null()).stdout(output).status();
        let status = status.context("no qemu-system-x86_64; `cargo xtask setup --tests` installs it")?;
        let said = |name: &str| fs::read_to_string(job.join(name)).ok();
        let code = said("status").and_then(|text| text.trim().parse::<u8>().ok());
        let booted = said("booted").unwrap_or_else(|| "?".to_owned());
        let (booted, wall) = (booted.trim(), start.elapsed().as_secs_f64());
        if let Some(code) = code {
            eprintln!(
                "xtask: kernel {release}: exit status {code}, {wall:.1} s, of which {booted} s to boot"
            );
            return Ok(code);
        }
        let console = fs::read(job.join("console")).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let lines: Vec<&str> = console.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(CONSOLE_TAIL)..).unwrap_or_default();
        let timed_out = status.code() == Some(TIMED_OUT.into());
        let what = if timed_out { "timed out" } else { "the guest died" };
        eprintln!(
            "xtask: kernel {release}: {what} after {wall:.1} s ({status}); its console:\n{}",
            tail.join("\n")
        );
        Ok(if timed_out { TIMED_OUT } else { DIED })
    }

    fn qemu(&self, job: &Path, kernel: &Path) -> Result<Command> {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", &self.timeout.as_secs().to_string(), "qemu-system-x86_64"]);
        command.args(
            "-nodefaults -no-user-config -display none -monitor none -no-reboot -M q35,usb=off".split(' '),
        );
        let cpus = if self.icount {
            command.args("-accel tcg,thread=single,tb-size=512 -icount shift=0,sleep=on".split(' '));
            1
        } else {
            let accelerator = if has_kvm() { "kvm" } else { "tcg,thread=multi,tb-size=512" };
            command.args(["-accel", accelerator]);
            self.cpus
        };
        // Five-level page tables cost the emulation more than the guest gains.
        command.args(["-cpu", "max,la57=off", "-smp", &cpus.to_string(), "-m", &self.memory]);
        command.arg("-kernel").arg(image(kernel)?).arg("-initrd").arg(job.join("initrd"));
        let mut append = "console=ttyS0 loglevel=4 panic=-1 mitigations=off no_timer_check tsc=reliable \
                          random.trust_cpu=on rdinit=/init sysrq_always_enabled=1"
            .to_owned();
        if self.out.is_some() {
            append.push_str(" lab.out");
        }
        command.args(["-append", &append]);
        command.arg("-serial").arg(format!("file:{}", job.join("console").display()));
        command.args(
            "-device virtio-serial-pci -chardev stdio,id=out,signal=off -device virtconsole,chardev=out"
                .split(' '),
        );
        command.args(["-device", "virtio-rng-pci"]);
        let out = self.out.as_deref().map(|out| ("out", out, ""));
        let shares =
            [Some(("root", Path::new("/"), ",readonly=on,multidevs=remap")), Some(("job", job, "")), out];
        for (tag, path, options) in shares.into_iter().flatten() {
            let path = path.canonicalize().with_context(|| path.display().to_string())?;
            let path = path.display();
            command.args(["-fsdev", &format!("local,id={tag},path={path},security_model=none{options}")]);
            command.args(["-device", &format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}")]);
        }
        Ok(command)
    }
}

/// A command line for bash: one argument is one already, several are quoted.
pub(crate) fn shell(words: &[String]) -> String {
    match words {
        [line] => line.clone(),
        words => words
            .iter()
            .map(|word| format!("'{}'", word.replace('\'', r"'\''")))
            .collect::<Vec<_>>()
            .join(" "),
    }
}

/// Whether KVM runs guests here. A device alone says little: under some hypervisors it opens, makes a virtual CPU and never
/// runs an instruction of it; there the CPU offers no virtualisation.
fn has_kvm() -> bool {
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let offered = flags
        .lines()
        .filter(|line| line.starts_with("flags"))
        .any(|line| line.split_whitespace().any(|flag| flag == "vmx" || flag == "svm"));
    offered && fs::File::options().read(true).write(true).open("/dev/kvm").is_ok()
}

fn image(kernel: &Path) -> Result<PathBuf> {
    let candidates = ["boot", "usr/lib/modules"].map(|below| kernel.join(below));
    let entries = candidates.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    let found = entries.map(|entry| entry.path()).find_map(|path| {
        let is_image = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"));
        let inside = path.join("vmlinuz");
        if is_image { Some(path) } else { inside.exists().then_some(inside) }
    });
    found.with_context(|| format!("no vmlinuz in {}", kernel.display()))
}

fn parse(args: &[String]) -> Result<(Vec<String>, Guest)> {
    let usage = || format!("usage: cargo xtask vm {}", COMMAND.usage);
    let mut kernels: Vec<String> = kernels::SERIES.iter().map(|series| series.version.to_owned()).collect();
    let mut guest = Guest::new(String::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} wants a value\n{}", usage()));
        match arg.as_str() {
            "--kernels" => kernels = value()?.split(',').map(str::to_owned).collect(),
            "--icount" => guest.icount = true,
            "--mem" => guest.memory.clone_from(value()?),
            "--cpus" => guest.cpus = value()?.parse().with_context(usage)?,
            "--timeout" => guest.timeout = Duration::from_secs(value()?.parse().with_context(usage)?),
            "--out" => guest.out = Some(value()?.into()),
            "--" => {
                let words: Vec<String> = args.cloned().collect();
                guest.command = shell(&words);
                break;
            }
            _ => bail!("unknown argument `{arg}`\n{}", usage()),
        }
    }
    if guest.command.is_empty() {
        bail!("no command to run\n{}", usage());
    }
    if let Some(out) = &guest.out {
        fs::create_dir_all(out)?;
    }
    if process::find("qemu-system-x86_64").is_none() {
        bail!("no qemu-system-x86_64; `cargo xtask setup --tests` installs it");
    }
    Ok((kernels, guest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn several_words_are_quoted() {
        assert_eq!(shell(&words("exit 3")), "'exit' '3'");
        assert_eq!(shell(&["uname -r; exit 3".to_owned()]), "uname -r; exit 3");
        assert_eq!(shell(&["echo".to_owned(), "it's".to_owned()]), r"'echo' 'it'\''s'");
    }

    #[test]
    fn wrong_arguments_are_refused() {
        for line in ["--kernels 6.1", "--mem", "--cpus many -- true", "--what -- true"] {
            assert!(parse(&words(line)).is_err(), "{line}");
        }
    }
}
