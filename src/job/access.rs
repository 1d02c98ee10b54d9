//! Who may do what: the caller of a request or a socket, and its scopes.

use std::{collections::BTreeSet, sync::Arc};

use super::{Code, Rejection};
use crate::event::Timestamp;

/// Whose jobs are whose who did not say who they are.
pub const ANONYMOUS: &str = "anonymous";
/// Longest subject, in bytes.
const MAX_SUBJECT: usize = 200;
/// Longest name of a kind of work, in bytes.
const MAX_KIND: usize = 64;
/// Kinds that one caller may be limited to.
const MAX_KINDS: usize = 64;

/// Something that a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// See its own jobs.
    Read,
    /// Make, change and remove its own jobs.
    Write,
    /// Take up jobs that programs outside work on: of every kind, or of some.
    Work,
    /// Read the server's numbers.
    Metrics,
    /// See and change everybody's jobs.
    Admin,
}

impl Scope {
    /// As it stands in tokens and keys.
    pub fn word(self) -> &'static str {
        match self {
            Scope::Read => "jobs:read",
            Scope::Write => "jobs:write",
            Scope::Work => "work",
            Scope::Metrics => "metrics",
            Scope::Admin => "admin",
        }
    }
}

/// All that a caller may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes {
    read: bool,
    write: bool,
    metrics: bool,
    admin: bool,
    work: Kinds,
}

/// What kinds of work a caller may take up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Kinds {
    #[default]
    None,
    Some(BTreeSet<String>),
    All,
}

impl Scopes {
    /// What everybody has who is not given anything else.
    pub fn ordinary() -> Scopes {
        Scopes { read: true, write: true, ..Scopes::default() }
    }

    /// The scopes that these words name. Those that other programs know are passed over; `None` if all are.
    pub fn known<'a>(words: impl IntoIterator<Item = &'a str>) -> Option<Scopes> {
        let mut scopes = Scopes::default();
        let known = words.into_iter().filter(|word| scopes.add(word)).count();
        (known > 0).then_some(scopes)
    }

    /// The scopes of a text such as `jobs:read work:novel`.
    ///
    /// # Errors
    /// A sentence that names the word that is none, and what there is.
    pub fn parse(text: &str) -> Result<Scopes, Rejection> {
        let mut scopes = Scopes::default();
        for word in text.split([' ', ',']).filter(|word| !word.is_empty()) {
            if !scopes.add(word) {
                let message = format!(
                    "There is no scope {word:?}; there are jobs:read, jobs:write, work, work:<kind>, metrics and admin."
                );
                return Err(Rejection::new(Code::InvalidRequest, message));
            }
        }
        Ok(scopes)
    }

    fn add(&mut self, word: &str) -> bool {
        match word {
            "jobs:read" => self.read = true,
            "jobs:write" => self.write = true,
            "metrics" => self.metrics = true,
            "admin" => self.admin = true,
            "work" => self.work = Kinds::All,
            _ => return word.strip_prefix("work:").is_some_and(|kind| self.add_kind(kind)),
        }
        true
    }

    fn add_kind(&mut self, kind: &str) -> bool {
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if kind.is_empty() || kind.len() > MAX_KIND || !kind.chars().all(fine) {
            return false;
        }
        match &mut self.work {
            Kinds::All => true,
            Kinds::None => {
                self.work = Kinds::Some([kind.to_owned()].into());
                true
            }
            Kinds::Some(kinds) => {
                let fits = kinds.len() < MAX_KINDS;
                if fits {
                    kinds.insert(kind.to_owned());
                }
                fits
            }
        }
    }

    /// As they are written down.
    pub fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        for (has, scope) in [
            (self.read, Scope::Read),
            (self.write, Scope::Write),
            (self.metrics, Scope::Metrics),
            (self.admin, Scope::Admin),
        ] {
            if has {
                words.push(scope.word().to_owned());
            }
        }
        match &self.work {
            Kinds::None => {}
            Kinds::All => words.push(Scope::Work.word().to_owned()),
            Kinds::Some(kinds) => words.extend(kinds.iter().map(|kind| format!("work:{kind}"))),
        }
        words
    }

    fn has(&self, scope: Scope) -> bool {
        match scope {
            Scope::Read => self.read || self.admin,
            Scope::Write => self.write || self.admin,
            Scope::Work => self.work != Kinds::None,
            Scope::Metrics => self.metrics || self.admin,
            Scope::Admin => self.admin,
        }
    }

    fn has_work(&self, kind: &str) -> bool {
        match &self.work {
            Kinds::None => false,
            Kinds::All => true,
            Kinds::Some(kinds) => kinds.contains(kind),
        }
    }
}

/// How a caller has shown who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It has not.
    None,
    /// By a signed token.
    Token,
    /// By an API key of this id.
    Key(uuid::Uuid),
}

/// A caller: whose jobs it has, and what it may do with them. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct Principal {
    subject: Arc<str>,
    scopes: Arc<Scopes>,
    /// When it stops being good, if it does.
    pub expires_at: Option<Timestamp>,
    pub proof: Proof,
}

impl Principal {
    /// Somebody who did not say who it is.
    pub fn anonymous() -> Principal {
        Principal {
            subject: ANONYMOUS.into(),
            scopes: Arc::new(Scopes::ordinary()),
            expires_at: None,
            proof: Proof::None,
        }
    }

    /// Somebody who has shown who it is.
    ///
    /// # Errors
    /// When the subject cannot be one.
    pub fn new(
        subject: &str,
        scopes: Scopes,
        expires_at: Option<Timestamp>,
        proof: Proof,
    ) -> Result<Principal, Rejection> {
        let subject = check_subject(subject)?.into();
        Ok(Principal { subject, scopes: Arc::new(scopes), expires_at, proof })
    }

    /// Whose jobs are its own.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    pub fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    pub fn is_anonymous(&self) -> bool {
        self.proof == Proof::None
    }

    /// Whether it may do something.
    ///
    /// # Errors
    /// [`Code::Unauthenticated`] or [`Code::Forbidden`], with a sentence that names the scope.
    pub fn require(&self, scope: Scope) -> Result<(), Rejection> {
        self.unless(self.scopes.has(scope), scope.word())
    }

    /// Whether it may take up work of a kind.
    ///
    /// # Errors
    /// As [`Principal::require`].
    pub fn require_work(&self, kind: &str) -> Result<(), Rejection> {
        self.unless(self.scopes.has_work(kind), &format!("work:{kind}"))
    }

    fn unless(&self, may: bool, scope: &str) -> Result<(), Rejection> {
        match (may, self.is_anonymous()) {
            (true, _) => Ok(()),
            (false, true) => {
                let message = format!("This needs a token or an API key with the scope {scope}.");
                Err(Rejection::new(Code::Unauthenticated, message))
            }
            (false, false) => {
                let message = format!("This needs the scope {scope}; use a token or a key that has it.");
                Err(Rejection::new(Code::Forbidden, message))
            }
        }
    }

    /// Whether it may know of an owner's jobs.
    pub fn sees(&self, owner: &str) -> bool {
        self.scopes.admin || *self.subject == *owner
    }

    /// Whose jobs it sees; `None` for everybody's.
    pub fn sees_only(&self) -> Option<&str> {
        (!self.scopes.admin).then_some(&*self.subject)
    }
}

/// A text that may name a subject.
///
/// # Errors
/// A sentence that says what it may be.
pub fn check_subject(subject: &str) -> Result<&str, Rejection> {
    let fine = !subject.is_empty() && subject.len() <= MAX_SUBJECT && !subject.chars().any(char::is_control);
    if fine && subject != ANONYMOUS {
        return Ok(subject);
    }
    let message = format!(
        "A subject is a text of 1 to {MAX_SUBJECT} bytes without control characters, and not {ANONYMOUS:?}."
    );
    Err(Rejection::new(Code::InvalidToken, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(scopes: &str) -> Principal {
        Principal::new("7", Scopes::parse(scopes).unwrap(), None, Proof::Token).unwrap()
    }

    #[test]
    fn scopes_are_what_their_words_say() {
        for (scopes, may) in [
            ("jobs:read", [true, false, false, false]),
            ("jobs:write", [false, true, false, false]),
            ("work", [false, false, true, false]),
            ("work:novel", [false, false, true, false]),
            ("admin", [true, true, false, true]),
            ("", [false; 4]),
        ] {
            let principal = principal(scopes);
            let all = [Scope::Read, Scope::Write, Scope::Work, Scope::Admin];
            assert_eq!(all.map(|scope| principal.require(scope).is_ok()), may, "{scopes}");
            assert_eq!(principal.scopes().words().join(" "), scopes);
        }
        assert!(principal("work:novel").require_work("novel").is_ok());
        assert!(principal("work:novel work").require_work("other").is_ok());
        assert_eq!(principal("work:novel").require_work("other").unwrap_err().code, Code::Forbidden);
        assert_eq!(Principal::anonymous().require(Scope::Work).unwrap_err().code, Code::Unauthenticated);
        for bad in ["jobs", "work:", "work:a b:c", "work:ä", "Admin"] {
            assert!(Scopes::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn words_of_other_programs_are_passed_over() {
        assert_eq!(Scopes::known(["openid", "profile"]), None);
        assert_eq!(Scopes::known(["openid", "jobs:read"]), Some(Scopes::parse("jobs:read").unwrap()));
    }

    #[test]
    fn a_subject_sees_its_own_jobs_and_an_admin_everybodys() {
        assert!(principal("jobs:read").sees("7") && !principal("jobs:read").sees("8"));
        assert!(principal("admin").sees("8") && principal("admin").sees_only().is_none());
        for bad in ["", "anonymous", "a\nb", &"x".repeat(201)] {
            assert!(Principal::new(bad, Scopes::ordinary(), None, Proof::Token).is_err(), "{bad}");
        }
    }
}
