//! What the kernel knows of this process, under /proc.

use std::fs;

use super::Numbers;

/// What /proc/self/stat tells, in ticks and pages.
struct Stat {
    cpu: u64,
    start: u64,
    resident: u64,
}

impl Numbers {
    /// Sets the process' own numbers. What the kernel does not tell stays as it was.
    pub(super) fn read_process(&self) {
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().and_then(|text| Stat::read(&text)) {
            self.resident_memory.set((stat.resident * rustix::param::page_size() as u64) as i64);
            let cpu = stat.cpu as f64 / ticks;
            self.cpu.inc_by((cpu - self.cpu.get()).max(0.0));
            if let Some(boot) = boot_time() {
                self.start_time.set(boot + stat.start as f64 / ticks);
            }
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            self.open_fds.set(open.count() as i64);
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        self.max_fds.set(limit.and_then(|limit| i64::try_from(limit).ok()).unwrap_or(i64::MAX));
    }
}

impl Stat {
    fn read(text: &str) -> Option<Stat> {
        // The name stands in parentheses and may hold anything.
        let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Stat { cpu: number(11)? + number(12)?, start: number(19)?, resident: number(21)? })
    }
}

/// When the machine began, in seconds since 1970.
fn boot_time() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}
