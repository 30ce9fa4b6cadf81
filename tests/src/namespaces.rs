//! Network namespaces: a client's and a server's host with a router between them that rewrites addresses both ways.

use std::ffi::OsStr;
use std::process::Command;
use std::rc::Rc;

/// Where a process runs: this namespace or another. The namespace goes when its last user does.
#[derive(Clone, Default)]
pub struct Place(Option<Rc<Namespace>>);

struct Namespace {
    name: String,
}

/// Two hosts and the router between them. Each host sees only the router: the router's address with a port of its choice
/// stands for a port of the other host (DNAT), and what arrives there comes from the router (masquerade).
pub struct Nat {
    /// The first host, 10.91.1.2.
    pub left: Place,
    /// The second host, 10.91.2.2.
    pub right: Place,
    /// The router.
    pub router: Place,
}

impl Place {
    /// A new, empty network namespace with its loopback up.
    fn new(suffix: &str) -> Self {
        let name = format!("sonde-{}-{suffix}", std::process::id());
        run(&["ip", "netns", "add", &name]);
        let place = Self(Some(Rc::new(Namespace { name })));
        place.run(&["ip", "link", "set", "lo", "up"]);
        place
    }

    /// A command that runs there.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        match &self.0 {
            None => Command::new(program),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", &namespace.name]).arg(program);
                command
            }
        }
    }

    fn run(&self, args: &[&str]) {
        let mut command = self.command(args[0]);
        let output = command.args(&args[1..]).output().unwrap_or_else(|error| panic!("{args:?}: {error}"));
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn name(&self) -> &str {
        self.0.as_ref().map_or("", |namespace| &namespace.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(Command::new("ip").args(["netns", "del", &self.name]).output());
    }
}

impl Nat {
    /// The router's address as the first host sees it.
    pub const ROUTER_LEFT: &'static str = "10.91.1.1";
    /// The router's address as the second host sees it.
    pub const ROUTER_RIGHT: &'static str = "10.91.2.1";
    /// The first host's own address.
    pub const LEFT: &'static str = "10.91.1.2";
    /// The second host's own address.
    pub const RIGHT: &'static str = "10.91.2.2";

    /// Lays it out.
    ///
    /// # Panics
    /// When `ip` or `nft` refuse.
    #[must_use]
    pub fn new() -> Self {
        let nat = Self { left: Place::new("left"), right: Place::new("right"), router: Place::new("router") };
        for (host, link, own, router) in [
            (&nat.left, "to-left", Self::LEFT, Self::ROUTER_LEFT),
            (&nat.right, "to-right", Self::RIGHT, Self::ROUTER_RIGHT),
        ] {
            let there = nat.router.name();
            host.run(&["ip", "link", "add", "eth0", "type", "veth", "peer", "name", link, "netns", there]);
            host.run(&["ip", "address", "add", &format!("{own}/24"), "dev", "eth0"]);
            host.run(&["ip", "link", "set", "eth0", "up"]);
            nat.router.run(&["ip", "address", "add", &format!("{router}/24"), "dev", link]);
            nat.router.run(&["ip", "link", "set", link, "up"]);
        }
        nat.router.run(&["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
        nat.router.run(&["nft", "add table ip nat"]);
        nat.router.run(&["nft", "add chain ip nat before { type nat hook prerouting priority -100; }"]);
        nat.router.run(&["nft", "add chain ip nat after { type nat hook postrouting priority 100; }"]);
        nat.router.run(&["nft", "add rule ip nat after masquerade"]);
        nat
    }

    /// Lets the first host reach `port` of the second by the router's port `by`.
    pub fn expose_right(&self, by: u16, port: u16) {
        self.expose(Self::ROUTER_LEFT, by, Self::RIGHT, port);
    }

    /// Lets the second host reach `port` of the first by the router's port `by`.
    pub fn expose_left(&self, by: u16, port: u16) {
        self.expose(Self::ROUTER_RIGHT, by, Self::LEFT, port);
    }

    fn expose(&self, router: &str, by: u16, host: &str, port: u16) {
        let rule = format!("add rule ip nat before ip daddr {router} tcp dport {by} dnat to {host}:{port}");
        self.router.run(&["nft", &rule]);
    }
}

impl Default for Nat {
    fn default() -> Self {
        Self::new()
    }
}

fn run(args: &[&str]) {
    Place::default().run(args);
}
