//! CPU time and memory of a server: one process and all its descendants, or threads, from /proc (Linux).

use std::fs;
use std::time::Duration;

/// The kernel reports CPU time in these (`USER_HZ`, 100 on every architecture Rust supports).
const TICKS_PER_SECOND: u64 = 100;

/// What a process tree has used. CPU times are sums since each process began, exact to 10 ms.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub user: Duration,
    pub system: Duration,
    /// Resident memory in bytes; pages that processes share are counted in each.
    pub rss: u64,
    /// Resident memory in bytes; shared pages are split among those that share them.
    pub pss: u64,
    pub processes: usize,
}

impl Usage {
    /// The usage of process `pid` and its descendants, children already reaped included.
    ///
    /// # Errors
    /// If there is no such process.
    pub fn of(pid: u32) -> Result<Usage, String> {
        let mut usage = Usage::default();
        for pid in tree(pid)? {
            // A descendant may end while this runs; its time then is in its parent's.
            let Some(stat) = Stat::read(pid) else {
                continue;
            };
            usage.user += stat.user;
            usage.system += stat.system;
            usage.rss += kilobytes(pid, "status", "VmRSS:");
            usage.pss += kilobytes(pid, "smaps_rollup", "Pss:");
            usage.processes += 1;
        }
        Ok(usage)
    }

    /// The usage of this process.
    pub fn own() -> Usage {
        Usage::of(std::process::id()).expect("/proc tells about its own reader")
    }

    /// User and system time.
    pub fn cpu(&self) -> Duration {
        self.user + self.system
    }

    /// CPU time used since an earlier reading.
    pub fn since(&self, earlier: &Usage) -> Usage {
        Usage {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
            ..*self
        }
    }

    /// What two servers have used together.
    pub fn and(&self, other: &Usage) -> Usage {
        Usage {
            user: self.user + other.user,
            system: self.system + other.system,
            rss: self.rss + other.rss,
            pss: self.pss + other.pss,
            processes: self.processes + other.processes,
        }
    }

    /// CPU time of both together; memory as it is in `later`.
    pub fn plus(&self, later: &Usage) -> Usage {
        Usage {
            user: self.user + later.user,
            system: self.system + later.system,
            ..*later
        }
    }
}

struct Stat {
    parent: u32,
    /// Without children.
    own: Duration,
    user: Duration,
    system: Duration,
}

impl Stat {
    fn read(pid: u32) -> Option<Stat> {
        Stat::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(text: &str) -> Option<Stat> {
        // The command's name may hold anything, but the last parenthesis closes it (proc(5)).
        let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        let time = |one: usize, other: usize| {
            let ticks = number(one)? + number(other)?;
            Some(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
        };
        Some(Stat {
            parent: number(4)? as u32,
            own: time(14, 15)?,
            user: time(14, 16)?,
            system: time(15, 17)?,
        })
    }
}

/// CPU time since each began of the threads of a process whose name begins with `prefix`, by name.
///
/// # Errors
/// If there is no such thread.
pub fn threads(pid: u32, prefix: &str) -> Result<Vec<Duration>, String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).map_err(|e| format!("{pid}: {e}"))?;
    let mut times: Vec<(String, Duration)> = tasks
        .filter_map(|task| {
            let task = task.ok()?.path();
            let name = fs::read_to_string(task.join("comm")).ok()?;
            let stat = Stat::parse(&fs::read_to_string(task.join("stat")).ok()?)?;
            // Times of reaped children are the process's and stand in each of its threads too.
            Some((name.trim_end().to_owned(), stat.own))
        })
        .filter(|(name, _)| name.starts_with(prefix))
        .collect();
    times.sort();
    if times.is_empty() {
        return Err(format!("process {pid} has no thread named {prefix}..."));
    }
    Ok(times.into_iter().map(|(_, time)| time).collect())
}

/// The process and all its descendants.
fn tree(root: u32) -> Result<Vec<u32>, String> {
    if Stat::read(root).is_none() {
        return Err(format!(
            "there is no process {root}; --pid takes the server's"
        ));
    }
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .map_err(|e| format!("/proc: {e}"))?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, Stat::read(pid)?.parent)))
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(
            parents
                .iter()
                .filter(|(_, of)| *of == parent)
                .map(|(pid, _)| pid),
        );
        next += 1;
    }
    Ok(found)
}

/// A line of a file of /proc in bytes; 0 if the process is gone or its file is not readable.
fn kilobytes(pid: u32, file: &str, label: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(label));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
        * 1024
}
