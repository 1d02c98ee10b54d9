//! What a person may ask for, and what becomes of it: a job's configuration within the server's limits.

use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;

use super::{Code, CrawlOptions, JobConfig, MatchOptions, Phase, Plan, Priority, Rejection};

/// Longest address and name that are taken.
const MAX_URL: usize = 2048;
const MAX_NAME: usize = 200;
/// Products of a job that does not say how many.
const DEFAULT_PRODUCTS: u32 = 50;

/// A wish for an automation job, as every API words it in its own way. A schedule keeps it until its time has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobRequest {
    pub plan: Plan,
    /// The shop's start page.
    pub shop_url: String,
    /// The label template's id or name; the caller has made sure that it exists.
    pub template_id: String,
    /// `None` or empty for a name that tells shop and time.
    pub name: Option<String>,
    pub max_products: Option<u32>,
    pub follow_pagination: Option<bool>,
    /// Likeness from 0 to 1 below which a fuzzy match is none.
    pub match_threshold: Option<f64>,
    pub matching: MatchOptions,
    /// The price list that came along.
    pub import_id: Option<Uuid>,
    pub crawl: CrawlOptions,
    pub priority: Priority,
}

/// What this server allows and assumes.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    pub max_products: u32,
    pub match_threshold: f64,
}

impl JobRequest {
    /// The job's name and configuration.
    ///
    /// # Errors
    /// A sentence that names the field and what it may be.
    pub fn check(self, limits: &RequestLimits) -> Result<(String, JobConfig), Rejection> {
        let invalid = |message: String| Rejection::new(Code::InvalidRequest, message);
        if self.shop_url.len() > MAX_URL {
            return Err(invalid(format!("The shop's address has more than {MAX_URL} bytes.")));
        }
        let shop = Url::parse(self.shop_url.trim())
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| {
                invalid("The shop's address must be a full one such as https://shop.example.com/.".into())
            })?;
        if !shop.username().is_empty() || shop.password().is_some() {
            return Err(invalid("The shop's address must not hold a user name or password.".into()));
        }
        if self.plan.first() != Phase::Crawling {
            return Err(invalid("A job on a shop has the plan labels or crawl.".into()));
        }
        let crawl = self.crawl.check()?;
        let usual = if crawl.is_full_scan() { limits.max_products } else { DEFAULT_PRODUCTS };
        let max_products = self.max_products.unwrap_or(usual.min(limits.max_products));
        if max_products == 0 || max_products > limits.max_products {
            return Err(invalid(format!("maxProducts must be from 1 to {}.", limits.max_products)));
        }
        let match_threshold = self.match_threshold.unwrap_or(limits.match_threshold);
        if !(0.0..=1.0).contains(&match_threshold) {
            return Err(invalid("The match threshold must be from 0 to 1.".into()));
        }
        let name = self.name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        let name = name.unwrap_or_else(|| format!("Labels of {}", shop.host_str().unwrap_or("the shop")));
        if name.chars().count() > MAX_NAME {
            return Err(invalid(format!("The name has more than {MAX_NAME} characters.")));
        }
        if name.chars().any(char::is_control) {
            return Err(invalid("The name must not hold control characters.".into()));
        }
        let config = JobConfig {
            plan: self.plan,
            shop_url: shop.to_string(),
            template_id: self.template_id,
            max_products,
            follow_pagination: self.follow_pagination.unwrap_or(true),
            import_id: self.import_id,
            match_threshold,
            matching: self.matching.check()?,
            crawl,
            companies: None,
        };
        Ok((name, config))
    }
}

/// What may be asked of a job that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Cancel,
    Pause,
    Resume,
    Retry,
}

impl Order {
    /// As it stands in the paths of `/v1`.
    pub fn word(self) -> &'static str {
        match self {
            Order::Cancel => "cancel",
            Order::Pause => "pause",
            Order::Resume => "resume",
            Order::Retry => "retry",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: RequestLimits = RequestLimits { max_products: 100, match_threshold: 0.6 };

    fn request(shop_url: &str) -> JobRequest {
        JobRequest {
            shop_url: shop_url.into(),
            template_id: "standard-label".into(),
            ..JobRequest::default()
        }
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let (name, config) = request("https://shop.example.com").check(&LIMITS).unwrap();
        assert_eq!(name, "Labels of shop.example.com");
        assert_eq!((config.max_products, config.follow_pagination, config.match_threshold), (50, true, 0.6));
        assert_eq!(config.shop_url, "https://shop.example.com/");
    }

    #[test]
    fn requests_that_make_no_sense_are_refused() {
        let long = format!("https://x.example/{}", "a".repeat(3000));
        for bad in
            ["", "shop.example.com", "ftp://x.example/", "https://user:pw@x.example/", "javascript:1", &long]
        {
            assert!(request(bad).check(&LIMITS).is_err(), "{bad}");
        }
        for max_products in [0, 101] {
            let bad = JobRequest { max_products: Some(max_products), ..request("https://x.example") };
            assert!(bad.check(&LIMITS).is_err());
        }
        for name in ["x".repeat(201), "a\nb".into()] {
            assert!(JobRequest { name: Some(name), ..request("https://x.example") }.check(&LIMITS).is_err());
        }
        for threshold in [-0.1, 1.1, f64::NAN] {
            let bad = JobRequest { match_threshold: Some(threshold), ..request("https://x.example") };
            assert!(bad.check(&LIMITS).is_err());
        }
    }
}
