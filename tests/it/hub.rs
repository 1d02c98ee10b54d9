//! The hub: each subscriber gets each event once and in order, however it comes to it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use jobcast::{
    config::ReplayOnSubscribe,
    event::{Event, JobUpdated},
    job::JobId,
    realtime::hub::{ClientId, Door, Events, Hub, Outlet, Past, Progress, Sent, Standing},
    store::{Head, Store},
};

use crate::support::{config, planned_job, store, wait_for};

/// A client that takes as many events as it has room for.
struct Bucket {
    got: Mutex<Vec<(JobId, i32)>>,
    offset: Mutex<Option<i64>>,
    room: AtomicUsize,
}

impl Bucket {
    fn new(room: usize) -> Arc<Bucket> {
        Arc::new(Bucket { got: Mutex::default(), offset: Mutex::default(), room: AtomicUsize::new(room) })
    }

    fn seqs(&self, job: JobId) -> Vec<i32> {
        self.got.lock().unwrap().iter().filter(|(of, _)| *of == job).map(|(_, seq)| *seq).collect()
    }
}

impl Outlet for Bucket {
    fn send(&self, events: &Events) -> Sent {
        for (taken, event) in events.item.events.iter().enumerate() {
            let took = self.room.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |room| room.checked_sub(1));
            if took.is_err() {
                return Sent::Some(taken);
            }
            self.got.lock().unwrap().push((event.job, event.seq));
            *self.offset.lock().unwrap() = Some(event.position);
        }
        Sent::All
    }

    fn send_progress(&self, _: &Progress) -> Sent {
        Sent::All
    }
}

/// Subscribes a client whose rooms nobody needs to know.
async fn subscribe(hub: &Arc<Hub>, id: ClientId, job: JobId, door: Door, past: Past) -> Head {
    hub.subscribe(id, job, door, past, async |_| Ok(())).await.unwrap()
}

async fn hub(replay: ReplayOnSubscribe, recent_events: usize) -> (Store, Arc<Hub>, impl Sized) {
    let (store, announcements) = store().await;
    let settings =
        jobcast::config::Realtime { replay_on_subscribe: replay, recent_events, ..config().realtime };
    let (hub, stream) = Hub::start(store.clone(), announcements, &settings).await.unwrap();
    (store, hub, stream)
}

/// The stores of two processes on one database, and the hub of the first, which hears of the other by looking.
async fn two_processes(poll_interval: Duration) -> (Store, Store, Arc<Hub>, impl Sized) {
    let options = crate::support::database().await;
    let settings = config();
    let open = || Store::open(options.clone(), &settings.database);
    let (here, announcements) = open().await.unwrap();
    let (there, unheard) = open().await.unwrap();
    here.put_templates(&jobcast::pipeline::Context::builtin_templates()).await.unwrap();
    let realtime = jobcast::config::Realtime { poll_interval, ..settings.realtime };
    let (hub, stream) = Hub::start(here.clone(), announcements, &realtime).await.unwrap();
    (here, there, hub, (stream, unheard))
}

fn update() -> Event {
    JobUpdated { status: "crawling".into(), progress: None, current_stage: None, message: None }.into()
}

async fn append(store: &Store, job: JobId, times: usize) {
    for _ in 0..times {
        store.append(job, vec![update()]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_who_come_while_events_flow_get_each_once_and_in_order() {
    for recent_events in [1, 20, 10_000] {
        let (store, hub, _stream) = hub(ReplayOnSubscribe::History, recent_events).await;
        let job = planned_job(&store).await;
        wait_for("the hub", async || (hub.delivered() == 1).then_some(())).await;
        let writer = tokio::spawn({
            let store = store.clone();
            async move { append(&store, job, 400).await }
        });
        let mut clients = Vec::new();
        // They come one after the other, each at another point of the stream.
        while !writer.is_finished() && clients.len() < 60 {
            let bucket = Bucket::new(usize::MAX);
            let id = hub.register(bucket.clone(), Standing::new(hub.delivered()));
            subscribe(&hub, id, job, Door::Job, Past::Default).await;
            clients.push(bucket);
        }
        writer.await.unwrap();
        assert!(clients.len() > 5, "some came while events flowed");
        for client in clients {
            // seq 1 is `job:created`, which a later subscriber is not told again.
            let all: Vec<i32> = (2..=401).collect();
            wait_for("all events", async || (client.seqs(job).len() >= all.len()).then_some(())).await;
            assert_eq!(client.seqs(job), all, "with {recent_events} events in memory");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_buffer_is_full_is_fed_at_its_own_pace_and_misses_nothing() {
    for recent_events in [1, 10_000] {
        let (store, hub, _stream) = hub(ReplayOnSubscribe::None, recent_events).await;
        let (job, other) = (planned_job(&store).await, planned_job(&store).await);
        wait_for("the hub", async || (hub.delivered() == 2).then_some(())).await;
        let (slow, fast) = (Bucket::new(10), Bucket::new(usize::MAX));
        for bucket in [&slow, &fast] {
            let id = hub.register((*bucket).clone(), Standing::new(hub.delivered()));
            subscribe(&hub, id, job, Door::Job, Past::Default).await;
            subscribe(&hub, id, other, Door::Job, Past::Default).await;
        }
        for _ in 0..20 {
            append(&store, job, 15).await;
            append(&store, other, 5).await;
        }
        let all = |n| (2..2 + n).collect::<Vec<i32>>();
        wait_for("the fast one", async || (fast.got.lock().unwrap().len() == 400).then_some(())).await;
        assert!(slow.got.lock().unwrap().len() <= 10, "the fast one did not wait for the slow one");
        // Room comes bit by bit.
        wait_for("the slow one", async || {
            slow.room.fetch_add(7, Ordering::SeqCst);
            (slow.got.lock().unwrap().len() >= 400).then_some(())
        })
        .await;
        assert_eq!((slow.seqs(job), slow.seqs(other)), (all(300), all(100)));
        assert_eq!((fast.seqs(job), fast.seqs(other)), (all(300), all(100)));
        // And it is live again.
        slow.room.fetch_add(100, Ordering::SeqCst);
        append(&store, job, 1).await;
        wait_for("the next event", async || (slow.seqs(job).len() == 301).then_some(())).await;
    }
}

#[tokio::test]
async fn since_connect_tells_what_happened_between_connecting_and_subscribing() {
    let (store, hub, _stream) = hub(ReplayOnSubscribe::SinceConnect, 10_000).await;
    let job = planned_job(&store).await;
    append(&store, job, 3).await;
    wait_for("the hub", async || (hub.delivered() == 4).then_some(())).await;
    let bucket = Bucket::new(usize::MAX);
    let id = hub.register(bucket.clone(), Standing::new(hub.delivered()));
    append(&store, job, 2).await;
    subscribe(&hub, id, job, Door::Job, Past::Default).await;
    append(&store, job, 1).await;
    wait_for("three events", async || (bucket.seqs(job).len() == 3).then_some(())).await;
    assert_eq!(bucket.seqs(job), [5, 6, 7]);
}

#[tokio::test]
async fn a_subscriber_may_name_the_seq_that_it_knows() {
    let (store, hub, _stream) = hub(ReplayOnSubscribe::None, 4).await;
    let job = planned_job(&store).await;
    append(&store, job, 9).await;
    wait_for("the hub", async || (hub.delivered() == 10).then_some(())).await;
    for (after, expected) in [(0, 1..=10), (4, 5..=10), (9, 10..=10)] {
        let bucket = Bucket::new(usize::MAX);
        let id = hub.register(bucket.clone(), Standing::new(hub.delivered()));
        let head = subscribe(&hub, id, job, Door::Job, Past::After(after)).await;
        assert_eq!(head.seq, 10);
        let expected: Vec<i32> = expected.collect();
        wait_for("its events", async || (bucket.seqs(job).len() >= expected.len()).then_some(())).await;
        assert_eq!(bucket.seqs(job), expected);
    }
}

#[tokio::test]
async fn who_subscribes_to_an_ended_job_is_told_its_end() {
    for replay in [ReplayOnSubscribe::None, ReplayOnSubscribe::SinceConnect] {
        let (store, hub, _stream) = hub(replay, 1).await;
        let job = planned_job(&store).await;
        append(&store, job, 5).await;
        store.cancel(job).await.unwrap();
        wait_for("the hub", async || (hub.delivered() == 7).then_some(())).await;
        let bucket = Bucket::new(usize::MAX);
        let id = hub.register(bucket.clone(), Standing::new(hub.delivered()));
        subscribe(&hub, id, job, Door::Job, Past::Default).await;
        wait_for("the end", async || (!bucket.seqs(job).is_empty()).then_some(())).await;
        assert_eq!(bucket.seqs(job), [7]);
    }
}

#[tokio::test]
async fn a_client_in_both_rooms_of_a_job_gets_each_event_once() {
    let (store, hub, _stream) = hub(ReplayOnSubscribe::SinceConnect, 100).await;
    let job = planned_job(&store).await;
    wait_for("the hub", async || (hub.delivered() == 1).then_some(())).await;
    let bucket = Bucket::new(usize::MAX);
    let id = hub.register(bucket.clone(), Standing::new(hub.delivered()));
    subscribe(&hub, id, job, Door::Job, Past::Default).await;
    subscribe(&hub, id, job, Door::Automation, Past::Default).await;
    append(&store, job, 2).await;
    hub.unsubscribe(id, job, Door::Job);
    append(&store, job, 2).await;
    wait_for("the events", async || (bucket.seqs(job).len() >= 4).then_some(())).await;
    hub.unsubscribe(id, job, Door::Automation);
    append(&store, job, 2).await;
    wait_for("the hub", async || (hub.delivered() == 7).then_some(())).await;
    assert_eq!(bucket.seqs(job), [2, 3, 4, 5]);
}

#[tokio::test]
async fn events_that_another_process_commits_are_delivered_too() {
    let (here, there, hub, _running) = two_processes(config().realtime.poll_interval).await;
    let job = planned_job(&here).await;
    wait_for("the hub", async || (hub.delivered() == 1).then_some(())).await;
    let bucket = Bucket::new(usize::MAX);
    let id = hub.register(bucket.clone(), Standing::new(hub.delivered()));
    subscribe(&hub, id, job, Door::Job, Past::After(1)).await;
    for _ in 0..20 {
        append(&there, job, 1).await;
        append(&here, job, 1).await;
    }
    wait_for("all events", async || (bucket.seqs(job).len() >= 40).then_some(())).await;
    assert_eq!(bucket.seqs(job), (2..=41).collect::<Vec<i32>>());
}

#[tokio::test]
async fn a_removed_job_leaves_a_gap_that_stops_nobody() {
    let (here, there, hub, _running) = two_processes(config().realtime.poll_interval).await;
    let removed = planned_job(&there).await;
    append(&there, removed, 300).await;
    there.cancel(removed).await.unwrap();
    there.remove(removed).await.unwrap();
    let job = planned_job(&there).await;
    append(&there, job, 3).await;
    let head = there.position().await.unwrap();
    wait_for("the hub to come behind the gap", async || (hub.delivered() == head).then_some(())).await;
    let bucket = Bucket::new(usize::MAX);
    let id = hub.register(bucket.clone(), Standing::new(hub.delivered()));
    subscribe(&hub, id, job, Door::Job, Past::After(1)).await;
    append(&here, job, 1).await;
    wait_for("its events", async || (bucket.seqs(job).len() >= 4).then_some(())).await;
    assert_eq!(bucket.seqs(job), [2, 3, 4, 5]);
}

#[tokio::test]
async fn a_new_job_is_told_to_a_client_that_connected_before_and_registers_after_it() {
    for recent_events in [1, 100] {
        let (store, hub, _stream) = hub(ReplayOnSubscribe::SinceConnect, recent_events).await;
        let connected_at = hub.delivered();
        let jobs = [planned_job(&store).await, planned_job(&store).await];
        wait_for("the hub", async || (hub.delivered() == 2).then_some(())).await;
        let bucket = Bucket::new(usize::MAX);
        hub.register(bucket.clone(), Standing::new(connected_at));
        wait_for("both", async || (bucket.got.lock().unwrap().len() == 2).then_some(())).await;
        assert_eq!(*bucket.got.lock().unwrap(), jobs.map(|job| (job, 1)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_that_asks_for_the_past_again_is_told_it_from_the_start_and_once() {
    for recent_events in [1, 10_000] {
        for leaves_between in [false, true] {
            let (store, hub, _stream) = hub(ReplayOnSubscribe::None, recent_events).await;
            let job = planned_job(&store).await;
            append(&store, job, 299).await;
            wait_for("the hub", async || (hub.delivered() == 300).then_some(())).await;
            let bucket = Bucket::new(10);
            let id = hub.register(bucket.clone(), Standing::new(hub.delivered()));
            subscribe(&hub, id, job, Door::Job, Past::After(0)).await;
            for _ in 0..3 {
                append(&store, job, 10).await;
                if leaves_between {
                    hub.unsubscribe(id, job, Door::Job);
                }
                subscribe(&hub, id, job, Door::Job, Past::After(0)).await;
            }
            bucket.room.store(usize::MAX, Ordering::SeqCst);
            append(&store, job, 1).await;
            wait_for("the newest event", async || (bucket.seqs(job).last() == Some(&331)).then_some(()))
                .await;
            let seqs = bucket.seqs(job);
            let told_before = seqs.len() - 331;
            assert!(told_before <= 10, "{told_before} were told before it had room");
            assert_eq!(seqs[told_before..], (1..=331).collect::<Vec<i32>>());
        }
    }
}

#[tokio::test]
async fn a_client_that_knows_more_than_its_server_is_told_a_past_without_a_gap() {
    let (here, there, hub, _running) = two_processes(Duration::from_secs(3600)).await;
    let job = planned_job(&there).await;
    append(&there, job, 5).await;
    // It was told all that there, and nothing of it was heard of here.
    let bucket = Bucket::new(usize::MAX);
    let id = hub.register(bucket.clone(), Standing::new(there.position().await.unwrap()));
    assert_eq!(hub.delivered(), 0);
    subscribe(&hub, id, job, Door::Job, Past::After(0)).await;
    append(&here, job, 1).await;
    wait_for("all events", async || (bucket.seqs(job).last() == Some(&7)).then_some(())).await;
    assert_eq!(bucket.seqs(job), (1..=7).collect::<Vec<i32>>());
}
