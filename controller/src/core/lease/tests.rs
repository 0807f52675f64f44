use super::*;

const ME: &str = "me";

fn now(mono: u64) -> Now {
    Now {
        mono: Duration::from_secs(mono),
        wall: 1_000 + i64::try_from(mono).unwrap(),
    }
}

fn election() -> Election {
    Election::new(ME.into(), Timing::default())
}

fn lease(version: &str, holder: &str) -> Version {
    Version {
        version: version.into(),
        record: Record {
            holder: holder.into(),
            acquired: 1,
            renewed: 1,
            transitions: 4,
        },
    }
}

/// A leader whose renewal at 0 s succeeded and left version 2.
fn leader() -> Election {
    let mut election = election();
    assert_eq!(election.poll(now(0)), Some(Ask::Read));
    election.answer(Answer::Found(lease("1", "")), now(0), 0.0);
    let Some(Ask::Update(version, record)) = election.poll(now(0)) else {
        panic!("a free lease is taken");
    };
    assert_eq!(
        (&*version, &*record.holder, record.transitions),
        ("1", ME, 5)
    );
    election.answer(Answer::Written("2".into()), now(0), 0.0);
    assert!(election.leads(Duration::ZERO));
    election
}

/// A standby that saw another's version 1 at 0 s.
fn standby() -> Election {
    let mut election = election();
    election.poll(now(0));
    election.answer(Answer::Found(lease("1", "other")), now(0), 0.0);
    election
}

/// What is asked next and when, at most an hour from now.
fn next(election: &mut Election) -> (u64, Option<Ask>) {
    let at = election.next_deadline().expect("something is due");
    let ask = election.poll(Now { mono: at, wall: 0 });
    (at.as_secs(), ask)
}

#[test]
fn every_answer_to_every_question_leads_on_as_client_go_does() {
    // (who, answer, leads afterwards, seconds until the next question, its kind)
    type Row = (fn() -> Election, Answer, bool, u64, &'static str);
    fn reader() -> Election {
        let mut election = election();
        election.poll(now(0));
        election
    }
    fn candidate() -> Election {
        let mut election = election();
        election.poll(now(0));
        election.answer(Answer::Found(lease("1", "")), now(0), 0.0);
        election.poll(now(0));
        election
    }
    fn creator() -> Election {
        let mut election = election();
        election.poll(now(0));
        election.answer(Answer::Missing, now(0), 0.0);
        election.poll(now(0));
        election
    }
    fn renewer() -> Election {
        let mut election = leader();
        election.poll(now(2));
        election
    }
    let rows: [Row; 20] = [
        (reader, Answer::Missing, false, 0, "create"),
        (reader, Answer::Found(lease("1", "")), false, 0, "update"),
        (reader, Answer::Found(lease("1", ME)), false, 0, "update"),
        (reader, Answer::Found(lease("1", "other")), false, 2, "read"),
        (reader, Answer::Conflict, false, 2, "read"),
        (reader, Answer::Written("9".into()), false, 2, "read"),
        (reader, Answer::Lost, false, 2, "read"),
        (candidate, Answer::Written("2".into()), true, 2, "update"),
        (candidate, Answer::Conflict, false, 2, "read"),
        (candidate, Answer::Missing, false, 2, "read"),
        (candidate, Answer::Lost, false, 2, "read"),
        (creator, Answer::Written("1".into()), true, 2, "update"),
        (creator, Answer::Conflict, false, 2, "read"),
        (creator, Answer::Missing, false, 2, "read"),
        (creator, Answer::Lost, false, 2, "read"),
        (renewer, Answer::Written("3".into()), true, 4, "update"),
        (renewer, Answer::Conflict, true, 2, "read"),
        (renewer, Answer::Missing, true, 2, "read"),
        (renewer, Answer::Lost, true, 4, "read"),
        (renewer, Answer::Found(lease("9", "other")), true, 4, "read"),
    ];
    for (row, (who, answer, leads, after, kind)) in rows.into_iter().enumerate() {
        let mut election = who();
        let asked = now(if after >= 2 && leads { 2 } else { 0 });
        let asked = if election.leads(Duration::ZERO) {
            asked
        } else {
            now(0)
        };
        election.answer(answer, asked, 0.0);
        assert_eq!(election.leads(asked.mono), leads, "row {row}");
        let (at, ask) = next(&mut election);
        let asked_kind = match ask.expect("a question is due") {
            Ask::Read => "read",
            Ask::Create(_) => "create",
            Ask::Update(..) => "update",
        };
        assert_eq!((at, asked_kind), (after, kind), "row {row}");
    }
}

#[test]
fn a_leader_renews_without_reading_first() {
    let mut election = leader();
    assert_eq!(election.poll(now(1)), None);
    let Some(Ask::Update(version, record)) = election.poll(now(2)) else {
        panic!("renews");
    };
    assert_eq!(
        (&*version, record.transitions, record.acquired),
        ("2", 5, 1_000)
    );
    assert_eq!(record.renewed, 1_002);
}

#[test]
fn a_leader_that_cannot_renew_stops_after_the_renew_deadline() {
    let election = leader();
    assert!(election.leads(Duration::from_millis(9_999)));
    assert!(!election.leads(Duration::from_secs(10)));
}

#[test]
fn the_deadline_counts_from_the_beginning_of_the_renewal() {
    let mut election = leader();
    election.poll(now(2));
    election.answer(Answer::Written("3".into()), now(6), 0.0);
    assert_eq!(election.leads_until(), Some(Duration::from_secs(12)));
}

#[test]
fn a_leader_that_sees_another_holder_stops_at_once() {
    let mut election = leader();
    election.poll(now(2));
    election.answer(Answer::Conflict, now(2), 0.0);
    assert_eq!(election.poll(now(2)), Some(Ask::Read));
    election.answer(Answer::Found(lease("7", "other")), now(3), 0.0);
    assert!(!election.leads(Duration::from_secs(3)));
}

#[test]
fn a_standby_waits_the_whole_duration_after_the_last_change_it_saw() {
    let mut election = standby();
    for (at, version, takes) in [
        (2, "1", false),
        (14, "2", false),
        (26, "2", false),
        (29, "2", true),
    ] {
        assert_eq!(election.poll(now(at)), Some(Ask::Read), "at {at}");
        election.answer(Answer::Found(lease(version, "other")), now(at), 0.0);
        let ask = election.poll(now(at));
        assert_eq!(ask.is_some(), takes, "at {at}: {ask:?}");
    }
}

#[test]
fn the_times_in_the_record_are_never_trusted() {
    let mut election = election();
    election.poll(now(0));
    let mut old = lease("1", "other");
    old.record.renewed = i64::MIN;
    election.answer(Answer::Found(old), now(0), 0.0);
    assert_eq!(election.poll(now(1)), None);
}

#[test]
fn standbys_spread_out_by_jitter() {
    let mut election = election();
    election.poll(now(0));
    election.answer(Answer::Found(lease("1", "other")), now(0), 0.5);
    assert_eq!(election.next_deadline(), Some(Duration::from_millis(3_200)));
}

#[test]
fn releasing_stops_leading_before_anything_is_written() {
    let mut election = leader();
    election.release();
    assert!(!election.leads(Duration::ZERO));
    let Some(Ask::Update(version, record)) = election.poll(now(1)) else {
        panic!("hands it back");
    };
    assert_eq!((&*version, &*record.holder), ("2", ""));
    election.answer(Answer::Written("3".into()), now(1), 0.0);
    assert_eq!(election.poll(now(1)), None);
    assert!(election.released());
}

#[test]
fn a_renewal_under_way_at_the_release_is_handed_back_too() {
    let mut election = leader();
    election.poll(now(2));
    election.release();
    election.answer(Answer::Written("3".into()), now(3), 0.0);
    assert!(!election.leads(Duration::from_secs(3)));
    let Some(Ask::Update(version, record)) = election.poll(now(3)) else {
        panic!("hands it back");
    };
    assert_eq!((&*version, &*record.holder), ("3", ""));
}

#[test]
fn a_standby_has_nothing_to_hand_back() {
    let mut election = standby();
    election.release();
    assert_eq!(election.poll(now(0)), None);
    assert!(election.released());
}

#[test]
fn a_release_that_fails_is_not_tried_again() {
    for answer in [Answer::Lost, Answer::Conflict, Answer::Missing] {
        let mut election = leader();
        election.release();
        election.poll(now(1));
        election.answer(answer, now(1), 0.0);
        assert!(election.released());
    }
}

/// Two processes, one API server, one clock: requests and replies are delayed and lost, processes
/// stand still for a while. Never do both lead; in quiet times somebody does.
#[test]
fn two_never_lead_at_once_whatever_is_delayed_or_lost() {
    let mut led = [0_u32; 2];
    for seed in 0..400 {
        let mut world = World::new(seed);
        while world.time < 300_000 {
            world.step();
        }
        // Quiet: no more losses; the lease expires at worst once.
        world.calm = true;
        while world.time < 400_000 {
            world.step();
        }
        let leaders = world.leaders();
        assert_eq!(
            leaders.iter().filter(|leads| **leads).count(),
            1,
            "seed {seed}"
        );
        for (count, times) in led.iter_mut().zip(world.led) {
            *count += times;
        }
    }
    assert!(
        led.iter().all(|times| *times > 400),
        "both got their turns: {led:?}"
    );
}

struct World {
    random: fastrand::Rng,
    /// Milliseconds.
    time: u64,
    calm: bool,
    server: Option<Version>,
    versions: u64,
    processes: [Process; 2],
    led: [u32; 2],
}

struct Process {
    election: Election,
    leading: bool,
    stands_still_until: u64,
    /// Questions on their way: (arrives at, question number, question).
    sent: Vec<(u64, u64, Ask)>,
    /// Answers on their way.
    replies: Vec<(u64, u64, Answer)>,
    question: u64,
    gives_up_at: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let process = |name: &str| Process {
            election: Election::new(name.into(), Timing::default()),
            leading: false,
            stands_still_until: 0,
            sent: Vec::new(),
            replies: Vec::new(),
            question: 0,
            gives_up_at: 0,
        };
        Self {
            random: fastrand::Rng::with_seed(seed),
            time: 0,
            calm: false,
            server: None,
            versions: 0,
            processes: [process("a"), process("b")],
            led: [0; 2],
        }
    }

    fn now(&self) -> Now {
        Now {
            mono: Duration::from_millis(self.time),
            wall: 0,
        }
    }

    fn delay(&mut self) -> u64 {
        match self.random.u8(..) {
            _ if self.calm => 5,
            0..8 => self.random.u64(1_000..25_000),
            8..=255 => self.random.u64(1..200),
        }
    }

    fn lost(&mut self) -> bool {
        !self.calm && self.random.u8(..) < 40
    }

    fn leaders(&self) -> [bool; 2] {
        let mono = self.now().mono;
        [0, 1].map(|who| self.processes[who].election.leads(mono))
    }

    fn step(&mut self) {
        self.time += self.random.u64(1..=250);
        let now = self.now();
        for who in 0..2 {
            // The API server works even while a process stands still.
            let arrived: Vec<_> = self.processes[who]
                .sent
                .extract_if(.., |(at, ..)| *at <= self.time)
                .collect();
            for (_, question, ask) in arrived {
                let answer = self.serve(ask);
                if !self.lost() {
                    let at = self.time + self.delay();
                    self.processes[who].replies.push((at, question, answer));
                }
            }
            if self.time < self.processes[who].stands_still_until {
                continue;
            }
            if !self.calm && self.random.u16(..) < 60 {
                let pause = self.random.u64(1_000..40_000);
                self.processes[who].stands_still_until = self.time + pause;
            }
            let jitter = self.random.f64();
            let process = &mut self.processes[who];
            let replies: Vec<_> = process
                .replies
                .extract_if(.., |(at, ..)| *at <= self.time)
                .collect();
            for (_, question, answer) in replies {
                // A reply that comes after the time-out is heard by nobody.
                if question == process.question {
                    process.question += 1;
                    process.election.answer(answer, now, jitter);
                }
            }
            if process.election.next_deadline().is_none() && self.time >= process.gives_up_at {
                process.question += 1;
                process.election.answer(Answer::Lost, now, jitter);
            }
            if let Some(ask) = process.election.poll(now) {
                let question = process.question;
                process.gives_up_at = self.time + 4_000;
                if !self.lost() {
                    let at = self.time + self.delay();
                    self.processes[who].sent.push((at, question, ask));
                }
            }
        }
        let leaders = self.leaders();
        assert_ne!(leaders, [true, true], "both lead at {} ms", self.time);
        for (who, leads) in leaders.into_iter().enumerate() {
            let process = &mut self.processes[who];
            if leads && !process.leading {
                self.led[who] += 1;
            }
            process.leading = leads;
        }
    }

    fn serve(&mut self, ask: Ask) -> Answer {
        let record = match (ask, &self.server) {
            (Ask::Read, Some(lease)) => return Answer::Found(lease.clone()),
            (Ask::Read | Ask::Update(..), None) => return Answer::Missing,
            (Ask::Create(_), Some(_)) => return Answer::Conflict,
            (Ask::Update(version, _), Some(lease)) if lease.version != version => {
                return Answer::Conflict;
            }
            (Ask::Create(record), None) | (Ask::Update(_, record), Some(_)) => record,
        };
        self.versions += 1;
        let version: Arc<str> = self.versions.to_string().into();
        self.server = Some(Version {
            version: Arc::clone(&version),
            record,
        });
        Answer::Written(version)
    }
}
