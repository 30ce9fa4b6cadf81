//! What one service's paths have in common, learned as they come.
//!
//! A tree of segments. What is a value by its looks goes to the one parameter of its place at once. A word is a name until
//! its place has had more of them than an interface has: then all words there become the parameter, but for those that
//! were most of the traffic. Before a word is taken for a name, the words beside it must have come back several times each,
//! so that values are hardly ever taken for names while they are few. Nothing here depends on more than the order of the
//! paths, and nothing is ever forgotten but by becoming a parameter.

use std::sync::Arc;

use super::segment::{self, Looks, Value};

/// Different words in one place, past which they are values.
const WORDS: usize = 16;
/// The same in the first place of a path, and behind prefixes such as `/api/v1`: that many resources are not unusual.
const RESOURCES: usize = 64;
/// How often a word must have come before it is a name.
const SEEN: u32 = 3;
/// How often the words of a place must have come on average before any of them is a name.
const RECURRENCE: usize = 4;
/// The same for [`RESOURCES`].
const RECURRENCE_OF_RESOURCES: usize = 3;
/// A word stays a name among values where at least one of so many paths has it.
const DOMINANT: u32 = 4;
/// Segments of a path that is learned at most; longer ones have no route.
pub(super) const DEPTH: usize = 16;

/// The tree of one service.
#[derive(Debug, Default)]
pub(super) struct Tree {
    root: Place,
    /// Places in it.
    places: usize,
    /// Routes that were given out.
    routes: usize,
    /// Rises when a route may have changed its text.
    version: u32,
}

/// Where a path stands after some segments.
#[derive(Debug, Default)]
struct Place {
    /// Words that came next, all together.
    visits: u32,
    /// In the order in which they first came.
    words: Vec<Word>,
    parameter: Option<Box<Parameter>>,
    /// There were too many words: further ones are values.
    collapsed: bool,
    /// A path ends here.
    ends: bool,
    /// The route of paths that end here, and the version of the tree that it was made for.
    route: Option<(u32, Arc<str>)>,
}

#[derive(Debug)]
struct Word {
    text: Box<str>,
    visits: u32,
    /// Is a name, for good.
    named: bool,
    place: Place,
}

#[derive(Debug)]
struct Parameter {
    /// The kind of all values so far; several kinds are an [`Value::Id`].
    kind: Value,
    place: Place,
}

/// What is known of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Its route.
    Route(Arc<str>),
    /// Nothing yet, or it never was answered.
    Nothing,
    /// Its service has as many routes or places as it may.
    Full,
}

/// Bounds of one tree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) routes: usize,
    pub(super) places: usize,
}

impl Tree {
    pub(super) const fn places(&self) -> usize {
        self.places
    }

    /// Learns a path that the service knows.
    pub(super) fn learn(&mut self, path: &str, bounds: Bounds) -> Result<(), Found> {
        let Self { root, places, version, .. } = self;
        let mut place = root;
        let mut resources = true;
        for (index, segment) in segments(path).enumerate() {
            if index >= DEPTH {
                return Err(Found::Nothing);
            }
            let limit = if resources { RESOURCES } else { WORDS };
            let full = *places >= bounds.places;
            match segment::look(segment, index == 0) {
                Looks::Value(kind) => {
                    let parameter = match &mut place.parameter {
                        Some(parameter) => parameter,
                        None if full => return Err(Found::Full),
                        none => {
                            *places += 1;
                            none.insert(Box::new(Parameter { kind, place: Place::default() }))
                        }
                    };
                    if parameter.kind != kind && parameter.kind != Value::Id {
                        parameter.kind = Value::Id;
                        *version += 1;
                    }
                    resources = false;
                    place = &mut parameter.place;
                }
                Looks::Word => {
                    place.visits = place.visits.saturating_add(1);
                    let known = place.words.iter().position(|word| *word.text == *segment);
                    if known.is_none() && !place.collapsed {
                        if full {
                            return Err(Found::Full);
                        }
                        *places += 1;
                        let text = segment.into();
                        place.words.push(Word { text, visits: 0, named: false, place: Place::default() });
                        if place.words.len() > limit {
                            place.collapse();
                            *version += 1;
                            *places = self.root.count();
                            // The path is learned with those that come: its place has just moved.
                            return Ok(());
                        }
                    }
                    resources = resources && is_prefix(segment);
                    place = place.enter(segment, known, limit);
                }
            }
        }
        place.ends = true;
        Ok(())
    }

    /// The route of a path.
    pub(super) fn find(&mut self, path: &str, bounds: Bounds) -> Found {
        // Nearly all are known and have not changed: their text need not be put together to be compared.
        let place = match self.root.reached(path, |_| {}) {
            Ok(place) => place,
            Err(why) => return why,
        };
        if let Some((version, known)) = &place.route
            && *version == self.version
        {
            return Found::Route(Arc::clone(known));
        }
        let mut route = String::new();
        let place = match self.root.reached(path, |piece| route.push_str(piece)) {
            Ok(place) => place,
            Err(why) => return why,
        };
        if route.is_empty() {
            route.push('/');
        }
        if let Some((version, known)) = &mut place.route
            && **known == *route
        {
            *version = self.version;
            return Found::Route(Arc::clone(known));
        }
        // What takes the place of another route has been counted, but both stand in the backend now.
        if self.routes >= bounds.routes {
            return Found::Full;
        }
        self.routes += 1;
        let route: Arc<str> = route.into();
        place.route = Some((self.version, Arc::clone(&route)));
        Found::Route(route)
    }
}

impl Place {
    /// The place that a path leads to, where one that was answered ended there. Shows the pieces of its route on the way.
    fn reached(&mut self, path: &str, mut show: impl FnMut(&str)) -> Result<&mut Self, Found> {
        let mut place = self;
        for (index, segment) in segments(path).enumerate() {
            if index >= DEPTH {
                return Err(Found::Nothing);
            }
            let word = match segment::look(segment, index == 0) {
                Looks::Word => {
                    let known = place.words.iter().position(|word| *word.text == *segment);
                    if known.is_none() && !place.collapsed {
                        return Err(Found::Nothing);
                    }
                    known
                }
                Looks::Value(_) => None,
            };
            show("/");
            let Place { words, parameter, .. } = place;
            match word.and_then(|at| words.get_mut(at)) {
                Some(word) if !word.named => return Err(Found::Nothing),
                Some(word) => {
                    show(&word.text);
                    place = &mut word.place;
                }
                None => {
                    let Some(parameter) = parameter else { return Err(Found::Nothing) };
                    show(parameter.kind.placeholder());
                    place = &mut parameter.place;
                }
            }
        }
        if place.ends { Ok(place) } else { Err(Found::Nothing) }
    }

    /// Goes on by a word: to its own place, or to that of the parameter.
    fn enter(&mut self, segment: &str, known: Option<usize>, limit: usize) -> &mut Self {
        let Self { words, parameter, visits, collapsed, .. } = self;
        let (distinct, visits) = (words.len(), *visits);
        let at = match known {
            Some(at) => Some(at),
            // The one that was just added.
            None if !*collapsed => words.iter().rposition(|word| *word.text == *segment),
            None => None,
        };
        if let Some(word) = at.and_then(|at| words.get_mut(at)) {
            word.visits = word.visits.saturating_add(1);
            let times = if limit == RESOURCES { RECURRENCE_OF_RESOURCES } else { RECURRENCE };
            word.named |= word.visits >= SEEN && visits as usize >= distinct * times;
            return &mut word.place;
        }
        let value = || Box::new(Parameter { kind: Value::Id, place: Self::default() });
        let parameter = parameter.get_or_insert_with(value);
        &mut parameter.place
    }

    /// All words become the parameter, but for those that most paths have.
    fn collapse(&mut self) {
        self.collapsed = true;
        let visits = self.visits;
        let mut parameter = self
            .parameter
            .take()
            .unwrap_or_else(|| Box::new(Parameter { kind: Value::Id, place: Self::default() }));
        parameter.kind = Value::Id;
        for mut word in std::mem::take(&mut self.words) {
            if word.visits.saturating_mul(DOMINANT) >= visits && visits > 0 {
                word.named = true;
                self.words.push(word);
            } else {
                parameter.place.merge(word.place);
            }
        }
        self.parameter = Some(parameter);
    }

    /// Takes what was learned behind another value of the same parameter.
    fn merge(&mut self, other: Self) {
        let Self { visits, words, parameter, collapsed, ends, route: _ } = other;
        self.visits = self.visits.saturating_add(visits);
        self.ends |= ends;
        if let Some(theirs) = parameter {
            match &mut self.parameter {
                Some(own) => {
                    if own.kind != theirs.kind {
                        own.kind = Value::Id;
                    }
                    own.place.merge(theirs.place);
                }
                none => *none = Some(theirs),
            }
        }
        for word in words {
            if let Some(own) = self.words.iter_mut().find(|own| own.text == word.text) {
                own.visits = own.visits.saturating_add(word.visits);
                own.named |= word.named;
                own.place.merge(word.place);
            } else if self.collapsed {
                let value = || Box::new(Parameter { kind: Value::Id, place: Self::default() });
                self.parameter.get_or_insert_with(value).place.merge(word.place);
            } else {
                self.words.push(word);
            }
        }
        if !self.collapsed && (collapsed || self.words.len() > WORDS) {
            self.collapse();
        }
    }

    /// Places in it, itself not counted.
    fn count(&self) -> usize {
        let words: usize = self.words.iter().map(|word| 1 + word.place.count()).sum();
        words + self.parameter.as_ref().map_or(0, |parameter| 1 + parameter.place.count())
    }
}

/// Segments of a path, without the empty one that a slash at its end makes, and without what RFC 3986, section 3.3, calls
/// parameters of a segment.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    let path = if path.is_empty() { None } else { Some(path) };
    path.into_iter()
        .flat_map(|path| path.split('/'))
        .map(|segment| segment.split(';').next().unwrap_or(segment))
}

/// Stands before the resources of an interface.
fn is_prefix(segment: &str) -> bool {
    matches!(segment, "api" | "apis" | "rest" | "rpc" | "public" | "internal")
        || segment.strip_prefix('v').is_some_and(|rest| {
            !rest.is_empty() && rest.bytes().next().is_some_and(|byte| byte.is_ascii_digit())
        })
}
