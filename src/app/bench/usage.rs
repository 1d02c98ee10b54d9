//! What a process and those that it started have used, as the kernel tells it under /proc.

use std::{collections::HashMap, fs, time::Duration};

use anyhow::{Context as _, anyhow};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
use serde::Serialize;

/// Processor time, user and system, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cpu {
    /// Of the process itself.
    pub own: f64,
    /// Of the processes that it started, and that those started, also of those that have ended.
    pub children: f64,
}

impl std::ops::Sub for Cpu {
    type Output = Cpu;

    fn sub(self, before: Cpu) -> Cpu {
        Cpu { own: self.own - before.own, children: self.children - before.children }
    }
}

/// One line of /proc/PID/stat; times in ticks.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stat {
    parent: u32,
    own: u64,
    /// Of children that have ended and were waited for.
    ended: u64,
}

impl Stat {
    fn read(text: &str) -> Option<Stat> {
        // The name stands in parentheses and may hold anything.
        let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
        let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Stat {
            parent: fields.get(1)?.parse().ok()?,
            own: ticks(11)? + ticks(12)?,
            ended: ticks(13)? + ticks(14)?,
        })
    }
}

/// The processor time of a process and its descendants up to now.
///
/// # Errors
/// When there is no such process.
pub fn cpu(pid: u32) -> anyhow::Result<Cpu> {
    let processes = processes();
    let own = processes.get(&pid).ok_or_else(|| anyhow!("process {pid} is gone; its log tells why"))?;
    let descendants = descendants(pid, &processes);
    let children: u64 =
        descendants.iter().filter_map(|pid| processes.get(pid)).map(|s| s.own + s.ended).sum();
    let seconds = |ticks: u64| ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
    Ok(Cpu { own: seconds(own.own), children: seconds(own.ended + children) })
}

/// Bytes of memory of a process and its descendants by the names of their programs, what they share divided among them.
/// One that ends meanwhile counts nothing.
pub fn memory_by_program(pid: u32) -> HashMap<String, u64> {
    let mut found = HashMap::new();
    for pid in std::iter::once(pid).chain(family(pid)) {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        *found.entry(name.trim().to_owned()).or_default() += memory(pid).unwrap_or_default();
    }
    found
}

/// Seconds of all processors since the machine's start: at work, and in all.
pub fn machine() -> anyhow::Result<(f64, f64)> {
    let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let line = text.lines().next().and_then(|line| line.strip_prefix("cpu "));
    let ticks: Vec<f64> =
        line.unwrap_or_default().split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [user, nice, system, idle, wait, irq, soft, steal, ..] = ticks[..] else {
        return Err(anyhow!("/proc/stat does not begin with the processors' times"));
    };
    let second = rustix::param::clock_ticks_per_second() as f64;
    let busy = user + nice + system + irq + soft + steal;
    Ok((busy / second, (busy + idle + wait) / second))
}

/// The processes that a process started, and that those started.
pub fn family(pid: u32) -> Vec<u32> {
    descendants(pid, &processes())
}

/// Blocks until a process has ended, be it a child of ours or not, but not for longer than `within`.
pub fn await_end(pid: u32, within: Duration) {
    let Some(pid) = Pid::from_raw(pid.cast_signed()) else { return };
    // One that is gone already has none.
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    let within = Timespec::try_from(within).unwrap_or_default();
    let _ = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&within));
}

/// Begins to look for the most memory that this process holds from now on; returns what it holds, in bytes.
pub fn begin_peak() -> anyhow::Result<u64> {
    // The kernel takes a 5 for "forget the peak".
    fs::write("/proc/self/clear_refs", "5").context("cannot write /proc/self/clear_refs")?;
    status_line("VmRSS:")
}

/// The most memory that this process has held since [`begin_peak`], in bytes.
pub fn peak() -> anyhow::Result<u64> {
    status_line("VmHWM:")
}

fn status_line(key: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    Ok(kilobytes.ok_or_else(|| anyhow!("/proc/self/status names no {key}"))? * 1024)
}

/// Bytes of memory of a process, what it shares divided by those who share it.
pub fn memory(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    Ok(kilobytes.ok_or_else(|| anyhow!("{path} names no Pss"))? * 1024)
}

fn processes() -> HashMap<u32, Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some((pid, Stat::read(&text)?))
    })
    .collect()
}

fn descendants(pid: u32, processes: &HashMap<u32, Stat>) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(processes.iter().filter(|(_, stat)| stat.parent == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernel_is_read_whatever_the_name_is() {
        let line = "7 (a) b (c) S 5 7 7 0 -1 4194560 100 200 0 0 11 12 13 14 20 0 1 0 100 0 0";
        assert_eq!(Stat::read(line), Some(Stat { parent: 5, own: 23, ended: 27 }));
        assert_eq!(Stat::read("7 (a) S"), None);
        assert_eq!(Stat::read(""), None);
    }

    #[test]
    fn a_child_of_a_child_belongs_to_the_family() {
        let stat = |parent| Stat { parent, own: 0, ended: 0 };
        let processes = HashMap::from([(1, stat(0)), (2, stat(1)), (3, stat(2)), (4, stat(0)), (5, stat(1))]);
        let mut family = descendants(1, &processes);
        family.sort_unstable();
        assert_eq!(family, [2, 3, 5]);
    }

    #[test]
    fn this_process_uses_time_and_memory() {
        let pid = std::process::id();
        assert!(memory(pid).unwrap() > 100_000);
        assert!(cpu(pid).unwrap().own >= 0.0);
        // There is no process of this number.
        assert!(memory(u32::MAX).is_err() && cpu(u32::MAX).is_err());
    }

    #[test]
    fn the_end_of_a_process_is_waited_for() {
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        await_end(child.id(), Duration::from_millis(1));
        assert!(child.try_wait().unwrap().is_none(), "it waits for its input's end");
        drop(child.stdin.take());
        await_end(child.id(), Duration::from_secs(60));
        assert!(child.try_wait().unwrap().is_some());
        await_end(child.id(), Duration::from_secs(60));
    }
}
