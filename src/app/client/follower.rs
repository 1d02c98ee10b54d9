//! Stays with one job to its end, through lost connections and restarts of the server.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use tokio::time::{Instant, sleep_until};

use super::{Client, ClientError, Code, Incoming, Remote};
use crate::{
    event::{Event, Kind, Timestamp},
    job::{JobId, JobView},
    realtime::hub::Offset,
};

/// How long a server may be away.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time for the answer to a subscription.
const SUBSCRIPTION: Duration = Duration::from_secs(30);
/// Waits between two tries double from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// A connection that lasted so long was a good one even if it brought nothing.
const STEADY: Duration = Duration::from_secs(10);

/// What a follower learns.
#[derive(Debug)]
pub enum News {
    /// Something happened to the job.
    Told(Told),
    /// A sentence about the connection, for people.
    Note(String),
}

/// An event of the job (or a notification to everyone).
#[derive(Debug)]
pub struct Told {
    /// Its wire name.
    pub name: String,
    /// Its place among the job's events, from 1; `None` for progress and notifications, which are not kept.
    pub seq: Option<u32>,
    /// As it came: one JSON object.
    pub payload: Box<RawValue>,
    /// `None` for an event that this version does not know.
    pub event: Option<Event>,
}

/// Follows one job: each of its kept events once, in order, to the one that ends it.
pub struct Follower {
    base: Remote,
    job: JobId,
    connection: Option<Connection>,
    outage: Option<Outage>,
    patience: Duration,
    view: JobView,
    /// How many of the job's kept events were told: the seq of the last one, for seqs have no gaps.
    seen: u32,
    /// Where the last one stands in the journal. Positions of one job ascend, so what is not behind it is a repetition.
    position: i64,
    began: Option<Timestamp>,
    took: Option<Duration>,
    ended: bool,
}

struct Connection {
    client: Client,
    since: Instant,
    /// The job's events seen when it was made.
    seen: u32,
    /// The answer to our subscription, until it is there.
    subscription: Option<BoxFuture<'static, Result<Value, ClientError>>>,
}

/// The server is away, or was a moment ago.
struct Outage {
    since: Instant,
    tries: u32,
    next_try: Instant,
    /// Whether people know.
    told: bool,
}

enum Heard {
    Event(Incoming),
    Subscribed(Value),
}

/// What every payload has in common.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Common {
    job_id: Option<JobId>,
    timestamp: Option<Timestamp>,
}

impl Follower {
    /// Follows `job` of the server at `base` from its first event on. Nothing is sent before [`Follower::next`].
    pub fn new(base: Remote, job: JobId) -> Follower {
        Follower {
            base,
            job,
            connection: None,
            outage: None,
            patience: PATIENCE,
            view: JobView::default(),
            seen: 0,
            position: 0,
            began: None,
            took: None,
            ended: false,
        }
    }

    /// The job as all events so far tell it.
    pub fn view(&self) -> &JobView {
        &self.view
    }

    /// The time from the job's acceptance to the newest event, by the server's clock.
    pub fn took(&self) -> Option<Duration> {
        self.took
    }

    /// What happens next; `None` when the job has ended. May be dropped and called again.
    ///
    /// # Errors
    /// The server said no (there is no such job, say), or was away for a minute.
    pub async fn next(&mut self) -> Result<Option<News>, ClientError> {
        while !self.ended {
            let heard = match &mut self.connection {
                Some(connection) => connection.next().await,
                None => match self.connect().await {
                    Ok(connection) => {
                        self.connection = Some(connection);
                        continue;
                    }
                    Err(error) => Err(error),
                },
            };
            let news = match heard {
                Ok(Heard::Event(incoming)) => self.take(incoming)?.map(News::Told),
                Ok(Heard::Subscribed(answer)) => match refusal(&answer) {
                    None => self.back().map(News::Note),
                    Some(error) => self.lose(error)?.map(News::Note),
                },
                Err(error) => self.lose(error)?.map(News::Note),
            };
            if news.is_some() {
                return Ok(news);
            }
        }
        Ok(None)
    }

    async fn connect(&self) -> Result<Connection, ClientError> {
        if let Some(outage) = &self.outage {
            sleep_until(outage.next_try).await;
        }
        let client = Client::connect(&self.base).await?;
        let arguments = [json!(self.job), json!({ "after": self.seen })];
        let subscription = client.emit_with_ack("job:subscribe", &arguments, SUBSCRIPTION);
        Ok(Connection {
            client,
            since: Instant::now(),
            seen: self.seen,
            subscription: Some(subscription.boxed()),
        })
    }

    /// Notes that a connection failed; returns what people should know, if they do not know it yet.
    fn lose(&mut self, error: ClientError) -> Result<Option<String>, ClientError> {
        let now = Instant::now();
        if let Some(connection) = self.connection.take()
            && (self.seen > connection.seen || connection.since.elapsed() >= STEADY)
        {
            self.outage = None;
        }
        if !error.may_pass() {
            return Err(error);
        }
        let outage = self.outage.get_or_insert(Outage { since: now, tries: 0, next_try: now, told: false });
        if outage.since.elapsed() >= self.patience {
            return Err(error);
        }
        outage.next_try = now + pause(outage.tries);
        outage.tries += 1;
        let told = std::mem::replace(&mut outage.told, true);
        let seconds = self.patience.as_secs();
        Ok((!told).then(|| format!("{error} (trying again for up to {seconds} s)")))
    }

    /// Notes that the server is there; the outage itself is over when the connection has proved good.
    fn back(&mut self) -> Option<String> {
        let told = self.outage.as_mut().is_some_and(|outage| std::mem::take(&mut outage.told));
        told.then(|| "connected again; nothing was missed".to_owned())
    }

    /// Takes an event in, unless it is another job's or a repetition.
    fn take(&mut self, Incoming { name, payload, offset }: Incoming) -> Result<Option<Told>, ClientError> {
        let kind = Kind::from_wire_name(&name);
        let Ok(Common { job_id, timestamp }) = serde_json::from_str(payload.get()) else { return Ok(None) };
        if job_id.is_none() && kind == Some(Kind::SystemNotification) {
            let event = Event::decode(Kind::SystemNotification, payload.get()).ok();
            return Ok(Some(Told { name, seq: None, payload, event }));
        }
        if job_id != Some(self.job) {
            return Ok(None);
        }
        let seq = match offset.and_then(|offset| Some(offset.parse::<Offset>().ok()?.position)) {
            Some(position) if position <= self.position => return Ok(None),
            Some(position) => {
                self.position = position;
                self.seen += 1;
                Some(self.seen)
            }
            None => None,
        };
        let event = kind.and_then(|kind| Event::decode(kind, payload.get()).ok());
        if let Some(event) = &event {
            self.view.apply(event);
        }
        if seq.is_some() {
            self.began = self.began.or(timestamp);
            let took = timestamp.zip(self.began).map(|(now, began)| now - began);
            self.took = took.and_then(|took| took.to_std().ok()).or(self.took);
        }
        if matches!(kind, Some(Kind::JobCompleted | Kind::JobFailed)) {
            if event.is_none() {
                let why = format!("its {name} cannot be read by this version");
                return Err(ClientError::Foreign(super::rest::shown(&self.base), why));
            }
            self.ended = true;
            self.connection = None;
        }
        Ok(Some(Told { name, seq, payload, event }))
    }
}

impl Connection {
    /// The past of a job comes before the answer to the subscription, so both are awaited side by side.
    async fn next(&mut self) -> Result<Heard, ClientError> {
        let Some(subscription) = &mut self.subscription else {
            return self.client.next_event().await.map(Heard::Event);
        };
        tokio::select! {
            answer = subscription => {
                self.subscription = None;
                answer.map(Heard::Subscribed)
            }
            event = self.client.next_event() => event.map(Heard::Event),
        }
    }
}

/// What a subscription's answer refuses.
fn refusal(answer: &Value) -> Option<ClientError> {
    if answer["ok"] == true {
        return None;
    }
    let error = &answer["error"];
    let may_pass = Code::ALL.iter().any(|code| code.is_retryable() && error["code"] == code.word());
    let message = error["message"].as_str().unwrap_or("the server refuses the subscription without a reason");
    Some(ClientError::Refused { message: message.chars().take(500).collect(), may_pass })
}

/// Half of it is random: clients of a server that restarts must not all come back at once.
fn pause(tries: u32) -> Duration {
    let longest = PAUSES.1.min(PAUSES.0 * 2_u32.saturating_pow(tries.min(16)));
    let random = RandomState::new().build_hasher().finish();
    longest / 2 + longest.mul_f64(random as f64 / u64::MAX as f64) / 2
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::{
        Router, extract::ws::WebSocketUpgrade, http::StatusCode, response::IntoResponse, routing::get,
    };

    use super::*;
    use crate::{
        app::client::tests::{Peer, fake, serve},
        job::Status,
    };

    const JOB: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
    const OTHER: &str = "01890a5d-ac96-774b-bcce-b302099a8058";
    const SCREENSHOTS: i64 = 20;

    /// Events as they stand in a journal that other jobs write to as well: positions with gaps.
    fn journal() -> Vec<(i64, &'static str, Value)> {
        let mut events = vec![("job:created", json!({ "jobType": "automation", "name": "test" }))];
        events.push(("job:updated", json!({ "status": "crawling", "progress": 25 })));
        for i in 0..SCREENSHOTS {
            let id = JOB.parse::<JobId>().unwrap().derive("screenshot", &i.to_string());
            events.push((
                "screenshot:captured",
                json!({ "screenshotId": id, "url": "http://x/", "productUrl": "http://x/" }),
            ));
        }
        events.push(("a:new-event", json!({ "of": "the future" })));
        events.push(("job:completed", json!({ "results": {}, "duration": 4200 })));
        let entries = events.into_iter().zip(0..).map(|((name, mut payload), i)| {
            payload["jobId"] = json!(JOB);
            payload["timestamp"] = json!(format!("2026-01-06T05:56:{i:02}.000Z"));
            (100 + 3 * i, name, payload)
        });
        entries.collect()
    }

    fn event(name: &str, payload: &Value, position: i64) -> String {
        format!("42{}", json!([name, payload, position.to_string()]))
    }

    /// Waits for a subscription; returns its acknowledgement's id and its `after`.
    async fn subscription(peer: &mut Peer) -> (u64, usize) {
        let text = peer.hear().await.unwrap();
        let json = text.find('[').unwrap();
        let arguments: Value = serde_json::from_str(&text[json..]).unwrap();
        assert_eq!((&arguments[0], &arguments[1]), (&json!("job:subscribe"), &json!(JOB)));
        (text[2..json].parse().unwrap(), arguments[2]["after"].as_u64().unwrap() as usize)
    }

    async fn follow(base: Remote) -> (Vec<Told>, Vec<String>, Follower) {
        let mut follower = Follower::new(base, JOB.parse().unwrap());
        let (mut told, mut notes) = (Vec::new(), Vec::new());
        while let Some(news) = follower.next().await.unwrap() {
            match news {
                News::Told(event) => told.push(event),
                News::Note(note) => notes.push(note),
            }
        }
        (told, notes, follower)
    }

    fn kept(told: &[Told]) -> Vec<(u32, &str)> {
        told.iter().filter_map(|told| Some((told.seq?, told.name.as_str()))).collect()
    }

    #[tokio::test]
    async fn nothing_is_lost_and_nothing_told_twice_when_the_connection_breaks_again_and_again() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = asked.clone();
        let base = fake(move |mut peer, number| {
            let heard = heard.clone();
            async move {
                peer.welcome().await;
                let (id, after) = subscription(&mut peer).await;
                heard.lock().unwrap().push(after);
                let journal = journal();
                // What the client knows already comes again, as an ended job's last word and broadcasts may.
                let from = after.saturating_sub(2);
                for (told, (position, name, payload)) in journal[from..].iter().enumerate() {
                    if from + told == after + 4 {
                        return; // dropped in the middle, without a word
                    }
                    peer.say(event(name, payload, *position)).await;
                    // Progress is not kept, and another job's events are none of ours.
                    let progress = json!({ "jobId": JOB, "progress": 30, "currentStep": "crawling" });
                    peer.say(format!("42{}", json!(["job:progress", progress]))).await;
                    let other = json!({ "jobId": OTHER, "jobType": "crawl", "name": "other" });
                    peer.say(event("job:created", &other, position + 1)).await;
                    // The answer stands somewhere among the events.
                    if told == number % 3 {
                        peer.say(format!("43{id}{}", json!([{ "ok": true, "seq": journal.len() }]))).await;
                    }
                }
                while peer.hear().await.is_some() {}
            }
        })
        .await;
        let (told, notes, follower) = follow(base).await;
        let journal = journal();
        let expected: Vec<(u32, &str)> = (1..).zip(journal.iter().map(|(_, name, _)| *name)).collect();
        assert_eq!(kept(&told), expected);
        assert_eq!(*asked.lock().unwrap(), [0, 4, 8, 12, 16, 20]);
        assert_eq!(follower.view().screenshots as i64, SCREENSHOTS);
        assert_eq!(follower.view().status, Some(Status::Completed));
        assert_eq!(follower.took(), Some(Duration::from_secs(journal.len() as u64 - 1)));
        assert!(told.iter().all(|told| told.payload.get().contains(JOB)));
        assert_eq!(told.iter().filter(|told| told.event.is_none()).count(), 1, "the event of the future");
        assert!(notes.iter().any(|note| note.contains("trying again for up to 60 s")), "{notes:?}");
        assert!(notes.iter().any(|note| note == "connected again; nothing was missed"), "{notes:?}");
    }

    #[tokio::test]
    async fn a_server_that_starts_is_waited_for() {
        let tries = Arc::new(Mutex::new(0));
        let door = move |upgrade: WebSocketUpgrade| async move {
            let mut tries = tries.lock().unwrap();
            *tries += 1;
            if *tries <= 2 {
                return (StatusCode::SERVICE_UNAVAILABLE, r#"{"error":"starting"}"#).into_response();
            }
            upgrade.on_upgrade(|socket| async {
                let mut peer = Peer::from(socket);
                peer.welcome().await;
                let (_, after) = subscription(&mut peer).await;
                for (position, name, payload) in &journal()[after..] {
                    peer.say(event(name, payload, *position)).await;
                }
                while peer.hear().await.is_some() {}
            })
        };
        let base = serve(Router::new().route("/socket.io/", get(door))).await;
        let (told, notes, _) = follow(base).await;
        assert_eq!(kept(&told).len(), journal().len());
        assert_eq!(notes, ["starting (trying again for up to 60 s)"]);
    }

    #[tokio::test]
    async fn a_server_that_stays_away_is_given_up() {
        let base = serve(Router::new().fallback(|| async { StatusCode::BAD_GATEWAY })).await;
        let mut follower = Follower::new(base, JOB.parse().unwrap());
        follower.patience = Duration::ZERO;
        let error = follower.next().await.unwrap_err();
        assert!(error.to_string().contains("502 Bad Gateway"), "{error}");
    }

    #[tokio::test]
    async fn an_unknown_job_is_an_error_at_once() {
        let base = fake(|mut peer, number| async move {
            assert_eq!(number, 0, "it is not asked for again");
            peer.welcome().await;
            let (id, _) = subscription(&mut peer).await;
            let error = json!({ "code": "job_not_found", "message": "There is no job 5." });
            peer.say(format!("43{id}{}", json!([{ "ok": false, "error": error }]))).await;
            while peer.hear().await.is_some() {}
        })
        .await;
        let mut follower = Follower::new(base, JOB.parse().unwrap());
        assert_eq!(follower.next().await.unwrap_err().to_string(), "There is no job 5.");
    }

    #[tokio::test]
    async fn a_subscription_that_is_refused_for_now_is_tried_again() {
        let base = fake(|mut peer, number| async move {
            peer.welcome().await;
            let (id, _) = subscription(&mut peer).await;
            if number == 0 {
                let error = json!({ "code": "unavailable", "message": "The database is away." });
                peer.say(format!("43{id}{}", json!([{ "ok": false, "error": error }]))).await;
            } else {
                for (position, name, payload) in journal() {
                    peer.say(event(name, &payload, position)).await;
                }
            }
            while peer.hear().await.is_some() {}
        })
        .await;
        let (told, notes, _) = follow(base).await;
        assert_eq!(kept(&told).len(), journal().len());
        assert_eq!(notes, ["The database is away. (trying again for up to 60 s)"]);
    }

    #[test]
    fn pauses_grow_to_a_bound_and_are_never_zero() {
        for (tries, longest) in [(0, 200), (1, 400), (4, 3200), (5, 5000), (1000, 5000)] {
            let pause = pause(tries).as_millis();
            assert!((longest / 2..=longest).contains(&pause), "{tries}: {pause}");
        }
    }
}
