//! Rules for documents: what they name exists, what others cite keeps its number.

use super::Findings;

/// How many invariants ARCHITECTURE.md lists; code cites them by number.
const INVARIANTS: usize = 10;

/// Every `cargo xtask NAME` in a document has to be a command.
pub(super) fn commands(path: &str, text: &str, findings: &mut Findings) {
    for (index, line) in text.lines().enumerate() {
        for after in line.split("cargo xtask ").skip(1) {
            let name: String = after.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
            let known = name == "help" || crate::COMMANDS.iter().any(|command| command.name == name);
            if !known && !name.is_empty() {
                findings.push(format!("{path}:{}: `cargo xtask {name}` is no command", index + 1));
            }
        }
    }
}

/// The section on invariants has to number them from 1 without a gap.
pub(super) fn invariants(path: &str, text: &str, findings: &mut Findings) {
    let section = text
        .lines()
        .skip_while(|line| !(line.starts_with('#') && line.contains("Invariants")))
        .skip(1)
        .take_while(|line| !line.starts_with('#'));
    let numbers: Vec<usize> = section.filter_map(|line| line.split_once(". ")?.0.parse().ok()).collect();
    if numbers != (1..=INVARIANTS).collect::<Vec<_>>() {
        findings.push(format!(
            "{path}: the section Invariants has to list 1 to {INVARIANTS} in order, not {numbers:?}"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_is_none_is_found() {
        let mut findings = Findings::new();
        commands(
            "README.md",
            "`cargo xtask build`\nrun `cargo xtask launch --now`, `cargo xtask help`",
            &mut findings,
        );
        assert_eq!(findings, ["README.md:2: `cargo xtask launch` is no command"]);
    }

    #[test]
    fn invariants_keep_their_numbers() {
        let list = |numbers: &[usize]| {
            let items: String = numbers.iter().map(|n| format!("{n}. **Rule.** Text.\n   more\n")).collect();
            let mut findings = Findings::new();
            invariants(
                "A.md",
                &format!("# A\n1. no\n## Invariants\n{items}## Next\n11. other\n"),
                &mut findings,
            );
            findings.len()
        };
        assert_eq!(list(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), 0);
        assert_eq!(list(&[1, 2, 3, 4, 5, 6, 8, 7, 9, 10]), 1);
        assert_eq!(list(&[1, 2, 3, 4, 5, 6, 7, 8, 9]), 1);
        assert_eq!(list(&[]), 1);
    }
}
