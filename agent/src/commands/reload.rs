//! SIGHUP: reads the configuration again. What can change while Sonde runs does; of the rest it is said that it waits for
//! the next start. A file that cannot be followed changes nothing.

use std::path::PathBuf;

use tracing::{error, info, warn};

use crate::config::{Config, Environment, KEYS, Reload, RunArgs, Setting, Targets};
use crate::policy::Policy;

/// What to follow from here on.
pub(super) struct Follow {
    pub(super) policy: Policy,
    /// Whom to observe, where that has changed.
    pub(super) targets: Option<Targets>,
}

/// What was read last.
pub(super) struct Reloading {
    args: RunArgs,
    file: Option<PathBuf>,
    settings: Vec<Setting>,
}

impl Reloading {
    pub(super) fn new(args: RunArgs, file: Option<PathBuf>, config: &Config) -> Self {
        Self { args, file, settings: config.settings.clone() }
    }

    /// Reads again and hands over the policy from now on, where there is one to follow. What is said of it is true when it
    /// is said: `follow` returns once the policy counts.
    pub(super) fn reload(&mut self, follow: &mut dyn FnMut(Follow)) {
        let Some(file) = &self.file else {
            info!("nothing to reload: there is no configuration file");
            return;
        };
        let config = Environment::with_config(Some(file))
            .and_then(|environment| Config::new(&self.args, &environment));
        let config = match config {
            Ok(config) => config,
            Err(why) => {
                error!("the configuration stays as it was: {why}");
                return;
            }
        };
        let changed = changes(&self.settings, &config.settings);
        let targets = changed.iter().any(|name| name.starts_with("targets.")).then_some(config.targets);
        follow(Follow { policy: config.policy, targets });
        for warning in &config.warnings {
            warn!("{warning}");
        }
        for name in changed.iter().filter(|name| !is_live(name)) {
            warn!("{name} has changed, which counts from the next start on");
        }
        let live = changed.iter().filter(|name| is_live(name)).copied().collect::<Vec<_>>();
        let live = if live.is_empty() { "nothing that counts now".to_owned() } else { live.join(", ") };
        info!("read {} again; changed: {live}", file.display());
        self.settings = config.settings;
    }
}

/// Names of the settings whose values differ.
fn changes(before: &[Setting], after: &[Setting]) -> Vec<&'static str> {
    fn find<'a>(settings: &'a [Setting], name: &str) -> Option<&'a str> {
        settings.iter().find(|setting| setting.name == name).map(|setting| setting.value.as_str())
    }
    let mut names: Vec<&'static str> = Vec::new();
    for Setting { name, .. } in before.iter().chain(after) {
        if !names.contains(name) && find(before, name) != find(after, name) {
            names.push(name);
        }
    }
    names
}

fn is_live(name: &str) -> bool {
    KEYS.iter().any(|key| key.path == name && key.reload == Reload::Live)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_takes_what_can_change_and_keeps_the_rest() {
        let file = std::env::temp_dir().join(format!("sonde-reload-{}.yaml", std::process::id()));
        let write = |text: &str| std::fs::write(&file, text).unwrap();
        let read =
            || Config::new(&RunArgs::default(), &Environment::with_config(Some(&file)).unwrap()).unwrap();
        write("routes: {limit: 5}\nhooks: auto\n");
        let mut reloading = Reloading::new(RunArgs::default(), Some(file.clone()), &read());
        let limit = |reloading: &mut Reloading| {
            let mut limit = None;
            reloading
                .reload(&mut |follow| limit = Some((follow.policy.routes.limit, follow.targets.is_some())));
            limit
        };
        assert_eq!(limit(&mut reloading), Some((5, false)));
        write(
            "targets: {ports: [80]}\nroutes: {limit: 7}\nhooks: syscalls\nprivacy: {query: {values: dropped}}\n",
        );
        let names: [&str; 4] = changes(&reloading.settings, &read().settings).try_into().unwrap();
        assert_eq!(names, ["targets.ports", "hooks", "routes.limit", "privacy.query.values"]);
        assert_eq!(names.map(is_live), [true, false, true, true]);
        assert_eq!(limit(&mut reloading), Some((7, true)));
        write("routes: {limit: many}\n");
        assert_eq!(limit(&mut reloading), None);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(limit(&mut reloading), None);
        let config = Config::new(&RunArgs::default(), &Environment::default()).unwrap();
        assert_eq!(limit(&mut Reloading::new(RunArgs::default(), None, &config)), None);
    }
}
