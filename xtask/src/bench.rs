//! `bench`: what Sonde costs.

mod lab;
mod measured;
mod node;
mod pipeline;
mod server;

use std::process::ExitCode;

use anyhow::bail;

pub(crate) const COMMAND: crate::Command = crate::Command {
    name: "bench",
    usage: "pipeline|node|lab [--rounds N] [--seconds N] [--clients N] [--hooks FAMILY] [--both-ends] [--output json|none] [--kernel SERIES] [--sonde FILE] [--brief]",
    about: "pipeline: exchanges per second that the core does on one core; node: nginx under wrk with and without Sonde in turn on this machine; lab: the same on kernel 6.12 (--kernel), counting instructions. Spans are the server's; --both-ends has the client's too.",
    run: |args| {
        let Some((name, rest)) = args.split_first() else {
            bail!("usage: cargo xtask bench {}", COMMAND.usage)
        };
        match name.as_str() {
            "node" => node::bench(rest)?,
            "pipeline" => pipeline::bench(rest)?,
            "lab" => lab::bench(rest)?,
            other => bail!("no benchmark `{other}`: cargo xtask bench {}", COMMAND.usage),
        }
        Ok(ExitCode::SUCCESS)
    },
};

/// The middle one of some figures, the mean of the two in the middle of an even number; `NaN` of none.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.get((figures.len().saturating_sub(1)) / 2..=figures.len() / 2).unwrap_or_default();
    middle.iter().sum::<f64>() / f64::from(u8::try_from(middle.len()).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn medians() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median(Vec::new()).is_nan());
    }
}
