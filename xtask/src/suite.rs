//! The parts of `cargo xtask test`, in their order: what is quick to fail comes first, the tests
//! come last, so that their closing lines stand just above the summary.

use std::fmt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use k8s::{Binary, NotAvailable};

use crate::counts::Counts;
use crate::report::{Outcome, Report};
use crate::{generate, image, process, tools};

/// One part of the suite.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Part {
    /// The code is formatted.
    Fmt,
    /// No lint fires, in tests neither.
    Clippy,
    /// The documentation builds, private items included, without a broken link.
    Doc,
    /// Generated files are what the code says.
    Generated,
    /// Dependencies: bans, licences and sources.
    Deny,
    /// Dependencies: known vulnerabilities.
    Advisories,
    /// kubectl is there for the tests that use it.
    Kubectl,
    /// The programs of a real Kubernetes, built once.
    Kubernetes,
    /// An AWS for tests: moto, from PyPI.
    Moto,
    /// Debian's packages for nodes that run pods, and the image that they run.
    Lab,
    /// Every test, those on a real Kubernetes last.
    Test,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Clippy => "clippy",
            Self::Doc => "doc",
            Self::Generated => "generated",
            Self::Deny => "deny",
            Self::Advisories => "advisories",
            Self::Kubectl => "kubectl",
            Self::Kubernetes => "kubernetes",
            Self::Moto => "moto",
            Self::Lab => "lab",
            Self::Test => "test",
        }
    }
}

/// Runs all parts, or only those named, prints the table and answers with the exit code.
///
/// A part that fails does not keep the later ones from running.
///
/// # Errors
/// Never today; what goes wrong in a part is that part's failure.
pub(crate) fn run(root: &Path, only: &[Part]) -> anyhow::Result<ExitCode> {
    let parts: Vec<Part> = (Part::value_variants().iter().copied())
        .filter(|part| only.is_empty() || only.contains(part))
        .collect();
    let mut report = Report::default();
    let mut counts = Counts::default();
    for (number, part) in parts.iter().enumerate() {
        let name = part.name();
        println!("\n==== [{}/{}] {name} ====", number + 1, parts.len());
        let start = Instant::now();
        let outcome = outcome(*part, root, &mut counts)
            .unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
        report.add(name, outcome, start.elapsed());
    }
    if !counts.failures.is_empty() {
        // Once more, where it is found.
        println!("\n==== failed tests ====\n{}", counts.failures.join("\n"));
    }
    println!("\n==== summary ====");
    print!("{}", report.table());
    if !only.is_empty() {
        println!("\nPARTIAL RUN: only what --only names");
    }
    if parts.contains(&Part::Test) {
        println!("\n{counts}");
    }
    Ok(if report.clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn outcome(part: Part, root: &Path, counts: &mut Counts) -> anyhow::Result<Outcome> {
    match part {
        Part::Fmt => simple(&mut process::cargo(root, ["fmt", "--all", "--check"])),
        Part::Clippy => simple(&mut process::cargo(
            root,
            ["clippy", "--workspace", "--all-targets", "--locked"]
                .into_iter()
                .chain(["--", "-D", "warnings"]),
        )),
        Part::Doc => simple(
            process::cargo(
                root,
                ["doc", "--workspace", "--no-deps", "--locked"]
                    .into_iter()
                    .chain(["--document-private-items"]),
            )
            .env("RUSTDOCFLAGS", "-D warnings"),
        ),
        Part::Generated => generated(root),
        Part::Deny => {
            tools::cargo_deny(root)?;
            let check = ["deny", "--locked", "check", "bans", "licenses", "sources"];
            simple(&mut process::cargo(root, check))
        }
        Part::Advisories => advisories(root),
        Part::Kubectl => Ok(match tools::kubectl() {
            Some((_, version)) => Outcome::Passed(version),
            None => Outcome::NotRun("no kubectl: every test that uses it is left out".to_owned()),
        }),
        Part::Kubernetes => available(Binary::build().map(|_| String::new())),
        Part::Moto => {
            use moto::NotAvailable::{Python, Venv};
            let mut found = moto::available();
            if matches!(found, Err(Python(_) | Venv(_))) {
                tools::debian_packages(&["python3-venv"])?;
                found = moto::available();
            }
            Ok(match found {
                Ok(()) => Outcome::Passed(String::new()),
                Err(why) => Outcome::NotRun(why.to_string()),
            })
        }
        Part::Lab => {
            tools::debian_packages(&k8s::lab::missing_packages())?;
            if let Err(error) = k8s::lab::available() {
                return available(Err(error));
            }
            // runs: cargo xtask image --profile dev --no-build
            image::prepare(root, "dev")?;
            Ok(Outcome::Passed(String::new()))
        }
        Part::Test => tests(root, counts),
    }
}

/// What a machine cannot do is not run, and said so; anything else that goes wrong is a failure.
fn available(found: anyhow::Result<String>) -> anyhow::Result<Outcome> {
    match found {
        Ok(word) => Ok(Outcome::Passed(word)),
        Err(error) => match error.downcast_ref::<NotAvailable>() {
            Some(why) => Ok(Outcome::NotRun(why.to_string())),
            None => Err(error),
        },
    }
}

/// Packages whose ignored tests need moto, and those in a module [`KUBERNETES`] or `lab` a real
/// Kubernetes as well. Ignored tests of all others need a real Kubernetes.
const MOTO: [&str; 4] = ["aws-cloud", "aws-tests", "controller", "moto"];
/// How the modules of such tests begin.
const KUBERNETES: &str = "real::";

/// Tests before real parts at once: they wait for most of their time. What may not run beside others
/// sees to that itself.
const AT_ONCE: &str = "4";

/// A part that is one command: its exit status is the outcome.
fn simple(command: &mut Command) -> anyhow::Result<Outcome> {
    let status = process::run(command)?;
    Ok(if status.success() {
        Outcome::Passed(String::new())
    } else {
        Outcome::Failed(status.to_string())
    })
}

fn generated(root: &Path) -> anyhow::Result<Outcome> {
    // runs: cargo xtask generate
    let stale = generate::stale(root)?;
    Ok(if stale.is_empty() {
        Outcome::Passed(String::new())
    } else {
        let names: Vec<_> = (stale.iter())
            .map(|path| path.display().to_string())
            .collect();
        let names = names.join(", ");
        Outcome::Failed(format!("written anew, look and commit: {names}"))
    })
}

/// The advisory database is a git repository: without a network it cannot be had, and then nothing
/// is known about advisories, which is not the same as none.
fn advisories(root: &Path) -> anyhow::Result<Outcome> {
    tools::cargo_deny(root)?;
    let fetch = process::run(&mut process::cargo(root, ["deny", "fetch", "db"]))?;
    if !fetch.success() {
        let why = "the advisory database cannot be fetched here";
        return Ok(Outcome::NotRun(why.to_owned()));
    }
    let check = ["deny", "--locked", "check", "--disable-fetch", "advisories"];
    simple(&mut process::cargo(root, check))
}

/// Tests that need kubectl have `kubectl` in their path; without one they are left out by that
/// word, so that they count as skipped and not as passed. Tests that need a real Kubernetes or moto
/// are ignored at first; a second call runs those that can run here.
fn tests(root: &Path, counts: &mut Counts) -> anyhow::Result<Outcome> {
    let command = || process::cargo(root, ["test", "--locked", "--no-fail-fast"]);
    let mut took = Took::default();
    // What does not compile is told by the next call, too.
    let mut build = command();
    let _built = took.time("built", || {
        process::run(build.args(["--workspace", "--no-run"]))
    })?;
    let mut all = command();
    all.arg("--workspace");
    match tools::kubectl() {
        Some((path, _)) => all.env("PORTOLAN_KUBECTL", path),
        None => all.args(["--", "--skip", "kubectl"]),
    };
    let plain = took.time("plain", || process::tee(&mut all, |line| counts.see(line)))?;
    let mut ok = plain.success();
    let has = Has {
        kubernetes: Binary::cached().is_ok(),
        lab: k8s::lab::available().is_ok(),
        moto: moto::available().is_ok(),
    };
    if let Some(arguments) = ignored(has) {
        let mut again = Counts::default();
        let mut later = command();
        later.args(arguments).env("RUST_TEST_THREADS", AT_ONCE);
        let real = took.time("real", || process::tee(&mut later, |line| again.see(line)))?;
        ok &= real.success();
        counts.no_longer_ignored(again);
    }
    Ok(match (ok, counts.passed) {
        (true, 0) => Outcome::Failed("no test ran".to_owned()),
        (true, _) => Outcome::Passed(format!("{counts} ({took})")),
        (false, _) => Outcome::Failed(format!("{counts} ({took})")),
    })
}

/// How long parts of a part took.
#[derive(Debug, Default)]
struct Took(Vec<(&'static str, Duration)>);

impl Took {
    fn time<T>(&mut self, what: &'static str, run: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let outcome = run();
        self.0.push((what, start.elapsed()));
        outcome
    }
}

/// `built 120 s, plain 40 s, real 300 s`
impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (what, took)) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{what} {:.0} s", took.as_secs_f32())?;
        }
        Ok(())
    }
}

/// What a machine has for tests that are ignored at first.
#[derive(Clone, Copy, Debug)]
struct Has {
    /// The programs of a real Kubernetes.
    kubernetes: bool,
    /// What nodes need as well.
    lab: bool,
    moto: bool,
}

/// What `cargo test` is to be told; `None`: nothing of it can run. Where everything can, it is the
/// whole workspace, of which the first call has built all; a choice of packages has other features.
fn ignored(has: Has) -> Option<Vec<&'static str>> {
    let (mut arguments, mut skipped) = (vec![], vec![]);
    match (has.kubernetes, has.moto) {
        (false, false) => return None,
        (true, true) => arguments.push("--workspace"),
        (true, false) => {
            // runs: cargo test --package cluster -- --ignored
            arguments.push("--workspace");
            arguments.extend(MOTO.iter().flat_map(|package| ["--exclude", package]));
        }
        (false, true) => {
            // runs: cargo test --package aws-tests -- --ignored --skip real:: --skip lab::
            arguments.extend(MOTO.iter().flat_map(|package| ["--package", package]));
            skipped.push(KUBERNETES);
        }
    }
    if !(has.kubernetes && has.lab) {
        skipped.extend(["lab::", "lab_"]); // "available" is another word
    }
    arguments.extend(["--", "--ignored"]);
    arguments.extend(skipped.iter().flat_map(|word| ["--skip", word]));
    Some(arguments)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Has, Took, ignored};

    #[test]
    fn parts_of_a_part_are_told_with_their_time() {
        let seconds = |part, seconds| (part, Duration::from_secs(seconds));
        let took = Took(vec![seconds("built", 120), seconds("plain", 4)]);
        assert_eq!(took.to_string(), "built 120 s, plain 4 s");
    }

    #[test]
    fn what_a_machine_lacks_is_left_out() {
        let told = |kubernetes, lab, moto| {
            let has = Has {
                kubernetes,
                lab,
                moto,
            };
            ignored(has).unwrap_or_default().join(" ")
        };
        assert_eq!(told(false, true, false), "");
        assert_eq!(told(true, true, true), "--workspace -- --ignored");
        assert_eq!(
            told(true, false, true),
            "--workspace -- --ignored --skip lab:: --skip lab_"
        );
        assert_eq!(
            told(true, true, false),
            "--workspace --exclude aws-cloud --exclude aws-tests --exclude controller --exclude moto \
             -- --ignored"
        );
        assert_eq!(
            told(false, true, true),
            "--package aws-cloud --package aws-tests --package controller --package moto \
             -- --ignored --skip real:: --skip lab:: --skip lab_"
        );
    }
}
