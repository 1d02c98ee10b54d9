//! What is tried on a server, one file each; every number is a flag.

pub mod append;
pub mod fanout;
pub mod frontends;
pub mod idle;
pub mod import;
pub mod jitter;
pub mod labels;
pub mod latejoin;
pub mod pipeline;
pub mod redeploy;
pub mod sheets;
pub mod storm;

use std::time::Duration;

use anyhow::ensure;

use super::{crowd::Crowd, progress::Progress};

/// How long a crowd may take to get in.
pub const ENTRY: Duration = Duration::from_secs(120);
/// When nothing more has come for so long, nothing more comes.
pub const QUIET: Duration = Duration::from_secs(5);
/// When everything has come, what should not come has a little time left to do so.
pub const AFTERMATH: Duration = Duration::from_millis(200);

/// Waits until the whole crowd is in its room; a scenario that needs everybody cannot go on without.
pub async fn everybody(crowd: &Crowd, progress: &Progress) -> anyhow::Result<()> {
    let all = crowd.all_inside(ENTRY, progress).await;
    ensure!(
        all.is_some(),
        "{} of {} clients are in their room after {} s, with {} failed attempts",
        crowd.inside(),
        crowd.size(),
        ENTRY.as_secs(),
        crowd.errors()
    );
    Ok(())
}
