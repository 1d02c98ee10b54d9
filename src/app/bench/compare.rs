//! Every scenario on every server, one after the other in one run on one machine.

use serde::Serialize;

use super::{
    scenarios::{append, fanout, idle, jitter, latejoin, redeploy, storm},
    servers::{Kind, Programs, Server},
};

/// A scenario's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    Fanout,
    Storm,
    Jitter,
    Redeploy,
    Idle,
    Append,
    Latejoin,
}

impl Scenario {
    const ALL: [Scenario; 7] = [
        Scenario::Fanout,
        Scenario::Storm,
        Scenario::Jitter,
        Scenario::Redeploy,
        Scenario::Idle,
        Scenario::Append,
        Scenario::Latejoin,
    ];

    /// Only Jobcast has what it tries.
    fn is_jobcasts(self) -> bool {
        matches!(self, Scenario::Append | Scenario::Latejoin)
    }
}

/// The numbers of all scenarios.
#[derive(Clone, Debug)]
pub struct Numbers {
    pub fanout: fanout::Args,
    pub storm: storm::Args,
    pub jitter: jitter::Args,
    pub redeploy: redeploy::Args,
    pub idle: idle::Args,
    pub append: append::Args,
    pub latejoin: latejoin::Args,
}

impl Numbers {
    /// The defaults of the scenarios' own commands.
    pub fn full() -> Numbers {
        Numbers {
            fanout: defaults(),
            storm: defaults(),
            jitter: defaults(),
            redeploy: defaults(),
            idle: defaults(),
            append: defaults(),
            latejoin: defaults(),
        }
    }

    /// Small ones, to see that everything works.
    pub fn quick() -> Numbers {
        let full = Numbers::full();
        Numbers {
            fanout: fanout::Args { clients: 50, bursts: 3, burst: 100, seconds: 2, ..full.fanout },
            storm: storm::Args { clients: 100 },
            jitter: jitter::Args {
                clients: 50,
                events: 30,
                rate: 5,
                cut_every: 2.0,
                offline: 0.5,
                ..full.jitter
            },
            redeploy: redeploy::Args { clients: 100, events: 4, ..full.redeploy },
            idle: idle::Args { clients: 200 },
            append: append::Args { seconds: 2, ..full.append },
            latejoin: latejoin::Args { events: 1000, times: 3 },
        }
    }

    /// A part of the clients.
    pub fn scaled(mut self, scale: f64) -> Numbers {
        for clients in [
            &mut self.fanout.clients,
            &mut self.storm.clients,
            &mut self.jitter.clients,
            &mut self.redeploy.clients,
            &mut self.idle.clients,
        ] {
            *clients = ((*clients as f64 * scale).round() as usize).max(1);
        }
        self
    }
}

/// What a scenario's command takes when no flag is given.
fn defaults<A: clap::Args>() -> A {
    let command = A::augment_args(clap::Command::new("defaults").no_binary_name(true));
    let matches = command.get_matches_from(std::iter::empty::<&str>());
    A::from_arg_matches(&matches).expect("every number has a default")
}

/// What is compared.
#[derive(Clone, Debug)]
pub struct Wish {
    pub servers: Vec<Kind>,
    pub scenarios: Vec<Scenario>,
    pub numbers: Numbers,
}

impl Wish {
    /// Empty lists stand for everything.
    pub fn new(servers: Vec<Kind>, scenarios: Vec<Scenario>, numbers: Numbers) -> Wish {
        let servers = if servers.is_empty() { Kind::ALL.to_vec() } else { servers };
        let scenarios = if scenarios.is_empty() { Scenario::ALL.to_vec() } else { scenarios };
        Wish { servers, scenarios, numbers }
    }

    /// A sentence that says what was measured, where and when.
    pub fn described(&self) -> String {
        let Numbers { fanout, storm, jitter, redeploy, idle, append, latejoin } = &self.numbers;
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let kill = if jitter.no_kill { "" } else { ", one `kill -9` and restart halfway" };
        format!(
            "Measured on {} on {cores} cores, servers one after the other, each with the load generator beside it. \
             Fan-out: {} clients in one room, {} bursts of {} events, then {} events/s for {} s. Storm: {} clients at \
             once. Jitter: {} clients, each connection cut about every {} s and {} s offline, {} milestones at {}/s{kill}. \
             Redeploy: {} clients. Idle: {} websockets. Appends: {} writers on the embedded Postgres, then {} events/s to \
             {} subscribers. Late join: a job with {} events.",
            chrono::Utc::now().format("%Y-%m-%d"),
            fanout.clients,
            fanout.bursts,
            fanout.burst,
            fanout.rate,
            fanout.seconds,
            storm.clients,
            jitter.clients,
            jitter.cut_every,
            jitter.offline,
            jitter.events,
            jitter.rate,
            redeploy.clients,
            idle.clients,
            append.writers,
            append.rate,
            append.subscribers,
            latejoin.events,
        )
    }
}

/// What one server did; absent is what was not tried, and what failed (`failures` tells why).
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    pub server: String,
    pub fanout: Option<fanout::Outcome>,
    pub storm: Option<storm::Outcome>,
    pub jitter: Option<jitter::Outcome>,
    pub redeploy: Option<redeploy::Outcome>,
    pub idle: Option<idle::Outcome>,
    pub append: Option<append::Outcome>,
    pub latejoin: Option<latejoin::Outcome>,
    pub failures: Vec<String>,
}

/// Runs all of it, printing each outcome as it comes. What fails on one server is told, and the next one is tried.
pub async fn run(wish: &Wish, programs: &Programs) -> Vec<Report> {
    let mut reports = Vec::new();
    for kind in &wish.servers {
        let mut report = Report { server: kind.title().into(), ..Report::default() };
        for scenario in &wish.scenarios {
            if scenario.is_jobcasts() && *kind != Kind::Jobcast {
                continue;
            }
            if let Err(error) = one(*kind, *scenario, &wish.numbers, programs, &mut report).await {
                let failure = format!("{scenario:?}: {error:#}");
                println!("{}: FAILED {failure}", kind.title());
                report.failures.push(failure);
            }
        }
        reports.push(report);
    }
    reports
}

/// Each scenario has a server of its own, so that none inherits another's memory or rows.
async fn one(
    kind: Kind,
    scenario: Scenario,
    numbers: &Numbers,
    programs: &Programs,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut server = Server::start(kind, programs).await?;
    match scenario {
        Scenario::Fanout => {
            tell(kind, scenario, report.fanout.insert(fanout::run(&server, numbers.fanout).await?))
        }
        Scenario::Storm => {
            tell(kind, scenario, report.storm.insert(storm::run(&server, numbers.storm).await?))
        }
        Scenario::Jitter => {
            tell(kind, scenario, report.jitter.insert(jitter::run(&mut server, numbers.jitter).await?))
        }
        Scenario::Redeploy => {
            tell(kind, scenario, report.redeploy.insert(redeploy::run(&mut server, numbers.redeploy).await?))
        }
        Scenario::Idle => tell(kind, scenario, report.idle.insert(idle::run(&server, numbers.idle).await?)),
        Scenario::Append => {
            tell(kind, scenario, report.append.insert(append::run(&server, numbers.append).await?))
        }
        Scenario::Latejoin => {
            tell(kind, scenario, report.latejoin.insert(latejoin::run(&server, numbers.latejoin).await?))
        }
    }
    Ok(())
}

fn tell(kind: Kind, scenario: Scenario, outcome: &impl std::fmt::Display) {
    println!("{} · {scenario:?}: {outcome}", kind.title());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_goals() {
        let full = Numbers::full();
        assert_eq!((full.fanout.clients, full.fanout.rate), (1000, 20));
        assert_eq!((full.jitter.clients, full.jitter.events, full.jitter.rate), (2000, 120, 2));
        assert!(!full.jitter.no_kill);
        assert_eq!((full.redeploy.clients, full.idle.clients), (5000, 5000));
        assert_eq!((full.append.writers, full.append.rate, full.latejoin.events), (64, 2000, 10_000));
    }

    #[test]
    fn a_scale_changes_the_crowds_alone() {
        let scaled = Numbers::full().scaled(0.1);
        assert_eq!((scaled.fanout.clients, scaled.fanout.burst, scaled.idle.clients), (100, 500, 500));
        assert_eq!(Numbers::quick().scaled(0.0001).storm.clients, 1);
    }
}
