//! `http.route`: the pattern behind a path. Configured ones come first; else it is learned per service from the paths that
//! the service knows, that is, those it did not refuse. While nothing is certain there is no route rather than a wrong one.

mod pattern;
mod segment;
mod tree;
#[cfg(test)]
mod workloads;

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;

use crate::config::ServiceGlob;
pub use pattern::RoutePattern;
use tree::{Bounds, Found, Tree};

/// Services that routes are learned for; those that come later have none but configured ones.
const SERVICES: usize = 1024;
/// Places in one service's tree.
const PLACES: usize = 2048;
/// Places in all trees.
const ALL_PLACES: usize = 65_536;
/// Bytes of a path that is looked at; longer ones have no route.
const PATH: usize = 1024;

/// What was configured.
#[derive(Clone, Debug)]
pub struct RouteRules {
    /// Routes are learned where no pattern fits.
    pub learn: bool,
    /// Learned routes of one service at most.
    pub limit: usize,
    /// Patterns by `service.name` of the server, tried in their order.
    pub patterns: Vec<(ServiceGlob, Vec<RoutePattern>)>,
    /// Patterns by host of the server, for `url.template` of calls.
    pub templates: Vec<(ServiceGlob, Vec<RoutePattern>)>,
}

impl Default for RouteRules {
    fn default() -> Self {
        Self { learn: true, limit: 200, patterns: Vec::new(), templates: Vec::new() }
    }
}

/// The route of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// It has one.
    Known(Arc<str>),
    /// Not yet, or it has none.
    Unknown,
    /// It may have one, but there are too many.
    Overflow,
}

/// The routes of all services.
#[derive(Debug, Default)]
pub struct Routes {
    rules: RouteRules,
    services: HashMap<Box<str>, Service, FixedState>,
    places: usize,
}

#[derive(Debug, Default)]
struct Service {
    /// Configured for it.
    patterns: Vec<RoutePattern>,
    tree: Tree,
}

impl Routes {
    /// None learned yet.
    #[must_use]
    pub fn new(rules: RouteRules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// Follows other rules from here on; what was learned stays.
    pub fn set_rules(&mut self, rules: RouteRules) {
        for (name, service) in &mut self.services {
            service.patterns = patterns(&rules.patterns, name);
        }
        self.rules = rules;
    }

    /// The route of a request that a service answered; learns from it. `path` is without its query; `status` is `None`
    /// where there was no answer.
    pub fn served(&mut self, service: &str, path: &str, status: Option<u16>) -> Route {
        if !path.starts_with('/') || path.len() > PATH {
            return Route::Unknown;
        }
        let Self { rules, services, places } = self;
        if !services.contains_key(service) {
            let patterns = patterns(&rules.patterns, service);
            if services.len() >= SERVICES {
                return match patterns.iter().find(|pattern| pattern.matches(path)) {
                    Some(pattern) => Route::Known(Arc::clone(pattern.text())),
                    None if rules.learn => Route::Overflow,
                    None => Route::Unknown,
                };
            }
            services.insert(service.into(), Service { patterns, tree: Tree::default() });
        }
        let Some(Service { patterns, tree }) = services.get_mut(service) else { return Route::Unknown };
        if let Some(pattern) = patterns.iter().find(|pattern| pattern.matches(path)) {
            return Route::Known(Arc::clone(pattern.text()));
        }
        if !rules.learn {
            return Route::Unknown;
        }
        let own = tree.places();
        let room = ALL_PLACES.saturating_sub(*places) + own;
        let bounds = Bounds { routes: rules.limit, places: PLACES.min(room) };
        let learned = if teaches(status) { tree.learn(path, bounds) } else { Ok(()) };
        *places = *places + tree.places() - own;
        match learned {
            Err(Found::Full) => Route::Overflow,
            Err(_) => Route::Unknown,
            Ok(()) => match tree.find(path, bounds) {
                Found::Route(route) => Route::Known(route),
                Found::Nothing => Route::Unknown,
                Found::Full => Route::Overflow,
            },
        }
    }

    /// The template of a call to a host, where one was configured.
    #[must_use]
    pub fn called(&self, host: &str, path: &str) -> Option<Arc<str>> {
        let fitting = self.rules.templates.iter().filter(|(hosts, _)| hosts.matches(host));
        let mut patterns = fitting.flat_map(|(_, patterns)| patterns);
        patterns.find(|pattern| pattern.matches(path)).map(|pattern| Arc::clone(pattern.text()))
    }

    /// Whether calls can have a template at all.
    #[must_use]
    pub fn has_templates(&self) -> bool {
        !self.rules.templates.is_empty()
    }
}

fn patterns(rules: &[(ServiceGlob, Vec<RoutePattern>)], service: &str) -> Vec<RoutePattern> {
    let fitting = rules.iter().filter(|(services, _)| services.matches(service));
    fitting.flat_map(|(_, patterns)| patterns.iter().cloned()).collect()
}

/// A path that was refused says nothing of the service's routes: scanners ask for anything. An error of a gateway is none
/// of the service's own.
const fn teaches(status: Option<u16>) -> bool {
    match status {
        None | Some(502..=504) => false,
        Some(status) => status < 400 || matches!(status, 409 | 412 | 422 | 428) || status >= 500,
    }
}
