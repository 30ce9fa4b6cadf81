//! Debian kernels for the lab, unpacked in the cache and nowhere installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{self, step};
use crate::workspace;

/// A series, and the Debian suite whose kernel it is.
pub(crate) struct Series {
    pub(crate) version: &'static str,
    suite: &'static str,
}

/// What the lab knows, oldest first.
pub(crate) const SERIES: &[Series] = &[
    Series { version: "5.10", suite: "bullseye" },
    Series { version: "6.1", suite: "bookworm" },
    Series { version: "6.12", suite: "trixie" },
    Series { version: "7", suite: "trixie-backports" },
];

/// Where suites are that left the mirrors.
const ARCHIVE: &str = "http://archive.debian.org/debian";
const MIRROR: &str = "http://deb.debian.org/debian";

/// The folder of a kernel of this series (`6.1`, `7`), fetched if the cache has none. A folder put there by hand counts:
/// `KERNELS/<release>/` with `boot/vmlinuz-*` and `lib/modules`.
pub(crate) fn folder(version: &str) -> Result<PathBuf> {
    let kernels = workspace::cache()?.join("kernels");
    if let Some(found) = present(&kernels, version) {
        return Ok(found);
    }
    let Some(series) = SERIES.iter().find(|series| series.version == version) else {
        let known: Vec<&str> = SERIES.iter().map(|series| series.version).collect();
        bail!(
            "no kernel {version}: the lab knows {}, and what lies unpacked in {}",
            known.join(", "),
            kernels.display()
        );
    };
    if process::find("apt-get").is_none() || process::find("dpkg-deb").is_none() {
        bail!(
            "fetching a kernel wants apt; or unpack a Debian linux-image of {version} into {}/RELEASE",
            kernels.display()
        );
    }
    step(&format!("fetching kernel {version} from {}", series.suite), || fetch(series, &kernels))?;
    present(&kernels, version).with_context(|| format!("{} has no kernel {version}", series.suite))
}

fn present(kernels: &Path, version: &str) -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(kernels)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| is_of(path.file_name().and_then(|name| name.to_str()).unwrap_or_default(), version))
        .collect();
    found.sort();
    found.pop()
}

/// Whether a release belongs to a series: `6.1.0-50-amd64` to `6.1` and to `6`, not to `6.12` nor `6.10` to `6.1`.
fn is_of(release: &str, version: &str) -> bool {
    release == version
        || release.strip_prefix(version).is_some_and(|rest| rest.starts_with(['.', '-', '~', '+']))
}

fn fetch(series: &Series, kernels: &Path) -> Result<()> {
    let work = kernels.join(format!(".{}.{}", series.suite, std::process::id()));
    let result = fetch_from(&mirror(), series.suite, kernels, &work).or_else(|error| {
        fetch_from(ARCHIVE, series.suite, kernels, &work).with_context(|| format!("after {error:#}"))
    });
    fs::remove_dir_all(&work).with_context(|| work.display().to_string())?;
    result
}

fn fetch_from(mirror: &str, suite: &str, kernels: &Path, work: &Path) -> Result<()> {
    let apt = Apt::new(mirror, suite, work)?;
    process::quiet(&format!("kernel-{suite}-update"), &mut apt.command("apt-get", &["-qq", "update"]))?;
    let show = process::output(&mut apt.command("apt-cache", &["show", "linux-image-amd64"]))?;
    let release = release(&show).with_context(|| format!("linux-image-amd64 of {suite} names no kernel"))?;
    // Newer suites keep the kernel or its modules in packages of their own.
    let names =
        ["linux-image-", "linux-binary-", "linux-modules-"].map(|prefix| format!("{prefix}{release}"));
    let known = process::output(&mut apt.command("apt-cache", &["pkgnames", "linux-"]))?;
    let wanted: Vec<&str> =
        names.iter().map(String::as_str).filter(|n| known.lines().any(|line| line == *n)).collect();
    let mut download = apt.command("apt-get", &["-qq", "download"]);
    process::quiet(&format!("kernel-{suite}-download"), download.args(wanted).current_dir(work))?;
    let unpacked = work.join("unpacked");
    for entry in fs::read_dir(work)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            process::check(Command::new("dpkg-deb").arg("-x").arg(&path).arg(&unpacked))?;
        }
    }
    fs::rename(&unpacked, kernels.join(&release)).with_context(|| format!("keeping kernel {release}"))
}

/// The kernel release that `linux-image-amd64` depends on.
fn release(show: &str) -> Option<String> {
    let depends = show.lines().find_map(|line| line.strip_prefix("Depends: "))?;
    let image = depends.split([',', ' ']).find_map(|word| word.strip_prefix("linux-image-"))?;
    Some(image.to_owned())
}

/// The mirror that this machine uses.
fn mirror() -> String {
    let targets = process::output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(SITE)",
        "Created-By: Packages",
    ]));
    let sites = targets.unwrap_or_default();
    let site = sites.lines().find(|site| site.starts_with("http") && site.ends_with("/debian"));
    site.unwrap_or(MIRROR).to_owned()
}

/// apt with a configuration of its own, so that neither `/etc/apt` nor what is installed plays a part.
struct Apt {
    config: PathBuf,
}

impl Apt {
    fn new(mirror: &str, suite: &str, work: &Path) -> Result<Self> {
        for folder in ["etc", "lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(work.join(folder))?;
        }
        let sources = format!(
            "Types: deb\nURIs: {mirror}\nSuites: {suite}\nComponents: main\nArchitectures: amd64\n\
             Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\nCheck-Valid-Until: no\n"
        );
        fs::write(work.join("etc/lab.sources"), sources)?;
        fs::write(work.join("preferences"), "")?;
        let at = work.display();
        let config = work.join("apt.conf");
        let text = format!(
            "Dir::Etc::SourceList \"/dev/null\";\nDir::Etc::SourceParts \"{at}/etc\";\nDir::Etc::Preferences \"{at}/preferences\";\n\
             Dir::State::Lists \"{at}/lists\";\nDir::Cache \"{at}/cache\";\nAPT::Sandbox::User \"root\";\n\
             APT::Architecture \"amd64\";\nAcquire::Languages \"none\";\nAcquire::Retries \"3\";\n"
        );
        fs::write(&config, text)?;
        Ok(Self { config })
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(&self.config).args(args);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_belong_to_their_series() {
        assert!(is_of("6.1.0-50-amd64", "6.1"));
        assert!(is_of("7.2.12+deb13-amd64", "7"));
        assert!(!is_of("6.12.107+deb13-amd64", "6.1"));
        assert!(!is_of("6.1.0-50-amd64", "6.12"));
        assert!(!is_of(".apt", "6.1"));
    }

    #[test]
    fn the_image_names_its_kernel() {
        let show = "Package: linux-image-amd64\nDepends: linux-base (>= 4), linux-image-6.1.0-50-amd64 (= 6.1.176-1)\n";
        assert_eq!(release(show).as_deref(), Some("6.1.0-50-amd64"));
        assert_eq!(release("Package: x\n"), None);
    }
}
