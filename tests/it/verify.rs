//! `jobcast verify`: what is sound passes, and each kind of damage is found and named.

use std::{collections::BTreeSet, path::Path, process::Stdio, time::Duration};

use jobcast::{
    config::Config,
    event::{Event, JobType, JobUpdated, LabelGenerated, ScreenshotCaptured},
    job::{Command, JobId},
    store::{
        Blobs, Change, NewJob, Row, ScreenshotRow, Store,
        verify::{Finding, Scope, Told, Totals, verify},
    },
};
use serde_json::{Value, json};
use sqlx::{PgPool, postgres::PgConnectOptions};
use tokio::runtime::Handle;
use url::Url;
use uuid::Uuid;

use crate::{
    process::{Process, free_port},
    support::{address, config, database, empty_database, folder, planned_job},
};

/// A database and a folder of objects, to be damaged.
struct House {
    options: PgConnectOptions,
    store: Store,
    blobs: Blobs,
    pool: PgPool,
    folder: tempfile::TempDir,
}

async fn house() -> House {
    let (options, folder) = (database().await, folder());
    let (store, _announcements) = Store::open(options.clone(), &config().database).await.unwrap();
    store.put_templates(&jobcast::pipeline::Context::builtin_templates()).await.unwrap();
    let public = Url::parse("https://jobs.example.com/").unwrap();
    let blobs = Blobs::open(&Config::defaults().objects, folder.path(), &public).unwrap();
    let pool = PgPool::connect_with(options.clone()).await.unwrap();
    House { options, store, blobs, pool, folder }
}

impl House {
    /// A job that is at work on its own plan, with six events and three objects.
    async fn job_at_work(&self) -> JobId {
        let job = JobId(Uuid::now_v7());
        let new = NewJob::unplanned(job, JobType::Crawl, "test");
        self.store.create(new).await.unwrap();
        let id = job.derive("screenshot", "1");
        let [picture, thumbnail, label] = [picture_of(job), thumbnail_of(job), label_of(job)];
        let mut rows = Vec::new();
        for key in [&picture, &thumbnail, &label] {
            rows.push(Row::Artifact(
                self.blobs.put(key.clone(), "a picture".into(), "image/png").await.unwrap(),
            ));
        }
        rows.push(Row::Screenshot(ScreenshotRow {
            id,
            ordinal: 0,
            product_url: "https://shop.example.com/1".into(),
            product_name: None,
            image_key: picture.clone(),
            thumbnail_key: thumbnail.clone(),
            width: 1,
            height: 1,
            file_size: 9,
            complete: true,
            page_facts: json!({}),
            layout_type: "unknown".into(),
            page_title: String::new(),
        }));
        let captured = ScreenshotCaptured {
            screenshot_id: id,
            url: self.blobs.address(&picture),
            product_url: "https://shop.example.com/1".into(),
            thumbnail_url: Some(self.blobs.address(&thumbnail)),
            product_name: None,
        };
        let generated = LabelGenerated {
            label_id: id,
            image_url: self.blobs.address(&label),
            article_number: "1".into(),
        };
        let events = vec![captured.into(), generated.into()];
        let change = Change { rows, events, commands: vec![Command::Run], ..Change::default() };
        self.store.change(job, None, change).await.unwrap();
        job
    }

    async fn ended_job(&self) -> JobId {
        let job = self.job_at_work().await;
        let results = Some(json!({}));
        let change = Change { commands: vec![Command::Complete], results, ..Change::default() };
        self.store.change(job, None, change).await.unwrap();
        job
    }

    /// Everything that an audit tells, and how much it looked at.
    async fn audit(&self, scope: Scope) -> (Vec<(Option<JobId>, Finding, String)>, Totals) {
        let mut found = Vec::new();
        let mut seen = (0, 0);
        let totals = verify(&self.pool, &self.blobs, scope, |told| match told {
            Told::Expect(all) => seen.1 = all,
            Told::Seen(more) => seen.0 += more,
            Told::Found { finding, job, what } => found.push((job, finding, what)),
        })
        .await
        .unwrap();
        assert_eq!(seen, (totals.events + totals.objects, seen.1));
        assert_eq!(seen.0, seen.1, "as much as was announced was looked at");
        (found, totals)
    }

    async fn sql(&self, statement: &'static str, job: JobId) {
        let done = sqlx::query(statement).bind(job.0).execute(&self.pool).await;
        let done = done.unwrap_or_else(|error| panic!("{statement}: {error}"));
        assert!(done.rows_affected() > 0, "{statement} does nothing");
    }
}

fn picture_of(job: JobId) -> String {
    format!("jobs/{job}/screenshots/1.png")
}

fn thumbnail_of(job: JobId) -> String {
    format!("jobs/{job}/thumbnails/1.png")
}

fn label_of(job: JobId) -> String {
    format!("jobs/{job}/labels/1.png")
}

fn update() -> Event {
    JobUpdated { status: "crawling".into(), progress: None, current_stage: None, message: None }.into()
}

const ALL: Scope = Scope { job: None, hashes: true };

#[tokio::test]
async fn a_sound_journal_passes() {
    let house = house().await;
    // What was older than retention is missed in no job.
    house.ended_job().await;
    assert_eq!(house.store.forget_events(Duration::ZERO).await.unwrap(), 5);
    house.ended_job().await;
    house.job_at_work().await;
    let cancelled = planned_job(&house.store).await;
    house.store.cancel(cancelled).await.unwrap();
    // A job that was removed leaves a gap in the positions and none in any job.
    let removed = planned_job(&house.store).await;
    house.store.cancel(removed).await.unwrap();
    house.store.remove(removed).await.unwrap();
    planned_job(&house.store).await;
    let (found, totals) = house.audit(ALL).await;
    assert_eq!(found, []);
    assert_eq!((totals.jobs, totals.objects), (5, 9));
    assert_eq!(totals.events, house.store.tail(0, 1000).await.unwrap().len() as u64);
}

#[tokio::test]
async fn each_kind_of_damage_is_found_and_named() {
    use Finding::*;
    // An event behind the last one, written as the journal would.
    const ONE_MORE_END: &str = "WITH counted AS (UPDATE jobs SET last_seq = last_seq + 1 WHERE id = $1),
             head AS (UPDATE journal_head SET position = position + 1 RETURNING position)
        INSERT INTO events SELECT head.position, job_id, seq + 1, kind, payload, created_at
        FROM events, head WHERE job_id = $1 AND kind = 'job:completed'";
    const ONE_BEHIND_THE_END: &str =
        "WITH counted AS (UPDATE jobs SET last_seq = last_seq + 1 WHERE id = $1),
             head AS (UPDATE journal_head SET position = position + 1 RETURNING position)
        INSERT INTO events SELECT head.position, job_id, seq + 1, 'job:updated', payload, created_at
        FROM events, head WHERE job_id = $1 AND kind = 'job:completed'";
    const NO_END: &str = "WITH counted AS (UPDATE jobs SET last_seq = last_seq - 1 WHERE id = $1)
        DELETE FROM events WHERE job_id = $1 AND kind = 'job:completed'";
    const OTHER_KEY: &str =
        "UPDATE events SET payload = replace(payload::text, '/labels/1', '/labels/2')::json
        WHERE job_id = $1 AND kind = 'label:generated'";
    let house = house().await;
    let mut expected = BTreeSet::new();
    for (finding, says, damage) in [
        (Hole, "seq 3 is missing", "DELETE FROM events WHERE job_id = $1 AND seq = 3"),
        (Hole, "seqs 1 to 2 are missing", "DELETE FROM events WHERE job_id = $1 AND seq < 3"),
        (Disorder, "seq 4", "UPDATE events SET position = position - 1000000 WHERE job_id = $1 AND seq = 4"),
        (LastSeq, "last_seq is 8", "UPDATE jobs SET last_seq = last_seq + 2 WHERE id = $1"),
        (NoEnd, "completed", NO_END),
        (Hole, "seqs 1 to 5 are missing", "DELETE FROM events WHERE job_id = $1 AND seq < 6"),
        (SecondEnd, "1 behind the one with seq 6", ONE_MORE_END),
        (AfterEnd, "1 behind the end with seq 6", ONE_BEHIND_THE_END),
        (EarlyEnd, "matching", "UPDATE jobs SET status = 'matching', ended_at = NULL WHERE id = $1"),
        (Status, "tells \"completed\"", "UPDATE jobs SET status = 'cancelled' WHERE id = $1"),
        (Status, "no time of its end", "UPDATE jobs SET ended_at = NULL WHERE id = $1"),
        (
            UnrecordedObject,
            "a row of screenshots",
            "DELETE FROM artifacts WHERE key LIKE 'jobs/' || $1 || '/screen%'",
        ),
        (UnrecordedObject, "label:generated with seq", OTHER_KEY),
        (
            UnrecordedObject,
            "screenshot:captured",
            "DELETE FROM artifacts WHERE key LIKE 'jobs/' || $1 || '/thumb%'",
        ),
    ] {
        let job = house.ended_job().await;
        assert_eq!(house.store.head(job).await.unwrap().seq, 6);
        house.sql(damage, job).await;
        expected.insert((job, finding));
        let (found, _) = house.audit(Scope { job: Some(job), hashes: true }).await;
        assert!(found.iter().any(|(_, _, what)| what.contains(says)), "{damage}: {found:?}");
        assert!(found.iter().all(|(of, what, _)| (*of, *what) == (Some(job), finding)), "{found:?}");
    }
    // Together they are told apart, and no other job is accused.
    house.ended_job().await;
    let (found, _) = house.audit(ALL).await;
    let found: BTreeSet<_> = found.into_iter().map(|(job, finding, _)| (job.unwrap(), finding)).collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn objects_that_are_gone_cut_or_changed_are_found() {
    let house = house().await;
    let job = house.ended_job().await;
    house.blobs.delete(&picture_of(job)).await.unwrap();
    house.blobs.put(thumbnail_of(job), "cut".into(), "image/png").await.unwrap();
    house.blobs.put(label_of(job), "a Picture".into(), "image/png").await.unwrap();
    let (found, _) = house.audit(ALL).await;
    let expected = BTreeSet::from([
        (Finding::MissingObject, picture_of(job)),
        (Finding::WrongSize, thumbnail_of(job)),
        (Finding::WrongHash, label_of(job)),
    ]);
    let first_word = |text: String| text.split(' ').next().unwrap().to_owned();
    let told: BTreeSet<_> = found.into_iter().map(|(_, finding, what)| (finding, first_word(what))).collect();
    assert_eq!(told, expected);
    let (found, _) = house.audit(Scope { hashes: false, ..ALL }).await;
    assert_eq!(found.len(), 2, "without a look into the objects their size alone tells: {found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_removed_during_the_audit_is_no_fault() {
    let house = house().await;
    let job = house.ended_job().await;
    let remove = async || {
        house.store.remove(job).await.unwrap();
        house.store.delete_objects(&house.blobs).await.unwrap();
    };
    let mut found = Vec::new();
    let audit = verify(&house.pool, &house.blobs, ALL, |told| match told {
        // By then the audit has its snapshot.
        Told::Expect(_) => tokio::task::block_in_place(|| Handle::current().block_on(remove())),
        Told::Seen(_) => {}
        Told::Found { finding, .. } => found.push(finding),
    });
    let totals = audit.await.unwrap();
    assert_eq!((found, totals), (vec![], Totals { jobs: 1, events: 6, objects: 3 }));
}

#[tokio::test]
async fn positions_that_two_events_share_and_a_counter_that_is_behind_are_found() {
    let house = house().await;
    let [one, two] = [house.ended_job().await, house.ended_job().await];
    sqlx::query("ALTER TABLE events DROP CONSTRAINT events_pkey").execute(&house.pool).await.unwrap();
    sqlx::query("ALTER TABLE events DROP CONSTRAINT events_job_id_seq_key")
        .execute(&house.pool)
        .await
        .unwrap();
    // The last of the first job takes the place of the first of the second.
    house.sql("UPDATE events SET position = position + 1 WHERE job_id = $1 AND seq = 6", one).await;
    house.sql("INSERT INTO events SELECT * FROM events WHERE job_id = $1 AND seq = 2", two).await;
    sqlx::query("UPDATE journal_head SET position = 3").execute(&house.pool).await.unwrap();
    let (found, _) = house.audit(ALL).await;
    let of = |wanted: Finding| found.iter().filter(|(_, finding, _)| *finding == wanted).collect::<Vec<_>>();
    assert_eq!(of(Finding::HeadBehind)[0].2, "the counter is at 3, the newest event at 12");
    let shared: Vec<&str> = of(Finding::SharedPosition).iter().map(|(_, _, what)| what.as_str()).collect();
    assert_eq!(shared, ["2 events have position 7", "2 events have position 8"]);
    assert_eq!(of(Finding::RepeatedSeq)[0].0, Some(two));
    let (found, _) = house.audit(Scope { job: Some(one), hashes: true }).await;
    assert!(found.iter().any(|(_, _, what)| what == "2 events have position 7"), "{found:?}");
}

#[tokio::test]
async fn a_task_whose_worker_is_gone_is_a_note() {
    let house = house().await;
    let job = planned_job(&house.store).await;
    house
        .sql(
            "UPDATE tasks SET state = 'running', lease_until = now() - interval '1 s' WHERE job_id = $1",
            job,
        )
        .await;
    let (found, _) = house.audit(ALL).await;
    assert_eq!(found, [(Some(job), Finding::LeaseOver, "crawl, item 0".into())]);
    assert!(!Finding::LeaseOver.is_fault());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_is_sound_at_every_moment_while_it_is_written_and_beyond_a_page() {
    let house = house().await;
    let long = planned_job(&house.store).await;
    let writer = tokio::spawn({
        let store = house.store.clone();
        async move {
            for _ in 0..300 {
                let job = planned_job(&store).await;
                store.append(long, vec![update(); 10]).await.unwrap();
                store.cancel(job).await.unwrap();
            }
        }
    });
    let mut audits = 0;
    while !writer.is_finished() {
        let (found, totals) = house.audit(ALL).await;
        assert_eq!(found, []);
        audits += u32::from(totals.events < 3601);
    }
    writer.await.unwrap();
    assert!(audits > 1, "the journal was looked at while it was written");
    let (found, totals) = house.audit(ALL).await;
    assert_eq!((found, totals), (vec![], Totals { jobs: 301, events: 3601, objects: 0 }));
    house.sql("DELETE FROM events WHERE job_id = $1 AND seq = 2049", long).await;
    let (found, _) = house.audit(ALL).await;
    assert_eq!(found, [(Some(long), Finding::Hole, "seq 2049 is missing".into())]);
}

/// Runs the command and returns its exit code, the lines of its output and what it complains of.
pub async fn run(arguments: &[&str], data_dir: &Path, url: Option<&str>) -> (i32, Vec<String>, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_jobcast"));
    command.arg("verify").args(arguments).arg("--data-dir").arg(data_dir).env_remove("DATABASE_URL");
    if let Some(url) = url {
        command.args(["--database-url", url]);
    }
    let out = command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    let lines = String::from_utf8(out.stdout).unwrap().lines().map(str::to_owned).collect();
    (out.status.code().unwrap(), lines, String::from_utf8(out.stderr).unwrap())
}

#[tokio::test]
async fn the_command_says_what_it_found_to_people_and_to_scripts() {
    let house = house().await;
    let job = house.ended_job().await;
    let url = address(&house.options);
    let run = async |arguments: &[&str]| run(arguments, house.folder.path(), Some(&url)).await;
    let (code, lines, _) = run(&[]).await;
    let sound = "jobs 1 · events 6 · objects 3 · all is there and in order";
    assert_eq!((code, lines), (0, vec![sound.to_owned()]));
    house.sql("DELETE FROM events WHERE job_id = $1 AND seq = 3", job).await;
    let (code, lines, _) = run(&["--sizes-only"]).await;
    assert_eq!((code, lines[0].as_str()), (1, &*format!("fault hole: job {job}: seq 3 is missing")));
    assert!(lines[1].starts_with("1 × hole: events are gone"), "{lines:?}");
    assert!(lines[2].ends_with("1 fault"), "{lines:?}");
    let (code, lines, _) = run(&["--json", "--job", &job.to_string()]).await;
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((code, lines.len()), (1, 2));
    assert_eq!(
        (&lines[0]["finding"], &lines[0]["fault"], &lines[0]["job"]),
        (&json!("hole"), &json!(true), &json!(job))
    );
    assert_eq!(lines[1], json!({ "jobs": 1, "events": 5, "objects": 3, "faults": 1, "notes": 0 }));
    let (code, _, said) = run(&["--job", &Uuid::now_v7().to_string()]).await;
    assert!(code == 1 && said.contains("There is no job"), "{said}");
}

#[tokio::test]
async fn the_command_makes_nothing_where_nothing_is() {
    let (folder, empty) = (folder(), empty_database().await);
    let (code, _, said) = run(&[], folder.path(), None).await;
    assert!(code == 1 && said.contains("there is no database in"), "{said}");
    assert!(!folder.path().join("postgres").exists());
    let (code, _, said) = run(&[], folder.path(), Some(&address(&empty))).await;
    assert!(code == 1 && said.contains("holds no journal"), "{said}");
    let older = house().await;
    sqlx::query("DELETE FROM _sqlx_migrations WHERE version > 1").execute(&older.pool).await.unwrap();
    let (code, _, said) = run(&[], folder.path(), Some(&address(&older.options))).await;
    assert!(code == 1 && said.contains("run `jobcast migrate` first"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_database_is_audited_beside_its_server_and_without_it() {
    let folder = folder();
    let server = Process::start(folder.path(), free_port(), &[("JOBCAST__PIPELINE__ENABLED", "false")]).await;
    let told = server.http.post(format!("{}/api/test-websocket/run", server.base)).send().await.unwrap();
    assert_eq!(told.status().as_u16(), 200);
    let (code, lines, said) = run(&[], folder.path(), None).await;
    assert_eq!(code, 0, "{lines:?} {said}");
    assert!(lines[0].starts_with("jobs 1 ") && lines[0].contains("objects 2"), "{lines:?}");
    assert_eq!(server.get("/readyz").await["status"], "ready");
    server.kill();
    let (code, again, said) = run(&[], folder.path(), None).await;
    assert_eq!((code, again), (0, lines), "{said}");
}
