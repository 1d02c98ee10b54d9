//! Sessions that outlive connections: a client that comes back with its `pid` and offset goes on where it was.
//!
//! What a session is made of stands in the journal's database, so it can be taken up on any node, after a restart, and
//! after any time that the settings allow. It is taken up whole or not at all: a client that cannot be told everything
//! that it missed gets a new `pid`, by which it knows.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::hub::{Hub, Standing};
use crate::{
    event::{Class, Kind},
    job::{Code, JobId, Rejection},
    store::{Resumed, Room, Store, StoreError},
};

/// How long a new session waits for this process to hear of what its client was told by another one.
const HEARSAY: Duration = Duration::from_secs(1);
/// Touched at once.
const TOUCHES: usize = 1000;
/// What a client says of the session that it was in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub pid: String,
    /// The last argument of the last event that it was told, if it was told any.
    pub offset: Option<String>,
}

/// What ends a connection whose session went on elsewhere.
pub trait Holder: Send + Sync + 'static {
    fn let_go(&self);
}

/// All sessions that are held by sockets of this process.
pub struct Sessions {
    store: Store,
    hub: Arc<Hub>,
    held: Mutex<HashMap<String, Weak<dyn Holder>>>,
}

/// A session that a socket holds.
pub struct Session {
    pub pid: String,
    /// The fencing token.
    generation: i32,
    sessions: Arc<Sessions>,
    holder: Weak<dyn Holder>,
}

impl Sessions {
    /// Starts keeping sessions; those whose clients were not here for `ttl` are forgotten, until the second value is
    /// dropped.
    pub fn start(store: Store, hub: Arc<Hub>, ttl: Duration) -> (Arc<Sessions>, AbortOnDropHandle<()>) {
        let sessions = Arc::new(Sessions { store, hub, held: Mutex::default() });
        let keep = tokio::spawn(sessions.clone().keep(ttl));
        (sessions, AbortOnDropHandle::new(keep))
    }

    /// Takes up the session that a client claims, or begins a new one. Returns it with what its client is due.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn begin(
        self: &Arc<Self>,
        claim: Option<Claim>,
        principal: Option<String>,
        holder: Weak<dyn Holder>,
    ) -> Result<(Session, Standing), StoreError> {
        let offset = claim.as_ref().and_then(|claim| claim.offset.as_deref()?.parse::<i64>().ok());
        if let Some(claim) = claim.filter(|claim| is_pid(&claim.pid))
            && (claim.offset.is_none() || offset.is_some())
            && let Some(resumed) = self.store.resume_session(claim.pid.clone(), offset).await?
            && resumed.principal == principal
        {
            let generation = resumed.generation;
            if let Some(standing) = standing(offset, resumed) {
                return Ok((self.hold(claim.pid, generation, holder), standing));
            }
        }
        // An offset of before must lie before the new session.
        if let Some(offset) = offset {
            let _ = tokio::time::timeout(HEARSAY, self.hub.reach(offset)).await;
        }
        let start = self.hub.delivered();
        let pid = Uuid::new_v4().simple().to_string();
        self.store.open_session(pid.clone(), principal, start, offset).await?;
        Ok((self.hold(pid, 1, holder), Standing::new(start)))
    }

    fn hold(self: &Arc<Self>, pid: String, generation: i32, holder: Weak<dyn Holder>) -> Session {
        let before = self.held().insert(pid.clone(), holder.clone());
        // The client is here: what still stands of its old connection is dead.
        if let Some(before) = before.and_then(|before| before.upgrade()) {
            before.let_go();
        }
        Session { pid, generation, sessions: self.clone(), holder }
    }

    async fn keep(self: Arc<Self>, ttl: Duration) {
        let mut rounds = tokio::time::interval((ttl / 4).max(Duration::from_secs(1)));
        loop {
            rounds.tick().await;
            let held: Vec<String> = self.held().keys().cloned().collect();
            let kept = async {
                for pids in held.chunks(TOUCHES) {
                    self.store.touch_sessions(pids).await?;
                }
                self.store.forget_sessions(ttl).await
            };
            match kept.await {
                Ok(0) => {}
                Ok(forgotten) => tracing::debug!(forgotten, "sessions whose clients did not come back"),
                Err(error) => tracing::warn!(%error, "sessions could not be tidied up; trying again"),
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, Weak<dyn Holder>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Notes a room of the session, or that it was left.
    ///
    /// # Errors
    /// [`Code::Unavailable`] when the session was taken up by another connection, or the database cannot be reached.
    pub async fn note(&self, job: JobId, room: Option<Room>) -> Result<(), StoreError> {
        let changes = BTreeMap::from([(job, room)]);
        if self.sessions.store.change_rooms(self.pid.clone(), self.generation, changes).await? {
            return Ok(());
        }
        Err(Rejection::new(Code::Unavailable, "This session goes on over another connection.").into())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut held = self.sessions.held();
        // Whoever took it up since has its own entry.
        if held.get(&self.pid).is_some_and(|holder| holder.ptr_eq(&self.holder)) {
            held.remove(&self.pid);
        }
    }
}

/// Where the client of a session stands that was told something last at `offset`; none if it cannot be told all that
/// it missed.
///
/// Positions mostly tell more than the last event, for what is told live comes in their order. But the past of a job,
/// asked for at a subscription, is told out of this order: before the live stream goes on, one subscription after the
/// other. Whether the last event belonged to it is seen by the event's job.
fn standing(offset: Option<i64>, resumed: Resumed) -> Option<Standing> {
    let Resumed { rooms, start, stale, at_offset, floor, head, .. } = resumed;
    // A client that was told nothing yet goes on naming the offset of the session before.
    let offset = offset.filter(|offset| Some(*offset) != stale);
    let replaying = offset.zip(at_offset).and_then(|(offset, (job, kind))| {
        let room = rooms.get(&job)?;
        let is_told =
            room.broadcasts || Kind::from_wire_name(&kind).map(Kind::class) != Some(Class::Broadcast);
        // What it had been told of the job before it asked again does not count; better told twice than not at all.
        let is_past = offset > room.after.max(room.told) && offset <= room.since;
        (is_told && is_past).then_some((room, offset))
    });
    let live = match (replaying, offset) {
        (Some((room, _)), _) => room.live,
        (None, Some(offset)) => offset.max(start),
        (None, None) => start,
    };
    let due = |room: &Room| {
        let from = match replaying {
            Some((now, offset)) if now.number == room.number => Some(offset),
            Some((now, _)) => (now.number < room.number).then_some(room.after),
            // Told live before it joined; behind that the replay would have come first.
            None => (live <= room.live).then_some(room.after),
        };
        from.filter(|from| *from < room.since)
    };
    let due: Vec<(JobId, i64)> = rooms.iter().filter_map(|(job, room)| Some((*job, due(room)?))).collect();
    let from = due.iter().map(|(_, from)| *from).fold(live, i64::min);
    (from >= floor && live <= head).then_some(Standing { live, rooms, due })
}

fn is_pid(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: JobId = JobId(Uuid::from_u128(1));
    const SECOND: JobId = JobId(Uuid::from_u128(2));

    /// A session that began at 50 in a journal that goes to 200, with two jobs joined at 100 and 150.
    fn resumed(at_offset: Option<JobId>) -> Resumed {
        let room = |number, after, since| Room {
            job_door: true,
            automation_door: false,
            number,
            after,
            since,
            broadcasts: false,
            live: since,
            told: 0,
        };
        let rooms = HashMap::from([(FIRST, room(1, 10, 100)), (SECOND, room(2, 20, 150))]);
        Resumed {
            principal: None,
            rooms,
            start: 50,
            stale: Some(40),
            at_offset: at_offset.map(|job| (job, Kind::JobUpdated.wire_name().to_owned())),
            generation: 2,
            floor: 0,
            head: 200,
        }
    }

    /// Where it goes on live, and behind which positions its jobs' pasts are due.
    fn goes_on(offset: Option<i64>, resumed: Resumed) -> Option<(i64, Option<i64>, Option<i64>)> {
        let Standing { live, due, .. } = standing(offset, resumed)?;
        let of = |job| due.iter().find(|(due, _)| *due == job).map(|(_, from)| *from);
        Some((live, of(FIRST), of(SECOND)))
    }

    #[test]
    fn a_client_that_was_told_nothing_is_due_everything() {
        assert_eq!(goes_on(None, resumed(None)), Some((50, Some(10), Some(20))));
        assert_eq!(goes_on(Some(40), resumed(None)), Some((50, Some(10), Some(20))), "a stale offset");
    }

    #[test]
    fn what_was_told_live_behind_a_subscription_says_that_its_past_was_told() {
        assert_eq!(goes_on(Some(160), resumed(Some(FIRST))), Some((160, None, None)));
        assert_eq!(goes_on(Some(120), resumed(Some(FIRST))), Some((120, None, Some(20))));
        // Another job's event, which everybody is told.
        assert_eq!(goes_on(Some(90), resumed(Some(JobId(Uuid::nil())))), Some((90, Some(10), Some(20))));
        // An event whose job was removed.
        assert_eq!(goes_on(Some(120), resumed(None)), Some((120, None, Some(20))));
    }

    #[test]
    fn a_past_goes_on_where_it_stopped_and_the_next_one_begins() {
        assert_eq!(goes_on(Some(60), resumed(Some(FIRST))), Some((100, Some(60), Some(20))));
        assert_eq!(goes_on(Some(60), resumed(Some(SECOND))), Some((150, None, Some(60))));
        assert_eq!(goes_on(Some(150), resumed(Some(SECOND))), Some((150, None, None)));
    }

    #[test]
    fn who_asks_for_the_past_again_is_told_it_again() {
        let mut again = resumed(Some(FIRST));
        if let Some(room) = again.rooms.get_mut(&FIRST) {
            (room.number, room.after, room.since, room.live, room.told) = (3, 0, 170, 170, 160);
        }
        assert_eq!(goes_on(Some(160), again.clone()), Some((160, Some(0), None)));
        assert_eq!(goes_on(Some(165), again), Some((170, Some(165), None)));
    }

    #[test]
    fn what_retention_took_or_never_was_is_not_gone_on_from() {
        let with_floor = |floor| Resumed { floor, ..resumed(Some(FIRST)) };
        assert_eq!(goes_on(Some(160), with_floor(161)), None);
        assert_eq!(goes_on(Some(160), with_floor(160)), Some((160, None, None)));
        assert_eq!(goes_on(Some(120), with_floor(30)), None, "the second job's past would be a part");
        assert_eq!(goes_on(Some(201), resumed(None)), None);
    }
}
