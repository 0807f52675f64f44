//! What a client on the wire sees: who answers for an address, asked every few milliseconds.

#![allow(dead_code, reason = "the suite and the benchmark use their own parts")]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

/// How often each address is asked for. Hundreds at once are asked for less often.
pub(crate) const EVERY: Duration = Duration::from_millis(10);
/// From which addresses, the first of each family and how many: nobody has them, and none is used
/// twice within 600 ms, so that every answer tells which question it answers.
const SOURCES: [&str; 2] = ["10.200.0.192", "fd00:200::c0"];
const SOURCES_EACH: &str = "62";
/// A question that has no answer for so long has none, says the prober.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);

/// Two questions and what is in between, in milliseconds.
const CLOSE: f64 = 25.0;

/// Milliseconds since 1970: all of the lab has one clock.
pub(crate) fn now() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_secs_f64() * 1e3
}

/// A prober that runs.
pub(crate) struct Watch {
    child: Child,
    lines: JoinHandle<Vec<Value>>,
    stalls: Stalls,
}

/// Sleeps for a moment again and again: whoever is woken so much too late had no processor, nor had
/// the speakers, and what is measured then is this machine.
struct Stalls {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Stalls {
    const MOMENT: Duration = Duration::from_millis(5);
    /// On two busy processors it is woken within a few milliseconds.
    const LATE: Duration = Duration::from_millis(25);

    fn start() -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            let mut all = Duration::ZERO;
            while !until.load(Ordering::Relaxed) {
                let began = Instant::now();
                std::thread::sleep(Self::MOMENT);
                let late = began.elapsed().saturating_sub(Self::MOMENT);
                if late > Self::LATE {
                    all += late;
                }
            }
            all
        });
        Self { ended, thread }
    }

    /// In milliseconds.
    fn end(self) -> f64 {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().unwrap().as_secs_f64() * 1e3
    }
}

/// Somebody said that it has an address.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// As [`now`].
    pub(crate) at: f64,
    pub(crate) ip: String,
    pub(crate) mac: String,
    /// Not asked for.
    pub(crate) announcement: bool,
}

/// A question.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    /// As [`now`].
    pub(crate) at: f64,
    /// How long the first answer took, in milliseconds; `None`: there never was one.
    pub(crate) answered_after: Option<f64>,
}

/// All that a prober saw.
pub(crate) struct Record {
    pub(crate) seen: Vec<Seen>,
    /// For how many milliseconds this machine stood still meanwhile; none of them is the speakers'.
    pub(crate) stalled: f64,
    questions: BTreeMap<String, Vec<Question>>,
}

impl Watch {
    /// `prober` runs the program on the host that looks on.
    pub(crate) fn start(mut prober: Command, every: Duration, addresses: &[String]) -> Self {
        let mut child = prober
            .args(["--interface", "eth0", "--seconds", "600"])
            .arg("--every-ms")
            .arg(every.as_millis().to_string())
            .args(SOURCES.iter().flat_map(|first| ["--source", first]))
            .args(["--sources", SOURCES_EACH])
            .args(addresses)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let (ready, started) = mpsc::channel();
        let lines = std::thread::spawn(move || {
            let mut lines = Vec::new();
            for line in output.by_ref() {
                lines.push(serde_json::from_str(&line.unwrap()).unwrap());
                let _nobody_waits_any_more = ready.send(());
            }
            lines
        });
        started.recv().expect("the prober says that it runs");
        Self {
            child,
            lines,
            stalls: Stalls::start(),
        }
    }

    /// Ends it; what it saw.
    pub(crate) fn end(mut self) -> Record {
        let mut stdin = self.child.stdin.take().unwrap();
        stdin.write_all(b"end\n").unwrap();
        drop(stdin);
        assert!(self.child.wait().unwrap().success());
        let stalled = self.stalls.end();
        if stalled > 0.0 {
            println!("this machine stood still for {stalled:.0} ms");
        }
        let lines = self.lines.join().unwrap();
        let start = lines[0]["start_unix_ms"].as_f64().unwrap();
        let seen = lines
            .iter()
            .filter(|line| line["mac"].is_string() && line["kind"].is_string());
        let seen = seen.map(|line| Seen {
            at: start + line["t_ms"].as_f64().unwrap(),
            ip: line["ip"].as_str().unwrap().to_owned(),
            mac: line["mac"].as_str().unwrap().to_owned(),
            announcement: line["kind"] == "announcement",
        });
        Record {
            seen: seen.collect(),
            stalled,
            questions: questions(&lines, start),
        }
    }
}

/// All that were answered or could not be any more, by address and in their order.
fn questions(lines: &[Value], start: f64) -> BTreeMap<String, Vec<Question>> {
    let mut all = BTreeMap::<String, Vec<Question>>::new();
    let mut known = BTreeSet::new();
    for line in lines {
        let (Some(ip), Some(asked_at)) = (line["ip"].as_str(), line["asked_at"].as_f64()) else {
            continue;
        };
        // Two may answer one: the first counts.
        if known.insert((ip, asked_at.to_bits())) {
            let after = line["t_ms"].as_f64().unwrap() - asked_at;
            all.entry(ip.to_owned()).or_default().push(Question {
                at: start + asked_at,
                answered_after: (line["kind"] != "unanswered").then_some(after),
            });
        }
    }
    for questions in all.values_mut() {
        questions.sort_by(|one, other| one.at.total_cmp(&other.at));
    }
    all
}

impl Record {
    /// What was said about this address.
    pub(crate) fn of<'a>(
        &'a self,
        ip: &str,
    ) -> impl DoubleEndedIterator<Item = &'a Seen> + use<'a> {
        let ip = ip.to_owned();
        self.seen.iter().filter(move |seen| seen.ip == ip)
    }

    /// Who said last that it has it.
    pub(crate) fn last(&self, ip: &str) -> &Seen {
        (self.of(ip).next_back()).unwrap_or_else(|| panic!("nobody answered for {ip}"))
    }

    /// The longest time without a word on this address between these two moments, in milliseconds.
    pub(crate) fn silence(&self, ip: &str, from: f64, to: f64) -> f64 {
        let times = self.of(ip).map(|seen| seen.at);
        let times: Vec<f64> = [from]
            .into_iter()
            .chain(times.filter(|at| (from..to).contains(at)))
            .chain([to])
            .collect();
        let pauses = times.windows(2).map(|two| two[1] - two[0]);
        pauses.fold(0.0, f64::max)
    }

    /// From the last answer of this one until another's first word, in milliseconds.
    pub(crate) fn taken_over(&self, ip: &str, from: &str) -> Option<f64> {
        let mut said = self.of(ip).skip_while(|seen| seen.mac != from);
        let mut last = said.next()?.at;
        let next = said.find(|seen| {
            let is_its = seen.mac == from;
            if is_its {
                last = seen.at;
            }
            !is_its
        });
        Some(next?.at - last)
    }

    /// Whether the address moved between these two moments, or so close to them that questions every
    /// 10 ms do not tell.
    pub(crate) fn moved(&self, ip: &str, from: f64, to: f64) -> bool {
        let about = from - CLOSE..to + CLOSE;
        let said = self.of(ip).filter(|seen| about.contains(&seen.at));
        said.map(|seen| &seen.mac).collect::<BTreeSet<_>>().len() > 1
    }

    /// Who owned it one after the other: whoever answered first, last, or for longer than `least`
    /// milliseconds in a row.
    pub(crate) fn owners<'a>(&'a self, ip: &str, least: f64) -> Vec<&'a str> {
        let mut turns: Vec<(&str, f64, f64)> = Vec::new();
        for seen in self.of(ip).filter(|seen| !seen.announcement) {
            match turns.last_mut() {
                Some(turn) if turn.0 == seen.mac => turn.2 = seen.at,
                _ => turns.push((&seen.mac, seen.at, seen.at)),
            }
        }
        let last = turns.len().saturating_sub(1);
        let long = |(n, turn): &(usize, &(&str, f64, f64))| {
            *n == 0 || *n == last || turn.2 - turn.1 > least
        };
        let owners = turns.iter().enumerate().filter(long);
        let mut owners: Vec<&str> = owners.map(|(_, turn)| turn.0).collect();
        owners.dedup();
        owners
    }

    /// Who answered questions between these two moments, with the first and the last answer.
    pub(crate) fn answered<'a>(
        &'a self,
        ip: &str,
        from: f64,
        to: f64,
    ) -> BTreeMap<&'a str, (f64, f64)> {
        let mut all = BTreeMap::new();
        for seen in self.of(ip) {
            if !seen.announcement && (from..to).contains(&seen.at) {
                let span = all.entry(seen.mac.as_str()).or_insert((seen.at, seen.at));
                span.1 = seen.at;
            }
        }
        all
    }

    /// Who answered one after the other from this moment on, with the first and the last answer of
    /// each turn, for people.
    pub(crate) fn story(
        &self,
        ip: &str,
        from: f64,
        name: impl Fn(&str) -> &'static str,
    ) -> Vec<String> {
        let mut turns: Vec<(&str, f64, f64)> = Vec::new();
        for seen in self
            .of(ip)
            .filter(|seen| !seen.announcement && seen.at >= from)
        {
            match turns.last_mut() {
                Some(turn) if turn.0 == seen.mac => turn.2 = seen.at,
                _ => turns.push((&seen.mac, seen.at, seen.at)),
            }
        }
        let told = turns.into_iter().map(|(mac, first, last)| {
            let from = from.max(self.seen.first().map_or(0.0, |seen| seen.at));
            format!("{} {:.0}..{:.0}", name(mac), first - from, last - from)
        });
        told.collect()
    }

    /// The last moment at which two answered: that at which all but one had said their last word.
    /// `None`: only one has answered since `from`.
    pub(crate) fn both_until(&self, ip: &str, from: f64) -> Option<f64> {
        let all = self.answered(ip, from, f64::INFINITY);
        let winner = self.of(ip).rfind(|seen| !seen.announcement)?;
        let losers = all.iter().filter(|(mac, _)| **mac != winner.mac);
        losers.map(|(_, (_, last))| *last).reduce(f64::max)
    }

    /// What was asked between these two moments. It is certain what became of it only if the watch
    /// went on for [`PATIENCE`].
    pub(crate) fn questions(
        &self,
        ip: &str,
        from: f64,
        to: f64,
    ) -> impl Iterator<Item = &Question> {
        let all = self.questions.get(ip).into_iter().flatten();
        all.filter(move |question| (from..to).contains(&question.at))
    }
}

/// The prober, built beside the lab and in its profile: cargo builds a program for the tests of its
/// own package only. With all packages, so that its dependencies are those of the tests.
pub(crate) fn program() -> String {
    static PROGRAM: OnceLock<String> = OnceLock::new();
    let build = || {
        let program = Path::new(env!("CARGO_BIN_EXE_cluster")).with_file_name("prober");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(root).args(["build", "--quiet"]);
        cargo.args(["--workspace", "--locked", "--bin", "prober"]);
        if program
            .components()
            .any(|part| part.as_os_str() == "release")
        {
            cargo.arg("--release");
        }
        assert!(
            cargo.status().unwrap().success(),
            "the prober does not build"
        );
        program.to_str().unwrap().to_owned()
    };
    PROGRAM.get_or_init(build).clone()
}
