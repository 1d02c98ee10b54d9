//! Feeds: whoever reads at its own pace misses nothing, whatever memory holds.

use jobcast::{
    event::{Event, JobProgress, JobType, LabelFailed},
    job::JobId,
    realtime::{
        feed::{Feed, Interest},
        hub::Hub,
    },
    store::{NewJob, Store},
};
use uuid::Uuid;

use crate::support::{config, soon, store};

async fn job(store: &Store) -> JobId {
    let new = NewJob::unplanned(JobId(Uuid::now_v7()), JobType::Automation, "test");
    let id = new.id;
    store.create(new).await.unwrap();
    id
}

fn label() -> Event {
    LabelFailed { error: "x".into(), article_number: None }.into()
}

fn progress(percent: u8) -> Event {
    JobProgress {
        progress: percent,
        current_step: "running".into(),
        current_step_progress: None,
        total_steps: None,
        message: None,
    }
    .into()
}

/// The seqs of a job that a feed gives, up to one.
async fn read(feed: &mut Feed, job: JobId, up_to: i32) -> Vec<i32> {
    let mut seqs = Vec::new();
    while seqs.last().is_none_or(|last| *last < up_to) {
        let news = soon("news", feed.next()).await;
        seqs.extend(news.events.iter().filter(|event| event.job == job).map(|event| event.seq));
    }
    seqs
}

#[tokio::test]
async fn a_feed_reads_everything_at_its_own_pace_from_memory_or_from_the_journal() {
    let (store, announcements) = store().await;
    let mut settings = config().realtime;
    settings.recent_events = 8;
    let (hub, _stream) = Hub::start(store.clone(), announcements, &settings).await.unwrap();
    let (one, other) = (job(&store).await, job(&store).await);
    hub.reach(store.position().await.unwrap()).await;
    let mut of_all = Feed::open(&hub, Interest::All);
    let mut of_one = Feed::open(&hub, Interest::Job(one));
    let mut slow = Feed::open(&hub, Interest::Job(one));
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..100 {
                store.append(one, vec![label(), label(), label()]).await.unwrap();
                store.append(other, vec![label()]).await.unwrap();
            }
        })
    };
    let expected: Vec<i32> = (2..=301).collect();
    assert_eq!(read(&mut of_all, one, 301).await, expected);
    assert_eq!(read(&mut of_one, one, 301).await, expected);
    soon("the writer", writer).await.unwrap();
    hub.reach(store.position().await.unwrap()).await;
    // Everything but the last few events is in the journal only.
    assert_eq!(read(&mut slow, one, 301).await, expected);

    // Of progress only the newest counts, and none of it comes behind the end.
    for percent in [10, 20, 30] {
        store.tell(one, progress(percent));
    }
    store.append(other, vec![label()]).await.unwrap();
    hub.reach(store.position().await.unwrap()).await;
    let news = soon("progress", slow.next()).await;
    assert_eq!((news.events.len(), news.progress.len()), (0, 1));
    assert!(news.progress[0].payload.get().contains("\"progress\":30"));
    store.tell(one, progress(40));
    store.cancel(one).await.unwrap();
    hub.reach(store.position().await.unwrap()).await;
    let news = soon("the end", slow.next()).await;
    assert!(news.progress.is_empty() && news.events.iter().any(|event| event.is_terminal()));
}
