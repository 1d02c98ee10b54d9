//! Whole jobs on a generated shop: with items side by side and with one at a time, what they take of time, processors
//! and memory.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use serde::Serialize;
use serde_json::json;
use tokio::{net::TcpListener, time::Instant};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use crate::app::{
    bench::{
        progress::Progress,
        servers::{Programs, Server},
        usage,
    },
    client::{self, Follower, News, PriceListJob, Remote},
    demo_shop::{self, Catalogue},
};

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// The longest job that is waited for.
const LONGEST: Duration = Duration::from_secs(3600);
/// The settings that say how many items are in flight.
const CONCURRENCY: [&str; 6] = [
    "PIPELINE__CRAWL_CONCURRENCY",
    "PIPELINE__SCREENSHOT_CONCURRENCY",
    "PIPELINE__OCR_CONCURRENCY",
    "PIPELINE__MATCH_CONCURRENCY",
    "PIPELINE__RENDER_CONCURRENCY",
    "CRAWLER__CONCURRENCY",
];

#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Args {
    /// Products of the shop and of the two jobs that are compared.
    #[arg(long, default_value_t = 200)]
    pub products: usize,
    /// Products of a smaller job, whose memory is compared with theirs.
    #[arg(long, default_value_t = 50)]
    pub small: usize,
    /// Leave out the job with one item in flight.
    #[arg(long)]
    pub no_single: bool,
}

/// What one job took.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    pub products: usize,
    pub labels: usize,
    /// From the submission to the last event.
    pub seconds: f64,
    /// Seconds of each phase, in order.
    pub phases: Vec<(String, f64)>,
    /// Processor time of the server with everything that it started.
    pub cpu_seconds: f64,
    /// How many of the machine's processors were at work on average, the shop's own work among it.
    pub processors_busy: f64,
    /// The most memory at any look, in all and by program: bytes.
    pub peak_memory: u64,
    pub peak_by_program: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    pub processors: usize,
    pub small: Run,
    pub whole: Run,
    pub single: Option<Run>,
}

pub async fn run(programs: &Programs, args: Args) -> anyhow::Result<Outcome> {
    ensure!(
        args.small > 0 && args.products >= args.small,
        "--products is at least --small, and that at least 1"
    );
    let progress = Progress::new("pipeline");
    let catalogue = Catalogue::generated(args.products);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("the shop cannot listen")?;
    let shop = Url::parse(&format!("http://{}{}/", listener.local_addr()?, demo_shop::BASE))?;
    let routes = axum::Router::new()
        .route("/robots.txt", axum::routing::get(demo_shop::robots))
        .nest_service(demo_shop::BASE, demo_shop::router_of(catalogue));
    let _shop = AbortOnDropHandle::new(tokio::spawn(async move { axum::serve(listener, routes).await }));

    let origin = shop.origin().ascii_serialization();
    let usual = vec![
        ("JOBCAST__CRAWLER__ALLOW_ORIGINS".to_owned(), format!("[\"{origin}\"]")),
        ("JOBCAST__CRAWLER__DELAY".to_owned(), "0ms".to_owned()),
    ];
    let mut single = usual.clone();
    single.extend(CONCURRENCY.map(|setting| (format!("JOBCAST__{setting}"), "1".to_owned())));

    let list = demo_shop::price_list_of(catalogue);
    let job = async |title: &str, environment: &[(String, String)], products: usize| {
        // A server of its own, so that no job finds what another has warmed up.
        let server = Server::start_working(programs, environment.to_vec()).await?;
        one(&server, &shop, &list, products, title, &progress).await.with_context(|| title.to_owned())
    };
    let small = job("small job", &usual, args.small).await?;
    let whole = job("whole job", &usual, args.products).await?;
    let single = match args.no_single {
        true => None,
        false => Some(job("one at a time", &single, args.products).await?),
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Outcome { processors, small, whole, single })
}

async fn one(
    server: &Server,
    shop: &Url,
    list: &[u8],
    products: usize,
    title: &str,
    progress: &Progress,
) -> anyhow::Result<Run> {
    let base = Remote::from(server.base()?);
    let pid = server.pid().context("the server's process is unknown")?;
    let peaks = Peaks::watch(pid);
    let (cpu, (busy, all)) = (usage::cpu(pid)?, usage::machine()?);
    let began = Instant::now();
    let id = client::submit_with_price_list(
        &base,
        PriceListJob {
            shop_url: shop.to_string(),
            template_id: "standard-label".into(),
            config: json!({ "name": title, "maxProducts": products }),
            file_name: "price-list.xlsx".into(),
            file: list.to_vec(),
        },
    )
    .await?;
    progress.begin(title, 100);
    let mut follower = Follower::new(base.clone(), id);
    let mut phases: Vec<(String, f64)> = Vec::new();
    let follow = async {
        while let Some(news) = follower.next().await? {
            progress.at(u64::from(follower.view().progress));
            let News::Told(_) = news else { continue };
            let now = began.elapsed().as_secs_f64();
            let status = follower.view().status.filter(|status| !status.is_ended());
            if let Some(word) = status.map(|status| status.word())
                && phases.last().is_none_or(|(last, _)| last != word)
            {
                phases.push((word.to_owned(), now));
            }
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(LONGEST, follow).await.context("the job did not end")??;
    let seconds = began.elapsed().as_secs_f64();
    let view = follower.view();
    if let Some(error) = &view.error {
        anyhow::bail!("the job failed: {error}");
    }
    let (cpu, (busy, all)) = (usage::cpu(pid)? - cpu, usage::machine().map(|(b, a)| (b - busy, a - all))?);
    let ends: Vec<f64> = phases.iter().skip(1).map(|(_, at)| *at).chain([seconds]).collect();
    let phases = phases.into_iter().zip(ends).map(|((word, at), end)| (word, end - at)).collect();
    let processors = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let (peak_memory, peak_by_program) = peaks.seen();
    Ok(Run {
        products: view.screenshots as usize,
        labels: view.labels.len(),
        seconds,
        phases,
        cpu_seconds: cpu.own + cpu.children,
        processors_busy: processors * busy / all.max(f64::EPSILON),
        peak_memory,
        peak_by_program,
    })
}

/// The most memory that was seen so far.
struct Peaks {
    seen: Arc<Mutex<(u64, BTreeMap<String, u64>)>>,
    _watch: AbortOnDropHandle<()>,
}

impl Peaks {
    fn watch(pid: u32) -> Peaks {
        let seen: Arc<Mutex<(u64, BTreeMap<String, u64>)>> = Arc::default();
        let shared = seen.clone();
        let watch = tokio::spawn(async move {
            let mut looks = tokio::time::interval(LOOK);
            loop {
                looks.tick().await;
                let Ok(now) = tokio::task::spawn_blocking(move || usage::memory_by_program(pid)).await else {
                    return;
                };
                let mut seen = shared.lock().unwrap_or_else(PoisonError::into_inner);
                seen.0 = seen.0.max(now.values().sum());
                for (program, bytes) in now {
                    let peak = seen.1.entry(program).or_default();
                    *peak = bytes.max(*peak);
                }
            }
        });
        Peaks { seen, _watch: AbortOnDropHandle::new(watch) }
    }

    fn seen(&self) -> (u64, BTreeMap<String, u64>) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} products, {} labels in {:.1} s ({:.2}/s); {:.1} CPU-seconds, {:.2} processors busy; peak {:.0} MB",
            self.products,
            self.labels,
            self.seconds,
            self.products as f64 / self.seconds,
            self.cpu_seconds,
            self.processors_busy,
            megabytes(self.peak_memory),
        )?;
        let mut programs: Vec<(&String, &u64)> = self.peak_by_program.iter().collect();
        programs.sort_by_key(|(_, bytes)| std::cmp::Reverse(**bytes));
        let programs: Vec<String> = programs
            .iter()
            .take(3)
            .map(|(program, bytes)| format!("{program} {:.0}", megabytes(**bytes)))
            .collect();
        write!(f, " ({})", programs.join(", "))?;
        for (phase, seconds) in &self.phases {
            write!(f, "\n    {phase:<16} {seconds:6.1} s")?;
        }
        Ok(())
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "on {} processors", self.processors)?;
        writeln!(f, "  small:  {}", self.small)?;
        write!(f, "  whole:  {}", self.whole)?;
        let growth = self.whole.peak_memory as f64 / self.small.peak_memory.max(1) as f64;
        write!(f, "\n  memory of the whole ÷ of the small: {growth:.2}")?;
        if let Some(single) = &self.single {
            let ratio = single.seconds / self.whole.seconds;
            write!(f, "\n  single: {single}\n  throughput side by side ÷ one at a time: {ratio:.2}")?;
        }
        Ok(())
    }
}
