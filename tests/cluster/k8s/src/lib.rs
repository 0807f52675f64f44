//! The one program that is every part of Kubernetes and helm, and the one that runs in test pods:
//! found in the cache or built with Go, once for every content of this folder's Go files. A cold build takes several
//! minutes, a later one is not needed.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Command, Stdio},
};

pub mod lab;

use anyhow::{Context as _, Result, ensure};

/// The version of Kubernetes in `go.mod`; a test holds the two together.
pub const VERSION: &str = "v1.37.2";

/// Why there is no Kubernetes here. Suites print it as NOT RUN; anything else is a failure.
#[derive(Debug)]
pub struct NotAvailable(String);

impl NotAvailable {
    /// With a reason that says what to do.
    #[must_use]
    pub fn new(why: &str) -> Self {
        Self(why.to_owned())
    }
}

impl std::fmt::Display for NotAvailable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotAvailable {}

/// The folder of the built programs.
#[derive(Clone, Debug)]
pub struct Binary(PathBuf);

impl Binary {
    /// The programs in the cache.
    ///
    /// # Errors
    /// [`NotAvailable`] when they have not been built; the cache folder or our Go files cannot be read.
    pub fn cached() -> Result<Self> {
        let path = place()?;
        if path.is_dir() {
            return Ok(Self(path));
        }
        Err(NotAvailable(format!(
            "{} does not exist; `cargo xtask cluster build` builds it",
            path.display()
        ))
        .into())
    }

    /// The programs in the cache, built first when they are not there. Blocks; two who ask at the same
    /// time build once.
    ///
    /// # Errors
    /// [`NotAvailable`] without Go; otherwise when the build fails.
    pub fn build() -> Result<Self> {
        let path = place()?;
        if path.is_dir() {
            return Ok(Self(path));
        }
        let go = Command::new("go")
            .arg("version")
            .stdin(Stdio::null())
            .output();
        if !go.is_ok_and(|output| output.status.success()) {
            return Err(
                NotAvailable("Go is not installed: https://go.dev/doc/install".into()).into(),
            );
        }
        let folder = path.parent().context("the cache is no folder")?;
        fs::create_dir_all(folder)?;
        let lock = File::create(folder.join("lock"))?;
        lock.lock()?;
        if path.is_dir() {
            return Ok(Self(path)); // another process has just built it
        }
        eprintln!(
            "building Kubernetes {VERSION} into {} (5 to 10 minutes on two cores, once)",
            path.display()
        );
        // Never a half-written program under the name that `cached` looks for.
        let unfinished = folder.join("unfinished");
        fs::create_dir_all(&unfinished)?;
        let mut go = Command::new("go");
        go.current_dir(source())
            .env("CGO_ENABLED", "0")
            .args(["build", "-mod=readonly", "-trimpath", "-ldflags"])
            .arg(stamps())
            .arg("-o")
            .arg(&unfinished)
            .args([".", "./agnhost"])
            .stdin(Stdio::null());
        // Hundreds of modules are fetched, each once; what has come and what is built stays.
        let mut status = go.status()?;
        for _ in 0..2 {
            if !status.success() {
                eprintln!("`go build`: {status}; again");
                status = go.status()?;
            }
        }
        ensure!(
            status.success(),
            "`go build` in tests/cluster/k8s: {status}"
        );
        fs::rename(&unfinished, &path)?;
        Ok(Self(path))
    }

    /// Every part of Kubernetes, by its first argument.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.0.join("k8s")
    }

    /// What runs in test pods: Kubernetes' own test image, as one static program.
    #[must_use]
    pub fn agnhost(&self) -> PathBuf {
        self.0.join("agnhost")
    }

    /// One of its parts: `etcd`, `kube-apiserver`, `kubectl`, `helm`, ...
    #[must_use]
    pub fn part(&self, name: &str) -> Command {
        let mut command = Command::new(self.path());
        command.arg(name).stdin(Stdio::null());
        command
    }
}

fn source() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// kubectl refuses to work without a version; the API server tells its own to every client.
fn stamps() -> String {
    let mut numbers = VERSION.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or(""), numbers.next().unwrap_or(""));
    let mut flags = String::from("-s -w");
    for package in ["component-base", "client-go/pkg"] {
        let at = format!("k8s.io/{package}/version");
        flags += &format!(
            " -X {at}.gitVersion={VERSION} -X {at}.gitMajor={major} -X {at}.gitMinor={minor}"
        );
    }
    flags
}

/// `$XDG_CACHE_HOME/portolan/k8s-HASH/bin`, the hash over what it is built from.
fn place() -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute()) // the XDG specification: a relative one is invalid
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set")?;
    let mut hash = Fnv::default();
    for name in ["go.mod", "go.sum", "main.go", "agnhost/main.go"] {
        let path = source().join(name);
        hash.add(&fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    hash.add(stamps().as_bytes());
    Ok(cache
        .join("portolan")
        .join(format!("k8s-{:016x}", hash.0))
        .join("bin"))
}

/// FNV-1a, 64 bits: the same on every machine and in every version, unlike std's hashers.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stamped_version_is_the_one_that_go_builds() {
        let module = fs::read_to_string(source().join("go.mod")).unwrap();
        assert!(module.contains(&format!("\tk8s.io/kubernetes {VERSION}\n")));
    }

    #[test]
    fn the_hash_is_fnv_1a() {
        let mut hash = Fnv::default();
        hash.add(b"foobar"); // from the authors' test vectors
        assert_eq!(hash.0, 0x8594_4171_f739_67e8);
    }
}
