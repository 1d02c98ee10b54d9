//! Who may look on: a password that is guessed slowly, and a pass for a page that comes back.
//!
//! Passwords are checked one after the other, and few may wait for it. Who was wrong has to pause before the next guess,
//! longer each time; guesses from many addresses together have a limit too. Nobody is kept waiting for that: it is said
//! how long the pause is. A pass is signed with what the password's hash is made into, so it needs no memory, is good on
//! every node, and ends with the password.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::Utc;
use ring::{digest, hmac};
use serde_json::Value;
use tokio::sync::Semaphore;

/// What the page knows a wrong password by.
const WRONG: &str = "invalid credentials";
/// Those who wait for the check of their passwords, and the one whose is checked.
const MAX_WAITING: usize = 16;
/// Longest name or password that is looked at, in bytes; bcrypt looks at 72.
const MAX_INPUT: usize = 256;
/// How long a pass is good.
const GOOD_FOR: Duration = Duration::from_secs(24 * 3600);
/// The pause after a wrong password; it doubles with each further one up to the second.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// When an address's wrong passwords are forgotten.
const FORGET: Duration = Duration::from_secs(15 * 60);
/// Addresses that are remembered.
const MAX_ADDRESSES: usize = 1024;
/// Wrong passwords of all addresses together in a minute.
const MAX_WRONG: u32 = 60;
const MINUTE: Duration = Duration::from_secs(60);
/// The work factor of new hashes.
const COST: u32 = 12;

/// A password's hash, as the settings take it.
///
/// # Errors
/// What went wrong, when the system gives no random numbers.
pub fn hash_password(password: &str) -> Result<String, String> {
    bcrypt::hash(password, COST).map_err(|error| error.to_string())
}

pub struct Gate {
    username: String,
    hash: String,
    passes: hmac::Key,
    line: Semaphore,
    turn: Semaphore,
    strikes: Mutex<Strikes>,
}

impl Gate {
    pub fn new(username: &str, hash: &str) -> Gate {
        let secret = digest::digest(&digest::SHA256, format!("admin pass\n{username}\n{hash}").as_bytes());
        Gate {
            username: username.to_owned(),
            hash: hash.to_owned(),
            passes: hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref()),
            line: Semaphore::new(MAX_WAITING),
            turn: Semaphore::new(1),
            strikes: Mutex::default(),
        }
    }

    /// Lets somebody in who shows a pass, or the name and the password; who shows these gets a pass.
    ///
    /// # Errors
    /// What to tell who is not let in.
    pub async fn admit(&self, shown: Option<&Value>, peer: Option<IpAddr>) -> Result<Option<String>, String> {
        let text = |name: &str| shown?.get(name)?.as_str().filter(|text| text.len() <= MAX_INPUT);
        if text("sessionId").is_some_and(|pass| self.is_pass(pass)) {
            return Ok(None);
        }
        let (Some(username), Some(password)) = (text("username"), text("password")) else {
            return Err(WRONG.into());
        };
        let peer = network(peer);
        // Before it waits, and again in its turn: others may have guessed wrong meanwhile.
        self.strikes().allow(peer, Instant::now())?;
        let Ok(_place) = self.line.try_acquire() else {
            return Err("too many log-ins at once; try again in a few seconds".into());
        };
        let _turn = self.turn.acquire().await;
        self.strikes().allow(peer, Instant::now())?;
        let (password, hash) = (password.to_owned(), self.hash.clone());
        let checked = tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash)).await;
        // The name is looked at last, so that a wrong one takes as long.
        let right = matches!(checked, Ok(Ok(true))) && digest_of(username) == digest_of(&self.username);
        if !right {
            self.strikes().strike(peer, Instant::now());
            return Err(WRONG.into());
        }
        self.strikes().forgive(peer);
        Ok(Some(self.pass(Utc::now().timestamp() + GOOD_FOR.as_secs() as i64)))
    }

    fn pass(&self, until: i64) -> String {
        let until = format!("{until:x}");
        let code = hmac::sign(&self.passes, until.as_bytes());
        format!("{until}.{}", BASE64_URL_SAFE_NO_PAD.encode(code))
    }

    fn is_pass(&self, text: &str) -> bool {
        let Some((until, code)) = text.split_once('.') else { return false };
        let Ok(code) = BASE64_URL_SAFE_NO_PAD.decode(code) else { return false };
        hmac::verify(&self.passes, until.as_bytes(), &code).is_ok()
            && i64::from_str_radix(until, 16).is_ok_and(|until| until > Utc::now().timestamp())
    }

    fn strikes(&self) -> MutexGuard<'_, Strikes> {
        self.strikes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn digest_of(text: &str) -> Vec<u8> {
    digest::digest(&digest::SHA256, text.as_bytes()).as_ref().to_vec()
}

/// Whom a guess is put down to: an address, of version 6 the network that its owner has all of.
fn network(peer: Option<IpAddr>) -> IpAddr {
    match peer.map(|peer| peer.to_canonical()) {
        Some(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        Some(address) => address,
        None => Ipv4Addr::UNSPECIFIED.into(),
    }
}

/// Who guessed wrong.
#[derive(Default)]
struct Strikes {
    of: HashMap<IpAddr, Strike>,
    /// Since when all are counted, and how many there were.
    lately: Option<(Instant, u32)>,
}

struct Strike {
    count: u32,
    last: Instant,
}

impl Strike {
    fn until(&self) -> Instant {
        let doubled = PAUSES.0.saturating_mul(1 << (self.count - 1).min(16));
        self.last + doubled.min(PAUSES.1)
    }
}

impl Strikes {
    /// Whether somebody may guess now.
    ///
    /// # Errors
    /// How long to wait.
    fn allow(&self, peer: IpAddr, now: Instant) -> Result<(), String> {
        let (whose, until) = match (self.of.get(&peer), self.lately) {
            (Some(strike), _) if strike.until() > now => ("from your address", strike.until()),
            (_, Some((since, MAX_WRONG..))) if since + MINUTE > now => {
                ("from many addresses", since + MINUTE)
            }
            _ => return Ok(()),
        };
        let seconds = (until - now).as_secs_f64().ceil();
        Err(format!("too many wrong passwords {whose}; try again in {seconds} s"))
    }

    fn strike(&mut self, peer: IpAddr, now: Instant) {
        self.lately = match self.lately {
            Some((since, count)) if since + MINUTE > now => Some((since, count + 1)),
            _ => Some((now, 1)),
        };
        if self.of.len() >= MAX_ADDRESSES && !self.of.contains_key(&peer) {
            self.of.retain(|_, strike| strike.last + FORGET > now);
            // Who may guess again soonest is worth remembering least.
            while self.of.len() >= MAX_ADDRESSES
                && let Some(soonest) = self.of.iter().min_by_key(|(_, strike)| strike.until())
            {
                let soonest = *soonest.0;
                self.of.remove(&soonest);
            }
        }
        let strike = self.of.entry(peer).or_insert(Strike { count: 0, last: now });
        if strike.last + FORGET <= now {
            strike.count = 0;
        }
        strike.count += 1;
        strike.last = now;
    }

    fn forgive(&mut self, peer: IpAddr) {
        self.of.remove(&peer);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn peer(number: u16) -> IpAddr {
        Ipv6Addr::new(0x2001, 0xdb8, number, 0, 1, 2, 3, 4).into()
    }

    #[test]
    fn each_wrong_password_makes_the_next_guess_wait_longer() {
        let (mut strikes, mut now) = (Strikes::default(), Instant::now());
        let (guesser, other) = (network(Some(peer(1))), network(Some(peer(2))));
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            strikes.strike(guesser, now);
            let refusal = strikes.allow(guesser, now).unwrap_err();
            assert_eq!(
                refusal,
                format!("too many wrong passwords from your address; try again in {pause} s")
            );
            assert!(strikes.allow(other, now).is_ok(), "others need not wait");
            now += Duration::from_secs(pause);
            assert!(strikes.allow(guesser, now).is_ok());
        }
        strikes.forgive(guesser);
        strikes.strike(guesser, now);
        assert!(strikes.allow(guesser, now + Duration::from_secs(1)).is_ok(), "the right one starts anew");
        strikes.strike(guesser, now + FORGET);
        assert!(strikes.allow(guesser, now + FORGET + Duration::from_secs(1)).is_ok(), "so does time");
    }

    #[test]
    fn many_addresses_together_are_slowed_down_and_few_are_remembered() {
        let (mut strikes, now) = (Strikes::default(), Instant::now());
        for number in 0..MAX_WRONG as u16 {
            assert!(strikes.allow(network(Some(peer(1000 + number))), now).is_ok());
            strikes.strike(network(Some(peer(1000 + number))), now);
        }
        assert!(strikes.allow(network(Some(peer(1))), now).unwrap_err().contains("many addresses"));
        assert!(strikes.allow(network(Some(peer(1))), now + MINUTE).is_ok());
        for number in 0..3000 {
            strikes.strike(network(Some(peer(number))), now);
        }
        assert_eq!(strikes.of.len(), MAX_ADDRESSES);
    }

    #[test]
    fn a_network_of_version_6_counts_as_one_address() {
        let address = |text: &str| network(Some(text.parse().unwrap()));
        assert_eq!(address("2001:db8:1:2::3"), address("2001:db8:1:2:ffff::"));
        assert_ne!(address("2001:db8:1:2::3"), address("2001:db8:1:3::3"));
        assert_eq!(address("::ffff:192.0.2.7"), address("192.0.2.7"));
    }

    #[tokio::test]
    async fn a_pass_is_good_for_a_while_and_ends_with_the_password() {
        let hash = bcrypt::hash("open sesame", 4).unwrap();
        let gate = Gate::new("admin", &hash);
        let shown = json!({ "username": "admin", "password": "open sesame" });
        let pass = gate.admit(Some(&shown), None).await.unwrap().unwrap();
        let comes_back = json!({ "sessionId": pass });
        assert_eq!(gate.admit(Some(&comes_back), None).await, Ok(None));
        let another = Gate::new("admin", &bcrypt::hash("open sesame", 4).unwrap());
        assert_eq!(another.admit(Some(&comes_back), None).await, Err(WRONG.into()));
        let over = gate.pass(Utc::now().timestamp());
        for bad in [
            json!({ "sessionId": over }),
            json!({ "sessionId": "f.f" }),
            json!({ "sessionId": null }),
            json!(7),
        ] {
            assert_eq!(gate.admit(Some(&bad), None).await, Err(WRONG.into()), "{bad}");
        }
        let (_, code) = pass.split_once('.').unwrap();
        let longer = json!({ "sessionId": format!("{:x}.{code}", i64::MAX) });
        assert_eq!(gate.admit(Some(&longer), None).await, Err(WRONG.into()));
    }
}
