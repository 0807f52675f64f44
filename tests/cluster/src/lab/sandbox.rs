//! Namespaces in which a whole cluster of machines lives: its own process ids, mounts, cgroups and
//! named networks. When its first process dies the kernel ends every other one and forgets mounts
//! and networks, so nothing has to be found and cleaned up, however we end.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::keeper::{CGROUPS, Keeper};

/// Name of the sandbox among the kept processes.
const NAME: &str = "sandbox";
/// How long the kernel may take to make it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Joins a cgroup of its own in each hierarchy ($2 and on) and becomes the parent of the namespaces.
const ENTER: &str = r#"set -eu
folder=$1; shift
for cgroup in "$@"; do
    mkdir "$cgroup"
    parent=${cgroup%/*}
    for file in cpuset.cpus cpuset.mems; do
        [ ! -e "$cgroup/$file" ] || cat "$parent/$file" > "$cgroup/$file"
    done
    echo $$ > "$cgroup/cgroup.procs"
done
exec unshare --pid --fork --kill-child --mount --propagation private --cgroup -- \
    sh -c "$INIT" init "$folder""#;

/// The first process: shows the namespaces in /proc, /sys/fs/cgroup and /run, then buries orphans.
const INIT: &str = r#"set -eu
mount -t proc proc /proc
for hierarchy in /sys/fs/cgroup/*; do
    type=$(stat -f -c %T "$hierarchy")
    name=${hierarchy##*/}
    umount "$hierarchy"
    case $type:$name in
        cgroup2fs:*) mount -t cgroup2 cgroup2 "$hierarchy" ;;
        *:systemd) mount -t cgroup -o none,name=systemd systemd "$hierarchy" ;;
        *) mount -t cgroup -o "$name" "$name" "$hierarchy" ;;
    esac
done
mount -t tmpfs tmpfs /run
mkdir /run/netns
mount --make-rshared /
touch "$1/sandbox.ready"
while :; do sleep 3600 & wait $!; done"#;

/// The namespaces.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// The first process in it, as we see it.
    init: u32,
}

impl Sandbox {
    /// Makes one that ends with the keeper.
    ///
    /// # Errors
    /// When the kernel refuses; the reason is in `sandbox.log`.
    pub(crate) fn start(keeper: &mut Keeper) -> Result<Self> {
        let folder = keeper.folder().to_owned();
        let name = folder.file_name().context("a folder without a name")?;
        let cgroups = own_cgroups()?
            .into_iter()
            .map(|cgroup| cgroup.join(name))
            .collect::<Vec<_>>();
        let lines: Vec<_> = cgroups.iter().map(|c| c.display().to_string()).collect();
        fs::write(folder.join(CGROUPS), lines.join("\n") + "\n")?;
        let mut enter = Command::new("sh");
        enter
            .args(["-c", ENTER, "enter"])
            .arg(&folder)
            .args(&cgroups)
            .env("INIT", INIT);
        keeper.start(NAME, enter)?;
        let parent = keeper.pid(NAME).context("the sandbox has no process")?;
        let start = Instant::now();
        while !folder.join("sandbox.ready").exists() {
            if keeper.ended().is_some() || start.elapsed() > PATIENCE {
                let log = fs::read_to_string(folder.join("sandbox.log"))?;
                bail!("no namespaces for the lab: {log}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Self {
            init: child_of(parent)?,
        })
    }

    /// The one with this first process.
    #[must_use]
    pub fn of(init: u32) -> Self {
        Self { init }
    }

    /// Its first process.
    #[must_use]
    pub fn init(&self) -> u32 {
        self.init
    }

    /// A program in the sandbox and one of its networks. It ends when the child that this command
    /// starts is killed; what it leaves running itself ends with the sandbox.
    #[must_use]
    pub fn command(&self, network: &str, program: &str) -> Command {
        let mut command = self.enter();
        command
            .arg(format!("--net={}", self.network(network).display()))
            .args(["--", "setpriv", "--pdeathsig", "KILL", "--", program]);
        command
    }

    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        for (namespace, file) in [("mount", "mnt"), ("cgroup", "cgroup"), ("pid", "pid")] {
            command.arg(format!("--{namespace}=/proc/{}/ns/{file}", self.init));
        }
        command
    }

    /// Where the kernel shows this network to a process outside.
    pub(crate) fn network(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/run/netns/{name}", self.init))
    }

    /// Runs a shell script that stops at its first error, in the sandbox's mounts and our network.
    pub(crate) fn script(&self, text: &str) -> Result<()> {
        let output = self.enter().args(["--", "sh", "-euxc", text]).output()?;
        let told = String::from_utf8_lossy(&output.stderr);
        let last: Vec<_> = told.lines().rev().take(3).collect();
        ensure!(output.status.success(), "{}: {last:?}", output.status);
        Ok(())
    }
}

/// The only child of a process.
pub(crate) fn child_of(pid: u32) -> Result<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    (children.trim().parse()).with_context(|| format!("children of {pid}: {children:?}"))
}

/// Our cgroup in every hierarchy of version 1; the lab's own lie below, so that limits set for us
/// hold for it too.
fn own_cgroups() -> Result<Vec<PathBuf>> {
    let text = fs::read_to_string("/proc/self/cgroup")?;
    let mut cgroups = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            bail!("/proc/self/cgroup: {line:?}");
        };
        let folder = match controllers {
            "" => "unified",
            named => named.trim_start_matches("name="),
        };
        let hierarchy = Path::new("/sys/fs/cgroup").join(folder);
        if hierarchy.is_dir() {
            cgroups.push(hierarchy.join(path.trim_start_matches('/')));
        }
    }
    Ok(cgroups)
}
