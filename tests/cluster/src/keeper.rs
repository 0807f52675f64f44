//! Processes and folders that must not outlive us, however we end: a test that fails drops them,
//! but Ctrl-C and kill -9 run no destructor. So a shell in a process group of its own reads from a
//! pipe that only we hold open; when the pipe closes it kills what it was told of.

use std::{
    fmt::Write as _,
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

/// In the folder: the cgroups to remove at the end, one per line, if any were made.
pub(crate) const CGROUPS: &str = "cgroups";

/// Every line read is the list of processes that live now, as they can be no other's: a process
/// that we have waited for is no longer in it. A process that dies leaves its cgroup and lets go of
/// the folder a moment later: hence the few tries.
const SCRIPT: &str = r#"trap '' INT TERM HUP
pids=
while read -r line; do pids=$line; done
for pid in $pids; do kill -9 "$pid" 2>/dev/null; done
if [ -e "$1/cgroups" ]; then
    while read -r cgroup; do
        for try in 1 2 3 4 5 6 7 8 9 10; do
            [ -d "$cgroup" ] || break
            find "$cgroup" -depth -type d -exec rmdir {} + && break
            sleep 0.2
        done
    done < "$1/cgroups"
fi
for try in 1 2 3 4 5; do
    rm -rf "$1" && break
    sleep 0.5
done"#;

/// A temporary folder and the processes that work in it. Dropping it ends both.
#[derive(Debug)]
pub(crate) struct Keeper {
    folder: TempDir,
    children: Vec<(String, Child)>,
    shell: Child,
    /// Closing it is what the shell waits for.
    pipe: Option<ChildStdin>,
}

impl Keeper {
    pub(crate) fn new() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("portolan-cluster-")
            .tempdir()?;
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "keeper"])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0) // or Ctrl-C would end it together with us
            .spawn()
            .context("cannot start sh")?;
        let pipe = shell.stdin.take();
        Ok(Self {
            folder,
            children: Vec::new(),
            shell,
            pipe,
        })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts it with its output in `NAME.log`; stops the one of that name that runs.
    pub(crate) fn start(&mut self, name: &str, mut command: Command) -> Result<()> {
        self.stop(name)?;
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder().join(format!("{name}.log")))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        self.children.push((name.to_owned(), child));
        self.tell()
    }

    /// Kills it (SIGKILL) and waits for its end.
    pub(crate) fn stop(&mut self, name: &str) -> Result<()> {
        for (_, child) in self.children.iter_mut().filter(|(known, _)| known == name) {
            child.kill()?;
            child.wait()?;
        }
        self.children.retain(|(known, _)| known != name);
        self.tell()
    }

    /// The first child that has ended by itself.
    pub(crate) fn ended(&mut self) -> Option<&str> {
        (self.children.iter_mut())
            .find_map(|(name, child)| child.try_wait().ok()?.map(|_| name.as_str()))
    }

    /// The process id of that child.
    pub(crate) fn pid(&self, name: &str) -> Option<u32> {
        let (_, child) = self.children.iter().find(|(known, _)| known == name)?;
        Some(child.id())
    }

    fn tell(&mut self) -> Result<()> {
        let mut line = String::new();
        for (_, child) in &self.children {
            write!(line, "{} ", child.id())?;
        }
        if let Some(pipe) = &mut self.pipe {
            writeln!(pipe, "{line}")?;
        }
        Ok(())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        for (_, child) in &mut self.children {
            let _ = child.kill();
        }
        for (_, child) in &mut self.children {
            let _ = child.wait();
        }
        self.children.clear();
        let _ = self.tell();
        self.pipe = None;
        let _ = self.shell.wait(); // it removes the folder
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;

    fn sleeping() -> Keeper {
        let mut keeper = Keeper::new().unwrap();
        let mut sleep = Command::new("sleep");
        sleep.arg("600");
        keeper.start("sleep", sleep).unwrap();
        keeper
    }

    #[test]
    fn when_we_are_gone_the_shell_kills_the_children_and_removes_the_folder() {
        let mut keeper = sleeping();
        keeper.pipe = None; // as the kernel does when we end, however we end
        assert!(keeper.shell.wait().unwrap().success());
        let (_, child) = keeper.children.first_mut().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        assert!(!keeper.folder().exists());
    }

    #[test]
    fn a_drop_leaves_neither_process_nor_folder() {
        let keeper = sleeping();
        let folder = keeper.folder().to_owned();
        let processes = [keeper.pid("sleep").unwrap(), keeper.shell.id()];
        drop(keeper);
        assert!(!folder.exists());
        for pid in processes {
            assert!(!Path::new(&format!("/proc/{pid}")).exists());
        }
    }

    #[test]
    fn a_child_that_is_stopped_is_forgotten_and_may_be_started_again() {
        let mut keeper = sleeping();
        keeper.stop("sleep").unwrap();
        assert_eq!(keeper.pid("sleep"), None);
        keeper.start("sleep", Command::new("true")).unwrap();
        assert!(keeper.pid("sleep").is_some());
    }
}
