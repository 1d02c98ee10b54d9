//! The table of a comparison, and its place in the README.

use anyhow::anyhow;

use super::{compare::Report, scenarios::fanout::Part, servers::Kind};

/// The table stands between these two lines.
pub const BEGIN: &str = "<!-- bench: written by `make bench` -->";
pub const END: &str = "<!-- /bench -->";

/// One cell: how it reads, and its number where it can be compared.
struct Cell(String, Option<f64>);

impl Cell {
    fn number(text: impl Into<String>, number: f64) -> Cell {
        Cell(text.into(), Some(number))
    }

    fn text(text: impl Into<String>) -> Cell {
        Cell(text.into(), None)
    }
}

/// A row: what it says, what is wanted, and its cell for one server.
struct Row {
    what: &'static str,
    goal: &'static str,
    cell: fn(&Report) -> Option<Cell>,
}

const ROWS: &[Row] = &[
    Row {
        what: "fan-out in bursts: deliveries per CPU-second of the server",
        goal: "≥ 5 × socket.io",
        cell: |report| per_cpu_second(report.fanout.as_ref()?.bursts.per_cpu_second()?),
    },
    Row {
        what: "— its Postgres counted with it",
        goal: "",
        cell: |report| per_cpu_second(report.fanout.as_ref()?.bursts.per_cpu_second_of_all()?),
    },
    Row {
        what: "— lost / repeated",
        goal: "0 / 0",
        cell: |report| Some(misses(&report.fanout.as_ref()?.bursts)),
    },
    Row {
        what: "— latency p50 / p99, ms",
        goal: "",
        cell: |report| Some(latency(&report.fanout.as_ref()?.bursts)),
    },
    Row {
        what: "fan-out paced: deliveries per CPU-second of the server",
        goal: "≥ 1.35 × socket.io, ≥ 0.75 × bare",
        cell: |report| per_cpu_second(report.fanout.as_ref()?.paced.per_cpu_second()?),
    },
    Row {
        what: "— its Postgres counted with it",
        goal: "",
        cell: |report| per_cpu_second(report.fanout.as_ref()?.paced.per_cpu_second_of_all()?),
    },
    Row {
        what: "— lost / repeated",
        goal: "0 / 0",
        cell: |report| Some(misses(&report.fanout.as_ref()?.paced)),
    },
    Row {
        what: "— latency p50 / p99, ms",
        goal: "",
        cell: |report| Some(latency(&report.fanout.as_ref()?.paced)),
    },
    Row {
        what: "connect storm: all in, s",
        goal: "",
        cell: |report| {
            let storm = report.storm.as_ref()?;
            Some(match storm.seconds {
                Some(seconds) if storm.errors == 0 => Cell::number(format!("{seconds:.2}"), seconds),
                Some(seconds) => Cell::number(format!("{seconds:.2} ({} errors)", storm.errors), seconds),
                None => Cell::text(format!("{} of {}", storm.inside, storm.clients)),
            })
        },
    },
    Row {
        what: "jitter and `kill -9`: delivered",
        goal: "100 %",
        cell: |report| {
            let delivery = &report.jitter.as_ref()?.delivery;
            // Never rounded up to a hundred.
            let percent = (delivery.percent() * 1000.0).floor() / 1000.0;
            Some(Cell::number(format!("{percent:.3} %"), percent))
        },
    },
    Row {
        what: "— lost / repeated / sessions recovered",
        goal: "0 / 0",
        cell: |report| {
            let jitter = report.jitter.as_ref()?;
            let (lost, repeated) = (thousands(jitter.delivery.lost), thousands(jitter.delivery.repeated));
            Some(Cell::text(format!("{lost} / {repeated} / {}", thousands(jitter.recovered))))
        },
    },
    Row {
        what: "— latency p50 / p99, ms",
        goal: "",
        cell: |report| {
            let latency = report.jitter.as_ref()?.delivery.latency;
            Some(Cell::text(format!("{:.1} / {:.0}", latency.p50, latency.p99)))
        },
    },
    Row {
        what: "redeploy: all back, s after SIGTERM",
        goal: "all back",
        cell: |report| {
            let redeploy = report.redeploy.as_ref()?;
            Some(match redeploy.back_seconds {
                Some(seconds) => Cell::number(format!("{seconds:.2}"), seconds),
                None => Cell::text(format!("{} missing", redeploy.missing)),
            })
        },
    },
    Row {
        what: "— lost / repeated",
        goal: "0 / 0",
        cell: |report| {
            let delivery = &report.redeploy.as_ref()?.delivery;
            Some(Cell::text(format!("{} / {}", thousands(delivery.lost), thousands(delivery.repeated))))
        },
    },
    Row {
        what: "idle websocket: KiB of the server",
        goal: "≤ 20",
        cell: |report| Some(kib(report.idle.as_ref()?.connected)),
    },
    Row { what: "— in a room", goal: "", cell: |report| Some(kib(report.idle.as_ref()?.inside)) },
    Row {
        what: "durable appends/s",
        goal: "≥ 20,000",
        cell: |report| {
            let rate = report.append.as_ref()?.appends_per_second;
            Some(Cell::number(thousands(rate as u64), rate))
        },
    },
    Row {
        what: "commit to client p50 / p99, ms",
        goal: "",
        cell: |report| {
            let latency = report.append.as_ref()?.commit_to_client;
            Some(Cell::text(format!("{:.2} / {:.2}", latency.p50, latency.p99)))
        },
    },
    Row {
        what: "late join: first event p50 / max, ms",
        goal: "≤ 50",
        cell: |report| {
            let first = report.latejoin.as_ref()?.first;
            Some(Cell::text(format!("{:.1} / {:.1}", first.p50, first.max)))
        },
    },
    Row {
        what: "— complete p50 / max, ms",
        goal: "",
        cell: |report| {
            let last = report.latejoin.as_ref()?.last;
            Some(Cell::text(format!("{:.0} / {:.0}", last.p50, last.max)))
        },
    },
    Row {
        what: "— lost / repeated / out of order",
        goal: "0 / 0 / 0",
        cell: |report| {
            let join = report.latejoin.as_ref()?;
            Some(Cell::text(format!("{} / {} / {}", join.lost, join.repeated, join.unordered)))
        },
    },
];

fn per_cpu_second(rate: f64) -> Option<Cell> {
    Some(Cell::number(thousands(rate.round() as u64), rate))
}

fn misses(part: &Part) -> Cell {
    Cell::text(format!("{} / {}", thousands(part.delivery.lost), thousands(part.delivery.repeated)))
}

fn latency(part: &Part) -> Cell {
    let latency = part.delivery.latency;
    Cell::text(format!("{:.1} / {:.1}", latency.p50, latency.p99))
}

fn kib(bytes: f64) -> Cell {
    Cell::number(format!("{:.1}", bytes / 1024.0), bytes)
}

/// `1,234,567`
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// The reports as a Markdown table under a sentence that says how they came about.
pub fn markdown(reports: &[Report], how: &str) -> String {
    let mut text = format!("{how}\n\n|");
    for head in std::iter::once("").chain(reports.iter().map(|report| report.server.as_str())) {
        text.push_str(&format!(" {head} |"));
    }
    text.push_str(" ÷ socket.io | ÷ bare | goal |\n|---|");
    text.push_str(&"---:|".repeat(reports.len() + 2));
    text.push_str("---|\n");
    let at = |kind: Kind| reports.iter().position(|report| report.server == kind.title());
    let [jobcast, node, bare] = [Kind::Jobcast, Kind::Node, Kind::Bare].map(at);
    for row in ROWS {
        let cells: Vec<Option<Cell>> = reports.iter().map(row.cell).collect();
        if cells.iter().all(Option::is_none) {
            continue;
        }
        let number = |at: Option<usize>| cells[at?].as_ref()?.1;
        let ratio = |of: Option<usize>| match (number(jobcast), number(of)) {
            (Some(own), Some(other)) if other != 0.0 => format!("{:.2}", own / other),
            _ => String::new(),
        };
        text.push_str(&format!("| {} |", row.what));
        for cell in &cells {
            text.push_str(&format!(" {} |", cell.as_ref().map_or("", |cell| &cell.0)));
        }
        text.push_str(&format!(" {} | {} | {} |\n", ratio(node), ratio(bare), row.goal));
    }
    for report in reports {
        for failure in &report.failures {
            text.push_str(&format!("\n{} failed: {}\n", report.server, failure.replace('\n', " ")));
        }
    }
    text
}

/// The document with `table` between its two marks instead of what was there.
///
/// # Errors
/// When the marks are not there, or not in order.
pub fn replace(document: &str, table: &str) -> anyhow::Result<String> {
    let found = document.find(BEGIN).and_then(|begin| {
        let inside = begin + BEGIN.len();
        Some((inside, inside + document[inside..].find(END)?))
    });
    let (from, to) = found.ok_or_else(|| {
        anyhow!(
            "the document has no place for the table; put these two lines where it belongs:\n{BEGIN}\n{END}"
        )
    })?;
    Ok(format!("{}\n{}\n{}", &document[..from], table.trim_end(), &document[to..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::bench::scenarios::storm;

    #[test]
    fn the_table_takes_the_place_of_the_one_before() {
        let document = format!("before\n{BEGIN}\nold\n{END}\nbehind\n");
        let once = replace(&document, "| new |\n").unwrap();
        assert_eq!(once, format!("before\n{BEGIN}\n| new |\n{END}\nbehind\n"));
        assert_eq!(replace(&once, "| new |\n").unwrap(), once);
    }

    #[test]
    fn a_document_without_the_marks_is_left_alone() {
        for document in ["", BEGIN, END, &format!("{END}\n{BEGIN}")] {
            let error = replace(document, "table").unwrap_err().to_string();
            assert!(error.contains(BEGIN) && error.contains(END), "{error}");
        }
    }

    #[test]
    fn numbers_are_compared_and_what_was_not_tried_has_no_row() {
        let report = |kind: Kind, seconds| Report {
            server: kind.title().into(),
            storm: Some(storm::Outcome { clients: 5, seconds, inside: 4, errors: 0 }),
            ..Report::default()
        };
        let mut reports =
            [report(Kind::Jobcast, Some(1.5)), report(Kind::Node, Some(3.0)), report(Kind::Bare, None)];
        reports[2].failures.push("Jitter: it broke".into());
        let table = markdown(&reports, "So it was.");
        assert!(
            table.starts_with("So it was.\n\n|  | Jobcast | socket.io 4.8 | bare websocket | ÷ socket.io")
        );
        assert!(
            table.contains("| connect storm: all in, s | 1.50 | 3.00 | 4 of 5 | 0.50 |  |  |\n"),
            "{table}"
        );
        assert!(!table.contains("jitter") && table.contains("bare websocket failed: Jitter: it broke"));
        let columns: Vec<usize> = table
            .lines()
            .filter(|line| line.starts_with('|'))
            .map(|line| line.matches('|').count())
            .collect();
        assert_eq!(columns, [8, 8, 8]);
    }

    #[test]
    fn large_numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
