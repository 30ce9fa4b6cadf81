//! The node that Sonde runs on.

/// What all resources of this node share. Empty texts stand for what is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// `host.name`.
    pub name: String,
    /// `host.id`: `/etc/machine-id`, as the semantic conventions want it; outlives a boot.
    pub machine_id: String,
    /// Names this boot of the node.
    pub boot_id: String,
    /// `host.arch`.
    pub arch: &'static str,
    /// `os.name`.
    pub os_name: String,
    /// `os.version`.
    pub os_version: String,
    /// `os.description`.
    pub os_description: String,
}

impl Host {
    /// Reads this node's names. Inside a container that shares the node's process ids the files are those of its first process.
    #[must_use]
    pub fn read() -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let file = |path: &str| {
            let found = text(&format!("/proc/1/root{path}"));
            if found.is_empty() { text(path) } else { found }
        };
        let either = |first: &str, second: &str| {
            let found = file(first);
            if found.is_empty() { file(second) } else { found }
        };
        let host = Self {
            name: text("/proc/sys/kernel/hostname"),
            machine_id: either("/etc/machine-id", "/var/lib/dbus/machine-id"),
            boot_id: text("/proc/sys/kernel/random/boot_id"),
            arch: arch(std::env::consts::ARCH),
            ..Self::default()
        };
        host.with_release(&either("/etc/os-release", "/usr/lib/os-release"))
    }

    /// With what os-release(5) says.
    fn with_release(self, release: &str) -> Self {
        let value = |name: &str| {
            let of = |line: &str| Some(unquoted(line.trim().strip_prefix(name)?.strip_prefix('=')?));
            release.lines().find_map(of).unwrap_or_default()
        };
        Self {
            os_name: value("NAME"),
            os_version: value("VERSION_ID"),
            os_description: value("PRETTY_NAME"),
            ..self
        }
    }
}

/// `host.arch` as the semantic conventions spell it.
fn arch(name: &'static str) -> &'static str {
    match name {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "arm" => "arm32",
        "powerpc" => "ppc32",
        "powerpc64" => "ppc64",
        other => other,
    }
}

/// A value of a shell's assignment, in quotes or not.
fn unquoted(value: &str) -> String {
    let inside = ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
    let Some(inside) = inside else { return value.to_owned() };
    let mut text = String::with_capacity(inside.len());
    let mut characters = inside.chars();
    while let Some(character) = characters.next() {
        text.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_node_has_names() {
        let host = Host::read();
        assert!(!host.name.is_empty() && !host.name.contains('\n'), "{host:?}");
        assert_eq!(host.boot_id.len(), 36, "{host:?}");
        assert!(!host.arch.is_empty() && !host.arch.contains('_'), "{host:?}");
    }

    #[test]
    fn releases_of_systems() {
        let read = |text: &str| {
            let Host { os_name, os_version, os_description, .. } = Host::default().with_release(text);
            [os_name, os_version, os_description]
        };
        let debian = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID='12'\nVERSION_CODENAME=x\n";
        assert_eq!(read(debian), ["Debian GNU/Linux", "12", "Debian GNU/Linux 12 (bookworm)"]);
        assert_eq!(
            read("NAME=Alpine\nPRETTY_NAME=\"a \\\"b\\\"\"\nVERSION_ID=\n"),
            ["Alpine", "", "a \"b\""]
        );
        assert_eq!(read("garbage\n=\nNAMES=x\n"), ["", "", ""]);
    }
}
