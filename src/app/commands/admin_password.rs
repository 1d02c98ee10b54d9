//! `jobcast admin-password`: the hash of a password, which the settings hold in its place.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use anyhow::{Context as _, bail};
use console::Term;

use crate::realtime::socketio::hash_password;

/// Shortest password, in characters, and longest, in bytes: bcrypt looks at no more.
const LENGTHS: (usize, usize) = (8, 72);

/// Asks for a password, or reads it from a pipe, and prints its hash.
pub fn run() -> anyhow::Result<()> {
    let password = if std::io::stdin().is_terminal() {
        ask(&Term::stderr())?
    } else {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).context("the password could not be read")?;
        line.trim_end_matches(['\r', '\n']).to_owned()
    };
    if password.chars().count() < LENGTHS.0 || password.len() > LENGTHS.1 {
        bail!("the password must have {} characters or more, and {} bytes at the most", LENGTHS.0, LENGTHS.1);
    }
    println!("{}", hash_password(&password).map_err(anyhow::Error::msg)?);
    Ok(())
}

fn ask(term: &Term) -> anyhow::Result<String> {
    let mut prompt = term;
    write!(prompt, "Password for the Admin UI: ")?;
    let password = term.read_secure_line()?;
    write!(prompt, "The same again: ")?;
    if term.read_secure_line()? != password {
        bail!("the two passwords differ; try again");
    }
    Ok(password)
}
