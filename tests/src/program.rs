//! The shipped program as a process of its own, so that its memory and CPU are its own.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};

/// Between two looks at the metrics.
pub const LOOK: Duration = Duration::from_millis(20);
/// Longer than every pause of the controller but the resync.
pub const QUIET: Duration = Duration::from_secs(5);
/// A run that takes longer has failed.
pub const DEADLINE: Duration = Duration::from_secs(300);

/// `PORTOLAN_BIN`, or the release build beside this benchmark.
pub fn release() -> PathBuf {
    if let Some(path) = std::env::var_os("PORTOLAN_BIN") {
        return path.into();
    }
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "-p", "controller"])
        .status()
        .unwrap();
    assert!(built.success(), "the controller does not build");
    // target/release/deps/services-0123456789abcdef
    let here = std::env::current_exe().unwrap();
    here.ancestors().nth(2).unwrap().join("portolan")
}

/// Ends with the run, however that ends.
#[derive(Debug)]
pub struct Process(Child);

impl From<Child> for Process {
    fn from(child: Child) -> Self {
        Self(child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone_already = self.0.kill();
        let _status = self.0.wait();
    }
}

impl Process {
    /// A figure of `/proc/PID/status` in KiB.
    pub fn memory(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// CPU seconds, user and system: fields 14 and 15 of `/proc/PID/stat`, in USER_HZ, which is 100.
    pub fn cpu(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let after = stat.rsplit_once(") ").unwrap().1;
        let ticks: u64 = after
            .split(' ')
            .skip(11)
            .take(2)
            .map(|n| n.parse::<u64>().unwrap())
            .sum();
        ticks as f64 / 100.0
    }

    /// Sends it a signal: `-STOP`, `-CONT`, ...
    pub fn signal(&self, signal: &str) {
        let pid = self.0.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status();
        assert!(sent.unwrap().success(), "{signal}");
    }

    /// Ends it as a Pod is ended, and waits for the end.
    pub async fn stop(mut self) {
        self.signal("-TERM");
        let begun = Instant::now();
        while self.0.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < DEADLINE, "it does not end");
            sleep(LOOK).await;
        }
    }
}

/// A controller that runs, with its admin port.
#[derive(Debug)]
pub struct Controller {
    /// Its process.
    pub process: Process,
    admin: SocketAddr,
    /// When it was started.
    pub begun: Instant,
}

impl Controller {
    /// Starts `portolan controller` with these arguments and an admin port; `name` is what its
    /// identity begins with. It says what `RUST_LOG` asks for, otherwise errors only.
    pub fn start(binary: &Path, kubeconfig: &str, name: &str, arguments: &[&str]) -> Self {
        // A port that is free now; nothing else on this machine asks for ports meanwhile.
        let free = std::net::TcpListener::bind(("127.0.0.1", 0))
            .unwrap()
            .local_addr()
            .unwrap();
        let begun = Instant::now();
        let child = Command::new(binary)
            .args(["controller", "--kubeconfig", kubeconfig])
            .args(arguments)
            .args(["--admin-address", &free.to_string()])
            .env("HOSTNAME", name)
            .env(
                "RUST_LOG",
                std::env::var("RUST_LOG").unwrap_or_else(|_| "error".to_owned()),
            )
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            process: Process(child),
            admin: free,
            begun,
        }
    }

    /// The body, if it answers 200.
    pub async fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.admin).await.ok()?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.ok()?;
        let (head, body) = reply.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
    }

    /// Requests that changed something or tried to, by kind and outcome.
    pub async fn writes(&self) -> BTreeMap<String, u64> {
        let page = self.get("/metrics").await.unwrap_or_default();
        let label = |line: &str, name: &str| {
            let (_, rest) = line.split_once(&format!("{name}=\"")).unwrap_or_default();
            rest.split('"').next().unwrap_or_default().to_owned()
        };
        page.lines()
            .filter(|line| line.starts_with("portolan_requests_total{"))
            .map(|line| {
                let count = line.rsplit(' ').next().unwrap().parse().unwrap();
                (label(line, "kind"), label(line, "outcome"), count)
            })
            .filter(|(kind, ..)| !kind.ends_with("Read"))
            .map(|(kind, outcome, count)| (format!("{kind}.{outcome}"), count))
            .collect()
    }

    /// Waits until it has written that many statuses of Services.
    pub async fn assigned(&self, services: usize) {
        loop {
            let writes = self.writes().await;
            let done = writes.get("ServiceStatus.Done").copied();
            if done.unwrap_or_default() >= services as u64 {
                return;
            }
            assert!(self.begun.elapsed() < DEADLINE, "not assigned: {writes:?}");
            sleep(LOOK).await;
        }
    }

    /// Waits until it has listed everything.
    pub async fn ready(&self) {
        while self.get("/readyz").await.is_none() {
            assert!(self.begun.elapsed() < DEADLINE, "never ready");
            sleep(LOOK).await;
        }
    }

    /// Waits until nothing is written any more.
    pub async fn quiet(&self) -> BTreeMap<String, u64> {
        let mut last = self.writes().await;
        let mut since = Instant::now();
        while since.elapsed() < QUIET {
            assert!(self.begun.elapsed() < DEADLINE, "no end: {last:?}");
            sleep(LOOK).await;
            let now = self.writes().await;
            if now != last {
                last = now;
                since = Instant::now();
            }
        }
        last
    }
}

/// Other work on the machine makes the seconds longer.
pub fn load() -> String {
    fs::read_to_string("/proc/loadavg")
        .unwrap()
        .trim()
        .to_owned()
}
