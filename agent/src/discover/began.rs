//! How processes began, as the kernel side tells it: all that is left of one that is gone before anybody looks at it.

use sonde_abi::Start;
use sonde_abi::start::{PROGRAM, kind};

use crate::conn::Nanos;

/// Asks the kernel side how a process began; without an answer where nobody can be asked.
pub struct Starts(Box<dyn Fn(u32) -> Option<Start> + Send>);

impl Starts {
    /// Asks by this function, which takes a process id.
    pub fn new(ask: impl Fn(u32) -> Option<Start> + Send + 'static) -> Self {
        Self(Box::new(ask))
    }

    pub(super) fn of(&self, tgid: u32) -> Option<Began> {
        (self.0)(tgid).map(|start| Began::read(&start))
    }
}

impl Default for Starts {
    fn default() -> Self {
        Self::new(|_| None)
    }
}

impl std::fmt::Debug for Starts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Starts")
    }
}

/// How a process began. Empty texts stand for what is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Began {
    /// When.
    pub time: Nanos,
    /// Which process forked it.
    pub parent: u32,
    /// It has not begun a program since it was forked: the rest is empty.
    pub forked: bool,
    /// Its name as the kernel keeps it.
    pub comm: String,
    /// The program as whoever started it named it: maybe by a symbolic link, maybe from the working directory. For a script
    /// its interpreter.
    pub program: String,
    /// The first arguments, as far as they are whole.
    pub args: Vec<String>,
}

impl Began {
    fn read(start: &Start) -> Self {
        let Start { time_ns, tgid: _, parent, kind, args_len, comm, program, args } = start;
        let forked = *kind == kind::FORK;
        let began = Self {
            time: *time_ns,
            parent: *parent,
            forked,
            comm: String::new(),
            program: String::new(),
            args: Vec::new(),
        };
        if forked {
            return began;
        }
        let len = usize::try_from(*args_len).unwrap_or(usize::MAX).min(args.len());
        let args = args.get(..len).unwrap_or_default();
        // What stands behind the last zero was cut off.
        let whole = args.iter().rposition(|&byte| byte == 0).and_then(|last| args.get(..last));
        let args = whole.map(|whole| whole.split(|&byte| byte == 0).map(text).collect());
        // A path that fills its place was cut off.
        let program = before_zero(program).filter(|program| program.len() + 1 < PROGRAM);
        Self {
            comm: before_zero(comm).map(text).unwrap_or_default(),
            program: program.map(text).unwrap_or_default(),
            args: args.unwrap_or_default(),
            ..began
        }
    }
}

fn before_zero(bytes: &[u8]) -> Option<&[u8]> {
    bytes.iter().position(|&byte| byte == 0).and_then(|end| bytes.get(..end))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use sonde_abi::start::ARGS;

    use super::*;

    /// As the kernel side leaves it.
    pub(in crate::discover) fn start(
        tgid: u32,
        parent: u32,
        time: Nanos,
        program: &str,
        args: &[&str],
    ) -> Start {
        let mut start = Start {
            time_ns: time,
            tgid,
            parent,
            kind: if program.is_empty() { kind::FORK } else { kind::EXEC },
            args_len: 0,
            comm: [0; 16],
            program: [0; PROGRAM],
            args: [0; ARGS],
        };
        let name = program.rsplit('/').next().unwrap();
        start.comm[..name.len().min(15)].copy_from_slice(&name.as_bytes()[..name.len().min(15)]);
        let kept = program.len().min(PROGRAM - 1);
        start.program[..kept].copy_from_slice(&program.as_bytes()[..kept]);
        let args: Vec<u8> = args.iter().flat_map(|arg| arg.bytes().chain([0])).collect();
        let kept = args.len().min(ARGS);
        start.args[..kept].copy_from_slice(&args[..kept]);
        start.args_len = kept as u32;
        start
    }

    #[test]
    fn whole_texts_only() {
        let began = Began::read(&start(7, 6, 5, "/usr/bin/curl", &["curl", "", "-s", "http://a/b"]));
        assert_eq!((began.time, began.parent, began.forked), (5, 6, false));
        assert_eq!((began.comm.as_str(), began.program.as_str()), ("curl", "/usr/bin/curl"));
        assert_eq!(began.args, ["curl", "", "-s", "http://a/b"]);

        let long = "x".repeat(ARGS);
        let began = Began::read(&start(7, 6, 5, &format!("/{long}"), &["java", "-cp", &long]));
        assert_eq!(
            (began.program.as_str(), began.args.as_slice()),
            ("", &["java".to_owned(), "-cp".to_owned()][..])
        );
        assert_eq!(Began::read(&start(7, 6, 5, "/bin/a", &[])).args, Vec::<String>::new());

        let forked = Began::read(&start(7, 6, 5, "", &["stale"]));
        assert!(forked.forked && forked.args.is_empty(), "{forked:?}");
        let beyond = Start { args_len: u32::MAX, ..start(7, 6, 5, "/bin/a", &["a"]) };
        assert_eq!(Began::read(&beyond).args[0], "a");
    }
}
