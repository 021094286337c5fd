//! Counts what each process uses while it is measured.

use super::clock;
use super::report::Process;
use super::usage::{Machine, Usage, Watched};

/// A process that keeps this much of one processor busy may be the limit.
const WHOLE_CORE: f64 = 0.95;
/// A machine that is busier than this is the limit.
const WHOLE_MACHINE: f64 = 90.0;

/// Processes, with what they had used at first and at last.
pub(super) struct Meter {
    entries: Vec<Entry>,
    machine: Machine,
    since: u64,
}

struct Entry {
    watched: Watched,
    first: Usage,
    last: Usage,
    most: u64,
    since: u64,
}

impl Meter {
    /// Begins with no process.
    pub(super) fn new() -> Self {
        Self {
            entries: Vec::new(),
            machine: Machine::now(),
            since: clock::now(),
        }
    }

    /// Counts what a process uses from now on.
    pub(super) fn add(&mut self, watched: Watched) {
        let first = watched.usage().unwrap_or_default();
        self.entries.push(Entry {
            watched,
            first,
            last: first,
            most: first.memory,
            since: clock::now(),
        });
    }

    /// Counts what a process has used since its start.
    pub(super) fn add_whole(&mut self, watched: Watched) {
        self.add(watched);
        if let Some(entry) = self.entries.last_mut() {
            entry.first.cpu = 0.0;
        }
    }

    /// From here on everything counts anew.
    pub(super) fn restart(&mut self) {
        self.machine = Machine::now();
        self.since = clock::now();
        for entry in &mut self.entries {
            entry.first = entry.watched.usage().unwrap_or(entry.last);
            entry.since = self.since;
        }
    }

    /// Looks at all of them. A process that ended keeps what was seen last.
    pub(super) fn look(&mut self) {
        for entry in &mut self.entries {
            if let Some(usage) = entry.watched.usage() {
                entry.last = usage;
                entry.most = entry.most.max(usage.memory);
            }
        }
    }

    /// What each used for each of `count` things.
    pub(super) fn processes(&self, count: u64) -> Vec<Process> {
        let now = clock::now();
        let entries = self.entries.iter().map(|entry| {
            let cpu = entry.last.cpu - entry.first.cpu;
            let seconds = now.saturating_sub(entry.since) as f64 / 1e9;
            Process {
                name: entry.watched.name.clone(),
                cpu_seconds: cpu,
                cpu_us_each: if count == 0 {
                    0.0
                } else {
                    cpu * 1e6 / count as f64
                },
                cores: if seconds > 0.0 { cpu / seconds } else { 0.0 },
                max_memory_bytes: entry.most,
            }
        });
        entries.collect()
    }

    /// How busy the machine was, in percent.
    pub(super) fn machine_percent(&self) -> f64 {
        Machine::now().percent_since(self.machine)
    }

    /// What was at its limit, in words.
    pub(super) fn saturated(&self) -> Vec<String> {
        let mut found = Vec::new();
        let machine = self.machine_percent();
        if machine >= WHOLE_MACHINE {
            found.push(format!(
                "all processors of the machine: {machine:.0} % busy"
            ));
        }
        for process in self.processes(0) {
            if process.cores >= WHOLE_CORE {
                found.push(format!(
                    "{}: {:.2} processors busy",
                    process.name, process.cores
                ));
            }
        }
        found
    }
}
