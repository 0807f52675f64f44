//! One real speaker among many peers: those are cores of speakers in one process, each with an address
//! and a socket of its own, on one more host of the lab.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::Arc,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use speaker_core::{Effect, Input, KEY_LEN, Key, KeyRing, Kind, Now, Peer, Settings, Speaker};

use crate::{
    cost::{cpu, speaker},
    town::{NAMESPACE, Town, node_address},
};

const PORT: u16 = 7947;
/// As the shell does: longer pauses look as if the process had been stopped.
const PAUSE: Duration = Duration::from_millis(40);
/// Long enough to be told from noise.
const WATCHED: Duration = Duration::from_secs(60);

fn address(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 202, 0, u8::try_from(n).unwrap())
}

fn name(n: usize) -> String {
    format!("swarm-{n:03}")
}

/// The CPU of the one real speaker.
pub(crate) fn idle(town: &mut Town, count: usize) -> Value {
    // Nobody but us says who the peers are.
    let system = ["-n", NAMESPACE];
    town.kubectl(
        &[
            &system[..],
            &["scale", "deployment/portolan", "--replicas=0"],
        ]
        .concat(),
    );
    town.kubectl(&["delete", "announcements", "--all"]);
    let only = r#"{"spec": {"template": {"spec": {"nodeSelector":
        {"kubernetes.io/hostname": "node1"}}}}}"#;
    let patch = ["patch", "daemonset/portolan-speaker", "-p", only];
    town.kubectl(&[&system[..], &patch].concat());
    let status = [
        "rollout",
        "status",
        "daemonset/portolan-speaker",
        "--timeout=120s",
    ];
    town.kubectl(&[&system[..], &status].concat());
    town.kubectl(&["delete", "speakers", "node2", "node3"]);
    let peers: Vec<Value> = (1..=count)
        .map(|n| {
            json!({
                "apiVersion": "portolan.dev/v1alpha1", "kind": "Speaker",
                "metadata": {"name": name(n)}, "spec": {"addresses": [address(n)]},
            })
        })
        .collect();
    town.apply(&json!({"apiVersion": "v1", "kind": "List", "items": peers}));
    let all = town.list("speakers", "");
    let version = |object: &Value| -> u64 {
        let version = object["metadata"]["resourceVersion"].as_str().unwrap();
        version.parse().unwrap()
    };
    let newest = all.iter().map(version).max().unwrap();

    let host = "swarm";
    town.lab
        .add_host(host, &["10.200.0.102".parse().unwrap()])
        .unwrap();
    let ip = |on: &str, arguments: &str| {
        town.run(town.lab.on(on, "ip").args(arguments.split(' ')));
    };
    ip("node1", "route add 10.202.0.0/24 via 10.200.0.102");
    ip(host, "route add default via 10.200.0.1");
    for n in 1..=count {
        ip(host, &format!("address add {}/32 dev lo", address(n)));
    }
    let secret = town.get(NAMESPACE, "secret/portolan-speaker-keys");
    let (from, key) = secret["data"].as_object().unwrap().iter().next().unwrap();
    let myself = std::env::current_exe().unwrap();
    let mut swarm = town
        .lab
        .on(host, &myself.to_string_lossy())
        .args(["swarm", &count.to_string(), &newest.to_string(), from])
        .arg(key.as_str().unwrap())
        .spawn()
        .unwrap();
    town.until("it knows all of them", || {
        let alive = town.metrics("node1")?["portolan_speaker_peers_alive"];
        if alive >= count as f64 {
            Ok(())
        } else {
            Err(format!("{alive} are alive"))
        }
    });
    thread::sleep(Duration::from_secs(5));
    let pid = speaker(town, "node1");
    let before = cpu(pid);
    thread::sleep(WATCHED);
    let used = cpu(pid) - before;
    let metrics = town.metrics("node1").unwrap();
    swarm.kill().unwrap();
    swarm.wait().unwrap();
    json!({
        "peers": count,
        "peers_alive_at_the_end": metrics["portolan_speaker_peers_alive"],
        "cpu_percent": (used / WATCHED.as_secs_f64() * 1e4).round() / 100.0,
    })
}

fn now(start: std::time::Instant) -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Now {
        mono: start.elapsed(),
        wall: i64::try_from(wall.as_millis()).unwrap(),
    }
}

/// The many, until they are killed: how many, how new what they have seen is, and their key.
pub(crate) fn run(arguments: &[String]) {
    let [count, version, from, key] = arguments else {
        panic!("swarm COUNT VERSION TIME KEY");
    };
    let (count, version): (usize, u64) = (count.parse().unwrap(), version.parse().unwrap());
    let from: jiff::Timestamp = {
        let time = jiff::civil::DateTime::strptime("%Y-%m-%dT%H-%M-%SZ", from).unwrap();
        jiff::tz::TimeZone::UTC.to_timestamp(time).unwrap()
    };
    let secret: [u8; KEY_LEN] = decode(key).try_into().unwrap();
    let keys = KeyRing::new(vec![Key::new(from.as_second(), secret)]);
    let start = std::time::Instant::now();
    let threads: Vec<_> = (1..=count)
        .map(|n| {
            let keys = keys.clone();
            thread::spawn(move || one(n, count, version, keys, start))
        })
        .collect();
    for one in threads {
        one.join().unwrap();
    }
}

fn one(n: usize, count: usize, version: u64, keys: KeyRing, start: std::time::Instant) {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&fastrand::u64(..).to_le_bytes());
    seed[8..16].copy_from_slice(&(n as u64).to_le_bytes());
    let boot = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let boot = u64::try_from(boot.as_nanos()).unwrap();
    let settings = Settings::new(name(n).into(), boot, seed);
    let mut speaker = Speaker::new(settings, now(start));
    let socket = UdpSocket::bind((address(n), PORT)).unwrap();
    speaker.handle(Input::Keys(keys), now(start));
    let peer = |node: Arc<str>, ip: IpAddr| Input::Peer {
        node,
        version,
        spec: Some(Peer {
            addresses: vec![ip],
            ..Peer::default()
        }),
    };
    for kind in [Kind::Announcements, Kind::Peers] {
        speaker.handle(Input::Restarted(kind), now(start));
        if kind == Kind::Peers {
            let real = node_address(1)[0].parse().unwrap();
            speaker.handle(peer("node1".into(), real), now(start));
            for other in 1..=count {
                let ip = address(other).into();
                speaker.handle(peer(name(other).into(), ip), now(start));
            }
        }
        speaker.handle(Input::Synced(kind), now(start));
    }
    let mut datagram = [0; 65_535];
    loop {
        while let Some(effect) = speaker.poll(now(start)) {
            if let Effect::Datagram { to, bytes } = effect {
                // As on any network: what is lost is lost.
                let _lost = socket.send_to(&bytes, to);
            }
        }
        let due = speaker.deadline().unwrap_or(Duration::MAX);
        let pause = due.saturating_sub(start.elapsed()).min(PAUSE);
        let pause = pause.max(Duration::from_micros(500));
        socket.set_read_timeout(Some(pause)).unwrap();
        if let Ok((length, from)) = socket.recv_from(&mut datagram) {
            let bytes = &datagram[..length];
            let from: SocketAddr = from;
            speaker.handle(Input::Datagram { from, bytes }, now(start));
        }
    }
}

/// Base64, as Secrets are written.
fn decode(text: &str) -> Vec<u8> {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut held, mut bytes) = (0_u32, 0, Vec::new());
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        let digit = digits.iter().position(|one| *one == byte).unwrap();
        bits = bits << 6 | u32::try_from(digit).unwrap();
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}
