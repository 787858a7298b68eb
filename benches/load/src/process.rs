//! What processes spend, read from `/proc`: CPU time and memory of a broker and its children.

use std::collections::BTreeSet;
use std::fs;

/// Spent by a set of processes since they began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    pub cpu_seconds: f64,
    /// Resident bytes at their peak, summed.
    pub peak_rss: u64,
}

/// The fields of `/proc/<pid>/stat` that matter here.
#[derive(Debug, PartialEq)]
struct Stat {
    parent: u32,
    /// User and system time in clock ticks.
    ticks: u64,
}

/// `roots` and all that descend from them and still run.
pub fn tree(roots: &[u32]) -> Vec<u32> {
    let mut found: BTreeSet<u32> = roots.iter().copied().collect();
    if found.is_empty() {
        return Vec::new();
    }
    let processes = processes();
    loop {
        let before = found.len();
        let children = processes
            .iter()
            .filter(|(_, parent)| found.contains(parent))
            .map(|(pid, _)| *pid);
        let children: Vec<u32> = children.collect();
        found.extend(children);
        if found.len() == before {
            return found.into_iter().collect();
        }
    }
}

pub fn spent(pids: &[u32]) -> Spent {
    let per_second = rustix::param::clock_ticks_per_second() as f64;
    let ticks: u64 = pids
        .iter()
        .filter_map(|pid| stat(*pid))
        .map(|stat| stat.ticks)
        .sum();
    let peak_rss = pids
        .iter()
        .filter_map(|pid| status_bytes(*pid, "VmHWM:"))
        .sum();
    Spent {
        cpu_seconds: ticks as f64 / per_second,
        peak_rss,
    }
}

/// Makes the peak begin again from what is resident now, where the system lets us.
pub fn reset_peak(pids: &[u32]) {
    for pid in pids {
        // Without the right to do so, the peak of the process's whole life is reported.
        let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
    }
}

fn processes() -> Vec<(u32, u32)> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?.parent)))
        .collect()
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// proc(5): the second field is the command in parentheses and may itself hold blanks and parentheses.
fn parse_stat(line: &str) -> Option<Stat> {
    let (_, fields) = line.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        parent: u32::try_from(number(1)?).ok()?,
        ticks: number(11)? + number(12)?,
    })
}

fn status_bytes(pid: u32, field: &str) -> Option<u64> {
    parse_status(
        &fs::read_to_string(format!("/proc/{pid}/status")).ok()?,
        field,
    )
}

fn parse_status(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(field))?;
    let kibibytes: u64 = line[field.len()..]
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let line = "42 (a (b) c) S 7 42 42 0 -1 4194560 100 0 0 0 30 12 0 0 20 0 5 0 100 1000 10";
        assert_eq!(
            parse_stat(line),
            Some(Stat {
                parent: 7,
                ticks: 42
            })
        );
        assert_eq!(parse_stat("42 (a"), None);
    }

    #[test]
    fn memory_is_given_in_bytes() {
        let text = "Name:\tx\nVmHWM:\t    1200 kB\nVmRSS:\t 1000 kB\n";
        assert_eq!(parse_status(text, "VmHWM:"), Some(1_228_800));
        assert_eq!(parse_status(text, "VmSwap:"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_is_in_its_tree_and_has_memory() {
        let pids = tree(&[std::process::id()]);
        assert!(pids.contains(&std::process::id()));
        assert!(spent(&pids).peak_rss > 0);
        assert!(tree(&[]).is_empty());
    }
}
