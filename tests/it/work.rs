//! The queue for workers outside of the server: claims, fences, attempts, documents, at the store itself.

use std::time::Duration;

use jobcast::{
    job::{Code, JobId, Report, Status},
    store::{
        ClaimedWork, NewWork, RequestKey, Retried, Store, StoreError, WorkFilter, WorkLease, WorkOutcome,
        WorkSort,
    },
};
use serde_json::{Map, Value, json};

use crate::support::{soon, store};

fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

fn reports(value: Value) -> Vec<Report> {
    serde_json::from_value(value).unwrap()
}

async fn submit(store: &Store, name: &str) -> JobId {
    let new = NewWork { input: object(json!({ "n": name })), ..NewWork::new("novel", name) };
    store.submit_work(new, None).await.unwrap().job
}

async fn claim(store: &Store) -> ClaimedWork {
    store.claim_work(&["novel".into()], "w").await.unwrap().expect("a job is ready")
}

async fn told(store: &Store, job: JobId) -> Vec<(String, Value)> {
    let events = store.events(job, 0, 1000).await.unwrap();
    events.iter().map(|e| (e.kind.to_string(), serde_json::from_str(e.payload.get()).unwrap())).collect()
}

fn code(error: StoreError) -> Code {
    match error {
        StoreError::Rejected(rejection) => rejection.code,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_job_goes_to_one_worker_and_whoever_lost_it_is_fenced() {
    let (store, _announcements) = store().await;
    let job = submit(&store, "one").await;
    let first = claim(&store).await;
    assert_eq!((first.lease.job, first.work.attempt, &first.work.input), (job, 1, &json!({ "n": "one" })));
    assert_eq!(first.work.record.job.status, Status::Running);
    assert!(store.claim_work(&["novel".into()], "w").await.unwrap().is_none(), "it is taken");
    assert!(store.claim_work(&["other".into()], "w").await.unwrap().is_none());

    // Handed back, and claimed by another: the first one's words count for nothing.
    store.report(&first.lease, None, Vec::new(), Some(WorkOutcome::Released)).await.unwrap();
    let second = claim(&store).await;
    assert_eq!(
        (second.work.attempt, second.lease.fence),
        (1, first.lease.fence + 1),
        "the attempt was not spent"
    );
    let log = reports(json!([{"type":"log","message":"late"}]));
    assert_eq!(code(store.report(&first.lease, None, log, None).await.unwrap_err()), Code::Fenced);
    assert_eq!(code(store.work_heartbeat(&first.lease).await.unwrap_err()), Code::Fenced);
    assert_eq!(store.work_heartbeat(&second.lease).await.unwrap().0, "run");
    let unknown = WorkLease { job: JobId(uuid::Uuid::now_v7()), fence: 1 };
    assert_eq!(code(store.work_heartbeat(&unknown).await.unwrap_err()), Code::JobNotFound);
    let done = WorkOutcome::Finished(object(json!({ "pages": 3 })));
    store.report(&second.lease, None, Vec::new(), Some(done)).await.unwrap();
    let record = store.job(job).await.unwrap();
    assert_eq!((record.job.status, record.results), (Status::Completed, Some(json!({ "pages": 3 }))));
    assert!(!told(&store, job).await.iter().any(|(kind, _)| kind == "job:log"));
}

#[tokio::test]
async fn what_a_worker_reports_is_told_in_order_and_once_and_its_patches_make_the_document() {
    let (store, _announcements) = store().await;
    let new = NewWork {
        document: object(json!({ "phases": { "a": { "status": "pending" } } })),
        ..NewWork::new("novel", "x")
    };
    let job = store.submit_work(new, None).await.unwrap().job;
    let lease = claim(&store).await.lease;
    let batch = json!([
        {"type":"progress","progress":10,"step":"reading","message":"page 1"},
        {"type":"patch","patch":{"phases":{"a":{"status":"done","cost":0.5}},"title":"T"}},
        {"type":"event","name":"novel:chunk","data":{"chunk":1,"text":"ä"}},
        {"type":"log","level":"warning","message":"hm","source":"reader"},
        {"type":"progress","progress":11},
    ]);
    let key = RequestKey { id: "r1".into(), request: "f1".into() };
    let first = store.report(&lease, Some(&key), reports(batch.clone()), None).await.unwrap();
    let again = store.report(&lease, Some(&key), reports(batch.clone()), None).await.unwrap();
    assert_eq!((first.replayed, again.replayed, &first.answer), (false, true, &again.answer));
    let other = RequestKey { request: "f2".into(), ..key.clone() };
    let refused = store.report(&lease, Some(&other), reports(batch), None).await.unwrap_err();
    assert_eq!(code(refused), Code::KeyReused);
    // One bad report, and none of the request counts.
    for bad in [
        json!({"type":"event","name":"job:completed","data":{}}),
        json!({"type":"event","name":"other:x"}),
        json!({"type":"progress","progress":101}),
        json!({"type":"patch","patch":{"x":format!("jobs/{job}/artifacts/none.txt")}}),
        json!({"type":"log","message":"\0"}),
    ] {
        let both = reports(json!([{"type":"log","message":"good"}, bad]));
        assert_eq!(
            code(store.report(&lease, None, both, None).await.unwrap_err()),
            Code::InvalidRequest,
            "{bad}"
        );
    }
    let kinds: Vec<String> = told(&store, job).await.into_iter().map(|(kind, _)| kind).collect();
    let expected =
        ["job:created", "job:patched", "job:updated", "job:updated", "job:patched", "novel:chunk", "job:log"];
    assert_eq!(kinds, expected);
    assert_eq!(first.answer["seq"], expected.len());
    let events = told(&store, job).await;
    assert_eq!(events[3].1["currentStage"], "reading");
    assert_eq!((&events[5].1["jobId"], &events[5].1["text"]), (&json!(job), &json!("ä")));
    let mut folded = json!({});
    for (_, payload) in events.iter().filter(|(kind, _)| kind == "job:patched") {
        jobcast::job::merge_patch(&mut folded, &payload["patch"]);
    }
    let work = store.work(job).await.unwrap();
    assert_eq!(work.document, json!({ "phases": { "a": { "status": "done", "cost": 0.5 } }, "title": "T" }));
    assert_eq!(folded, work.document);
    let job = &work.record.job;
    assert_eq!(
        (job.progress, job.step.as_deref(), work.message.as_deref()),
        (11, Some("reading"), Some("page 1"))
    );
}

#[tokio::test]
async fn an_attempt_that_fails_is_followed_by_another_until_there_is_none_left() {
    let (store, _announcements) = store().await;
    let new = NewWork { max_attempts: Some(2), ..NewWork::new("novel", "x") };
    let job = store.submit_work(new, None).await.unwrap().job;
    let fail = |retry| WorkOutcome::Failed { error: "the file is odd".into(), retry };
    let mut settings = jobcast::config::Config::defaults().work;
    settings.retry_backoff = Duration::ZERO;
    let store = store.with_work(settings);
    let lease = claim(&store).await.lease;
    store.report(&lease, None, Vec::new(), Some(fail(true))).await.unwrap();
    assert_eq!(store.job(job).await.unwrap().job.status, Status::Pending);
    let second = claim(&store).await;
    assert_eq!(second.work.attempt, 2);
    store.report(&second.lease, None, Vec::new(), Some(fail(true))).await.unwrap();
    let failed = store.job(job).await.unwrap();
    assert_eq!(failed.job.status, Status::Failed);
    assert_eq!(failed.error.as_deref(), Some("the file is odd (after 2 attempts)"));

    // A person tries it again: another job, which takes over the number.
    let number = failed.number.unwrap();
    let Retried::New(new) = store.retry(job).await.unwrap() else { panic!("the old one has ended") };
    let again = store.work_by_number("novel", number).await.unwrap();
    assert_eq!((again.record.job.id, again.record.retry_of, again.retries), (new, Some(job), 1));
    assert_eq!(store.job(job).await.unwrap().number, None);
    assert_eq!(code(store.retry(job).await.unwrap_err()), Code::AlreadyRetried);
    let lease = claim(&store).await.lease;
    store.report(&lease, None, Vec::new(), Some(fail(false))).await.unwrap();
    assert_eq!(store.job(new).await.unwrap().job.status, Status::Failed, "no other attempt can help");
    let filter = WorkFilter { newest_only: true, ..WorkFilter::default() };
    let (listed, total) = store.work_list("novel", &filter, WorkSort::Newest, 10, 0).await.unwrap();
    assert_eq!((listed.len(), total, listed[0].record.job.id), (1, 1, new));
    assert_eq!(store.work_counts("novel", None).await.unwrap(), [(Status::Failed, 1)].into());
}

#[tokio::test]
async fn pause_resume_and_cancel_reach_the_worker_and_the_queue() {
    let (store, _announcements) = store().await;
    let job = submit(&store, "x").await;
    let lease = claim(&store).await.lease;
    store.report(&lease, None, reports(json!([{"type":"patch","patch":{"done":1}}])), None).await.unwrap();
    store.pause(job).await.unwrap();
    assert_eq!(store.work_heartbeat(&lease).await.unwrap().0, "pause");
    store.report(&lease, None, Vec::new(), Some(WorkOutcome::Released)).await.unwrap();
    assert!(store.claim_work(&["novel".into()], "w").await.unwrap().is_none(), "it is paused");
    assert_eq!(store.job(job).await.unwrap().job.status, Status::Paused);
    store.resume(job).await.unwrap();
    let again = claim(&store).await;
    assert_eq!((again.work.document, again.work.attempt), (json!({ "done": 1 }), 1));
    // A pause that is over before the worker heeds it changes nothing.
    store.pause(job).await.unwrap();
    store.resume(job).await.unwrap();
    assert_eq!(store.work_heartbeat(&again.lease).await.unwrap().0, "run");

    store.cancel(job).await.unwrap();
    assert_eq!(store.work_heartbeat(&again.lease).await.unwrap().0, "cancel");
    assert_eq!(code(store.work_heartbeat(&lease).await.unwrap_err()), Code::Fenced);
    let late = store.report(&again.lease, None, Vec::new(), Some(WorkOutcome::Finished(Map::new()))).await;
    assert_eq!(code(late.unwrap_err()), Code::JobEnded);
    let last = told(&store, job).await.pop().unwrap();
    assert_eq!((last.0.as_str(), &last.1["cancelled"]), ("job:failed", &json!(true)));
}

#[tokio::test]
async fn jobs_are_claimed_by_priority_and_turn_and_an_owner_with_many_leaves_room() {
    let (store, _announcements) = store().await;
    let new = |owner: &str, name: &str, priority| NewWork {
        owner: owner.into(),
        priority: jobcast::job::Priority::new(priority).unwrap(),
        ..NewWork::new("novel", name)
    };
    for (owner, name, priority) in
        [("many", "1", 0), ("many", "2", 0), ("many", "3", 0), ("few", "4", 0), ("few", "urgent", 5)]
    {
        store.submit_work(new(owner, name, priority), None).await.unwrap();
    }
    let mut order = Vec::new();
    while let Some(claimed) = store.claim_work(&["novel".into(), "other".into()], "w").await.unwrap() {
        order.push(claimed.work.record.job.name);
    }
    assert_eq!(order, ["urgent", "1", "4", "2", "3"]);
}

#[tokio::test]
async fn those_who_wait_are_woken_one_for_each_job() {
    let (store, _announcements) = store().await;
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let never = std::future::pending();
                store
                    .await_work(&["novel".into(), "other".into()], "w", never)
                    .await
                    .unwrap()
                    .unwrap()
                    .lease
                    .job
            })
        })
        .collect();
    let mut jobs = Vec::new();
    for name in 0..8 {
        jobs.push(submit(&store, &name.to_string()).await);
    }
    let mut got = Vec::new();
    for waiter in waiting {
        got.push(soon("a job for everybody", waiter).await.unwrap());
    }
    got.sort();
    jobs.sort();
    assert_eq!(got, jobs);
}
