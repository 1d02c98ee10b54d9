//! Outside programs: where they are, which user runs them, and that they die with us.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A command that runs `program`, as another user and group if ids are given, and that gets `death_signal` (such as
/// `KILL`) when the thread that starts it ends. Start long-lived programs from a thread that lives as long as they do.
pub fn command(program: &Path, ids: Option<(u32, u32)>, death_signal: Option<&str>) -> Command {
    if ids.is_none() && death_signal.is_none() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    if let Some((uid, gid)) = ids {
        command.arg(format!("--reuid={uid}")).arg(format!("--regid={gid}")).arg("--clear-groups");
    }
    if let Some(signal) = death_signal {
        command.arg("--pdeathsig").arg(signal);
    }
    command.arg("--").arg(program);
    command
}

/// The full path of a program on `PATH`.
pub fn find_program(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// A short path in the system's temporary folder that stands for a long one, the same each time: a socket's path has
/// at most 107 bytes.
pub fn short_folder(long: &Path) -> PathBuf {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    long.hash(&mut hasher);
    std::env::temp_dir().join(format!("jobcast-{:016x}", hasher.finish()))
}

/// Lets this process open as many files, and so connections, as it is allowed to; returns how many that are.
///
/// # Errors
/// When the system refuses what its own hard limit allows.
pub fn raise_open_files() -> std::io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// User and group id of a user of this system.
pub fn user_ids(name: &str) -> Option<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        Some((uid, fields.next()?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files_are_limited_by_the_hard_limit_alone() {
        let limit = raise_open_files().unwrap();
        let now = getrlimit(Resource::Nofile);
        assert_eq!(now.current, now.maximum);
        assert_eq!(now.current.unwrap_or(u64::MAX), limit);
    }

    #[test]
    fn users_and_programs_of_the_system_are_found() {
        assert_eq!(user_ids("root"), Some((0, 0)));
        assert_eq!(user_ids("nobody-of-this-name"), None);
        assert!(find_program("sh").is_some());
        assert_eq!(find_program("no-program-of-this-name"), None);
    }
}
