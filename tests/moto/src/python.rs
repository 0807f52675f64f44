//! The Python program: where its packages lie, and its life.

use std::ffi::OsStr;
use std::hash::Hasher;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

const REQUIREMENTS: &str = include_str!("../requirements.txt");

/// Why there is no AWS on this machine. A test that gets this says so and has not run.
#[derive(Debug, thiserror::Error)]
pub enum NotAvailable {
    /// No Python 3.
    #[error("NOT AVAILABLE: moto needs python3 on the path: {0}")]
    Python(io::Error),
    /// Python without its module `venv`, or no place to write to.
    #[error("NOT AVAILABLE: python3 -m venv fails (Debian: apt-get install python3-venv): {0}")]
    Venv(String),
    /// No PyPI, or not these packages.
    #[error("NOT AVAILABLE: pip cannot install tests/moto/requirements.txt: {0}")]
    Packages(String),
    /// No folder for the packages.
    #[error("NOT AVAILABLE: the cache {path}: {source}")]
    Cache {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Python ended before it listened; its own words are on stderr.
    #[error("NOT AVAILABLE: portolan_moto does not start: {0}")]
    Start(String),
    /// No port for the proxy.
    #[error("NOT AVAILABLE: the proxy cannot listen on loopback: {0}")]
    Loopback(io::Error),
}

/// A running moto. Dropping it closes its stdin and kills it.
#[derive(Debug)]
pub(crate) struct Moto {
    pub(crate) port: u16,
    pub(crate) python: PathBuf,
    _child: Child,
}

impl Moto {
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Result<Self, NotAvailable> {
        let base = tokio::task::spawn_blocking(installed);
        let base = base
            .await
            .map_err(|error| NotAvailable::Start(error.to_string()))??;
        let python = base.join("bin/python");
        let mut child = Command::new(&python)
            .args(["-m", "portolan_moto", "0"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .envs((settings.iter()).map(|(name, value)| (format!("PORTOLAN_MOTO_{name}"), value)))
            .stdin(Stdio::piped()) // closed when we are gone, however we went: it ends then
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| NotAvailable::Start(error.to_string()))?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            let read = BufReader::new(stdout).read_line(&mut line).await;
            read.map_err(|error| NotAvailable::Start(error.to_string()))?;
        }
        let said: Option<serde_json::Value> = serde_json::from_str(&line).ok();
        let port = said.and_then(|said| u16::try_from(said.get("port")?.as_u64()?).ok());
        let port = port.ok_or_else(|| NotAvailable::Start(format!("it says {line:?}")))?;
        Ok(Self {
            port,
            python,
            _child: child,
        })
    }
}

/// The virtual environment; made if it is not there.
pub(crate) fn installed() -> Result<PathBuf, NotAvailable> {
    packages(OsStr::new("python3"), &cache()?, REQUIREMENTS)
}

fn cache() -> Result<PathBuf, NotAvailable> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute()) // the XDG specification: a relative one is invalid
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
    let base = base.ok_or_else(|| NotAvailable::Cache {
        path: PathBuf::from("~/.cache"),
        source: io::Error::new(io::ErrorKind::NotFound, "neither XDG_CACHE_HOME nor HOME"),
    })?;
    Ok(base.join("portolan"))
}

/// The virtual environment with `requirements`, built once for each content and Python; who builds
/// it holds a lock, and only a whole one gets the name.
fn packages(python: &OsStr, cache: &Path, requirements: &str) -> Result<PathBuf, NotAvailable> {
    let version = run(python, &["--version"]).map_err(NotAvailable::Python)?;
    // FNV-1a would do as well: it must only be the same tomorrow.
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    hash.write(requirements.as_bytes());
    hash.write(&version.stdout);
    let base = cache.join(format!("moto-{:016x}", hash.finish()));
    if base.exists() {
        return Ok(base);
    }
    let fails = |path: &Path| {
        let path = path.to_owned();
        move |source| NotAvailable::Cache { path, source }
    };
    std::fs::create_dir_all(cache).map_err(fails(cache))?;
    let lock = base.with_extension("lock");
    let lock_file = std::fs::File::create(&lock).map_err(fails(&lock))?;
    lock_file.lock().map_err(fails(&lock))?;
    if base.exists() {
        return Ok(base);
    }
    let draft = tempfile::Builder::new().prefix("moto-").tempdir_in(cache);
    let draft = draft.map_err(fails(cache))?;
    let list = draft.path().join("requirements.txt");
    std::fs::write(&list, requirements).map_err(fails(&list))?;
    let venv = [
        OsStr::new("-m"),
        OsStr::new("venv"),
        draft.path().as_os_str(),
    ];
    ok(run(python, &venv)).map_err(NotAvailable::Venv)?;
    let quiet = "-m pip install --quiet --no-input --disable-pip-version-check --no-deps -r";
    let mut install: Vec<&OsStr> = quiet.split(' ').map(OsStr::new).collect();
    install.push(list.as_os_str());
    let inside = draft.path().join("bin/python");
    ok(run(inside.as_os_str(), &install)).map_err(NotAvailable::Packages)?;
    std::fs::rename(draft.path(), &base).map_err(fails(&base))?;
    let _moved = draft.keep();
    Ok(base)
}

fn run(program: &OsStr, arguments: &[impl AsRef<OsStr>]) -> io::Result<Output> {
    std::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
}

fn ok(output: io::Result<Output>) -> Result<(), String> {
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(String::from_utf8_lossy(&said).trim().to_owned())
}

/// FNV-1a, because std's hashers may change with its version.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_python_is_told_so() {
        let cache = tempfile::tempdir().unwrap();
        let said = packages(OsStr::new("/nonexistent/python3"), cache.path(), "").unwrap_err();
        assert!(matches!(said, NotAvailable::Python(_)), "{said}");
    }

    #[test]
    fn a_python_without_venv_is_told_so() {
        let cache = tempfile::tempdir().unwrap();
        let said = packages(OsStr::new("false"), cache.path(), "").unwrap_err();
        assert!(matches!(said, NotAvailable::Venv(_)), "{said}");
    }

    #[test]
    #[ignore = "moto: needs Python and PyPI"]
    fn packages_that_cannot_be_had_are_told_and_leave_nothing_behind() {
        let cache = tempfile::tempdir().unwrap();
        let wanted = "--no-index\nportolan-knows-no-such-package==1\n";
        let said = packages(OsStr::new("python3"), cache.path(), wanted).unwrap_err();
        assert!(matches!(said, NotAvailable::Packages(_)), "{said}");
        let left = std::fs::read_dir(cache.path()).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert!(
            left.iter()
                .all(|name| Path::new(name).extension() == Some(OsStr::new("lock")))
        );
    }
}
