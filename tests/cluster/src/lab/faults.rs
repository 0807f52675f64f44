//! What happens to machines, cables and switches: done to the lab's hosts while a test looks on. It
//! decides nothing; what is cut stays cut until it is mended.
//!
//! A host is named as its network: `node1`, `client`, or what [`Lab::add_host`] was told.

use std::{fs, net::IpAddr, os::unix::fs::MetadataExt as _, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};

use super::{Lab, net};

/// The rules of the switch; each partition replaces them.
const TABLE: &str = "table bridge partition";

/// How long the switch remembers a first frame.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// What a process is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// It ends and can do nothing more.
    Kill,
    /// It stands still.
    Stop,
    /// It goes on, as if nothing had been.
    Continue,
    /// It is asked to end.
    Terminate,
}

impl Signal {
    fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
            Self::Terminate => "TERM",
        }
    }
}

impl Lab {
    /// Pulls the host's cable: both ends see that there is no carrier.
    ///
    /// # Errors
    /// When there is no such host.
    pub fn unplug(&self, host: &str) -> Result<()> {
        (self.sandbox).script(&format!("ip -n plane link set {host} down"))
    }

    /// Puts it back.
    ///
    /// # Errors
    /// As [`unplug`](Self::unplug).
    pub fn plug(&self, host: &str) -> Result<()> {
        (self.sandbox).script(&format!("ip -n plane link set {host} up"))
    }

    /// The switch passes nothing from or to the host, and nobody sees that by its interface.
    ///
    /// # Errors
    /// As [`unplug`](Self::unplug).
    pub fn cut(&self, host: &str) -> Result<()> {
        (self.sandbox).script(&format!("bridge -n plane link set dev {host} state 0"))
    }

    /// It passes everything again.
    ///
    /// # Errors
    /// As [`unplug`](Self::unplug).
    pub fn mend(&self, host: &str) -> Result<()> {
        (self.sandbox).script(&format!("bridge -n plane link set dev {host} state 3"))
    }

    /// From now on frames pass only between hosts that are on one side together. A host that is on
    /// no side is on all; `plane` is the control plane.
    ///
    /// # Errors
    /// When a name is none of a host.
    pub fn partition(&self, sides: &[&[&str]]) -> Result<()> {
        let mut rules = format!(
            "add {TABLE}\ndelete {TABLE}\n{TABLE} {{\n\
             chain forward {{ type filter hook forward priority 0;\n"
        );
        let named: Vec<&str> = sides.concat();
        let apart = |one: &str, other: &str| {
            one != other
                && named.contains(&other)
                && !(sides.iter()).any(|side| side.contains(&one) && side.contains(&other))
        };
        for one in named.iter().filter(|name| **name != "plane") {
            for other in (named.iter()).filter(|other| **other != "plane" && apart(one, other)) {
                rules += &format!("iifname {one:?} oifname {other:?} drop\n");
            }
        }
        for (hook, of) in [("input", "iifname"), ("output", "oifname")] {
            rules += &format!("}}\nchain {hook} {{ type filter hook {hook} priority 0;\n");
            for one in named.iter().filter(|name| apart(name, "plane")) {
                rules += &format!("{of} {one:?} drop\n");
            }
        }
        rules += "}\n}\n";
        self.switch(&rules)
    }

    /// Frames pass between all hosts again. The switch remembers when the first did.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn heal(&self) -> Result<()> {
        self.switch(&format!(
            "add {TABLE}\ndelete {TABLE}\n{TABLE} {{\n\
             set crossed {{ type ifname . ifname; flags dynamic,timeout; timeout 1h; }}\n\
             chain forward {{ type filter hook forward priority 0;\n\
             add @crossed {{ iifname . oifname }}\n}}\n}}\n"
        ))
    }

    /// How long ago the first frame went from one of these hosts to one of those, or back, since
    /// [`heal`](Self::heal), to a few milliseconds.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn crossed(&self, these: &[&str], those: &[&str]) -> Result<Option<Duration>> {
        let mut nft = self.on("plane", "nft");
        nft.args(["list", "set", "bridge", "partition", "crossed"]);
        let output = nft.output()?;
        let told = String::from_utf8(output.stdout)?;
        let mut first = None;
        for (one, other) in these
            .iter()
            .flat_map(|one| those.iter().map(move |o| (one, o)))
        {
            for way in [
                format!("{one:?} . {other:?} expires "),
                format!("{other:?} . {one:?} expires "),
            ] {
                let Some((_, after)) = told.split_once(&way) else {
                    continue;
                };
                let end = after.find([' ', ',', '\n']).unwrap_or(after.len());
                let left = span(after.get(..end).unwrap_or_default())?;
                first = first.max(Some(REMEMBERED.saturating_sub(left)));
            }
        }
        Ok(first)
    }

    fn switch(&self, rules: &str) -> Result<()> {
        let script = format!("nsenter --net=/run/netns/plane nft -f - <<'END'\n{rules}END\n");
        self.sandbox.script(&script)
    }

    /// A machine that is not of the cluster, on the same switch.
    ///
    /// # Errors
    /// When there is one of that name.
    pub fn add_host(&self, name: &str, addresses: &[IpAddr]) -> Result<()> {
        let script = format!("ip netns add {name}\nip -n {name} link set lo up\n");
        (self.sandbox).script(&(script + &net::plug_in(name, addresses)))
    }

    /// It is gone.
    ///
    /// # Errors
    /// When there was none.
    pub fn remove_host(&self, name: &str) -> Result<()> {
        let script = format!("ip -n {name} link delete eth0\nip netns delete {name}");
        self.sandbox.script(&script)
    }

    /// Another name for a node's interface, while it is up.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn rename_interface(&self, node: &str, from: &str, to: &str) -> Result<()> {
        (self.sandbox).script(&format!("ip -n {node} link set {from} name {to}"))
    }

    /// Takes a node's interface out of the machine, with its addresses and routes.
    ///
    /// # Errors
    /// When there is none.
    pub fn remove_interface(&self, node: &str) -> Result<()> {
        (self.sandbox).script(&format!("ip -n {node} link delete eth0"))
    }

    /// Puts another one in, with the same addresses and routes and another hardware address.
    ///
    /// # Errors
    /// When there still is one.
    pub fn add_interface(&self, node: &str) -> Result<()> {
        let number = self.number(node)?;
        let (v4, v6) = net::node(number);
        let routes = net::default_routes(node) + &net::pod_routes(node, self.count());
        (self.sandbox).script(&(net::plug_in(node, &[v4.into(), v6.into()]) + &routes))
    }

    /// The hardware address of a host's interface.
    ///
    /// # Errors
    /// When there is none.
    pub fn mac(&self, host: &str, interface: &str) -> Result<String> {
        let mut cat = self.on(host, "ip");
        cat.args(["-j", "link", "show", interface]);
        let output = cat.output()?;
        let links: serde_json::Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{host} has no {interface}"))?;
        let address = links.pointer("/0/address").and_then(|mac| mac.as_str());
        Ok(address.context("no hardware address")?.to_owned())
    }

    /// The processes in a host's network whose program is this file, as we see them.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn processes(&self, host: &str, program: &str) -> Result<Vec<u32>> {
        let network = fs::metadata(self.sandbox.network(host))?;
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = (entry?.file_name().to_str()).and_then(|name| name.parse().ok()) else {
                continue;
            };
            // Whoever is gone meanwhile is none.
            let (Ok(words), Ok(theirs)) = (
                fs::read(format!("/proc/{pid}/cmdline")),
                fs::metadata(format!("/proc/{pid}/ns/net")),
            ) else {
                continue;
            };
            let inside = (theirs.ino(), theirs.dev()) == (network.ino(), network.dev());
            if inside && words.split(|byte| *byte == 0).next() == Some(program.as_bytes()) {
                found.push(pid);
            }
        }
        Ok(found)
    }

    /// Sends every such process a signal; how many there were.
    ///
    /// # Errors
    /// When one is gone before.
    pub fn signal(&self, host: &str, program: &str, signal: Signal) -> Result<usize> {
        let processes = self.processes(host, program)?;
        for pid in &processes {
            let status = Command::new("kill")
                .args(["-s", signal.as_str(), &pid.to_string()])
                .status()?;
            ensure!(status.success(), "{program} of {host}: {status}");
        }
        Ok(processes.len())
    }

    /// Kills the API server without warning; its port is closed until it is started again.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn stop_api_server(&mut self) -> Result<()> {
        self.plane.stop_api_server()
    }

    /// Starts it again on the same data and waits until it is ready.
    ///
    /// # Errors
    /// When it is not in time.
    pub async fn start_api_server(&mut self) -> Result<()> {
        self.plane.restart_api_server().await
    }

    /// Starts a node's kubelet and kube-proxy again: the one registers a node that was deleted, the
    /// other has ended with it. Pods go on.
    ///
    /// # Errors
    /// When they cannot be started.
    pub async fn revive(&mut self, node: &str) -> Result<()> {
        let place = usize::from(self.number(node)?).saturating_sub(1);
        let Self {
            plane,
            sandbox,
            nodes,
            proxy,
        } = self;
        let node = nodes.get(place).context("no such node")?;
        node.start_kubelet(plane, sandbox)?;
        node.start_proxy(plane, sandbox, *proxy)?;
        self.ready().await
    }

    fn number(&self, node: &str) -> Result<u8> {
        let number = node.trim_start_matches("node").parse()?;
        ensure!((1..=self.count()).contains(&number), "no {node}");
        Ok(number)
    }

    fn count(&self) -> u8 {
        u8::try_from(self.nodes.len()).unwrap_or(u8::MAX)
    }
}

/// `1h`, `59m59s868ms`, as nft writes it.
fn span(text: &str) -> Result<Duration> {
    let (mut all, mut rest) = (0, text);
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let number: u64 = number.parse().with_context(|| format!("no time: {text}"))?;
        all += number
            * match unit {
                "d" => 86_400_000,
                "h" => 3_600_000,
                "m" => 60_000,
                "s" => 1_000,
                "ms" => 1,
                _ => bail!("no time: {text}"),
            };
        rest = after;
    }
    Ok(Duration::from_millis(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_nft_writes_them() {
        for (text, ms) in [
            ("1h", 3_600_000),
            ("59m59s868ms", 3_599_868),
            ("59m4s", 3_544_000),
            ("7ms", 7),
        ] {
            assert_eq!(span(text).unwrap(), Duration::from_millis(ms), "{text}");
        }
        assert!(span("soon").is_err());
    }
}
