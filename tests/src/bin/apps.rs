//! Installs and builds everything that the live scenarios start, so that they do not wait for it: `sonde-tests-apps`.

use sonde_tests::apps;
use sonde_tests::grpc::programs as grpc;

fn main() {
    let builds: [(&str, fn()); 15] = [
        ("python", || drop(apps::python())),
        ("node", || drop(apps::node())),
        ("java", || drop(apps::java())),
        ("go", || drop(apps::go())),
        ("python sdk", || drop(apps::python_sdk())),
        ("node sdk", || drop(apps::node_sdk())),
        ("go sdk", || drop(apps::go_sdk())),
        ("python grpc", || drop(grpc::python())),
        ("node grpc", || drop(grpc::node())),
        ("java grpc", || drop(grpc::java())),
        ("go grpc", || drop(grpc::go())),
        ("go h2", || drop(apps::go_h2())),
        ("python rides", || drop(apps::rides_python())),
        ("node rides", || drop(apps::rides_node())),
        ("go rides", || drop(apps::rides_go())),
    ];
    // Each waits mostly for its registry or its compiler: all at once.
    let threads = builds.map(|(name, build)| (name, std::thread::spawn(build)));
    for (name, thread) in threads {
        assert!(thread.join().is_ok(), "the {name} applications could not be built");
        println!("{name} applications are ready");
    }
}
