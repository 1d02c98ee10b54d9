//! Retention takes the events of jobs that ended long ago, and nothing that anybody was promised.

use std::{sync::Weak, time::Duration};

use jobcast::{
    event::{Event, JobUpdated},
    realtime::{
        hub::Hub,
        session::{Claim, Holder, Sessions},
    },
};

use crate::support::{config, planned_job, store, wait_for};

fn update() -> Event {
    JobUpdated { status: "crawling".into(), progress: None, current_stage: None, message: None }.into()
}

#[tokio::test]
async fn events_of_ended_jobs_go_but_for_the_last_and_open_jobs_keep_theirs() {
    let (store, _announcements) = store().await;
    let (ended, open) = (planned_job(&store).await, planned_job(&store).await);
    for job in [ended, open] {
        store.append(job, vec![update(), update()]).await.unwrap();
    }
    store.cancel(ended).await.unwrap();
    let before = store.head(ended).await.unwrap();
    assert_eq!(store.forget_events(Duration::from_secs(3600)).await.unwrap(), 0, "it ended just now");

    assert_eq!(store.forget_events(Duration::ZERO).await.unwrap(), before.seq as u64 - 1);
    let kept = store.events(ended, 0, 100).await.unwrap();
    assert_eq!(kept.iter().map(|event| event.seq).collect::<Vec<_>>(), [before.seq]);
    assert!(kept[0].is_terminal());
    assert_eq!(store.head(ended).await.unwrap(), before);
    assert_eq!(store.events(open, 0, 100).await.unwrap().len(), 3);
    assert_eq!(store.forget_events(Duration::ZERO).await.unwrap(), 0, "nothing is left to take");
}

#[tokio::test]
async fn a_session_that_was_not_told_what_was_taken_is_not_taken_up() {
    struct Nobody;
    impl Holder for Nobody {
        fn let_go(&self) {}
    }
    let (store, announcements) = store().await;
    let (hub, _stream) = Hub::start(store.clone(), announcements, &config().realtime).await.unwrap();
    let (sessions, _keeper) = Sessions::start(store.clone(), hub.clone(), Duration::from_secs(60));
    let begin = async |claim: Option<(&str, i64)>| {
        let claim =
            claim.map(|(pid, offset)| Claim { pid: pid.to_owned(), offset: Some(offset.to_string()) });
        let nobody: Weak<dyn Holder> = Weak::<Nobody>::new();
        sessions.begin(claim, None, nobody).await.unwrap().0.pid.clone()
    };
    let (behind, ahead) = (begin(None).await, begin(None).await);
    let job = planned_job(&store).await;
    store.append(job, vec![update(), update()]).await.unwrap();
    store.cancel(job).await.unwrap();
    let head = store.position().await.unwrap();
    wait_for("the hub", async || (hub.delivered() == head).then_some(())).await;
    assert_eq!(begin(Some((&behind, 1))).await, behind, "everything is there yet");

    store.forget_events(Duration::ZERO).await.unwrap();
    assert_ne!(begin(Some((&behind, 1))).await, behind);
    assert_eq!(begin(Some((&ahead, head))).await, ahead, "it had been told all that went");
}
