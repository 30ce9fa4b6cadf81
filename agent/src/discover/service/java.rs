//! What a JVM runs: a jar, a module or a class (java(1)).

use std::path::Path;

use super::jar::{Manifest, manifest};
use super::program::{Place, is_generic, parent, stem};

/// Options whose value is the next argument.
const VALUED: [&str; 17] = [
    "-cp",
    "-classpath",
    "--class-path",
    "-p",
    "--module-path",
    "--upgrade-module-path",
    "--add-modules",
    "--limit-modules",
    "--add-opens",
    "--add-exports",
    "--add-reads",
    "--patch-module",
    "--enable-native-access",
    "--source",
    "-d",
    "--describe-module",
    "--illegal-native-access",
];

/// Classes that only load those of others.
const LAUNCHERS: [&str; 5] = [
    "org.springframework.boot.loader.JarLauncher",
    "org.springframework.boot.loader.launch.JarLauncher",
    "org.springframework.boot.loader.PropertiesLauncher",
    "org.springframework.boot.loader.launch.PropertiesLauncher",
    "com.intellij.rt.execution.application.AppMainV2",
];

/// The name that the program declares to Spring, else the jar's without its version (that in its manifest where the file's could
/// be any program's), else the module's or the class's.
pub(super) fn name(place: &Place<'_>, args: &[String]) -> Option<String> {
    const DECLARED: [&str; 2] = ["-Dspring.application.name=", "--spring.application.name="];
    let declared =
        args.iter().find_map(|argument| DECLARED.iter().find_map(|start| argument.strip_prefix(start)));
    if let Some(name) = declared.filter(|name| !name.is_empty()) {
        return Some(name.to_owned());
    }
    let mut rest = args.get(1..)?.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "-jar" => {
                let jar = rest.next()?;
                let (name, _) = split_version(stem(jar));
                let title = if is_generic(name) { manifest_of(place, jar).title } else { None };
                return title.or_else(|| Some(place.unless_nameless(name, parent(jar))));
            }
            "-m" | "--module" => {
                return rest.next().map(|module| module.split('/').next().unwrap_or(module).to_owned());
            }
            valued if VALUED.contains(&valued) => drop(rest.next()),
            option if option.starts_with('-') || option.starts_with('@') || option.is_empty() => {
                if let Some(module) = option.strip_prefix("--module=") {
                    return Some(module.split('/').next().unwrap_or(module).to_owned());
                }
            }
            // The source launcher: `java Shop.java`.
            source if source.ends_with(".java") => return Some(place.script(source)),
            "org.apache.catalina.startup.Bootstrap" => return Some("tomcat".to_owned()),
            class if LAUNCHERS.contains(&class) => return place.directory("."),
            class => return Some(class.replace('/', ".")),
        }
    }
    None
}

/// The version in the jar's manifest, else in its name.
pub(super) fn version(place: &Place<'_>, args: &[String]) -> Option<String> {
    let jar = args.iter().skip_while(|argument| *argument != "-jar").nth(1)?;
    let named = || split_version(stem(jar)).1.map(ToOwned::to_owned);
    manifest_of(place, jar).version.or_else(named)
}

fn manifest_of(place: &Place<'_>, jar: &str) -> Manifest {
    let file = place.proc.open(place.pid, Path::new(&place.absolute(jar)));
    file.as_ref().and_then(manifest).unwrap_or_default()
}

/// `shop-1.4.2-SNAPSHOT` is `shop`, of version `1.4.2-SNAPSHOT`: a service keeps its name over its releases.
fn split_version(stem: &str) -> (&str, Option<&str>) {
    let version = stem.match_indices('-').find(|(at, _)| {
        let rest = stem.get(at + 1..).unwrap_or_default();
        let rest = rest.strip_prefix('v').unwrap_or(rest);
        rest.starts_with(|first: char| first.is_ascii_digit())
            && (rest.contains('.') || rest.bytes().all(|b| b.is_ascii_digit()))
    });
    match version.and_then(|(at, _)| Some((stem.get(..at)?, stem.get(at + 1..)?))) {
        Some((name, version)) if !name.is_empty() => {
            (name, Some(version.strip_prefix('v').unwrap_or(version)))
        }
        _ => (stem, None),
    }
}
