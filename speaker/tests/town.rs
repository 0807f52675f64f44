//! Speakers of real processes in network namespaces, before an embedded API server.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

#[path = "town/mod.rs"]
mod town;

/// Needs root and network namespaces, as the lab of a real Kubernetes does.
mod lab {
    use serde_json::Value;

    use crate::town::{Town, interface_again, name};

    const V4: &str = "10.77.0.200";
    const V6: &str = "fd77::200";

    fn summary(lines: &[Value], ip: &str) -> Value {
        lines.last().unwrap()["summary"][ip].clone()
    }

    /// In milliseconds, between answers.
    fn longest_silence_after_mark(lines: &[Value], ip: &str) -> f64 {
        let after = lines.iter().skip_while(|line| line.get("mark").is_none());
        let times = after.filter(|line| line.get("mark").is_some() || line["ip"] == ip);
        let times: Vec<f64> = times.map(|line| line["t_ms"].as_f64().unwrap()).collect();
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.fold(0.0, f64::max)
    }

    /// The only node that says that it announces the address, once there is one.
    fn owner(town: &Town, ip: &str) -> usize {
        town.wait(&format!("an owner of {ip}"), |town| {
            town.announcers(ip).len() == 1
        });
        town.announcers(ip)[0]
    }

    fn figure(town: &Town, node: usize, name: &str) -> f64 {
        let page = town.get(node, "/metrics");
        let line = page.lines().find(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(' '))
        });
        let value = line
            .and_then(|line| line.split(' ').nth(1))
            .unwrap_or("nan");
        value.parse().unwrap()
    }

    #[test]
    #[ignore = "makes network namespaces: cargo xtask test"]
    fn one_node_answers_and_when_it_is_killed_another_does() {
        let mut town = Town::new(3);
        town.start_all();
        town.announce(&[V4, V6]);
        let first = owner(&town, V4);
        assert_eq!(town.announcers(V6), [first]);
        let asking = town.ask(&[], &[V4, V6]);
        town.wait("answers to be counted", |town| {
            figure(town, first, "portolan_speaker_requests_answered_total") > 20.0
        });
        asking.mark("kill");
        town.kill(first);
        town.wait("another owner", |town| {
            town.announcers(V4).iter().any(|node| *node != first)
        });
        std::thread::sleep(std::time::Duration::from_millis(300));
        let lines = asking.end();
        for ip in [V4, V6] {
            let seen = summary(&lines, ip);
            assert_eq!(
                seen["macs"].as_object().unwrap().len(),
                2,
                "{seen}\n{}",
                town.logs()
            );
            let silence = seen["longest_silence_ms"].as_f64().unwrap();
            println!("{ip}: silent for {silence} ms");
            assert!(silence < 3000.0, "{seen}\n{}", town.logs());
        }
        // It says nothing any more about what it announced; its successor does.
        town.start(first);
        town.wait("a status without it", |town| town.announcers(V4) != [first]);
    }

    #[test]
    #[ignore = "makes network namespaces: cargo xtask test"]
    fn a_node_that_is_told_to_end_hands_over_without_a_gap_and_empties_its_status() {
        let mut town = Town::new(3);
        town.start_all();
        town.announce(&[V4, V6]);
        let first = owner(&town, V4);
        let asking = town.ask(&[], &[V4, V6]);
        town.wait("answers to be counted", |town| {
            figure(town, first, "portolan_speaker_requests_answered_total") > 20.0
        });
        asking.mark("terminate");
        town.terminate(first);
        let status = town.status(first);
        assert_eq!(
            status,
            crds::SpeakerStatusSpec::default(),
            "{}",
            town.logs()
        );
        let second = owner(&town, V4);
        assert_ne!(first, second);
        let lines = asking.end();
        for ip in [V4, V6] {
            let silence = longest_silence_after_mark(&lines, ip);
            println!("{ip}: silent for {silence} ms: {}", summary(&lines, ip));
            // None is lost on an idle machine; on a busy one processes wait for their turn. A hand-over
            // that goes silent first would cost what a crash does.
            assert!(silence < 250.0, "{silence}\n{}", town.logs());
        }
    }

    /// The new owner listens while questions from before that wait in the socket of the old one, and
    /// word of it comes to the old one behind them: it has to answer them all the same.
    #[test]
    #[ignore = "makes network namespaces: cargo xtask test"]
    fn processes_that_wait_for_their_turn_lose_no_question_when_an_address_moves() {
        let pause = |ms| std::thread::sleep(std::time::Duration::from_millis(ms));
        let mut town = Town::new(2);
        town.start_all();
        town.announce(&[V4, V6]);
        town.move_to(0, V4);
        town.wait("the first owner", |town| town.announcers(V4) == [0]);
        pause(500); // the burst of its first announcements
        let sources = ["--source", "10.77.0.30", "--source", "fd77::1000"]; // nobody has them
        let asking = town.ask(&[&sources[..], &["--sources", "62"]].concat(), &[V4, V6]);
        for round in 0..8 {
            let (old, new) = (round % 2, (round + 1) % 2);
            town.stop(new);
            town.move_to(new, V4);
            pause(60); // the old owner offers, twice
            town.stop(old);
            pause(60); // it is asked
            town.resume(new);
            pause(25); // the new owner listens, and says so
            town.resume(old);
            town.wait("another owner", |town| town.announcers(V4) == [new]);
        }
        pause(500); // the last question's patience
        let lines = asking.end();
        for ip in [V4, V6] {
            let lost = lines
                .iter()
                .filter(|line| line["kind"] == "unanswered" && line["ip"] == ip);
            let lost: Vec<_> = lost.map(|line| line["asked_at"].to_string()).collect();
            let seen = summary(&lines, ip);
            println!("{ip}: {seen}");
            assert!(lost.is_empty(), "{ip}: {lost:?}: {seen}\n{}", town.logs());
            assert!(seen["answered"].as_u64().unwrap() > 100, "{seen}");
        }
    }

    #[test]
    #[ignore = "makes network namespaces: cargo xtask test"]
    fn without_the_api_server_addresses_fail_over_and_its_return_is_noticed_within_two_seconds() {
        let mut town = Town::new(3);
        town.start_all();
        town.announce(&[V4]);
        let first = owner(&town, V4);
        town.cut_api();
        let asking = town.ask(&[], &[V4]);
        std::thread::sleep(std::time::Duration::from_secs(3));
        asking.mark("kill");
        town.kill(first);
        std::thread::sleep(std::time::Duration::from_secs(3));
        let seen = summary(&asking.end(), V4);
        assert_eq!(
            seen["macs"].as_object().unwrap().len(),
            2,
            "{seen}\n{}",
            town.logs()
        );
        assert!(
            seen["longest_silence_ms"].as_f64().unwrap() < 3000.0,
            "{seen}"
        );
        town.announce(&["10.77.0.201"]);
        let asking = town.ask(&["--quiet"], &["10.77.0.201"]);
        town.serve();
        let start = std::time::Instant::now();
        std::thread::sleep(std::time::Duration::from_secs(2));
        let lines = asking.end();
        println!("{lines:?}");
        assert!(start.elapsed().as_secs() < 4);
        let seen = summary(&lines, "10.77.0.201");
        assert!(
            seen["answered"].as_u64().unwrap() > 0,
            "{seen}\n{}",
            town.logs()
        );
        owner(&town, "10.77.0.201");
    }

    #[test]
    #[ignore = "makes network namespaces: cargo xtask test"]
    fn an_interface_that_is_gone_and_comes_back_is_answered_on_again() {
        let mut town = Town::new(1);
        town.start_all();
        town.announce(&[V4, V6]);
        owner(&town, V4);
        let gone = format!("ip -n {} link del eth0", name(0));
        let renamed = format!(
            "ip -n {0} link set eth0 down; ip -n {0} link set eth0 name uplink0; ip -n {0} link set uplink0 up; \
             ip -n {0} address add fd77::10/64 dev uplink0 nodad",
            name(0)
        );
        town.script(&gone);
        town.wait("the status to say that nothing is announced", |town| {
            town.announcers(V4).is_empty()
        });
        for script in [&interface_again(0), &renamed] {
            town.script(script);
            town.wait("an owner", |town| town.announcers(V4) == [0]);
            let asking = town.ask(&["--seconds", "20"], &[V4, V6]);
            // IPv6 is on only when the kernel has looked for duplicates.
            std::thread::sleep(std::time::Duration::from_secs(3));
            let lines = asking.end();
            for ip in [V4, V6] {
                let seen = summary(&lines, ip);
                assert!(
                    seen["answered"].as_u64().unwrap() > 50,
                    "{seen}\n{}",
                    town.logs()
                );
            }
        }
    }

    /// A figure of `/proc/PID/status`, in KiB where it is an amount of memory.
    fn proc_status(pid: u32, name: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let line = line.and_then(|line| line.strip_prefix(':')).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Clock ticks (100 a second) that a process has run for.
    fn ticks(pid: u32) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<_> = text
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// The figure of the issue is for a release: `PORTOLAN_SPEAKER=target/release/portolan-speaker`.
    #[test]
    #[ignore = "makes network namespaces: cargo xtask test"]
    fn a_thousand_addresses_take_little_memory() {
        let release = std::env::var("PORTOLAN_SPEAKER").is_ok();
        let mut town = Town::new(2);
        town.start_all();
        for number in 0..1000 {
            town.announce(&[&format!("10.77.{}.{}", 1 + number / 250, number % 250)]);
        }
        let owned = |town: &Town| {
            let of = |node| figure(town, node, "portolan_speaker_owned_addresses");
            (of(0), of(1))
        };
        // They are in no subnet of the nodes', so that the default route's interface is taken.
        town.wait("every address to have an owner", |town| {
            let (one, other) = owned(town);
            one + other == 1000.0
        });
        println!("owned: {:?}", owned(&town));
        town.kill(1);
        town.wait("one to own all", |town| {
            figure(town, 0, "portolan_speaker_owned_addresses") == 1000.0
        });
        std::thread::sleep(std::time::Duration::from_secs(8));
        let pid = town.pid(0);
        let before = ticks(pid);
        std::thread::sleep(std::time::Duration::from_secs(10));
        let ran = ticks(pid) - before;
        let [resident, anonymous, file, peak] =
            ["VmRSS", "RssAnon", "RssFile", "VmHWM"].map(|name| proc_status(pid, name));
        let threads = proc_status(pid, "Threads");
        println!(
            "VmRSS {resident} KiB (anonymous {anonymous}, file {file}), peak {peak} KiB, {threads} threads, \
             {ran} ticks of CPU in 10 s"
        );
        assert_eq!(town.status(0).announced.len(), 1000);
        assert!(
            resident < if release { 12 << 10 } else { 64 << 10 },
            "{}",
            town.logs()
        );
    }
}
