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

use super::hub::{Hub, Offset, Replay, Standing};
use crate::{
    job::{Code, JobId, Principal, Rejection},
    metrics::numbers,
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
        let came_back = claim.is_some();
        let offset = claim.as_ref().and_then(|claim| claim.offset.as_deref()?.parse::<Offset>().ok());
        if let Some(claim) = claim.filter(|claim| is_pid(&claim.pid))
            && (claim.offset.is_none() || offset.is_some())
            && let Some(resumed) = self.store.resume_session(claim.pid.clone(), principal.clone()).await?
        {
            let generation = resumed.generation;
            if let Some(standing) = standing(offset, resumed) {
                return Ok((self.hold(claim.pid, generation, holder), standing));
            }
        }
        if came_back {
            numbers().recoveries.with_label_values(&["new_session"]).inc();
        }
        // An offset of before must lie before the new session.
        let stale = offset.map(|offset| offset.position);
        if let Some(stale) = stale {
            let _ = tokio::time::timeout(HEARSAY, self.hub.reach(stale)).await;
        }
        let start = self.hub.delivered();
        let pid = Uuid::new_v4().simple().to_string();
        self.store.open_session(pid.clone(), principal, start, stale).await?;
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
fn standing(offset: Option<Offset>, resumed: Resumed) -> Option<Standing> {
    let Resumed { rooms, start, stale, floor, head, .. } = resumed;
    // A client that was told nothing yet goes on naming the offset of the session before.
    let offset = offset.filter(|offset| Some(offset.position) != stale);
    let told = Told {
        live: offset.map_or(start, |offset| offset.past.map_or(offset.position, |past| past.live).max(start)),
        past: offset.and_then(|offset| Some((offset.past?.number, offset.position))),
    };
    let stays = rooms.iter().flat_map(|(job, room)| room.stays().map(|(stay, until)| (*job, stay, until)));
    let due: Vec<Replay> = stays
        .filter_map(|(job, stay, until)| Some(Replay::of(job, stay, told.due(stay)?, until)))
        .filter(|replay| replay.after < replay.up_to)
        .collect();
    let live = told.live;
    let from = due.iter().map(|replay| replay.after).fold(live, i64::min);
    let last_number = rooms.values().map(|room| room.number).chain(told.past.map(|(number, _)| number)).max();
    let last_number = last_number.unwrap_or(0);
    let viewer = Principal::anonymous();
    (from >= floor && live <= head).then_some(Standing {
        live,
        last_number,
        rooms,
        due,
        viewer,
        is_back: true,
    })
}

/// What reached a client.
struct Told {
    /// Up to here the live stream.
    live: i64,
    /// Of the past that it was being told then: the subscription's number, and up to where.
    past: Option<(u32, i64)>,
}

impl Told {
    /// Behind which position the past of a room is due, if it was not told in full. Pasts are told in the order of
    /// their numbers, each when the live stream is where it was at the subscription.
    fn due(&self, room: &Room) -> Option<i64> {
        match self.past {
            Some((number, position)) if number == room.number => Some(position.max(room.after)),
            Some((number, _)) => (number < room.number).then_some(room.after),
            None => (self.live <= room.live).then_some(room.after),
        }
    }
}

fn is_pid(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: JobId = JobId(Uuid::from_u128(1));
    const SECOND: JobId = JobId(Uuid::from_u128(2));

    fn room(number: u32, after: i64, since: i64) -> Room {
        let (job_door, automation_door, broadcasts, before) = (true, false, false, None);
        Room { job_door, automation_door, number, after, since, broadcasts, live: since, before }
    }

    /// A session that began at 50 in a journal that goes to 200, with two jobs joined at 100 and 150.
    fn resumed() -> Resumed {
        let rooms = HashMap::from([(FIRST, room(1, 10, 100)), (SECOND, room(2, 20, 150))]);
        Resumed { principal: None, rooms, start: 50, stale: Some(40), generation: 2, floor: 0, head: 200 }
    }

    /// Where it goes on live, and behind which positions the pasts of its first two subscriptions are due.
    fn goes_on(offset: &str, resumed: Resumed) -> Option<(i64, Option<i64>, Option<i64>)> {
        let Standing { live, due, .. } = standing(offset.parse().ok(), resumed)?;
        let of = |number| due.iter().find(|replay| replay.number == number).map(|replay| replay.after);
        Some((live, of(1), of(2)))
    }

    #[test]
    fn a_client_that_was_told_nothing_is_due_everything() {
        assert_eq!(goes_on("", resumed()), Some((50, Some(10), Some(20))));
        assert_eq!(goes_on("40", resumed()), Some((50, Some(10), Some(20))), "a stale offset");
    }

    #[test]
    fn what_was_told_live_behind_a_subscription_says_that_its_past_was_told() {
        assert_eq!(goes_on("160", resumed()), Some((160, None, None)));
        assert_eq!(goes_on("120", resumed()), Some((120, None, Some(20))));
        assert_eq!(goes_on("90", resumed()), Some((90, Some(10), Some(20))));
    }

    #[test]
    fn a_past_goes_on_where_it_stopped_and_the_next_one_begins() {
        assert_eq!(goes_on("60.1000000000001", resumed()), Some((100, Some(60), Some(20))));
        assert_eq!(goes_on("60.1500000000002", resumed()), Some((150, None, Some(60))));
        assert_eq!(goes_on("150.1500000000002", resumed()), Some((150, None, None)));
        // Of a job that it left since.
        assert_eq!(goes_on("60.1700000000003", resumed()), Some((170, None, None)));
        let standing = standing("60.1700000000003".parse().ok(), resumed()).unwrap();
        assert_eq!(standing.last_number, 3, "no number is given twice");
    }

    #[test]
    fn what_did_not_arrive_before_it_left_and_joined_again_is_due_too() {
        let mut again = resumed();
        let before = Some(Box::new(room(1, 10, 100)));
        again.rooms.insert(FIRST, Room { before, ..room(3, 70, 170) });
        let due = |offset: &str| -> Vec<(u32, i64, i64)> {
            let standing = standing(offset.parse().ok(), again.clone()).unwrap();
            let mut due: Vec<_> = standing.due.iter().map(|due| (due.number, due.after, due.up_to)).collect();
            due.sort_unstable();
            due
        };
        assert_eq!(due("90"), [(1, 10, 70), (2, 20, 150), (3, 70, 170)]);
        assert_eq!(due("60.1000000000001"), [(1, 60, 70), (2, 20, 150), (3, 70, 170)]);
        assert_eq!(due("160"), [(3, 70, 170)]);
        assert_eq!(due("140.1700000000003"), [(3, 140, 170)]);
    }

    #[test]
    fn what_retention_took_or_never_was_is_not_gone_on_from() {
        let with_floor = |floor| Resumed { floor, ..resumed() };
        assert_eq!(goes_on("160", with_floor(161)), None);
        assert_eq!(goes_on("160", with_floor(160)), Some((160, None, None)));
        assert_eq!(goes_on("120", with_floor(19)), Some((120, None, Some(20))));
        assert_eq!(goes_on("120", with_floor(30)), None, "the second job's past would be a part");
        assert_eq!(goes_on("201", resumed()), None);
        assert_eq!(goes_on("60.2010000000001", resumed()), None);
    }
}
