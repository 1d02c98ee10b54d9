//! Who may look on with the official Socket.IO Admin UI, and how much it is told.

use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
pub struct AdminUi {
    pub enabled: bool,
    pub username: String,
    pub password_hash: String,
    pub mode: AdminMode,
    pub read_only: bool,
}

/// How much the Admin UI is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdminMode {
    /// Counts.
    Production,
    /// Every socket with its rooms, and what they are told and say.
    Development,
}

// Whoever has the hash can try passwords on it.
impl std::fmt::Debug for AdminUi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminUi")
            .field("enabled", &self.enabled)
            .field("username", &self.username)
            .field("mode", &self.mode)
            .field("read_only", &self.read_only)
            .finish_non_exhaustive()
    }
}

impl AdminUi {
    /// Checks what would let nobody in, or anybody.
    ///
    /// # Errors
    /// A sentence that says what to change.
    pub(super) fn validate(&self) -> Result<(), String> {
        const MOST: u32 = 14;
        if !self.enabled {
            return Ok(());
        }
        let how = "`jobcast admin-password` makes one";
        match bcrypt_cost(&self.password_hash) {
            None if self.password_hash.is_empty() => {
                Err(format!("admin_ui.enabled needs admin_ui.password_hash; {how}"))
            }
            None => Err(format!("admin_ui.password_hash is no bcrypt hash ($2b$10$…, 60 characters); {how}")),
            Some(cost) if cost > MOST => Err(format!(
                "admin_ui.password_hash has the cost {cost}: each log-in would take long; {MOST} is the most, and {how}"
            )),
            Some(_) if self.username.is_empty() => {
                Err("admin_ui.username is empty; name somebody, such as \"admin\"".into())
            }
            Some(_) => Ok(()),
        }
    }
}

/// The cost of a bcrypt hash, if it is one.
fn bcrypt_cost(hash: &str) -> Option<u32> {
    const REST: usize = 53;
    let (version, rest) = hash.strip_prefix("$2")?.split_once('$')?;
    let (cost, rest) = rest.split_once('$')?;
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"./".contains(&byte);
    let known = matches!(version, "a" | "b" | "y") && cost.len() == 2;
    (known && rest.len() == REST && rest.bytes().all(fine)).then(|| cost.parse().ok())?
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn the_admin_ui_needs_a_password_that_can_be_checked() {
        let enabled = |hash: &str| {
            let settings = [("ENABLED", "true"), ("PASSWORD_HASH", hash)];
            let environment =
                settings.map(|(key, value)| (format!("JOBCAST__ADMIN_UI__{key}"), value.to_owned()));
            Config::load(None, environment, Vec::new())
        };
        let rest = "N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy";
        for version in ["2a", "2b", "2y"] {
            let config = enabled(&format!("${version}$10${rest}")).unwrap();
            assert!(!format!("{config:?}").contains(rest));
        }
        for (hash, says) in [
            (String::new(), "needs admin_ui.password_hash"),
            ("secret".into(), "no bcrypt hash"),
            (format!("$2b$10${rest}x"), "no bcrypt hash"),
            (format!("$2b$31${rest}"), "14 is the most"),
        ] {
            let error = enabled(&hash).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("admin-password"), "{hash}: {error}");
        }
    }
}
