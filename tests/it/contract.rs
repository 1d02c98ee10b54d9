//! The documents that are derived from the catalogue are those of the catalogue.

use std::{fs, path::Path};

use jobcast::event::{Class, Kind, contract};

/// Compares a committed text with the derived one, or writes it when `make generate` asks.
fn keep(path: &str, derive: impl Fn(&str) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let derived = derive(&committed);
    if std::env::var_os("JOBCAST_GENERATE").is_some() {
        fs::write(&path, derived).unwrap();
    } else {
        assert!(committed == derived, "{} is stale; run `make generate`", path.display());
    }
}

#[test]
fn contract_typescript_is_that_of_the_catalogue() {
    keep("examples/events.d.ts", |_| contract::typescript());
}

#[test]
fn contract_table_of_the_readme_is_that_of_the_catalogue() {
    const BEGIN: &str = "<!-- events: derived from the catalogue by `make generate` -->\n";
    const END: &str = "<!-- /events -->";
    keep("README.md", |readme| {
        let (before, rest) = readme.split_once(BEGIN).expect("the README marks where the table begins");
        let (_, after) = rest.split_once(END).expect("the README marks where the table ends");
        format!("{before}{BEGIN}{}{END}{after}", contract::markdown_table())
    });
}

#[test]
fn the_catalogue_has_the_events_of_the_frontends_and_of_workers() {
    let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.wire_name()).collect();
    let expected = [
        "job:created",
        "job:updated",
        "job:progress",
        "job:completed",
        "job:failed",
        "job:log",
        "job:patched",
        "artifact:stored",
        "screenshot:captured",
        "screenshot:uploaded",
        "ocr:started",
        "ocr:progress",
        "ocr:completed",
        "ocr:failed",
        "match:found",
        "match:failed",
        "label:generated",
        "label:failed",
        "company:started",
        "company:progress",
        "company:found",
        "company:failed",
        "system:notification",
    ];
    assert_eq!(names, expected);
    for kind in Kind::ALL {
        assert_eq!(Kind::from_wire_name(kind.wire_name()), Some(*kind));
        assert_eq!(kind.class() == Class::Transient, kind.wire_name().ends_with(":progress"));
    }
}
