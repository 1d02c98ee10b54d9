//! The journal: order, density, the terminal event, what happens when many write at once.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use futures_util::future::try_join_all;
use jobcast::{
    config::Config,
    event::{Event, JobUpdated},
    job::{Code, Command, JobId, Status},
    store::{
        Announcement, Change, NewJob, Store, StoreError,
        embedded::{Durability, Postgres},
    },
};
use sqlx::{Connection as _, PgConnection};
use tokio::sync::Barrier;
use uuid::Uuid;

use crate::support::{config, database, folder, milliseconds, planned_job, soon, store, wait_for};

fn update(message: &str) -> Event {
    let message = Some(message.to_owned());
    JobUpdated { status: "crawling".into(), progress: None, current_stage: None, message }.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_are_dense_and_seqs_are_dense_per_job_when_many_append_at_once() {
    let (store, _announcements) = store().await;
    let mut jobs = Vec::new();
    for _ in 0..5 {
        jobs.push(planned_job(&store).await);
    }
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..40 {
        let (store, job) = (store.clone(), jobs[writer % jobs.len()]);
        writers.spawn(async move {
            for n in 0..10 {
                // Half through the shared appender, half in transactions of their own.
                if writer % 2 == 0 {
                    store.append(job, vec![update("a"), update(&n.to_string())]).await.unwrap();
                } else {
                    let commands = vec![Command::Note { what: format!("{writer} {n}") }];
                    store.change(job, None, Change { commands, ..Change::default() }).await.unwrap();
                }
            }
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    let events = store.tail(0, 10_000).await.unwrap();
    assert_eq!(events.len(), 5 + 20 * 20 + 20 * 10);
    assert!(events.iter().zip(1..).all(|(event, position)| event.position == position));
    let mut last: HashMap<JobId, i32> = HashMap::new();
    for event in &events {
        let seq = last.entry(event.job).or_default();
        *seq += 1;
        assert_eq!(event.seq, *seq, "in the order of positions, seqs of one job ascend one by one");
    }
    for job in jobs {
        assert_eq!(store.head(job).await.unwrap().seq, last[&job]);
    }
}

#[tokio::test]
async fn nothing_follows_a_terminal_event() {
    let (store, _announcements) = store().await;
    let job = planned_job(&store).await;
    store.cancel(job).await.unwrap();
    let refused = |result: Result<(), StoreError>| match result {
        Err(StoreError::Rejected(rejection)) => assert_eq!(rejection.code, Code::JobEnded),
        other => panic!("expected a refusal, got {other:?}"),
    };
    refused(store.append(job, vec![update("late")]).await.map(drop));
    refused(store.cancel(job).await.map(drop));
    let events = store.events(job, 0, 100).await.unwrap();
    assert_eq!(events.last().unwrap().kind, "job:failed");
    let terminal: serde_json::Value = serde_json::from_str(events.last().unwrap().payload.get()).unwrap();
    assert_eq!(terminal["error"], "Job cancelled by user");
    assert_eq!(terminal["cancelled"], true);
    assert_eq!(store.head(job).await.unwrap().status, Status::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_that_race_with_the_end_of_their_job_precede_it_or_are_refused() {
    const WRITERS: usize = 8;
    let (store, _announcements) = store().await;
    let job = planned_job(&store).await;
    let all_write = Arc::new(Barrier::new(WRITERS + 1));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (store, all_write) = (store.clone(), all_write.clone());
        writers.spawn(async move {
            let mut accepted = Vec::new();
            loop {
                let pair = vec![update(&format!("{writer} first")), update(&format!("{writer} second"))];
                match store.append(job, pair).await {
                    Ok(recorded) => accepted.push(recorded.iter().map(|event| event.seq).collect::<Vec<_>>()),
                    Err(StoreError::Rejected(rejection)) => {
                        assert_eq!(rejection.code, Code::JobEnded);
                        return accepted;
                    }
                    Err(other) => panic!("expected a refusal, got {other:?}"),
                }
                if accepted.len() == 1 {
                    all_write.wait().await;
                }
            }
        });
    }
    soon("every writer's first append", all_write.wait()).await;
    store.cancel(job).await.unwrap();
    let accepted = soon("the refusals", writers.join_all()).await.concat();
    let events = store.tail(0, 1_000_000).await.unwrap();
    assert_eq!(events.last().unwrap().kind, "job:failed");
    assert_eq!(events.iter().filter(|event| event.is_terminal()).count(), 1);
    assert!(events.iter().zip(1..).all(|(event, seq)| event.seq == seq));
    let firsts = events.iter().filter(|event| event.payload.get().contains(" first")).count();
    assert_eq!(firsts, accepted.len(), "what was accepted is there, what was refused is not");
    for seqs in accepted {
        let told = |seq: i32| events[seq as usize - 1].payload.get();
        assert_eq!(seqs, [seqs[0], seqs[0] + 1]);
        assert!(told(seqs[0]).contains(" first") && told(seqs[1]).contains(" second"));
    }
}

#[tokio::test]
async fn a_batch_whose_connection_is_lost_is_answered_and_leaves_nothing_behind() {
    let options = database().await;
    let (store, _announcements) = Store::open(options.clone(), &config().database).await.unwrap();
    store.put_templates(&jobcast::pipeline::Context::builtin_templates()).await.unwrap();
    let (one, other) = (planned_job(&store).await, planned_job(&store).await);
    let mut holder = PgConnection::connect_with(&options).await.unwrap();
    let mut held = holder.begin().await.unwrap();
    sqlx::query("SELECT FROM journal_head FOR UPDATE").execute(&mut *held).await.unwrap();
    let end_the_waiting_one = wait_for("the batch to wait for the head", async || {
        // Within a transaction the statistics are those of its first look.
        sqlx::query("SELECT pg_stat_clear_snapshot()").execute(&mut *held).await.unwrap();
        let ended: Vec<bool> = sqlx::query_scalar(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )
        .fetch_all(&mut *held)
        .await
        .unwrap();
        (!ended.is_empty()).then_some(())
    });
    // This thread alone runs all tasks, so both appends wait before the appender looks.
    let (first, second, ()) = tokio::join!(
        store.append(one, vec![update("a"), update("b")]),
        store.append(other, vec![update("c")]),
        end_the_waiting_one
    );
    assert!(matches!(first, Err(StoreError::Unavailable(_))));
    assert!(matches!(second, Err(StoreError::Unavailable(_))));
    held.commit().await.unwrap();
    let again = store.append(one, vec![update("d")]).await.unwrap();
    assert_eq!((again[0].position, again[0].seq), (3, 2));
    assert_eq!(store.head(other).await.unwrap().seq, 1);
}

#[tokio::test]
async fn an_append_to_an_unknown_job_is_refused_and_leaves_no_gap() {
    let (store, _announcements) = store().await;
    let job = planned_job(&store).await;
    let unknown = JobId(Uuid::now_v7());
    let (good, bad) =
        tokio::join!(store.append(job, vec![update("x")]), store.append(unknown, vec![update("y")]));
    assert_eq!(good.unwrap()[0].position, 2);
    assert!(matches!(bad, Err(StoreError::Rejected(rejection)) if rejection.code == Code::JobNotFound));
    assert_eq!(store.position().await.unwrap(), 2);
}

#[tokio::test]
async fn a_change_that_is_refused_leaves_nothing_behind() {
    let (store, _announcements) = store().await;
    let id = JobId(Uuid::now_v7());
    let job_type = jobcast::event::JobType::Crawl;
    store.create(NewJob::unplanned(id, job_type, "no plan")).await.unwrap();
    let commands = vec![Command::Run, Command::Complete, Command::Run];
    let refused = store.change(id, None, Change { commands, ..Change::default() }).await;
    assert!(matches!(refused, Err(StoreError::Rejected(_))));
    assert_eq!(store.events(id, 0, 10).await.unwrap().len(), 1);
    assert_eq!(store.job(id).await.unwrap().job.status, Status::Pending);
}

#[tokio::test]
async fn commits_are_announced_in_order() {
    let (store, mut announcements) = store().await;
    let job = planned_job(&store).await;
    store.append(job, vec![update("1"), update("2")]).await.unwrap();
    let mut positions = Vec::new();
    while positions.len() < 3 {
        if let Announcement::Committed { events, .. } =
            soon("an announcement", announcements.recv()).await.unwrap()
        {
            positions.extend(events.iter().map(|event| event.position));
        }
    }
    assert_eq!(positions, [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: run it alone with a release build and --nocapture; TMPDIR must be on a disk"]
async fn measure_durable_appends() {
    const WRITERS: usize = 64;
    const EACH: usize = 2000;
    let folder = folder();
    let run_as = Config::defaults().database.run_as;
    let server = Postgres::start(folder.path(), &run_as, Durability::Durable).await.unwrap();
    let (store, mut announcements) = Store::open(server.options(), &config().database).await.unwrap();
    store.put_templates(&jobcast::pipeline::Context::builtin_templates()).await.unwrap();
    let mut jobs = Vec::new();
    for _ in 0..WRITERS {
        jobs.push(planned_job(&store).await);
    }
    let batches = Arc::new(AtomicUsize::new(0));
    let counted = batches.clone();
    tokio::spawn(async move {
        while announcements.recv().await.is_some() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    for (what, jobs) in
        [("alone", vec![jobs[0]]), ("to one job", vec![jobs[0]; WRITERS]), ("to a job each", jobs)]
    {
        let writing = jobs.len();
        let (started, batches_before) = (Instant::now(), batches.load(Ordering::Relaxed));
        let writers = jobs.into_iter().map(|job| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut durations = Vec::with_capacity(EACH);
                for _ in 0..EACH {
                    let called = Instant::now();
                    store.append(job, vec![update("measured")]).await.unwrap();
                    durations.push(called.elapsed());
                }
                durations
            })
        });
        let durations = try_join_all(writers).await.unwrap().concat();
        let rate = durations.len() as f64 / started.elapsed().as_secs_f64();
        let batch = durations.len() as f64 / (batches.load(Ordering::Relaxed) - batches_before) as f64;
        let durations = milliseconds(durations);
        println!("{writing} writers {what}: {rate:.0} events/s, {batch:.1} a commit, one append {durations}");
    }
    store.close().await;
    server.stop().await;
}
