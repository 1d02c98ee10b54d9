//! Settings: `config/default.toml`, then a file, then the environment, then flags.
//!
//! `default.toml` is the reference: it names every key. A key that it does not name is an error that names the
//! nearest one. Each module takes only its own section.

mod admin_ui;
mod durations;
mod origins;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use figment::{
    Figment, Profile,
    providers::{Format, Serialized, Toml},
    value::{Dict, Value},
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use url::Url;

pub use self::{
    admin_ui::{AdminMode, AdminUi},
    origins::allows_origin,
};

/// The compiled-in reference.
pub const DEFAULT_TOML: &str = include_str!("../../config/default.toml");
const ENV_PREFIX: &str = "JOBCAST__";
/// Each is a label of several numbers.
const MAX_METRICS_KINDS: usize = 100;

/// All settings, one struct a section of `default.toml`; the file says what each key means.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    pub server: Server,
    pub auth: Auth,
    pub admin_ui: AdminUi,
    pub database: Database,
    pub objects: Objects,
    pub realtime: Realtime,
    pub pipeline: Pipeline,
    pub work: Work,
    pub novel_tool: NovelTool,
    pub webhooks: Webhooks,
    pub crawler: Crawler,
    pub browser: Browser,
    pub ocr: Ocr,
    pub log: Log,
    pub metrics: Metrics,
    pub telemetry: Telemetry,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Server {
    pub listen: Vec<SocketAddr>,
    pub public_url: String,
    pub data_dir: PathBuf,
    #[serde(with = "humantime_serde")]
    pub shutdown_grace: Duration,
    pub max_body: usize,
    pub max_upload: usize,
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    pub cors_origins: Vec<String>,
    pub trusted_proxies: Vec<IpNet>,
    pub demo_shop: bool,
    pub demo_products: u32,
    pub client_bundle: PathBuf,
    pub label_list: LabelList,
}

/// What `data` is in the label library's list: two generations of one frontend read it differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LabelList {
    /// The labels.
    Array,
    /// An object with the labels, their number and the page.
    Page,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Auth {
    pub anonymous: bool,
    pub jwt_secret: String,
    pub jwks: String,
    #[serde(with = "humantime_serde")]
    pub jwks_pause: Duration,
    pub issuer: String,
    pub audience: String,
    #[serde(with = "humantime_serde")]
    pub leeway: Duration,
    #[serde(with = "humantime_serde")]
    pub recheck: Duration,
}

// The secret is one.
impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth")
            .field("anonymous", &self.anonymous)
            .field("jwks", &self.jwks)
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

impl Auth {
    /// Whether anybody can come with a token.
    pub fn takes_tokens(&self) -> bool {
        !self.jwt_secret.is_empty() || !self.jwks.is_empty()
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Database {
    pub url: String,
    pub max_connections: u32,
    #[serde(with = "humantime_serde")]
    pub acquire_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub keep_events: Duration,
    #[serde(with = "humantime_serde")]
    pub keep_jobs: Duration,
    #[serde(with = "humantime_serde")]
    pub keep_idempotency_keys: Duration,
    pub run_as: String,
}

// The address holds a password.
impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let url = if self.url.is_empty() { "" } else { "…" };
        f.debug_struct("Database")
            .field("url", &url)
            .field("max_connections", &self.max_connections)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Objects {
    pub url: String,
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    pub address: String,
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
    pub signed: Signed,
    #[serde(with = "humantime_serde")]
    pub sign_for: Duration,
    pub signing_key: String,
    pub max_derived: u64,
}

// The key is a secret.
impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Objects")
            .field("url", &self.url)
            .field("address", &self.address)
            .field("signed", &self.signed)
            .finish_non_exhaustive()
    }
}

/// Whether addresses of objects are signed and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signed {
    /// Who knows an address may use it for ever, if the object is of a job of nobody in particular.
    Never,
    /// The same, but addresses carry signatures, which pages need for objects of jobs that are somebody's.
    Offered,
    /// This server checks.
    Always,
    /// The bucket checks: clients fetch from it.
    Bucket,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReplayOnSubscribe {
    /// What happened to the job since the socket connected.
    SinceConnect,
    /// Everything.
    History,
    /// Nothing but the terminal event of a job that has ended.
    None,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Realtime {
    pub replay_on_subscribe: ReplayOnSubscribe,
    #[serde(with = "humantime_serde")]
    pub ping_interval: Duration,
    #[serde(with = "humantime_serde")]
    pub ping_timeout: Duration,
    pub max_buffered_packets: usize,
    pub max_buffered_bytes: usize,
    #[serde(with = "humantime_serde")]
    pub stall_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub recover_for: Duration,
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
    pub recent_events: usize,
    pub max_subscriptions: usize,
    pub max_queued_messages: usize,
    pub max_message: usize,
    pub max_streams: usize,
    pub max_raw_sockets: usize,
    pub max_raw_message: usize,
    #[serde(with = "humantime_serde")]
    pub poll_interval: Duration,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pipeline {
    pub enabled: bool,
    #[serde(with = "humantime_serde")]
    pub lease: Duration,
    #[serde(with = "humantime_serde")]
    pub poll_interval: Duration,
    pub max_attempts: i32,
    pub jobs_per_owner: u32,
    #[serde(with = "humantime_serde")]
    pub retry_backoff: Duration,
    pub crawl_concurrency: usize,
    pub screenshot_concurrency: usize,
    pub ocr_concurrency: usize,
    pub match_concurrency: usize,
    pub render_concurrency: usize,
    pub company_concurrency: usize,
    pub match_threshold: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Work {
    #[serde(with = "humantime_serde")]
    pub lease: Duration,
    pub max_attempts: i32,
    #[serde(with = "humantime_serde")]
    pub retry_backoff: Duration,
    pub max_waiting: i64,
    pub max_artifact: usize,
    pub max_artifacts: i64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct NovelTool {
    pub jobs_per_hour: u32,
    pub estimates_per_minute: u32,
    pub exports_per_hour: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Webhooks {
    pub enabled: bool,
    pub allow_origins: Vec<Url>,
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    #[serde(with = "durations")]
    pub retry: Vec<Duration>,
    pub in_flight: usize,
    pub in_flight_per_endpoint: usize,
    pub max_per_owner: i64,
    #[serde(with = "humantime_serde")]
    pub secret_overlap: Duration,
    #[serde(with = "humantime_serde")]
    pub keep_failed: Duration,
    #[serde(with = "humantime_serde")]
    pub poll_interval: Duration,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Crawler {
    pub allow_origins: Vec<Url>,
    pub user_agent: String,
    pub max_products: u32,
    pub max_pages: usize,
    #[serde(with = "humantime_serde")]
    pub time_budget: Duration,
    #[serde(with = "humantime_serde")]
    pub page_timeout: Duration,
    pub max_page: usize,
    pub concurrency: usize,
    #[serde(with = "humantime_serde")]
    pub delay: Duration,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Browser {
    pub program: PathBuf,
    pub run_as: String,
    #[serde(with = "humantime_serde")]
    pub page_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub settle_timeout: Duration,
    pub scale: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ocr {
    pub languages: String,
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub wait: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Auto,
    Text,
    Json,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Log {
    pub filter: String,
    pub format: LogFormat,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Metrics {
    pub access: MetricsAccess,
    pub listen: Vec<SocketAddr>,
    pub kinds: Vec<String>,
}

/// Who may read the server's numbers at its own port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricsAccess {
    /// Programs on this machine, if no proxy stands in front; others with a key or a token.
    Local,
    /// Who has a key or a token.
    Key,
    Everyone,
    Nobody,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Telemetry {
    pub otlp_endpoint: String,
    pub sample: f64,
}

/// Why the settings cannot be used; each message says what to change.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the settings file {path}: {reason}")]
    File { path: PathBuf, reason: std::io::Error },
    #[error("{origin} sets `{key}`, which is no setting{}; `jobcast check-config --defaults` lists them all",
        .nearest.as_ref().map(|n| format!(" (did you mean `{n}`?)")).unwrap_or_default())]
    UnknownKey { origin: String, key: String, nearest: Option<String> },
    #[error("{0}")]
    Value(String),
}

impl Config {
    /// The compiled-in defaults alone.
    pub fn defaults() -> Config {
        Figment::from(Toml::string(DEFAULT_TOML)).extract().expect("a test reads the defaults")
    }

    /// Merges defaults, the file if one is given, `environment` (all of it; only names that begin with `JOBCAST__`
    /// count, and `DATABASE_URL`) and `flags` (pairs of dotted key and value).
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: Vec<(&str, Value)>,
    ) -> Result<Config, ConfigError> {
        let mut figment = Figment::from(Toml::string(DEFAULT_TOML));
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|reason| ConfigError::File { path: path.to_owned(), reason })?;
            let origin = path.display().to_string();
            let layer = Figment::from(Toml::string(&text));
            let dict: Dict = layer.extract().map_err(|e| ConfigError::Value(format!("{origin}: {e}")))?;
            check_keys(&origin, &dict)?;
            figment = figment.merge(Toml::string(&text));
        }
        for (name, value) in environment {
            let key = if name == "DATABASE_URL" {
                "database.url".to_owned()
            } else if let Some(rest) = name.strip_prefix(ENV_PREFIX) {
                rest.to_lowercase().replace("__", ".")
            } else {
                continue;
            };
            check_key(&format!("the environment variable {name}"), &key)?;
            figment = figment.merge(Serialized::default(&key, environment_value(&key, &value)));
        }
        for (key, value) in flags {
            figment = figment.merge(Serialized::default(key, value));
        }
        let config: Config = figment
            .select(Profile::Default)
            .extract()
            .map_err(|e| ConfigError::Value(format!("{}: {}", e.path.join("."), e.kind)))?;
        config.validate()?;
        Ok(config)
    }

    /// Checks what types alone cannot.
    fn validate(&self) -> Result<(), ConfigError> {
        let fail = |text: String| Err(ConfigError::Value(text));
        if self.server.listen.is_empty() {
            return fail(
                "server.listen is empty; name at least one address such as \"127.0.0.1:3001\"".into(),
            );
        }
        if !self.server.public_url.is_empty() {
            match Url::parse(&self.server.public_url) {
                Ok(url) if matches!(url.scheme(), "http" | "https") => {}
                _ => {
                    return fail(
                        "server.public_url must be a full address such as \"https://jobs.example.com\""
                            .into(),
                    );
                }
            }
        }
        self.admin_ui.validate().map_err(ConfigError::Value)?;
        if self.objects.address.matches("{key}").count() != 1 {
            return fail(
                "objects.address must contain {key} once, as in \"https://cdn.example.com/{key}\"".into(),
            );
        }
        if self.objects.signed == Signed::Bucket
            && (!self.objects.url.starts_with("s3://") || self.objects.address.contains("{public_url}"))
        {
            return fail(
                "objects.signed = \"bucket\" needs objects.url = \"s3://…\", and the bucket's own address in objects.address, as in \"https://bucket.s3.eu-central-1.amazonaws.com/prefix/{key}\"".into(),
            );
        }
        for (name, value, least, most) in [
            ("auth.jwks_pause in seconds", self.auth.jwks_pause.as_secs(), 1, 86_400),
            ("auth.leeway in seconds", self.auth.leeway.as_secs(), 0, 3_600),
            ("auth.recheck in seconds", self.auth.recheck.as_secs(), 1, 3_600),
            ("database.max_connections", u64::from(self.database.max_connections), 4, 1000),
            (
                "database.keep_idempotency_keys in seconds",
                self.database.keep_idempotency_keys.as_secs(),
                60,
                365 * 86_400,
            ),
            ("realtime.max_buffered_packets", self.realtime.max_buffered_packets as u64, 16, 1_000_000),
            ("realtime.max_buffered_bytes", self.realtime.max_buffered_bytes as u64, 65_536, 1_000_000_000),
            ("realtime.stall_timeout in seconds", self.realtime.stall_timeout.as_secs(), 1, 3_600),
            ("realtime.recover_for in seconds", self.realtime.recover_for.as_secs(), 60, 365 * 86_400),
            ("realtime.drain in seconds", self.realtime.drain.as_secs(), 0, 600),
            ("realtime.recent_events", self.realtime.recent_events as u64, 1, 10_000_000),
            ("realtime.max_subscriptions", self.realtime.max_subscriptions as u64, 1, 100_000),
            ("realtime.max_queued_messages", self.realtime.max_queued_messages as u64, 1, 10_000),
            ("realtime.max_streams", self.realtime.max_streams as u64, 1, 1_000_000),
            ("pipeline.max_attempts", self.pipeline.max_attempts.max(0) as u64, 1, 100),
            ("pipeline.jobs_per_owner", u64::from(self.pipeline.jobs_per_owner), 1, 100_000),
            ("pipeline.crawl_concurrency", self.pipeline.crawl_concurrency as u64, 1, 256),
            ("pipeline.screenshot_concurrency", self.pipeline.screenshot_concurrency as u64, 1, 256),
            ("pipeline.ocr_concurrency", self.pipeline.ocr_concurrency as u64, 1, 256),
            ("pipeline.match_concurrency", self.pipeline.match_concurrency as u64, 1, 256),
            ("pipeline.render_concurrency", self.pipeline.render_concurrency as u64, 1, 256),
            ("pipeline.lease in seconds", self.pipeline.lease.as_secs(), 3, 86_400),
            ("work.lease in seconds", self.work.lease.as_secs(), 3, 86_400),
            ("work.max_attempts", self.work.max_attempts.max(0) as u64, 1, 100),
            ("work.max_waiting", self.work.max_waiting.max(0) as u64, 1, 10_000_000),
            ("work.max_artifact", self.work.max_artifact as u64, 1, 5_000_000_000),
            ("work.max_artifacts", self.work.max_artifacts.max(0) as u64, 1, 10_000),
            ("webhooks.timeout in seconds", self.webhooks.timeout.as_secs(), 1, 30),
            ("the number of webhooks.retry", self.webhooks.retry.len() as u64, 0, 50),
            ("webhooks.in_flight", self.webhooks.in_flight as u64, 1, 1_000),
            (
                "webhooks.in_flight_per_endpoint",
                self.webhooks.in_flight_per_endpoint as u64,
                1,
                self.webhooks.in_flight as u64,
            ),
            ("webhooks.max_per_owner", self.webhooks.max_per_owner.max(0) as u64, 1, 1_000),
            ("webhooks.secret_overlap in seconds", self.webhooks.secret_overlap.as_secs(), 0, 30 * 86_400),
            ("webhooks.keep_failed in seconds", self.webhooks.keep_failed.as_secs(), 60, 365 * 86_400),
            ("webhooks.poll_interval in ms", self.webhooks.poll_interval.as_millis() as u64, 10, 60_000),
            // Buckets take signatures for a week at the most.
            ("objects.sign_for in seconds", self.objects.sign_for.as_secs(), 60, 5 * 86_400),
            ("objects.max_derived", self.objects.max_derived, 1_000_000, 1_000_000_000_000),
            ("crawler.concurrency", self.crawler.concurrency as u64, 1, 64),
        ] {
            if value < least || value > most {
                return fail(format!("{name} is {value}; it must be from {least} to {most}"));
            }
        }
        for (name, keep) in
            [("keep_events", self.database.keep_events), ("keep_jobs", self.database.keep_jobs)]
        {
            if !keep.is_zero() && keep < Duration::from_secs(60) {
                return fail(format!("database.{name} must be \"0s\" (for ever) or at least \"1m\""));
            }
        }
        if !(0.0..=1.0).contains(&self.pipeline.match_threshold) {
            return fail("pipeline.match_threshold must be from 0 to 1".into());
        }
        if self.metrics.kinds.len() > MAX_METRICS_KINDS {
            return fail(format!("metrics.kinds names more than {MAX_METRICS_KINDS} kinds; name fewer"));
        }
        if !(0.0..=1.0).contains(&self.telemetry.sample) {
            return fail("telemetry.sample must be from 0 to 1".into());
        }
        match Url::parse(&self.telemetry.otlp_endpoint) {
            _ if self.telemetry.otlp_endpoint.is_empty() => {}
            Ok(url) if matches!(url.scheme(), "http" | "https") => {}
            _ => {
                return fail(
                    "telemetry.otlp_endpoint must be a full address such as \"http://127.0.0.1:4318\"".into(),
                );
            }
        }
        if !(0.5..=4.0).contains(&self.browser.scale) {
            return fail("browser.scale must be from 0.5 to 4".into());
        }
        Ok(())
    }
}

/// A value of the environment in the type that the default has: `8` for a string setting stays a string.
fn environment_value(key: &str, text: &str) -> Value {
    let default = Figment::from(Toml::string(DEFAULT_TOML)).find_value(key).ok();
    match default {
        Some(Value::String(..)) => Value::from(text),
        Some(Value::Array(..)) => {
            let inner = text.trim().trim_start_matches('[').trim_end_matches(']');
            let items =
                inner.split(',').map(|item| item.trim().trim_matches('"')).filter(|item| !item.is_empty());
            Value::from(items.map(str::to_owned).collect::<Vec<_>>())
        }
        _ => text.parse().expect("a figment value parses from any text"),
    }
}

fn check_keys(origin: &str, dict: &Dict) -> Result<(), ConfigError> {
    for (section, value) in dict {
        match value {
            Value::Dict(_, keys) => {
                for key in keys.keys() {
                    check_key(origin, &format!("{section}.{key}"))?;
                }
            }
            _ => check_key(origin, section)?,
        }
    }
    Ok(())
}

fn check_key(origin: &str, key: &str) -> Result<(), ConfigError> {
    let known = known_keys();
    if known.contains(key) {
        return Ok(());
    }
    let nearest = known
        .iter()
        .map(|candidate| (strsim::levenshtein(candidate, key), candidate))
        .min()
        .filter(|(distance, _)| *distance <= key.len() / 2)
        .map(|(_, candidate)| candidate.clone());
    Err(ConfigError::UnknownKey { origin: origin.to_owned(), key: key.to_owned(), nearest })
}

/// Every key that `default.toml` names, as `section.key`.
fn known_keys() -> BTreeSet<String> {
    let dict: Dict = Figment::from(Toml::string(DEFAULT_TOML)).extract().expect("a test reads the defaults");
    dict.iter()
        .filter_map(|(section, value)| value.as_dict().map(|keys| (section, keys)))
        .flat_map(|(section, keys)| keys.keys().map(move |key| format!("{section}.{key}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let environment = environment.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        Config::load(None, environment, Vec::new())
    }

    #[test]
    fn the_reference_names_every_setting_and_no_other() {
        let defaults = Config::defaults();
        let dict: Dict = Figment::from(Serialized::defaults(&defaults)).extract().unwrap();
        let written: BTreeSet<String> = dict
            .iter()
            .flat_map(|(section, value)| {
                value.as_dict().unwrap().keys().map(move |key| format!("{section}.{key}"))
            })
            .collect();
        assert_eq!(written, known_keys());
        defaults.validate().unwrap();
    }

    #[test]
    fn the_environment_overrides_the_reference() {
        let config = load(&[
            ("JOBCAST__REALTIME__PING_INTERVAL", "10s"),
            ("JOBCAST__SERVER__LISTEN", "127.0.0.1:1,127.0.0.1:2"),
            ("JOBCAST__OCR__LANGUAGES", "deu"),
            ("DATABASE_URL", "postgres://u:hush-hush@h/d"),
            ("UNRELATED", "x"),
        ])
        .unwrap();
        assert_eq!(config.realtime.ping_interval, Duration::from_secs(10));
        assert_eq!(config.server.listen.len(), 2);
        assert_eq!(config.ocr.languages, "deu");
        assert_eq!(config.database.url, "postgres://u:hush-hush@h/d");
        assert!(!format!("{config:?}").contains("hush-hush"));
    }

    #[test]
    fn flags_win_over_the_environment() {
        let environment = [("JOBCAST__OCR__LANGUAGES".to_owned(), "deu".to_owned())];
        let config = Config::load(None, environment, vec![("ocr.languages", Value::from("eng"))]).unwrap();
        assert_eq!(config.ocr.languages, "eng");
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_one() {
        let error = load(&[("JOBCAST__REALTIME__PING_INTERVALL", "10s")]).unwrap_err().to_string();
        assert!(error.contains("did you mean `realtime.ping_interval`?"), "{error}");
    }

    #[test]
    fn values_out_of_range_are_refused_with_the_range() {
        for (name, value, says) in [
            ("JOBCAST__PIPELINE__OCR_CONCURRENCY", "0", "from 1 to 256"),
            ("JOBCAST__REALTIME__PING_INTERVAL", "soon", "realtime.ping_interval"),
            ("JOBCAST__SERVER__PUBLIC_URL", "example", "full address"),
            ("JOBCAST__OBJECTS__ADDRESS", "https://cdn.example.com/", "{key}"),
        ] {
            let error = load(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(says), "{name}={value}: {error}");
        }
    }
}
