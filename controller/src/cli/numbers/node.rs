//! Reads what the kernel says of this node's ports. Settings and sockets are those of the reader's
//! own network namespace, wherever the proc file system is mounted: a Pod needs `hostNetwork: true`.

use std::{collections::BTreeMap, fs, io::ErrorKind, path::Path};

use anyhow::{Context as _, Result, anyhow};
use controller::core::audit::proc::{self, Node};
use model::Protocol;

/// Settings and sockets.
pub(super) fn read(root: &Path) -> Result<Node> {
    let setting = |name: &str| {
        let path = root.join("sys/net/ipv4").join(name);
        let text = fs::read_to_string(&path);
        let text = text.with_context(|| format!("cannot read {}", path.display()))?;
        Ok::<_, anyhow::Error>((path, text))
    };
    let (path, text) = setting("ip_local_port_range")?;
    let ephemeral = proc::ephemeral(&text).map_err(|why| anyhow!("{}: {why}", path.display()))?;
    let (path, text) = setting("ip_local_reserved_ports")?;
    let reserved = proc::reserved(&text).map_err(|why| anyhow!("{}: {why}", path.display()))?;
    let mut node = Node {
        ephemeral,
        reserved,
        ..Node::default()
    };
    let files = [
        ("tcp", Protocol::Tcp),
        ("tcp6", Protocol::Tcp),
        ("udp", Protocol::Udp),
        ("udp6", Protocol::Udp),
        ("sctp/eps", Protocol::Sctp),
    ];
    for (file, protocol) in files {
        let path = root.join("net").join(file);
        match fs::read_to_string(&path) {
            Ok(text) => node.sockets.extend(match protocol {
                Protocol::Tcp | Protocol::Udp => proc::sockets(protocol, &text),
                Protocol::Sctp => proc::endpoints(&text),
            }),
            // A kernel without IPv6 or SCTP has no such sockets either.
            Err(error) if error.kind() == ErrorKind::NotFound && file != "tcp" => {}
            Err(error) => {
                let path = path.display();
                return Err(error).with_context(|| format!("cannot read {path}"));
            }
        }
    }
    Ok(node)
}

/// Finds whose the sockets are, as far as this process may know: it takes root to see the files of
/// other users' processes, and the node's process namespace to see these at all.
pub(super) fn name_processes(root: &Path, node: &mut Node) {
    let mut names: BTreeMap<u64, String> = BTreeMap::new();
    for process in fs::read_dir(root).into_iter().flatten().flatten() {
        let pid = process.file_name();
        let Some(pid) = pid.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let files = fs::read_dir(process.path().join("fd"));
        let inodes: Vec<u64> = (files.into_iter().flatten().flatten())
            .filter_map(|file| inode(&fs::read_link(file.path()).ok()?))
            .collect();
        if inodes.is_empty() {
            continue;
        }
        let Ok(name) = fs::read_to_string(process.path().join("comm")) else {
            continue;
        };
        for inode in inodes {
            let name = || format!("{} (pid {pid})", name.trim());
            names.entry(inode).or_insert_with(name);
        }
    }
    for socket in &mut node.sockets {
        socket.process = names.get(&socket.inode).cloned();
    }
}

/// Of `socket:[4711]`.
fn inode(link: &Path) -> Option<u64> {
    let text = link.to_str()?.strip_prefix("socket:[")?;
    text.strip_suffix(']')?.parse().ok()
}
