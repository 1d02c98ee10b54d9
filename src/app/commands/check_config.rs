//! `jobcast check-config`: reads the settings as the server would, and shows them.

use crate::config::{Config, DEFAULT_TOML};

/// Prints the reference with all defaults, or the settings in force.
pub fn run(config: &Config, defaults: bool) -> anyhow::Result<()> {
    if defaults {
        print!("{DEFAULT_TOML}");
        return Ok(());
    }
    let mut shown = config.clone();
    if !shown.database.url.is_empty() {
        // It holds a password.
        shown.database.url = "(set)".into();
    }
    if !shown.auth.jwt_secret.is_empty() {
        shown.auth.jwt_secret = "(set)".into();
    }
    if !shown.objects.signing_key.is_empty() {
        shown.objects.signing_key = "(set)".into();
    }
    if !shown.admin_ui.password_hash.is_empty() {
        shown.admin_ui.password_hash = "(set)".into();
    }
    print!("{}", toml::to_string(&shown)?);
    eprintln!("The settings are sound.");
    Ok(())
}
