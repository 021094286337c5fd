//! What processes use, from `/proc`.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;

use url::Url;

/// The state of a listening socket in `/proc/net/tcp`.
const LISTENING: &str = "0A";

/// A process to watch, with its children.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    /// What it is called in the results.
    pub(super) name: String,
    /// Its id.
    pub(super) pid: u32,
    /// Whether it is a server that was there before: its highest use of memory so far may be of
    /// another day.
    pub(super) server: bool,
}

/// What a process and its children have used.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Usage {
    /// Processor time, in seconds.
    pub(super) cpu: f64,
    /// Memory that is in use now, or for our own processes the most that was, in bytes.
    pub(super) memory: u64,
}

/// What all processors of the machine have done since it was started, in ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Machine {
    busy: u64,
    all: u64,
}

impl Watched {
    /// What it has used; `None` when it is gone.
    pub(super) fn usage(&self) -> Option<Usage> {
        if !self.server {
            let ticks = ticks(self.pid)?;
            let memory = kilobytes(self.pid, "VmHWM")?;
            return Some(Usage {
                cpu: seconds(ticks),
                memory,
            });
        }
        let tree = with_children(self.pid);
        let mut sum = 0;
        // Memory that Postgres' processes share is counted once.
        let (mut own, mut shared) = (0, 0);
        for pid in tree {
            sum += ticks(pid).unwrap_or(0);
            own += kilobytes(pid, "RssAnon").unwrap_or(0);
            shared = shared.max(kilobytes(pid, "RssShmem").unwrap_or(0));
        }
        (sum > 0).then(|| Usage {
            cpu: seconds(sum),
            memory: own + shared,
        })
    }
}

impl Machine {
    /// As it stands now.
    pub(super) fn now() -> Self {
        let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        Self::parse(&text)
    }

    fn parse(text: &str) -> Self {
        let line = text.lines().next().unwrap_or_default();
        // user nice system idle iowait irq softirq steal; what follows is in `user` already.
        let ticks: Vec<u64> = line
            .split_whitespace()
            .skip(1)
            .take(8)
            .filter_map(|number| number.parse().ok())
            .collect();
        let all = ticks.iter().sum();
        let idle: u64 = ticks.iter().skip(3).take(2).sum();
        Self {
            busy: all - idle,
            all,
        }
    }

    /// How busy all processors were since then, in percent.
    pub(super) fn percent_since(self, earlier: Self) -> f64 {
        let all = self.all.saturating_sub(earlier.all);
        if all == 0 {
            return 0.0;
        }
        100.0 * self.busy.saturating_sub(earlier.busy) as f64 / all as f64
    }
}

/// The server behind a URL, where it runs on this machine and may be looked at. `command` is what
/// its processes are called.
pub(super) fn server(url: &str, port: u16, command: &str) -> Option<u32> {
    // A cluster's URLs have commas between them.
    let url = Url::parse(url.split(',').next()?).ok()?;
    if !is_here(&url) {
        return None;
    }
    let found = listener(url.port().unwrap_or(port)).filter(|pid| is_called(*pid, command));
    found.or_else(|| only_one(command))
}

fn is_here(url: &Url) -> bool {
    match url.host_str().unwrap_or_default() {
        "" | "localhost" => true,
        // An address that can be bound is one of this machine's.
        host => format!("{host}:0")
            .parse::<SocketAddr>()
            .is_ok_and(|address| UdpSocket::bind(address).is_ok()),
    }
}

/// The process that listens on a port.
fn listener(port: u16) -> Option<u32> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .flat_map(|text| listening(&text, port))
        .collect();
    processes().into_iter().find(|pid| {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd"));
        files.into_iter().flatten().flatten().any(|file| {
            std::fs::read_link(file.path()).is_ok_and(|target: PathBuf| {
                let target = target.to_string_lossy();
                inodes
                    .iter()
                    .any(|inode| *target == *format!("socket:[{inode}]"))
            })
        })
    })
}

/// The inodes of the sockets that listen on a port.
fn listening(text: &str, port: u16) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    let lines = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines
        .filter(|columns| {
            columns.get(1).is_some_and(|local| local.ends_with(&suffix))
                && columns.get(3) == Some(&LISTENING)
        })
        .filter_map(|columns| columns.get(9).map(|inode| (*inode).to_owned()))
        .collect()
}

/// The only process of this name that is not a child of another one.
fn only_one(command: &str) -> Option<u32> {
    let roots: Vec<u32> = processes()
        .into_iter()
        .filter(|pid| is_called(*pid, command))
        .filter(|pid| parent(*pid).is_some_and(|parent| !is_called(parent, command)))
        .collect();
    match roots[..] {
        [pid] => Some(pid),
        _ => None,
    }
}

fn is_called(pid: u32, command: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm"))
        .is_ok_and(|comm| comm.trim_end().starts_with(command))
}

fn processes() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn with_children(root: u32) -> Vec<u32> {
    let parents: BTreeMap<u32, u32> = processes()
        .into_iter()
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect();
    let below = |pid: &u32| {
        let mut at = *pid;
        // A process's ancestors end at 1; the bound is for a table that changed meanwhile.
        for _ in 0..64 {
            if at == root {
                return true;
            }
            match parents.get(&at) {
                Some(parent) => at = *parent,
                None => return false,
            }
        }
        false
    };
    parents.keys().copied().filter(below).collect()
}

fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.get(1)?.parse().ok()
}

/// The fields of `/proc/PID/stat` from the third on: what stands before them may have spaces.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// Processor time of a process and of the children that ended, in ticks.
fn ticks(pid: u32) -> Option<u64> {
    // utime, stime, cutime, cstime: fields 14 to 17.
    let fields = stat(pid)?;
    Some(
        fields
            .get(11..15)?
            .iter()
            .filter_map(|field| field.parse::<u64>().ok())
            .sum(),
    )
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// A line of `/proc/PID/status` that is in kilobytes, in bytes.
fn kilobytes(pid: u32, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    let number: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(number * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let own = std::process::id();
        assert_eq!(super::listener(port), Some(own));
        assert!(with_children(parent(own).unwrap()).contains(&own));
        let watched = Watched {
            name: "test".to_owned(),
            pid: own,
            server: false,
        };
        assert!(watched.usage().unwrap().memory > 1024 * 1024);
    }

    #[test]
    fn only_listening_sockets_of_the_port_count() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   \
                    uid  timeout inode\n   \
                    0: 0100007F:1538 00000000:0000 0A 0:0 00:0 0 0 0 77 1\n   \
                    1: 0100007F:1538 0100007F:9999 01 0:0 00:0 0 0 0 78 1\n";
        assert_eq!(listening(text, 5_432), ["77"]);
        assert!(listening(text, 5_433).is_empty());
    }

    #[test]
    fn a_machine_is_busy_where_it_is_not_idle() {
        let first = Machine::parse("cpu  10 0 10 70 10 0 0 0 5 0\ncpu0 1");
        let second = Machine::parse("cpu  40 0 20 110 10 0 0 20 5 0");
        assert!((second.percent_since(first) - 60.0).abs() < 1e-9);
        assert!(first.percent_since(first).abs() < 1e-9);
    }
}
