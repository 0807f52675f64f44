//! Asks for addresses on an interface by ARP (broadcast) and NDP (multicast) at a fixed pace and
//! tells who answers when. Sees every frame about these addresses, asked for or not. Needs
//! CAP_NET_RAW.

mod tally;

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    num::NonZeroU32,
    process::Command,
    sync::mpsc::Receiver,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use packet::Tap;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;
use wire::{Mac, arp, filter, ndp};

use crate::tally::{Answer, Tally, Unanswered};

/// No frame about an address is longer.
const FRAME: usize = 2048;

/// Asks for addresses by ARP and NDP and prints, one JSON object per line:
///
/// {"start_unix_ms":…,"interface":…,"mac":…} first;
/// {"t_ms":12.345,"ip":…,"mac":…,"kind":"answer"|"announcement","asked_at":12.1} for every frame in
/// which somebody says that it has an address (asked_at: when the question was sent that it answers;
/// null: none of the last half second);
/// {"t_ms":…,"ip":…,"kind":"unanswered","asked_at":…} for every question without an answer after half
/// a second, or when its source is needed again;
/// {"t_ms":…,"mark":…} for every line on stdin, to have events on the same clock;
/// {"summary":{…}} last: per address how many questions there were, how many of them were answered,
/// were not, and were too young at the end to say, the slowest answer, the longest silence, and the
/// first and last answer of each hardware address.
///
/// An answer names whom it is for: with --sources each question has a source of its own, and so many
/// that none is used twice in half a second tell a late answer from none.
///
/// Times are milliseconds since the start, monotonic. With --claim-every-ms it also says itself that it
/// has the addresses, as a foreign machine would. Ends after --seconds, or when stdin has the line
/// "end".
#[derive(Debug, Parser)]
#[command(name = "prober", version, about, verbatim_doc_comment)]
pub struct Arguments {
    /// Interface to ask on.
    #[arg(long, short)]
    interface: String,
    /// How often every address is asked for; 0: never, only listen.
    #[arg(long, default_value_t = 10, value_name = "MS")]
    every_ms: u64,
    /// When to end at the latest.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Claim the addresses (announcements by ARP and NDP) this often.
    #[arg(long, value_name = "MS")]
    claim_every_ms: Option<u64>,
    /// End claiming after so many announcements of each address.
    #[arg(long, default_value_t = u64::MAX, value_name = "N", hide_default_value = true)]
    claims: u64,
    /// Do not print every answer and every question without one, only the first answer after a change of
    /// the hardware address, and the summary.
    #[arg(long)]
    quiet: bool,
    /// Hardware address to ask and claim with; without it the interface's.
    #[arg(long, value_parser = mac)]
    mac: Option<Mac>,
    /// IP address to ask from, one per family; without it what the routing table says.
    #[arg(long, value_name = "IP")]
    source: Vec<IpAddr>,
    /// Ask from so many addresses in turn: the source and those that follow it.
    #[arg(long, default_value_t = NonZeroU32::MIN, value_name = "N")]
    sources: NonZeroU32,
    /// What to ask for.
    #[arg(required = true, value_name = "IP")]
    addresses: Vec<IpAddr>,
}

fn mac(text: &str) -> Result<Mac, String> {
    let bytes: Vec<u8> = (text.split(':'))
        .map(|byte| u8::from_str_radix(byte, 16).map_err(|error| error.to_string()))
        .collect::<Result<_, _>>()?;
    Ok(Mac(
        <[u8; 6]>::try_from(bytes).map_err(|_| "six bytes are needed".to_owned())?
    ))
}

/// An address and what is sent for it.
struct Subject {
    ip: IpAddr,
    /// Whom to ask from, and how.
    asks: Vec<(IpAddr, Vec<u8>)>,
    claim: Vec<u8>,
}

impl Subject {
    fn new(ip: IpAddr, mac: Mac, source: &[IpAddr], sources: NonZeroU32) -> Result<Self> {
        let first = (source.iter().copied())
            .find(|from| from.is_ipv4() == ip.is_ipv4())
            .map_or_else(|| local_address(ip), Ok)?;
        let ask = |number| {
            let from = following(first, number)
                .with_context(|| format!("fewer than {sources} addresses follow {first}"))?;
            let frame = match (ip, from) {
                (IpAddr::V4(ip), IpAddr::V4(from)) => arp::Packet::request(mac, from, ip).write(),
                (IpAddr::V6(ip), IpAddr::V6(from)) => {
                    ndp::Message::solicitation(mac, from, ip).write()
                }
                (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                    anyhow::bail!("{ip} cannot be asked for from {from}")
                }
            };
            Ok((from, frame))
        };
        Ok(Self {
            ip,
            asks: (0..sources.get()).map(ask).collect::<Result<_>>()?,
            claim: match ip {
                IpAddr::V4(ip) => arp::Packet::announcement(mac, ip).write(),
                IpAddr::V6(ip) => ndp::Message::announcement(mac, ip).write(),
            },
        })
    }
}

/// The address that many places later.
fn following(first: IpAddr, number: u32) -> Option<IpAddr> {
    Some(match first {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits().checked_add(number)?).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits().checked_add(number.into())?).into(),
    })
}

/// Where the kernel would send from; nothing is sent.
fn local_address(to: IpAddr) -> Result<IpAddr> {
    let any: IpAddr = if to.is_ipv4() {
        [0, 0, 0, 0].into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let found = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((to, 9))?;
        socket.local_addr()
    });
    Ok(found
        .with_context(|| format!("no route to {to}: give --source"))?
        .ip())
}

/// Not from /sys: it may show another network namespace's interfaces.
fn interface(name: &str) -> Result<(u32, Mac)> {
    let output = Command::new("ip")
        .args(["-j", "link", "show", "dev", name])
        .output()
        .context("ip cannot be run")?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip link show dev {name}: {told}");
    let all: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let one = all.get(0).context("ip names no interface")?;
    let index = one.get("ifindex").and_then(serde_json::Value::as_u64);
    let address = one.get("address").and_then(serde_json::Value::as_str);
    let index = index.context("an interface without an index")?;
    let address = address.context("an interface without a hardware address")?;
    Ok((
        u32::try_from(index)?,
        mac(address).map_err(anyhow::Error::msg)?,
    ))
}

/// Who says that it has which address, and whether everybody was told.
fn answer(frame: &[u8]) -> Option<Answer> {
    if let Some(packet) = arp::Packet::read(frame) {
        let announcement =
            packet.sender_ip == packet.target_ip || packet.destination == Mac::BROADCAST;
        let says =
            packet.operation == arp::Operation::Reply || packet.sender_ip == packet.target_ip;
        return says.then_some(Answer {
            ip: packet.sender_ip.into(),
            mac: packet.sender_mac,
            to: (!announcement).then_some(packet.target_ip.into()),
        });
    }
    let message = ndp::Message::read(frame)?;
    match message.kind {
        ndp::Kind::Solicitation => None,
        ndp::Kind::Advertisement { solicited, .. } => Some(Answer {
            ip: message.target.into(),
            mac: message.link_layer.unwrap_or(message.source),
            to: solicited.then_some(message.to.into()),
        }),
    }
}

/// Something that is done at a fixed pace.
struct Beat {
    every: Duration,
    next: Duration,
    left: u64,
}

impl Beat {
    const fn new(every_ms: u64, left: u64) -> Self {
        Self {
            every: Duration::from_millis(every_ms),
            next: Duration::ZERO,
            left,
        }
    }

    /// Whether it is time; what was missed is not made up for, so that N beats are never closer than
    /// N - 1 times the pace.
    fn due(&mut self, now: Duration) -> bool {
        if self.left == 0 || now < self.next {
            return false;
        }
        self.left -= 1;
        self.next += self.every;
        if self.next <= now {
            self.next = now + self.every;
        }
        true
    }

    fn deadline(&self) -> Duration {
        if self.left == 0 {
            Duration::MAX
        } else {
            self.next
        }
    }
}

fn say(out: &mut impl Write, line: &serde_json::Value) -> Result<()> {
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(())
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Asks until the time is up or a mark is "end", from the network of the calling thread.
///
/// # Errors
/// When there is no such interface, no CAP_NET_RAW, or nobody reads the output.
pub fn run(
    arguments: &Arguments,
    marks: &Receiver<(Instant, String)>,
    out: &mut impl Write,
) -> Result<()> {
    let (index, own) = interface(&arguments.interface)?;
    let mac = arguments.mac.unwrap_or(own);
    let subjects = (arguments.addresses.iter())
        .map(|ip| Subject::new(*ip, mac, &arguments.source, arguments.sources))
        .collect::<Result<Vec<_>>>()?;
    let program = filter::program(arguments.addresses.iter().copied());
    let tap = Tap::open(index, &program)
        .with_context(|| format!("no packet socket on {}", arguments.interface))?;

    let start = Instant::now();
    let unix = SystemTime::now().duration_since(UNIX_EPOCH)?;
    say(
        out,
        &json!({
            "start_unix_ms": millis(unix),
            "interface": arguments.interface,
            "mac": mac.to_string(),
        }),
    )?;
    let end = Duration::try_from_secs_f64(arguments.seconds)?;
    let asks = if arguments.every_ms == 0 { 0 } else { u64::MAX };
    let mut asking = Beat::new(arguments.every_ms, asks);
    let claims = arguments.claim_every_ms.map_or(0, |_| arguments.claims);
    let mut claiming = Beat::new(arguments.claim_every_ms.unwrap_or_default(), claims);
    let mut tally = Tally::new(&arguments.addresses, mac);
    let mut turn = (0..arguments.sources.get() as usize).cycle();
    let mut unanswered = Vec::new();
    let mut frame = [0; FRAME];
    'run: loop {
        let now = start.elapsed();
        if now >= end {
            break;
        }
        if claiming.due(now) {
            for subject in &subjects {
                // An interface that is down comes back; what is not sent is not answered.
                let _lost = tap.send(&subject.claim);
            }
        }
        if asking.due(now)
            && let Some(turn) = turn.next()
        {
            for subject in &subjects {
                if let Some((from, ask)) = subject.asks.get(turn) {
                    unanswered.extend(tally.asked(subject.ip, *from, start.elapsed()));
                    let _lost = tap.send(ask);
                }
            }
        }
        let next = asking.deadline().min(claiming.deadline()).min(end);
        // Marks wait for nothing but this.
        let pause = next
            .saturating_sub(start.elapsed())
            .min(Duration::from_millis(5));
        let mut ready = [
            PollFd::new(&tap.arp, PollFlags::IN),
            PollFd::new(&tap.ipv6, PollFlags::IN),
        ];
        poll(&mut ready, Some(&Timespec::try_from(pause)?))?;
        for (at, line) in marks.try_iter() {
            if line == "end" {
                break 'run;
            }
            let at = at.saturating_duration_since(start);
            say(out, &json!({"t_ms": millis(at), "mark": line}))?;
        }
        // What is in the socket by now is in time, however late it is read.
        let reading = start.elapsed();
        while let Ok(length) = tap.receive(&mut frame) {
            let Some(answer) = frame.get(..length).and_then(answer) else {
                continue;
            };
            let now = start.elapsed();
            let Some(seen) = tally.answered(&answer, now) else {
                continue;
            };
            if seen.changed || !arguments.quiet {
                say(
                    out,
                    &json!({
                        "t_ms": millis(now),
                        "ip": answer.ip,
                        "mac": answer.mac.to_string(),
                        "kind": if answer.to.is_none() { "announcement" } else { "answer" },
                        "asked_at": seen.asked_at.map(millis),
                    }),
                )?;
            }
        }
        unanswered.extend(tally.overdue(reading));
        for Unanswered { ip, at } in unanswered.drain(..).filter(|_| !arguments.quiet) {
            let (now, at) = (millis(start.elapsed()), millis(at));
            say(
                out,
                &json!({"t_ms": now, "ip": ip, "kind": "unanswered", "asked_at": at}),
            )?;
        }
    }
    say(out, &json!({"summary": tally.summary(start.elapsed())}))
}

#[cfg(test)]
mod tests;
