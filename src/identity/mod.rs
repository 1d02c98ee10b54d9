//! Who calls: what a request or a socket brings along is checked here, tokens against their signers, keys against the store.
//!
//! A caller shows who it is by a signed token ([`token`]) or an API key ([`key`]); where it stands in the request, says
//! [`Credentials`]. Who brings nothing is anonymous, if the settings allow it. Who brings something that is not good is
//! refused even then: a page whose token has expired must hear of it, not see an empty list.
//!
//! A connection that stays open longer than its caller may ends by [`Identity::until_over`]: tokens end by themselves,
//! and revoked keys are looked for every few seconds.

mod credentials;
mod crypto;
mod jwks;
pub mod key;
pub mod token;

use std::{collections::HashSet, sync::Arc, time::Duration};

use chrono::Utc;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

pub use self::{credentials::Credentials, jwks::JwksError};
use self::{jwks::Jwks, token::Checks};
use crate::{
    config,
    event::Timestamp,
    job::{Code, Principal, Proof, Rejection, Scopes},
    store::{Store, StoreError},
};

/// The longest that a clock is trusted without a look at it.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// Tells who calls. Shared by all doors of a process.
pub struct Identity {
    store: Store,
    anonymous: bool,
    checks: Checks,
    secret: Option<String>,
    jwks: Option<Jwks>,
    revoked: watch::Receiver<Arc<HashSet<Uuid>>>,
}

impl Identity {
    /// Reads the keys of those who sign tokens. Revoked API keys are looked for until the second value is dropped.
    ///
    /// # Errors
    /// A sentence that says what is wrong with a file of keys. Keys at an address may come later.
    pub async fn start(
        store: Store,
        settings: &config::Auth,
    ) -> Result<(Arc<Identity>, AbortOnDropHandle<()>), JwksError> {
        crypto::install();
        let jwks = match settings.jwks.as_str() {
            "" => None,
            place => Some(Jwks::open(place, settings.jwks_pause).await?),
        };
        let (tell, revoked) = watch::channel(Arc::default());
        let look = tokio::spawn(look_for_revoked(store.clone(), settings.recheck, tell));
        let identity = Identity {
            store,
            anonymous: settings.anonymous,
            checks: Checks::of(settings),
            secret: Some(settings.jwt_secret.clone()).filter(|secret| !secret.is_empty()),
            jwks,
            revoked,
        };
        Ok((Arc::new(identity), AbortOnDropHandle::new(look)))
    }

    /// Whether who does not say who it is may come in.
    pub fn allows_anonymous(&self) -> bool {
        self.anonymous
    }

    /// What tokens are signed with here, if it is set.
    pub fn secret(&self) -> Option<&str> {
        self.secret.as_deref()
    }

    /// Who brings these credentials.
    ///
    /// # Errors
    /// [`Code::Unauthenticated`] without any where nobody may be anonymous; [`Code::TokenExpired`],
    /// [`Code::InvalidToken`]; [`Code::Unavailable`] when it cannot be told now.
    pub async fn authenticate(&self, credentials: &Credentials) -> Result<Principal, Rejection> {
        match credentials.text() {
            None if self.anonymous => Ok(Principal::anonymous()),
            None => {
                let message = "Say who you are: send a token or an API key as Authorization: Bearer ….";
                Err(Rejection::new(Code::Unauthenticated, message))
            }
            Some(text) if key::is_one(text) => self.check_key(text).await,
            Some(text) => self.check_token(text, token::Kind::Access).await,
        }
    }

    /// Who brings a token of a kind.
    ///
    /// # Errors
    /// As [`Identity::authenticate`].
    pub async fn check_token(&self, text: &str, kind: token::Kind) -> Result<Principal, Rejection> {
        let claims = token::read(text, &self.checks, self.secret.as_deref(), self.jwks.as_ref()).await?;
        claims.principal(kind, &self.checks)
    }

    async fn check_key(&self, text: &str) -> Result<Principal, Rejection> {
        let found = self.store.use_api_key(key::hash(text)).await.map_err(unavailable)?;
        let bad = |message: &str| Rejection::new(Code::InvalidToken, message);
        let found = found.ok_or_else(|| bad("There is no such API key; jobcast key create makes one."))?;
        if found.revoked_at.is_some() {
            return Err(bad("This API key was revoked; ask for another one."));
        }
        if found.expires_at.is_some_and(|end| end <= Utc::now()) {
            let message = "This API key has expired; ask for another one.";
            return Err(Rejection::new(Code::TokenExpired, message));
        }
        let scopes = Scopes::parse(&found.scopes)?;
        Principal::new(&found.subject, scopes, found.expires_at, Proof::Key(found.id))
    }

    /// Waits until a caller may stay no longer, and says why.
    pub fn until_over(&self, principal: &Principal) -> impl Future<Output = Rejection> + Send + use<> {
        let (end, proof, mut revoked) = (principal.expires_at, principal.proof, self.revoked.clone());
        async move {
            let expired = async {
                match end {
                    Some(end) => sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            let is_revoked = async {
                let Proof::Key(id) = proof else { return std::future::pending().await };
                if revoked.wait_for(|ids| ids.contains(&id)).await.is_err() {
                    // The server is going down, and with it the connection.
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = expired => token::expired(),
                () = is_revoked => Rejection::new(Code::InvalidToken, "This API key was revoked; ask for another one."),
            }
        }
    }
}

/// A caller who may stay for a while; goes along with its request to whatever stays open.
#[derive(Clone)]
pub struct Stay {
    identity: Arc<Identity>,
    caller: Principal,
}

impl Stay {
    pub fn new(identity: Arc<Identity>, caller: Principal) -> Stay {
        Stay { identity, caller }
    }

    /// Waits until it may stay no longer, and says why.
    pub fn until_over(&self) -> impl Future<Output = Rejection> + Send + use<> {
        self.identity.until_over(&self.caller)
    }
}

async fn sleep_until(time: Timestamp) {
    while let Ok(left) = (time - Utc::now()).to_std() {
        // A little longer, so that the clock has passed the time when this is over.
        tokio::time::sleep(left.min(LONGEST_SLEEP) + Duration::from_millis(1)).await;
    }
}

/// Looks again and again for keys that were revoked since this process began.
async fn look_for_revoked(store: Store, every: Duration, tell: watch::Sender<Arc<HashSet<Uuid>>>) {
    // Clocks of the two machines may differ.
    let since = Utc::now() - chrono::TimeDelta::minutes(10);
    let mut rounds = tokio::time::interval(every);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        match store.api_keys_revoked_since(since).await {
            Ok(ids) => {
                let ids: HashSet<Uuid> = ids.into_iter().collect();
                tell.send_if_modified(|known| {
                    let news = ids.len() != known.len();
                    if news {
                        *known = Arc::new(ids);
                    }
                    news
                });
            }
            Err(error) => tracing::warn!(%error, "revoked API keys could not be looked for; trying again"),
        }
    }
}

/// What a caller may know when it cannot be told who it is.
fn unavailable(error: StoreError) -> Rejection {
    match error {
        StoreError::Rejected(rejection) => rejection,
        error => {
            let id = Uuid::new_v4();
            tracing::error!(%id, %error, "a caller could not be checked");
            let message = format!("The server cannot check who you are now; try again. (id {id})");
            Rejection::new(Code::Unavailable, message)
        }
    }
}
