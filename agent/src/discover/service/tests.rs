//! What a service is called: command lines, units and declarations as they are found in the wild.

use super::super::proc::ProcFs;
use super::super::runtime;
use super::super::tree::{Fake, Tree};
use super::*;

/// The name of a process of the given executable, working directory and arguments.
fn named(tree: &Tree, pid: u32, fake: &Fake<'_>) -> String {
    tree_name(tree, pid, fake, &Declared::default())
}

fn tree_name(tree: &Tree, pid: u32, fake: &Fake<'_>, declared: &Declared) -> String {
    let proc = ProcFs::new(tree.root());
    let args = proc.cmdline(pid);
    let language = runtime::detect(&proc, pid, pid, fake.exe).0.language;
    name(
        &proc,
        pid,
        &Seen {
            declared,
            cgroup: &proc.cgroup(pid),
            program: fake.exe,
            args: &args,
            language,
            go_module: None,
            ppid: fake.ppid,
        },
    )
}

/// One line: `working directory $ executable: arguments`, and the name that it shall have.
fn check(line: &str, expect: &str) {
    let (cwd, command) = line.split_once(" $ ").unwrap();
    let (exe, args) = command.split_once(": ").unwrap();
    let args: Vec<&str> = args.split(' ').filter(|argument| !argument.is_empty()).collect();
    let fake = Fake { exe, cwd, args: &args, ..Fake::default() };
    let tree = Tree::new();
    tree.put(7, &fake);
    assert_eq!(named(&tree, 7, &fake), expect, "{line}");
}

#[test]
fn native_programs() {
    check("/ $ /usr/sbin/nginx: nginx -g daemon off;", "nginx");
    check("/root $ /srv/shop/bin/shop-api: ./shop-api --port 80", "shop-api");
    // Called something else than it is.
    check("/ $ /usr/bin/redis-check-rdb: redis-server *:6379", "redis-check-rdb");
    check("/ $ /srv/shop/app: ./app", "app");
    check("/ $ /srv/shop/bin/server: bin/server", "server");
    check("/ $ /app/main: /app/main", "main");
    check("/ $ /usr/local/bin/app: app", "app");
    check("/home/ada $ /home/ada/main: ./main", "main");
    check("/ $ /bin/busybox: busybox httpd -f", "httpd");
    check("/ $ /bin/busybox: httpd -f", "httpd");
    check(
        "/ $ /lib/ld-linux-x86-64.so.2: /lib/ld-linux-x86-64.so.2 --library-path /x /srv/shop/shopd",
        "shopd",
    );
}

#[test]
fn rewritten_titles_do_not_matter_where_the_executable_says_it() {
    for title in ["nginx: master process /usr/sbin/nginx -g daemon off;", "nginx: worker process"] {
        let args = [title];
        let fake = Fake { exe: "/usr/sbin/nginx", cwd: "/", args: &args, ..Fake::default() };
        let tree = Tree::new();
        tree.put(7, &fake);
        assert_eq!(named(&tree, 7, &fake), "nginx");
    }
}

#[test]
fn python_scripts_and_modules() {
    check("/srv $ /usr/bin/python3.11: python3 shop.py --port 80", "shop");
    check("/srv $ /usr/bin/python3.11: python3 -u -W ignore -X dev /srv/shop/orders.py", "orders");
    check("/srv/shop $ /usr/bin/python3: python3 main.py", "main");
    check("/srv/shop/src $ /usr/bin/python3: python3 ./main.py", "main");
    check("/ $ /usr/bin/python3: python3 /srv/shop/manage.py runserver 0.0.0.0:80", "shop");
    check("/app $ /usr/local/bin/python3.12: python app.py", "app");
    check("/home/ada $ /usr/bin/python3: python3 server.py", "server");
    check("/tmp/tmp.W8x2Zq $ /usr/bin/python3: python3 server.py", "server");
    check("/home/ada/orders $ /usr/bin/python3: python3 server.py", "server");
    check("/ $ /usr/bin/python3: python3 -m http.server 8000", "http.server");
    check("/ $ /usr/bin/python3: python3 -um shop.web", "shop.web");
    check("/ $ /usr/bin/python3: python3 -Im shop.__main__", "shop");
    check("/srv/shop $ /usr/bin/python3: python3 -m app", "app");
    check("/ $ /usr/bin/pypy3: pypy3 /srv/orders.py", "orders");
    check("/tmp $ /usr/bin/python3.11: python3 -c pass", "unknown_service:python3.11");
    check("/tmp $ /usr/bin/python3.11: python3", "unknown_service:python3.11");
    check("/tmp $ /usr/bin/python3.11: python3 -", "unknown_service:python3.11");
    check("/tmp $ /usr/bin/python3.11: python3 /dev/stdin", "unknown_service:python3.11");
    check("/tmp $ /usr/bin/python3.11: python3 -m", "unknown_service:python3.11");
    check("/tmp $ /usr/bin/python3.11: ", "unknown_service:python3.11");
}

#[test]
fn python_servers_are_named_after_what_they_load() {
    check("/ $ /usr/bin/python3: python3 /usr/bin/gunicorn -w 4 -b 127.0.0.1:8000 shop:app", "shop");
    check("/ $ /usr/bin/python3: python3 /usr/bin/gunicorn -b localhost:8000 shop.wsgi:application", "shop");
    check(
        "/ $ /usr/bin/python3: python3 /usr/bin/gunicorn -c python:settings shop.main:create() -t 30",
        "shop",
    );
    check("/ $ /usr/bin/python3: python3 /usr/bin/gunicorn -w 4 shop.wsgi", "shop");
    check("/srv/shop $ /usr/bin/python3: python3 /usr/bin/gunicorn app:app", "app");
    check("/app $ /usr/bin/python3: python3 /usr/bin/gunicorn app:app", "app");
    check("/app $ /usr/bin/python3: python3 /usr/bin/gunicorn --chdir /srv/shop wsgi:app", "shop");
    check("/ $ /usr/bin/python3: python3 /usr/bin/gunicorn --name orders shop:app", "orders");
    check("/ $ /usr/bin/python3: python3 -m gunicorn shop:app", "shop");
    check("/ $ /usr/bin/python3: python3 /srv/venv/bin/uvicorn shop.main:app --workers 2", "shop");
    check("/ $ /usr/bin/python3: python3 -m uvicorn --factory --app-dir=/srv/orders main:create", "main");
    check("/ $ /usr/bin/python3: python3 /usr/bin/hypercorn shop:app", "shop");
    check("/ $ /usr/bin/python3: python3 /usr/bin/daphne -p 80 shop.asgi:application", "shop");
    check("/ $ /usr/bin/python3: python3 /usr/bin/waitress-serve --port=80 --call shop:create", "shop");
    check("/ $ /usr/bin/python3: python3 -m flask --app shop run", "shop");
    check("/srv/orders $ /usr/bin/python3: python3 /usr/bin/flask run", "orders");
    check("/ $ /usr/bin/python3: python3 /usr/bin/fastapi run /srv/shop/main.py", "main");
    check("/ $ /usr/bin/python3: python3 /usr/bin/celery -A shop.tasks worker", "shop.tasks");
    check("/ $ /usr/bin/uwsgi-core: uwsgi --http :80 --module shop.wsgi:application", "shop");
    check("/ $ /usr/bin/uwsgi: uwsgi --chdir=/srv/orders --wsgi-file app.py", "app");
    check("/ $ /usr/bin/uwsgi: uwsgi --ini /etc/uwsgi/shop.ini", "shop");
}

#[test]
fn workers_agree_with_their_masters() {
    let tree = Tree::new();
    let master = ["python3", "/usr/bin/uvicorn", "shop.main:app", "--workers", "2"];
    let master = Fake { exe: "/usr/bin/python3.11", cwd: "/", args: &master, ppid: 1, ..Fake::default() };
    let spawned = [
        "python3",
        "-c",
        "from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5)",
        "--multiprocessing-fork",
    ];
    let worker = Fake { args: &spawned, ppid: 10, ..master.clone() };
    let below = Fake { ppid: 11, ..worker.clone() };
    tree.put(10, &master);
    tree.put(11, &worker);
    tree.put(12, &below);
    for (pid, fake) in [(10, &master), (11, &worker), (12, &below)] {
        assert_eq!(named(&tree, pid, fake), "shop", "{pid}");
    }
    // An orphan, and one whose parent is something else.
    let orphan = Fake { ppid: 99, ..worker.clone() };
    tree.put(13, &orphan);
    assert_eq!(named(&tree, 13, &orphan), "unknown_service:python3.11");
    tree.put(20, &Fake { exe: "/bin/bash", args: &["bash", "run.sh"], ..Fake::default() });
    let child = Fake { ppid: 20, ..worker };
    tree.put(14, &child);
    assert_eq!(named(&tree, 14, &child), "unknown_service:python3.11");
}

#[test]
fn titles_of_setproctitle() {
    let check = |exe: &str, cwd: &str, title: &str, expect: &str| {
        let args = [title];
        let fake = Fake { exe, cwd, args: &args, ..Fake::default() };
        let tree = Tree::new();
        tree.put(7, &fake);
        assert_eq!(named(&tree, 7, &fake), expect, "{title}");
    };
    check("/usr/bin/python3.11", "/", "gunicorn: master [shop.wsgi:application]", "shop");
    check("/usr/bin/python3.11", "/srv/orders", "gunicorn: worker [app:app]", "app");
    check("/usr/bin/ruby3.1", "/", "puma 6.4.2 (tcp://0.0.0.0:3000) [shop]", "shop");
    check("/usr/bin/ruby3.1", "/srv/orders", "puma: cluster worker 0: 17 [app]", "app");
    check("/usr/bin/ruby3.1", "/srv/orders", "unicorn worker[0] -c config", "orders");
    check("/usr/sbin/php-fpm8.2", "/", "php-fpm: pool www", "php-fpm");
    check("/usr/bin/node", "/srv/orders", "next-server (v15.1.0)", "orders");
}

#[test]
fn java_programs() {
    check("/ $ /usr/bin/java: java -Xmx1g -jar /opt/shop.jar --server.port=80", "shop");
    check("/ $ /usr/bin/java: java -jar /opt/shop-1.4.2-SNAPSHOT.jar", "shop");
    check("/ $ /usr/bin/java: java -jar /opt/web-shop-v2.jar", "web-shop");
    check("/ $ /usr/bin/java: java -jar /opt/log4j-2-viewer.jar", "log4j-2-viewer");
    check("/app $ /usr/bin/java: java -jar app.jar", "app");
    check("/srv/shop $ /usr/bin/java: java -jar target/app.jar", "app");
    check("/ $ /usr/bin/java: java -cp conf:lib/* -Dx=y com.acme.Main --port 1", "com.acme.Main");
    check(
        "/ $ /usr/bin/java: java --add-opens java.base/java.lang=ALL-UNNAMED -classpath x com/acme/Main",
        "com.acme.Main",
    );
    check("/ $ /usr/bin/java: java -p mods -m com.acme.shop/com.acme.shop.Main", "com.acme.shop");
    check("/ $ /usr/bin/java: java --module=com.acme.shop/com.acme.shop.Main", "com.acme.shop");
    check("/srv $ /usr/bin/java: java Orders.java 8080", "Orders");
    check("/ $ /usr/bin/java: java -Dspring.application.name=orders -jar shop.jar", "orders");
    check("/ $ /usr/bin/java: java -jar shop.jar --spring.application.name=orders", "orders");
    check("/srv/shop $ /usr/bin/java: java org.springframework.boot.loader.launch.JarLauncher", "shop");
    check("/ $ /usr/bin/java: java -cp x org.apache.catalina.startup.Bootstrap start", "tomcat");
    check("/ $ /usr/bin/java: java -version", "unknown_service:java");
    check("/ $ /usr/bin/java: java -jar", "unknown_service:java");
}

#[test]
fn other_interpreters() {
    check("/ $ /usr/bin/dotnet: dotnet /app/Shop.dll", "Shop");
    check("/ $ /usr/bin/dotnet: dotnet exec Shop.Api.dll", "Shop.Api");
    check("/srv/shop $ /usr/bin/ruby3.1: ruby /usr/bin/puma -p 80", "shop");
    check("/srv $ /usr/bin/ruby: ruby -I lib orders.rb", "orders");
    check("/srv $ /usr/bin/perl: perl -w orders.pl", "orders");
    check("/ $ /usr/sbin/php-fpm8.2: php-fpm -F", "php-fpm");
    check("/srv/shop $ /usr/bin/php8.2: php -S 0.0.0.0:80 -t public", "shop");
    check("/srv/shop $ /usr/bin/php8.2: php artisan serve", "shop");
    check("/srv $ /usr/bin/php8.2: php orders.php", "orders");
    check("/srv $ /usr/bin/ruby3.1: ruby -rjson -rnet/http -e 1 orders", "unknown_service:ruby3.1");
    check("/srv $ /usr/bin/perl: perl -MLWP::UserAgent -e 1 orders", "unknown_service:perl");
    check("/srv $ /usr/bin/perl: perl -ne 1 orders", "unknown_service:perl");
    check("/srv $ /usr/bin/perl: perl orders.pl -e", "orders");
    check("/srv $ /usr/bin/php8.2: php -r 1 orders", "unknown_service:php8.2");
    check("/srv $ /bin/bash: bash -e orders.sh", "orders");
    check("/srv $ /bin/bash: bash /dev/fd/63", "unknown_service:bash");
    check("/srv $ /bin/bash: bash -c true", "unknown_service:bash");
    check(
        "/ $ /usr/lib/erlang/erts-13/bin/beam.smp: beam.smp -W w -- -root /usr -sname rabbit@node -noshell",
        "rabbit",
    );
    check("/ $ /usr/lib/erlang/erts-13/bin/beam.smp: beam.smp", "unknown_service:beam.smp");
}

#[test]
fn node_packages_and_scripts() {
    let check = |cwd: &str, exe: &str, args: &str, files: &[(&str, &str)], expect: &str| {
        let list: Vec<&str> = args.split(' ').collect();
        let fake = Fake { exe, cwd, args: &list, ..Fake::default() };
        let tree = Tree::new();
        tree.put(7, &fake);
        for (path, content) in files {
            tree.file(7, path, content);
        }
        assert_eq!(named(&tree, 7, &fake), expect, "{cwd} $ {args}");
    };
    let node = "/usr/bin/node";
    let shop: &[(&str, &str)] = &[("/srv/x/package.json", r#"{"name": "@acme/shop", "version": "1.0.0"}"#)];
    check("/srv", node, "node orders.js", &[], "orders");
    check("/srv/shop", node, "node server.js", &[], "server");
    check("/srv/x", node, "node server.js", shop, "@acme/shop");
    check("/srv/x", node, "node --require ./trace.js --inspect=9229 dist/index.js", shop, "@acme/shop");
    check("/srv/x", node, "node .", shop, "@acme/shop");
    check("/", node, "node /srv/x/node_modules/.bin/next start", shop, "@acme/shop");
    check("/srv/x", node, "node /usr/lib/node_modules/npm/bin/npm-cli.js start", shop, "npm");
    check("/", node, "node /usr/lib/node_modules/@acme/tool/cli.js", &[], "@acme/tool");
    let nested: &[(&str, &str)] = &[
        ("/srv/x/package.json", r#"{"name":"shop"}"#),
        ("/srv/x/dist/package.json", r#"{"type":"module"}"#),
    ];
    check("/srv/x", node, "node dist/index.js", nested, "shop");
    check("/srv/orders", node, "node server.js", &[("/srv/orders/package.json", r#"{"name":"app"}"#)], "app");
    for broken in ["", "{", "[]", r#"{"name":7}"#, r#"{"name":""}"#] {
        check("/srv/orders", node, "node server.js", &[("/srv/orders/package.json", broken)], "server");
    }
    check("/srv", node, "node -e 1", &[], "unknown_service:node");
    check("/srv", node, "node", &[], "unknown_service:node");
    check("/srv", "/usr/bin/bun", "bun run orders.ts", &[], "orders");
    check("/srv", "/usr/bin/bun", "bun orders.ts", &[], "orders");
    check("/srv", "/usr/bin/deno", "deno run -A orders.ts", &[], "orders");
}

#[test]
fn a_package_is_looked_for_inside_the_processs_own_root() {
    let args = ["node", "server.js"];
    let fake = Fake { exe: "/usr/bin/node", cwd: "/srv/orders", args: &args, ..Fake::default() };
    let tree = Tree::new();
    tree.put(7, &fake);
    // A link with an absolute target, as in an image: resolved below the process's root, not below the agent's.
    tree.file(7, "/real/package.json", r#"{"name":"shop"}"#);
    tree.link(7, "/srv/orders/package.json", "/real/package.json");
    assert_eq!(named(&tree, 7, &fake), "shop");
    let outside = tree.root().join("outside.json");
    std::fs::write(&outside, r#"{"name":"secret"}"#).unwrap();
    tree.put(8, &fake);
    tree.link(8, "/srv/orders/package.json", outside.to_str().unwrap());
    assert_eq!(named(&tree, 8, &fake), "server");
    // A fifo without a writer must not hold the agent up.
    tree.put(9, &fake);
    tree.file(9, "/srv/orders/x", "");
    let fifo = tree.root().join("9/root/srv/orders/package.json");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    assert_eq!(named(&tree, 9, &fake), "server");
}

#[test]
fn the_order_of_sources() {
    let tree = Tree::new();
    let args = ["python3", "orders.py"];
    let fake = Fake {
        exe: "/usr/bin/python3",
        cwd: "/srv",
        args: &args,
        cgroup: "/system.slice/shop.service",
        ..Fake::default()
    };
    tree.put(7, &fake);
    assert_eq!(named(&tree, 7, &fake), "shop");
    let declared = Declared { service_name: Some("mine".to_owned()), attributes: Vec::new() };
    assert_eq!(tree_name(&tree, 7, &fake, &declared), "mine");
    let session = Fake { cgroup: "/user.slice/user-0.slice/session-1.scope", ..fake };
    tree.put(8, &session);
    assert_eq!(named(&tree, 8, &session), "orders");
}

/// The version of a process with these files.
fn versioned(line: &str, files: &[(&str, &str)], go_module: Option<&str>) -> Option<String> {
    let (cwd, command) = line.split_once(" $ ").unwrap();
    let (exe, args) = command.split_once(": ").unwrap();
    let args: Vec<&str> = args.split(' ').collect();
    let fake = Fake { exe, cwd, args: &args, ..Fake::default() };
    let tree = Tree::new();
    tree.put(7, &fake);
    files.iter().for_each(|(path, content)| tree.file(7, path, content));
    let proc = ProcFs::new(tree.root());
    let seen = Seen {
        declared: &Declared::default(),
        cgroup: "",
        program: exe,
        args: &proc.cmdline(7),
        language: runtime::detect(&proc, 7, 7, exe).0.language,
        go_module,
        ppid: 1,
    };
    version(&proc, 7, &seen)
}

#[test]
fn versions_are_what_programs_say() {
    let check = |line: &str, files: &[(&str, &str)], expect: Option<&str>| {
        assert_eq!(versioned(line, files, None).as_deref(), expect, "{line}");
    };
    let package = |path| (path, r#"{"name":"shop","version":"1.4.2"}"#);
    check("/srv/shop $ /usr/bin/node: node app.js", &[package("/srv/shop/package.json")], Some("1.4.2"));
    check(
        "/ $ /usr/bin/node: node /srv/shop/dist/main.js",
        &[package("/srv/shop/package.json")],
        Some("1.4.2"),
    );
    let nameless = ("/srv/shop/dist/package.json", r#"{"type":"module","version":"9"}"#);
    check(
        "/srv/shop $ /usr/bin/node: node dist/a.js",
        &[package("/srv/shop/package.json"), nameless],
        Some("1.4.2"),
    );
    let next = ("/srv/shop/node_modules/next/package.json", r#"{"name":"next","version":"15.0.0"}"#);
    let tool = "/srv/shop $ /usr/bin/node: node node_modules/next/dist/bin/next start";
    check(tool, &[package("/srv/shop/package.json"), next], Some("1.4.2"));
    let npm = ("/usr/lib/node_modules/npm/package.json", r#"{"name":"npm","version":"10.8.1"}"#);
    check("/ $ /usr/bin/node: node /usr/lib/node_modules/npm/bin/npm-cli.js start", &[npm], Some("10.8.1"));
    check("/srv $ /usr/bin/node: node app.js", &[("/srv/package.json", r#"{"name":"a","version":7}"#)], None);
    check("/srv $ /usr/bin/node: node app.js", &[], None);

    check("/srv $ /usr/bin/java: java -Xmx1g -jar shop-1.4.2-SNAPSHOT.jar", &[], Some("1.4.2-SNAPSHOT"));
    check("/srv $ /usr/bin/java: java -jar shop-v2.jar", &[], Some("2"));
    check("/srv $ /usr/bin/java: java -jar shop.jar", &[("/srv/shop.jar", "no jar")], None);
    check("/srv $ /usr/bin/java: java -cp shop-1.0.jar Shop", &[], None);

    let init = |path| (path, "import os\n__version__: str = '2.0.1'  # x\n__version__ = '3'\n");
    check("/srv $ /usr/bin/python3: python3 -m shop.web", &[init("/srv/shop/__init__.py")], Some("2.0.1"));
    check("/srv $ /usr/bin/python3: python3 -m shop", &[init("/srv/shop.py")], Some("2.0.1"));
    check("/ $ /usr/bin/python3: python3 /srv/job.py", &[init("/srv/job.py")], Some("2.0.1"));
    let app = [init("/srv/shop/__init__.py")];
    check("/srv $ /usr/bin/python3: python3 /usr/bin/gunicorn -w 2 shop.wsgi:app", &app, Some("2.0.1"));
    check("/ $ /usr/bin/python3: python3 -m uvicorn --app-dir /srv shop.main:app", &app, Some("2.0.1"));
    let other = [("/srv/job.py", "print(__version__)\n__version__ = VERSION\n")];
    check("/srv $ /usr/bin/python3: python3 job.py", &other, None);
    check("/srv $ /usr/bin/python3: python3 -c pass", &[], None);
    check("/srv $ /usr/sbin/nginx: nginx", &[package("/srv/package.json")], None);
    let long = "x".repeat(300);
    let long = format!(r#"{{"name":"a","version":"{long}"}}"#);
    check("/srv $ /usr/bin/node: node app.js", &[("/srv/package.json", &long)], None);
}

#[test]
fn jars_that_are_called_as_any_program_say_their_title() {
    let tree = Tree::new();
    let fake =
        Fake { exe: "/usr/bin/java", cwd: "/app", args: &["java", "-jar", "app.jar"], ..Fake::default() };
    tree.put(7, &fake);
    assert_eq!(named(&tree, 7, &fake), "app");
    let manifest = "Implementation-Title: orders\nImplementation-Version: 2.1\n";
    let jar = jar::tests::zip(b"", true, &[("META-INF/MANIFEST.MF", manifest)]);
    tree.file(7, "/app/app.jar", "");
    std::fs::write(tree.root().join("7/root/app/app.jar"), jar).unwrap();
    assert_eq!(named(&tree, 7, &fake), "orders");
}
