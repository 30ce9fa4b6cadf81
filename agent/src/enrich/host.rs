//! The node that Sonde runs on.

/// What all resources of this node share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// `host.name`; empty where unknown.
    pub name: String,
    /// `/etc/machine-id`, which outlives a boot; empty where there is none. Not exported as it is: machine-id(5) asks for that.
    pub machine_id: String,
    /// Names this boot of the node; empty where unknown.
    pub boot_id: String,
}

impl Host {
    /// Reads this node's names.
    #[must_use]
    pub fn read() -> Self {
        let line = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        Self {
            name: line("/proc/sys/kernel/hostname"),
            machine_id: line("/etc/machine-id"),
            boot_id: line("/proc/sys/kernel/random/boot_id"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_node_has_names() {
        let host = Host::read();
        assert!(!host.name.is_empty() && !host.name.contains('\n'), "{host:?}");
        assert_eq!(host.boot_id.len(), 36, "{host:?}");
    }
}
