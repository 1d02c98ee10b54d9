//! The queue: leases, fencing, retries, phases.

use std::time::Duration;

use jobcast::{
    event::JobType,
    job::{Code, Command, JobId, Priority, Stage, Status},
    store::{Change, NewJob, NewTask, Settle, Slot, Store, StoreError},
};
use uuid::Uuid;

use crate::support::{planned_job, planned_job_of, store};

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

/// A job in its first phase with so many pages to capture, and the lease of its crawl.
async fn job_with_pages(store: &Store, owner: &str, pages: i32) -> (JobId, jobcast::store::Lease) {
    let job = planned_job_of(store, owner).await;
    let crawl = claim(store, Stage::Crawl).await.remove(0);
    let page = |ordinal| {
        NewTask::new(Stage::Screenshot, ordinal, job.derive("screenshot", &ordinal.to_string()), &()).unwrap()
    };
    let tasks = (0..pages).map(page).collect();
    let start = Change { commands: vec![Command::Start], tasks, ..Change::default() };
    store.change(job, Some((&crawl.lease, Settle::Keep)), start).await.unwrap();
    (job, crawl.lease)
}

fn code(refused: Result<impl std::fmt::Debug, StoreError>) -> Code {
    match refused {
        Err(StoreError::Rejected(rejection)) => rejection.code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn no_item_of_a_paused_job_begins_and_those_that_run_may_end() {
    let (store, _announcements) = store().await;
    let (job, crawl) = job_with_pages(&store, "anonymous", 3).await;
    let shot = store.claim(Stage::Screenshot, 1, Uuid::new_v4(), LEASE).await.unwrap().remove(0);
    assert_eq!(store.pause(job).await.unwrap().status, Status::Paused);
    assert_eq!(code(store.pause(job).await), Code::JobPaused);
    assert!(store.ready_stages().await.unwrap().is_empty());
    assert!(claim(&store, Stage::Screenshot).await.is_empty());
    assert_eq!(store.to_stop(&[crawl, shot.lease]).await.unwrap(), [crawl.task], "the crawl would go on");

    // The crawl is handed back, an item tried again later, what ran on counts: nothing of it is ready.
    store.hand_back(&crawl).await.unwrap();
    let next = NewTask::new(Stage::Ocr, 0, Uuid::new_v4(), &()).unwrap();
    let done = Change { tasks: vec![next], ..Change::default() };
    let changed = store.change(job, Some((&shot.lease, Settle::Done)), done).await.unwrap();
    assert_eq!(changed.status, Status::Paused);
    assert!(store.ready_stages().await.unwrap().is_empty());
    assert_eq!(store.job(job).await.unwrap().job.tally(Stage::Screenshot).done, 1);

    assert_eq!(store.resume(job).await.unwrap().status, Status::Crawling);
    assert_eq!(code(store.resume(job).await), Code::JobNotPaused);
    let again = claim(&store, Stage::Crawl).await.remove(0);
    assert_eq!((again.lease.task, again.attempt), (crawl.task, 1), "its attempt was not spent");
    let left: Vec<i32> = claim(&store, Stage::Screenshot).await.iter().map(|task| task.ordinal).collect();
    assert_eq!(left, [1, 2]);
}

#[tokio::test]
async fn tasks_whose_workers_are_lost_during_a_pause_wait_for_its_end() {
    let (store, _announcements) = store().await;
    let (job, _) = job_with_pages(&store, "anonymous", 2).await;
    let shots = store.claim(Stage::Screenshot, 2, Uuid::new_v4(), Duration::ZERO).await.unwrap();
    store.pause(job).await.unwrap();
    assert!(store.retry_task(&shots[0].lease, Duration::ZERO, "x").await.unwrap());
    assert!(store.reap(3, LEASE).await.unwrap().is_empty());
    assert!(store.ready_stages().await.unwrap().is_empty());
    store.resume(job).await.unwrap();
    assert_eq!(claim(&store, Stage::Screenshot).await.len(), 2);
}

#[tokio::test]
async fn a_job_that_has_not_begun_can_be_paused_and_a_paused_one_cancelled() {
    let (store, _announcements) = store().await;
    let job = planned_job(&store).await;
    store.pause(job).await.unwrap();
    assert!(claim(&store, Stage::Crawl).await.is_empty());
    assert_eq!(store.resume(job).await.unwrap().status, Status::Pending);
    assert!(store.job(job).await.unwrap().started_at.is_none());
    store.pause(job).await.unwrap();
    store.cancel(job).await.unwrap();
    assert_eq!(code(store.resume(job).await), Code::JobEnded);
    let told: Vec<String> = store
        .events(job, 0, 10)
        .await
        .unwrap()
        .iter()
        .map(|event| serde_json::from_str::<serde_json::Value>(event.payload.get()).unwrap())
        .map(|payload| payload["status"].as_str().unwrap_or("-").to_owned())
        .collect();
    assert_eq!(told, ["-", "paused", "pending", "paused", "-"]);
}

#[tokio::test]
async fn of_one_owners_jobs_only_so_many_are_at_work_and_no_owner_waits_for_another() {
    let (store, _announcements) = store().await;
    let store = store.with_jobs_per_owner(2);
    let mut mine = Vec::new();
    for _ in 0..4 {
        mine.push(planned_job_of(&store, "me").await);
    }
    let yours = planned_job_of(&store, "you").await;
    let slots = async || {
        let mut slots = Vec::new();
        for job in &mine {
            slots.push(store.job(*job).await.unwrap().slot);
        }
        slots
    };
    use Slot::{Has, Waits};
    assert_eq!(slots().await, [Has, Has, Waits, Waits]);
    assert_eq!(store.job(yours).await.unwrap().slot, Has);
    let places = store.places(&mine).await.unwrap();
    assert_eq!((places.len(), places[&mine[2]], places[&mine[3]]), (2, 1, 2));
    let told = store.events(mine[2], 0, 10).await.unwrap();
    assert!(told[1].payload.get().contains("Waiting for its turn"), "{:?}", told[1]);
    let claimed: Vec<JobId> = claim(&store, Stage::Crawl).await.iter().map(|task| task.lease.job).collect();
    assert_eq!(claimed, [mine[0], mine[1], yours]);

    // A priority decides who is next, a pause makes room, and who comes back waits again.
    store.prioritise(mine[3], Priority::new(1).unwrap()).await.unwrap();
    store.pause(mine[0]).await.unwrap();
    assert_eq!(slots().await, [Slot::None, Has, Waits, Has]);
    assert_eq!(store.resume(mine[0]).await.unwrap().status, Status::Pending);
    assert_eq!(slots().await, [Waits, Has, Waits, Has]);
    store.cancel(mine[1]).await.unwrap();
    assert_eq!(slots().await, [Has, Slot::None, Waits, Has]);
    store.cancel(mine[3]).await.unwrap();
    assert_eq!(slots().await, [Has, Slot::None, Has, Slot::None]);
    assert_eq!(claim(&store, Stage::Crawl).await.len(), 1, "the other one's crawl is claimed already");
}

#[tokio::test]
async fn many_jobs_at_once_never_take_more_than_their_owners_slots_and_all_get_their_turn() {
    let (store, _announcements) = store().await;
    let store = store.with_jobs_per_owner(3);
    let mut making = tokio::task::JoinSet::new();
    for i in 0..24 {
        let store = store.clone();
        making.spawn(async move { planned_job_of(&store, if i % 2 == 0 { "me" } else { "you" }).await });
    }
    let jobs = making.join_all().await;
    let mut at_work = 0;
    let mut left = jobs.len();
    while left > 0 {
        let mut with_slots = Vec::new();
        for job in &jobs {
            if store.job(*job).await.unwrap().slot == Slot::Has {
                with_slots.push(*job);
            }
        }
        let mut ending = tokio::task::JoinSet::new();
        for job in with_slots {
            let store = store.clone();
            ending.spawn(async move { store.cancel(job).await.unwrap() });
        }
        at_work = at_work.max(ending.len());
        assert!((1..=6).contains(&ending.len()), "{} at work, {left} left", ending.len());
        left -= ending.len();
        ending.join_all().await;
    }
    assert_eq!(at_work, 6);
}

#[tokio::test]
async fn items_are_claimed_by_priority_and_a_small_job_does_not_wait_for_all_of_a_big_one() {
    let (store, _announcements) = store().await;
    let (big, _) = job_with_pages(&store, "anonymous", 50).await;
    let first = store.claim(Stage::Screenshot, 10, Uuid::new_v4(), LEASE).await.unwrap();
    assert_eq!(first.iter().map(|task| task.ordinal).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    let (small, _) = job_with_pages(&store, "anonymous", 3).await;
    let next: Vec<JobId> = store
        .claim(Stage::Screenshot, 3, Uuid::new_v4(), LEASE)
        .await
        .unwrap()
        .iter()
        .map(|task| task.lease.job)
        .collect();
    assert_eq!(next, [small; 3]);
    let (urgent, _) = job_with_pages(&store, "anonymous", 2).await;
    store.prioritise(urgent, Priority::new(50).unwrap()).await.unwrap();
    store.prioritise(big, Priority::new(-50).unwrap()).await.unwrap();
    let (late, _) = job_with_pages(&store, "anonymous", 1).await;
    let next: Vec<JobId> = {
        let mut next = Vec::new();
        for _ in 0..4 {
            next.push(store.claim(Stage::Screenshot, 1, Uuid::new_v4(), LEASE).await.unwrap()[0].lease.job);
        }
        next
    };
    assert_eq!(next, [urgent, urgent, late, big]);
}

#[tokio::test]
async fn a_job_begins_with_its_first_claim() {
    let (store, _announcements) = store().await;
    let job = planned_job(&store).await;
    let crawl = claim(&store, Stage::Crawl).await.remove(0);
    assert!(crawl.begins);
    let start = Change { commands: vec![Command::Start], ..Change::default() };
    store.change(job, Some((&crawl.lease, Settle::Keep)), start).await.unwrap();
    store.hand_back(&crawl.lease).await.unwrap();
    assert!(!claim(&store, Stage::Crawl).await[0].begins);
}

#[tokio::test]
async fn a_job_without_a_plan_can_be_paused_too() {
    let (store, _announcements) = store().await;
    let id = JobId(Uuid::now_v7());
    store.create(NewJob::unplanned(id, JobType::Crawl, "no plan")).await.unwrap();
    store.change(id, None, Change { commands: vec![Command::Run], ..Change::default() }).await.unwrap();
    store.pause(id).await.unwrap();
    assert_eq!(store.resume(id).await.unwrap().status, Status::Running);
    assert_eq!(store.job(id).await.unwrap().slot, Slot::None);
}
