//! nginx with one worker that answers by itself, and wrk against it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use super::measured::{cpu, terminate};
use crate::process;

/// nginx, one worker. Ended when dropped.
pub(super) struct Nginx {
    child: Child,
    worker: u32,
    pub(super) port: u16,
    /// Where it speaks HTTP/2.
    h2_port: u16,
}

/// What a run of wrk came to.
pub(super) struct Load {
    pub(super) requests: f64,
    /// Requests per second.
    pub(super) rate: f64,
    /// CPU seconds of nginx's worker.
    pub(super) cpu: f64,
}

impl Nginx {
    /// Starts it with its files in `folder`.
    pub(super) fn start(folder: &Path) -> Result<Self> {
        let nginx = process::find("nginx").context("no nginx; `cargo xtask setup --tests` installs it")?;
        let [one, two] = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let (one, two) = (one?, two?);
        let (port, h2_port) = (one.local_addr()?.port(), two.local_addr()?.port());
        drop((one, two));
        let at = folder.display();
        let user = if process::is_root() { "user root;\n" } else { "" };
        let config = format!(
            "{user}worker_processes 1;\ndaemon off;\npid {at}/nginx.pid;\nerror_log stderr notice;\n\
             events {{ worker_connections 4096; }}\n\
             http {{\n  access_log off;\n  keepalive_requests 100000000;\n  client_body_temp_path {at};\n  \
             proxy_temp_path {at};\n  fastcgi_temp_path {at};\n  uwsgi_temp_path {at};\n  scgi_temp_path {at};\n  \
             server {{ listen 127.0.0.1:{port}; location / {{ return 200 \"ok\\n\"; }} }}\n  \
             server {{ listen 127.0.0.1:{h2_port} http2; location / {{ return 200 \"ok\\n\"; }}\n    \
             location /echo.Echo/ {{ default_type application/grpc; add_header grpc-status 0; return 200 \"\"; }} }}\n}}\n"
        );
        let path = folder.join("nginx.conf");
        fs::write(&path, config)?;
        let mut command = Command::new(nginx);
        command.arg("-c").arg(&path).arg("-p").arg(folder).args(["-e", "stderr"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let errors = child.stderr.take().context("no standard error")?;
        let mut nginx = Self { child, worker: 0, port, h2_port };
        let mut said = String::new();
        for line in BufReader::new(errors).lines() {
            let line = line?;
            // "start worker process 123", after the socket listens.
            if let Some(pid) =
                line.split_once("start worker process ").and_then(|(_, pid)| pid.trim().parse().ok())
            {
                nginx.worker = pid;
                break;
            }
            said.push_str(&line);
            said.push('\n');
        }
        if nginx.worker == 0 {
            bail!("nginx does not start:\n{said}");
        }
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("nginx does not listen")?;
        Ok(nginx)
    }

    /// Loads it for some seconds over some connections, from one thread.
    pub(super) fn load(&self, connections: u32, seconds: u32) -> Result<Load> {
        let before = cpu(self.worker)?;
        let text = process::output(&mut self.wrk(connections, seconds))?;
        let (requests, rate) = summary(&text).with_context(|| format!("wrk said:\n{text}"))?;
        Ok(Load { requests, rate, cpu: cpu(self.worker)? - before })
    }

    /// Its ports, as an option takes them.
    pub(super) fn ports(&self) -> String {
        format!("{},{}", self.port, self.h2_port)
    }

    /// Where a path is asked for over HTTP/2.
    pub(super) fn over_http2(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.h2_port)
    }

    /// The command that loads it.
    pub(super) fn wrk(&self, connections: u32, seconds: u32) -> Command {
        let mut command = Command::new("wrk");
        command.args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s")]);
        command.arg(format!("http://127.0.0.1:{}/hello", self.port));
        command
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if terminate(&mut self.child).is_err() {
            drop(self.child.kill());
        }
    }
}

/// `N requests in …` and `Requests/sec: N` of wrk's output; none if it counted errors.
fn summary(text: &str) -> Option<(f64, f64)> {
    if text.contains("Socket errors") || text.contains("Non-2xx") {
        return None;
    }
    let requests = text.lines().find_map(|line| line.trim().split_once(" requests in "))?.0.parse().ok()?;
    let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"))?.trim().parse().ok()?;
    Some((requests, rate))
}

/// A folder in memory for what a benchmark writes, removed when dropped.
pub(super) struct Scratch(pub(super) std::path::PathBuf);

impl Scratch {
    pub(super) fn new() -> Result<Self> {
        let path = Path::new("/dev/shm").join(format!("sonde-bench.{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// A new file in it.
    pub(super) fn file(&self, name: &str) -> Result<File> {
        Ok(File::create(self.0.join(name))?)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::summary;

    #[test]
    fn wrk_is_read() {
        let text =
            "Running 2s test\n  1 threads\n  48000 requests in 2.00s, 7.10MB read\nRequests/sec:  24000.50\n";
        assert_eq!(summary(text), Some((48000.0, 24000.5)));
        assert_eq!(summary("unable to connect"), None);
        assert_eq!(summary(&format!("{text}  Socket errors: connect 0, read 3\n")), None);
    }
}
