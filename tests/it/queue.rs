//! The queue: leases, fencing, retries, phases.

use std::time::Duration;

use jobcast::{
    job::{Command, Stage, Status},
    store::{Change, NewTask, Settle, Store, StoreError},
};
use uuid::Uuid;

use crate::support::{planned_job, store};

const LEASE: Duration = Duration::from_secs(60);

async fn claim(store: &Store, stage: Stage) -> Vec<jobcast::store::Claimed> {
    store.claim(stage, 10, Uuid::new_v4(), LEASE).await.unwrap()
}

#[tokio::test]
async fn a_task_is_claimed_once() {
    let (store, _announcements) = store().await;
    planned_job(&store).await;
    let (one, other) = tokio::join!(claim(&store, Stage::Crawl), claim(&store, Stage::Crawl));
    assert_eq!(one.len() + other.len(), 1);
}

#[tokio::test]
async fn a_worker_whose_lease_ran_out_writes_nothing() {
    let (store, _announcements) = store().await;
    let job = planned_job(&store).await;
    let stale = store.claim(Stage::Crawl, 1, Uuid::new_v4(), Duration::ZERO).await.unwrap().remove(0);
    assert!(store.reap(3, LEASE).await.unwrap().is_empty(), "it has attempts left");
    let fresh = claim(&store, Stage::Crawl).await.remove(0);
    assert!(fresh.lease.fence > stale.lease.fence);
    let before = store.position().await.unwrap();
    let note = || Change { commands: vec![Command::Note { what: "late".into() }], ..Change::default() };
    let refused = store.change(job, Some((&stale.lease, Settle::Done)), note()).await;
    assert!(matches!(refused, Err(StoreError::Fenced)), "{refused:?}");
    assert!(!store.retry_task(&stale.lease, Duration::ZERO, "x").await.unwrap());
    assert_eq!(store.position().await.unwrap(), before);
    store.change(job, Some((&fresh.lease, Settle::Keep)), note()).await.unwrap();
}

#[tokio::test]
async fn a_task_whose_workers_keep_dying_is_given_up() {
    let (store, _announcements) = store().await;
    planned_job(&store).await;
    for attempt in 1..=3 {
        let claimed = store.claim(Stage::Crawl, 1, Uuid::new_v4(), Duration::ZERO).await.unwrap();
        assert_eq!(claimed[0].attempt, attempt);
        let spent = store.reap(3, LEASE).await.unwrap();
        assert_eq!(spent.len(), usize::from(attempt == 3));
    }
}

#[tokio::test]
async fn a_heartbeat_tells_which_leases_are_held() {
    let (store, _announcements) = store().await;
    planned_job(&store).await;
    let task = claim(&store, Stage::Crawl).await.remove(0);
    let stale = jobcast::store::Lease { fence: task.lease.fence - 1, ..task.lease };
    assert_eq!(store.heartbeat(&[task.lease], LEASE).await.unwrap(), [task.lease.task]);
    assert!(store.heartbeat(&[stale], LEASE).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_handed_back_task_keeps_its_attempts() {
    let (store, _announcements) = store().await;
    planned_job(&store).await;
    for _ in 0..5 {
        let task = claim(&store, Stage::Crawl).await.remove(0);
        assert_eq!(task.attempt, 1);
        store.hand_back(&task.lease).await.unwrap();
    }
}

#[tokio::test]
async fn tasks_wait_for_their_phase_and_are_cancelled_with_their_job() {
    let (store, _announcements) = store().await;
    let job = planned_job(&store).await;
    let crawl = claim(&store, Stage::Crawl).await.remove(0);
    let add = |stage, ordinal| NewTask::new(stage, ordinal, Uuid::new_v4(), &()).unwrap();
    let start = Change {
        commands: vec![Command::Start],
        tasks: vec![add(Stage::Screenshot, 0), add(Stage::Screenshot, 1), add(Stage::Ocr, 0)],
        ..Change::default()
    };
    store.change(job, Some((&crawl.lease, Settle::Done)), start).await.unwrap();
    assert!(claim(&store, Stage::Ocr).await.is_empty());
    for shot in claim(&store, Stage::Screenshot).await {
        store.change(job, Some((&shot.lease, Settle::Done)), Change::default()).await.unwrap();
    }
    let reading = claim(&store, Stage::Ocr).await.remove(0);
    assert_eq!(store.job(job).await.unwrap().job.status, Status::ProcessingOcr);
    store.cancel(job).await.unwrap();
    let late = store.change(job, Some((&reading.lease, Settle::Done)), Change::default()).await;
    assert!(matches!(late, Err(StoreError::Fenced)), "{late:?}");
    assert!(store.ready_stages().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_task_that_is_found_twice_is_one_task() {
    let (store, _announcements) = store().await;
    let job = planned_job(&store).await;
    let crawl = claim(&store, Stage::Crawl).await.remove(0);
    let id = job.derive("screenshot", "https://shop.example.com/a");
    for _ in 0..3 {
        let tasks = vec![NewTask::new(Stage::Screenshot, 0, id, &()).unwrap()];
        store
            .change(job, Some((&crawl.lease, Settle::Keep)), Change { tasks, ..Change::default() })
            .await
            .unwrap();
    }
    assert_eq!(store.job(job).await.unwrap().job.tally(Stage::Screenshot).total, 1);
}

#[tokio::test]
async fn the_start_of_a_task_is_told_once() {
    let (store, _announcements) = store().await;
    let job = planned_job(&store).await;
    for _ in 0..2 {
        let task = claim(&store, Stage::Crawl).await.remove(0);
        let started = jobcast::event::OcrStarted { screenshot_id: Uuid::nil() };
        store.announce_start(&task.lease, vec![started.into()]).await.unwrap();
        store.hand_back(&task.lease).await.unwrap();
    }
    let kinds: Vec<_> = store.events(job, 0, 10).await.unwrap().iter().map(|e| e.kind.clone()).collect();
    assert_eq!(kinds, ["job:created", "ocr:started"]);
}
