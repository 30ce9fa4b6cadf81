//! Installs and builds everything that the live scenarios start, so that they do not wait for it: `sonde-tests-apps`.

use sonde_tests::apps;

fn main() {
    let builds: [(&str, fn()); 5] = [
        ("python", || drop(apps::python())),
        ("node", || drop(apps::node())),
        ("java", || drop(apps::java())),
        ("go", || drop(apps::go())),
        ("go-h2", || drop(apps::go_h2())),
    ];
    // Each waits mostly for its registry or its compiler: all at once.
    let threads = builds.map(|(name, build)| (name, std::thread::spawn(build)));
    for (name, thread) in threads {
        assert!(thread.join().is_ok(), "the {name} applications could not be built");
        println!("{name} applications are ready");
    }
}
