//! The house keeps its shape: who may import whom, and what every module begins with.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Each folder with what it may import from the crate, besides itself and the leaves.
const MAY_IMPORT: [(&str, &[&str]); 17] = [
    ("event", &["job"]),
    ("job", &["event"]),
    ("product", &[]),
    ("label", &["product"]),
    ("print", &["label"]),
    ("config", &[]),
    ("metrics", &[]),
    ("process", &[]),
    ("guard", &[]),
    ("store", &["job", "event", "product"]),
    ("identity", &["store", "job", "event"]),
    ("realtime", &["identity", "store", "job", "event"]),
    ("pipeline", &["store", "label", "job", "event", "product"]),
    ("webhooks", &["store", "job", "event"]),
    ("http", &["realtime", "identity", "store", "job", "event"]),
    ("dialects", &["http", "realtime", "identity", "store", "print", "label", "job", "event", "product"]),
    (
        "app",
        &[
            "http", "dialects", "realtime", "identity", "pipeline", "webhooks", "store", "print", "label",
            "job", "event", "product",
        ],
    ),
];
const LEAVES: [&str; 4] = ["config", "guard", "metrics", "process"];
const PURE: [&str; 5] = ["event", "job", "label", "print", "product"];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Every source file of the crate with the top module that it belongs to.
fn modules() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let top = |path: &Path| {
        let first = path.strip_prefix(&root).unwrap().components().next().unwrap();
        Path::new(first.as_os_str()).file_stem().unwrap().to_str().unwrap().to_owned()
    };
    let files = sources(&root).into_iter();
    files.map(|path| (top(&path), path.clone(), fs::read_to_string(&path).unwrap())).collect()
}

/// The crate's modules that a line names, in `crate::x` or in a `use crate::{x, y::…}` list.
fn imports(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    // Prose may name what code may not import.
    let code: String =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let names: Vec<&str> = match rest.strip_prefix('{') {
            Some(list) => {
                let mut depth = 0;
                let end = list.find(|c| {
                    depth += i32::from(c == '{') - i32::from(c == '}');
                    depth < 0
                });
                let mut level = 0;
                list[..end.unwrap()]
                    .split(|c| {
                        level += i32::from(c == '{') - i32::from(c == '}');
                        c == ',' && level == 0
                    })
                    .map(str::trim)
                    .collect()
            }
            None => vec![rest],
        };
        for name in names {
            let word: String = name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if !word.is_empty() {
                found.push(word);
            }
        }
    }
    found
}

#[test]
fn modules_import_only_what_lies_below_them() {
    let mut seen = 0;
    for (top, path, text) in modules() {
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == top) else {
            assert!(matches!(top.as_str(), "main" | "lib"), "{} has no row in MAY_IMPORT", path.display());
            continue;
        };
        for import in imports(&text) {
            seen += 1;
            let fine = import == top || LEAVES.contains(&&*import) || allowed.contains(&&*import);
            assert!(fine, "{} imports crate::{import}", path.display());
        }
    }
    assert!(seen > 100, "the test finds imports");
}

#[test]
fn pure_modules_know_no_clock_no_io_and_are_not_async() {
    for (top, path, text) in modules().into_iter().filter(|(top, ..)| PURE.contains(&&**top)) {
        for forbidden in
            ["async fn", "tokio::", "std::fs", "std::net", "Utc::now", "Instant::now", "SystemTime", "sqlx::"]
        {
            assert!(!text.contains(forbidden), "{top} is pure, but {} has {forbidden}", path.display());
        }
    }
}

#[test]
fn sql_has_one_home() {
    for (top, path, text) in modules() {
        let has_sql = text.contains("sqlx::query");
        assert!(!has_sql || top == "store", "{} has SQL", path.display());
    }
}

#[test]
fn every_module_says_in_its_first_sentence_what_it_is_for() {
    for (_, path, text) in modules() {
        let first = text.lines().next().unwrap_or_default();
        assert!(first.starts_with("//! ") && first.len() > 15, "{} begins with {first:?}", path.display());
    }
}
