//! Real servers as child processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::apps;
use crate::namespaces::Place;
use crate::processes::{Process, free_port};

/// A server that listens.
pub struct Server {
    /// Its processes.
    pub process: Process,
    /// Its port; 0 on a unix socket.
    pub port: u16,
    /// Its unix socket.
    pub socket: Option<PathBuf>,
    folder: Option<TempDir>,
}

/// Where a server finds the next hop, and where it runs.
#[derive(Clone, Default)]
pub struct Setting {
    /// Base URL of the next hop, for the pages that call it.
    pub next: String,
    /// Network namespace.
    pub place: Place,
    /// Address to listen on, loopback unless given.
    pub address: Option<String>,
}

impl Setting {
    /// With this next hop.
    #[must_use]
    pub fn calls(next: impl Into<String>) -> Self {
        Self { next: next.into(), ..Self::default() }
    }

    fn address(&self) -> &str {
        self.address.as_deref().unwrap_or("127.0.0.1")
    }
}

impl Server {
    /// Base URL on the loopback address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The folder of its files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.as_ref().map_or(Path::new("/"), TempDir::path)
    }

    fn start(name: &str, mut command: Command, setting: &Setting, port: u16) -> Self {
        command.env("NEXT", &setting.next).env("ADDRESS", setting.address());
        let mut process = Process::start(name, &mut command);
        process.wait_port(port);
        Self { process, port, socket: None, folder: None }
    }
}

/// The service on Python's standard library, by the system's Python: a thread per connection.
#[must_use]
pub fn python(setting: &Setting) -> Server {
    let port = free_port();
    let mut command = setting.place.command("/usr/bin/python3");
    command.arg(apps::sources().join("python/service.py")).arg(port.to_string());
    Server::start("python http.server", command, setting, port)
}

/// Flask under gunicorn with these arguments (worker class, workers, threads).
#[must_use]
pub fn gunicorn(args: &str, setting: &Setting) -> Server {
    let port = free_port();
    let bind = format!("{}:{port}", setting.address());
    Server::start(&format!("gunicorn {args}"), gunicorn_command(args, setting, &bind), setting, port)
}

/// Flask under gunicorn on a unix socket.
#[must_use]
pub fn gunicorn_unix(args: &str, setting: &Setting) -> Server {
    let folder = TempDir::new().expect("a folder for the socket");
    let socket = folder.path().join("app.sock");
    let mut command = gunicorn_command(args, setting, &format!("unix:{}", socket.display()));
    let mut process = Process::start(&format!("gunicorn {args}"), command.env("NEXT", &setting.next));
    process.wait_unix(&socket);
    Server { process, port: 0, socket: Some(socket), folder: Some(folder) }
}

fn gunicorn_command(args: &str, setting: &Setting, bind: &str) -> Command {
    let mut command = setting.place.command(apps::python());
    command.args([
        "-m",
        "gunicorn",
        "--no-control-socket",
        "--bind",
        bind,
        "--backlog",
        "1024",
        "--timeout",
        "120",
    ]);
    command.args(args.split_whitespace()).arg("flask_app:app").current_dir(apps::sources().join("python"));
    command
}

/// FastAPI under uvicorn, one process.
#[must_use]
pub fn uvicorn(setting: &Setting) -> Server {
    let port = free_port();
    let mut command = setting.place.command(apps::python());
    command.args([
        "-m",
        "uvicorn",
        "--host",
        setting.address(),
        "--no-access-log",
        "--backlog",
        "1024",
        "--port",
    ]);
    command.arg(port.to_string()).arg("fastapi_app:app").current_dir(apps::sources().join("python"));
    Server::start("uvicorn", command, setting, port)
}

/// Node: `http` or `express`.
#[must_use]
pub fn node(flavour: &str, setting: &Setting) -> Server {
    let port = free_port();
    let mut command = setting.place.command("node");
    command.arg(apps::node().join("server.mjs")).args([flavour, &port.to_string()]);
    Server::start(&format!("node {flavour}"), command, setting, port)
}

/// Java's own server with a pool of threads; it calls the next hop by `url` (`HttpURLConnection`) or `httpclient`.
#[must_use]
pub fn java(threads: u32, caller: &str, setting: &Setting) -> Server {
    let port = free_port();
    let mut command = setting.place.command("java");
    // Without this its answers wait 40 ms for the client's delayed acknowledgement.
    command.args(["-Xmx128m", "-Dsun.net.httpserver.nodelay=true", "-cp"]).arg(apps::java());
    command.args(["Server", &port.to_string(), &threads.to_string(), caller]);
    Server::start(&format!("java {caller}"), command, setting, port)
}

/// Go's `net/http`.
#[must_use]
pub fn go(setting: &Setting) -> Server {
    let port = free_port();
    let mut command = setting.place.command(apps::go().join("server"));
    command.arg(port.to_string());
    Server::start("go", command, setting, port)
}

/// Rust's hyper on tokio.
#[must_use]
pub fn hyper(setting: &Setting) -> Server {
    let port = free_port();
    let mut command = setting.place.command(apps::hyper());
    command.arg(port.to_string());
    Server::start("hyper", command, setting, port)
}

/// The same over HTTP/2, which then calls its next hop over HTTP/2 as well.
#[must_use]
pub fn hyper_h2(setting: &Setting) -> Server {
    let port = free_port();
    let mut command = setting.place.command(apps::hyper());
    command.args([&port.to_string(), "h2"]);
    Server::start("hyper", command, setting, port)
}

/// Go over HTTP/2, by prior knowledge and by upgrade.
#[must_use]
pub fn go_h2(setting: &Setting) -> Server {
    let port = free_port();
    let mut command = setting.place.command(apps::go_h2());
    command.args(["server", &port.to_string()]);
    Server::start("go h2c", command, setting, port)
}

/// Node's `http2`.
#[must_use]
pub fn node_h2(setting: &Setting) -> Server {
    let port = free_port();
    let mut command = setting.place.command("node");
    command.arg(apps::sources().join("node/h2_server.mjs")).arg(port.to_string());
    Server::start("node http2", command, setting, port)
}

/// hypercorn, which speaks HTTP/2 by prior knowledge and by upgrade.
#[must_use]
pub fn hypercorn(setting: &Setting) -> Server {
    let port = free_port();
    let mut command = setting.place.command(apps::python());
    command.args(["-m", "hypercorn", "--bind", &format!("{}:{port}", setting.address()), "h2_app:app"]);
    command.current_dir(apps::sources().join("python"));
    Server::start("hypercorn", command, setting, port)
}

/// nghttpd with these arguments: files, and what is uploaded comes back.
#[must_use]
pub fn nghttpd(args: &[&str], setting: &Setting) -> Server {
    let port = free_port();
    let folder = TempDir::new().expect("a folder for nghttpd");
    let mut command = setting.place.command("nghttpd");
    command.args(["--no-tls", "--echo-upload", "--address", setting.address(), "--htdocs"]);
    command.arg(folder.path()).args(args).arg(port.to_string());
    let mut server = Server::start("nghttpd", command, setting, port);
    server.folder = Some(folder);
    server
}

/// nginx with two workers: `locations` is the inside of its server block, `outside` stands beside it.
#[must_use]
pub fn nginx(outside: &str, locations: &str, setting: &Setting) -> Server {
    nginx_as("", outside, locations, setting)
}

/// The same over HTTP/2 by prior knowledge.
#[must_use]
pub fn nginx_h2(outside: &str, locations: &str, setting: &Setting) -> Server {
    nginx_as("http2", outside, locations, setting)
}

fn nginx_as(protocol: &str, outside: &str, locations: &str, setting: &Setting) -> Server {
    let port = free_port();
    let folder = TempDir::new().expect("a folder for nginx");
    let path = folder.path().display();
    let address = setting.address();
    let config = format!(
        "user root; worker_processes 2; daemon off; pid {path}/pid; error_log stderr warn;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; client_max_body_size 0;\n\
         client_body_temp_path {path}/body; proxy_temp_path {path}/proxy; fastcgi_temp_path {path}/fastcgi;\n\
         uwsgi_temp_path {path}/uwsgi; scgi_temp_path {path}/scgi; {outside}\n\
         server {{ listen {address}:{port} {protocol} backlog=2048; root {path}/www;\n{locations}\n}} }}\n"
    );
    fs::create_dir(folder.path().join("www")).expect("folder");
    fs::write(folder.path().join("nginx.conf"), config).expect("configuration");
    let mut command = setting.place.command("nginx");
    command
        .arg("-p")
        .arg(folder.path())
        .arg("-c")
        .arg(folder.path().join("nginx.conf"))
        .args(["-e", "stderr"]);
    let mut server = Server::start("nginx", command, setting, port);
    server.folder = Some(folder);
    server
}

/// nginx that passes everything on to this URL, with or without connections kept open to it.
#[must_use]
pub fn nginx_proxy(to: &str, keep: bool, setting: &Setting) -> Server {
    if !keep {
        return nginx("", &format!("location / {{ proxy_pass {to}; proxy_read_timeout 120s; }}"), setting);
    }
    let host = to.trim_start_matches("http://");
    let outside = format!("upstream next {{ server {host}; keepalive 512; keepalive_requests 1000000; }}");
    let location = "location / { proxy_pass http://next; proxy_http_version 1.1; proxy_set_header Connection '';\
                    proxy_set_header Host $host:$server_port; proxy_read_timeout 120s; }";
    nginx(&outside, location, setting)
}

/// HAProxy with two threads, which reads several requests before it calls for the first of them.
#[must_use]
pub fn haproxy(to: &str, setting: &Setting) -> Server {
    let port = free_port();
    let folder = TempDir::new().expect("a folder for HAProxy");
    let (address, next) = (setting.address(), to.trim_start_matches("http://"));
    let config = format!(
        "global\n nbthread 2\n maxconn 2000\n\
         defaults\n mode http\n timeout connect 30s\n timeout client 120s\n timeout server 120s\n\
         listen all\n bind {address}:{port}\n server next {next}\n"
    );
    let file = folder.path().join("haproxy.cfg");
    fs::write(&file, config).expect("configuration");
    let mut command = setting.place.command("haproxy");
    command.arg("-db").arg("-f").arg(&file);
    let mut server = Server::start("haproxy", command, setting, port);
    server.folder = Some(folder);
    server
}

/// Apache with `mod_proxy`, which writes each line of a request's head as a buffer of its own.
#[must_use]
pub fn apache_proxy(to: &str, setting: &Setting) -> Server {
    let port = free_port();
    let folder = TempDir::new().expect("a folder for Apache");
    let (path, address) = (folder.path().display(), setting.address());
    let modules = ["mpm_event", "authz_core", "proxy", "proxy_http"];
    let modules: String = modules
        .iter()
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
        .collect();
    let config = format!(
        "ServerRoot {path}\nServerName localhost\n{modules}PidFile {path}/pid\nErrorLog {path}/error.log\n\
         Mutex pthread\nDefaultRuntimeDir {path}\nListen {address}:{port}\n\
         StartServers 2\nServerLimit 2\nThreadLimit 64\nThreadsPerChild 64\nMaxRequestWorkers 128\n\
         MaxKeepAliveRequests 0\nKeepAliveTimeout 60\nProxyTimeout 120\n\
         ProxyPass / {to}/\n"
    );
    let file = folder.path().join("apache.conf");
    fs::write(&file, config).expect("configuration");
    let mut command = setting.place.command("apache2");
    command.arg("-DFOREGROUND").arg("-f").arg(&file);
    let mut server = Server::start("apache", command, setting, port);
    server.folder = Some(folder);
    server
}
