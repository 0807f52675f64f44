//! `cargo xtask cluster`: a control plane, or a lab with nodes, for a person. It lives in a process
//! of its own until `down`; what it consists of lies in `.portolan/cluster`.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Parser, Subcommand};
use cluster::{Binary, ControlPlane, Lab, LabOptions, Options, lab::Sandbox};
use tokio::signal::unix::{SignalKind, signal};

/// How often `up` and `down` look whether it is done.
const PAUSE: Duration = Duration::from_millis(100);

/// A real Kubernetes on this machine.
#[derive(Parser)]
#[command(name = "cargo xtask cluster", disable_version_flag = true)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Builds the program that is every part of Kubernetes, unless the cache has it.
    Build,
    /// Starts a control plane in the background, without nodes or with some.
    Up {
        /// How many nodes that run pods; with any, a client host outside, too.
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=9))]
        nodes: u8,
    },
    /// Ends it; nothing remains of it.
    Down,
    /// The real kubectl, on that control plane.
    Kubectl {
        /// What kubectl is told.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// A program on a host of the lab: `client` outside the cluster, `node1`, ...
    On {
        /// Which host.
        host: String,
        /// The program and what it is told.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// The control plane in the foreground, until interrupted.
    #[command(hide = true)]
    Serve {
        /// As in `up`.
        #[arg(default_value_t = 0)]
        nodes: u8,
    },
}

fn main() -> Result<ExitCode> {
    let home = Home::new()?;
    match Cli::parse().command {
        Task::Build => println!("{}", Binary::build()?.path().display()),
        Task::Up { nodes } => home.up(nodes)?,
        Task::Down => home.down()?,
        Task::Kubectl { arguments } => return home.kubectl(&arguments),
        Task::On { host, command } => return home.on(&host, &command),
        Task::Serve { nodes } => serve(&home, nodes)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// `.portolan/cluster` in the repository.
struct Home(PathBuf);

impl Home {
    /// Elsewhere for a test, which must not meet the one of a person.
    fn new() -> Result<Self> {
        if let Some(home) = std::env::var_os("PORTOLAN_CLUSTER_HOME") {
            return Ok(Self(home.into()));
        }
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = package
            .ancestors()
            .nth(2)
            .context("not in the repository")?;
        Ok(Self(root.join(".portolan/cluster")))
    }

    fn kubeconfig(&self) -> PathBuf {
        self.0.join("kubeconfig")
    }

    /// The process that serves; none when the one that wrote the file is gone.
    fn server(&self) -> Option<u32> {
        let pid: u32 = fs::read_to_string(self.0.join("pid"))
            .ok()?
            .trim()
            .parse()
            .ok()?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        // The number may have gone to another program.
        let mut words = command.split(|byte| *byte == 0).skip(1);
        words.any(|word| word == b"serve").then_some(pid)
    }

    fn up(&self, nodes: u8) -> Result<()> {
        ensure!(
            self.server().is_none(),
            "it runs already; `cargo xtask cluster down` ends it"
        );
        if nodes > 0 {
            k8s::lab::available()?;
        }
        Binary::build()?; // here, where its progress can be seen
        fs::create_dir_all(&self.0)?;
        let _ = fs::remove_file(self.kubeconfig());
        let log = fs::File::create(self.0.join("log"))?;
        let mut server = Command::new(std::env::current_exe()?)
            .args(["serve", &nodes.to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0) // Ctrl-C in this terminal is not for it
            .spawn()?;
        fs::write(self.0.join("pid"), server.id().to_string())?;
        while !self.kubeconfig().exists() {
            if let Some(status) = server.try_wait()? {
                let log = fs::read_to_string(self.0.join("log"))?;
                bail!("the control plane ended ({status}):\n{log}");
            }
            std::thread::sleep(PAUSE);
        }
        println!("Kubernetes {} is up, nodes: {nodes}", cluster::VERSION);
        if nodes > 0 {
            println!("  cargo xtask cluster on client curl http://...");
        }
        println!("  cargo xtask cluster kubectl get services -A");
        println!("  export KUBECONFIG={}", self.kubeconfig().display());
        println!("  cargo xtask cluster down");
        Ok(())
    }

    fn down(&self) -> Result<()> {
        if let Some(pid) = self.server() {
            let status = Command::new("kill").arg(pid.to_string()).status()?;
            ensure!(status.success(), "cannot end process {pid}: {status}");
            while self.server().is_some() {
                std::thread::sleep(PAUSE);
            }
        } else {
            println!("nothing runs");
        }
        if self.0.exists() {
            fs::remove_dir_all(&self.0)?;
        }
        Ok(())
    }

    fn kubectl(&self, arguments: &[String]) -> Result<ExitCode> {
        ensure!(
            self.server().is_some(),
            "nothing runs; `cargo xtask cluster up` starts it"
        );
        let status = Command::new(Binary::cached()?.path())
            .args(["kubectl", "--cache-dir"])
            .arg(self.0.join("kubectl"))
            .args(arguments)
            .env("KUBECONFIG", self.kubeconfig())
            .status()?;
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
    }

    /// The lab's first process says where the hosts are.
    fn on(&self, host: &str, command: &[String]) -> Result<ExitCode> {
        ensure!(
            self.server().is_some(),
            "nothing runs; `cargo xtask cluster up --nodes 2` starts a lab"
        );
        let sandbox = fs::read_to_string(self.0.join("sandbox"))
            .context("it has no hosts; `cargo xtask cluster up --nodes 2` starts a lab")?;
        let (program, arguments) = command.split_first().context("no program")?;
        let status = Sandbox::of(sandbox.trim().parse()?)
            .command(host, program)
            .args(arguments)
            .status()?;
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
    }
}

/// What runs until the end.
enum Up {
    Plane(ControlPlane),
    Lab(Lab),
}

impl Up {
    async fn start(nodes: u8) -> Result<Self> {
        if nodes == 0 {
            let options = Options {
                controller_manager: true,
            };
            return Ok(Self::Plane(ControlPlane::start_with(options).await?));
        }
        let options = LabOptions {
            nodes,
            ..LabOptions::default()
        };
        Ok(Self::Lab(Lab::start(options).await?))
    }
}

#[tokio::main]
async fn serve(home: &Home, nodes: u8) -> Result<()> {
    let mut end = signal(SignalKind::terminate())?;
    fs::create_dir_all(&home.0)?;
    let up = tokio::select! {
        up = Up::start(nodes) => up?,
        _ = end.recv() => return Ok(()),
    };
    let plane = match &up {
        Up::Plane(plane) => plane,
        Up::Lab(lab) => {
            fs::write(home.0.join("sandbox"), lab.sandbox().init().to_string())?;
            lab.plane()
        }
    };
    // Complete before it can be seen: `up` waits for the name.
    let unfinished = home.0.join("kubeconfig.unfinished");
    fs::copy(plane.kubeconfig(), &unfinished)?;
    fs::rename(&unfinished, home.kubeconfig())?;
    tokio::select! {
        _ = end.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(())
}
