//! How one job wants its shop to be crawled, where it differs from what this server does by itself.

use scraper::Selector;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Code, Rejection};

/// Longest selector that is taken, in bytes.
const MAX_SELECTOR: usize = 300;
/// `:has()` looks into everything below each element; one inside another takes for ever on a large page.
const MAX_HAS: usize = 1;
/// Longest user agent, in bytes.
const MAX_USER_AGENT: usize = 256;
/// Milliseconds that one page may be given.
const TIMEOUT: std::ops::RangeInclusive<u32> = 1_000..=120_000;

/// Everything that a job may say about its crawl. What is left out is found out from the shop itself.
///
/// robots.txt is kept to in any case.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CrawlOptions {
    /// Where things stand on the shop's pages; each goes before what the shop's kind or the page itself suggests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_selectors: Option<CustomSelectors>,
    /// What the crawler and the browser call themselves. Rules in robots.txt are looked up under the server's own name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 256)]
    pub user_agent: Option<String>,
    /// The whole site instead of what lies below the start page, every page of every category, and as many products
    /// as the server allows where `maxProducts` says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_shop_scan: Option<bool>,
    /// Milliseconds for one page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1000, maximum = 120_000)]
    pub timeout: Option<u32>,
    /// 1 to 100. Pictures are PNG, which loses nothing: it is kept with the job and changes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100)]
    pub screenshot_quality: Option<u32>,
    /// Whether a page's pictures are waited for before it is photographed; true if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_for_images: Option<bool>,
    /// Kept with the job and of no effect: the server has no screen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headless: Option<bool>,
}

/// CSS selectors of what stands on a shop's pages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CustomSelectors {
    /// The box around one product of a listing; its first link leads to the product.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 300)]
    pub product_container: Option<String>,
    /// The link to a product.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 300)]
    pub product_link: Option<String>,
    /// On a product's page: its picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 300)]
    pub product_image: Option<String>,
    /// On a product's page: its price.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 300)]
    pub price: Option<String>,
    /// On a product's page: its article number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 300)]
    pub article_number: Option<String>,
    /// On a product's page: its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 300)]
    pub product_name: Option<String>,
    /// On a product's page: its description.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 300)]
    pub description: Option<String>,
    /// The link to a listing's next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 300)]
    pub next_page_button: Option<String>,
    /// Links to a listing's other pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 300)]
    pub pagination_links: Option<String>,
}

impl CrawlOptions {
    /// The options without blanks, if they make sense.
    ///
    /// # Errors
    /// A sentence that names the option and what it may be.
    pub fn check(mut self) -> Result<CrawlOptions, Rejection> {
        let invalid = |message: String| Err(Rejection::new(Code::InvalidRequest, message));
        if let Some(selectors) = &mut self.custom_selectors {
            for (name, selector) in selectors.named() {
                trim(selector);
                if let Some(css) = selector
                    && let Err(why) = check_selector(css)
                {
                    return invalid(format!("customSelectors.{name} {why}."));
                }
            }
        }
        trim(&mut self.user_agent);
        if let Some(agent) = &self.user_agent
            && (agent.len() > MAX_USER_AGENT || !agent.bytes().all(|byte| (0x20..0x7f).contains(&byte)))
        {
            return invalid(format!("userAgent must be at most {MAX_USER_AGENT} characters of plain ASCII."));
        }
        if self.timeout.is_some_and(|timeout| !TIMEOUT.contains(&timeout)) {
            return invalid(format!(
                "timeout must be from {} to {} milliseconds.",
                TIMEOUT.start(),
                TIMEOUT.end()
            ));
        }
        if self.screenshot_quality.is_some_and(|quality| !(1..=100).contains(&quality)) {
            return invalid("screenshotQuality must be from 1 to 100.".into());
        }
        Ok(self)
    }

    /// Whether the whole shop is wanted.
    pub fn is_full_scan(&self) -> bool {
        self.full_shop_scan == Some(true)
    }

    /// Whether it says nothing.
    pub fn is_silent(&self) -> bool {
        *self == CrawlOptions::default()
    }
}

impl CustomSelectors {
    /// Each with its name.
    fn named(&mut self) -> [(&'static str, &mut Option<String>); 9] {
        [
            ("productContainer", &mut self.product_container),
            ("productLink", &mut self.product_link),
            ("productImage", &mut self.product_image),
            ("price", &mut self.price),
            ("articleNumber", &mut self.article_number),
            ("productName", &mut self.product_name),
            ("description", &mut self.description),
            ("nextPageButton", &mut self.next_page_button),
            ("paginationLinks", &mut self.pagination_links),
        ]
    }
}

/// A form sends what was left empty as an empty text.
fn trim(text: &mut Option<String>) {
    *text = text.take().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
}

/// What is wrong with a selector.
fn check_selector(css: &str) -> Result<(), String> {
    if css.len() > MAX_SELECTOR {
        return Err(format!("has more than {MAX_SELECTOR} bytes"));
    }
    if css.chars().any(char::is_control) {
        return Err("must not hold control characters".into());
    }
    if css.to_ascii_lowercase().matches(":has(").count() > MAX_HAS {
        return Err("may use :has() once".into());
    }
    let shown: String = css.chars().take(60).collect();
    Selector::parse(css).map(drop).map_err(|error| {
        format!("is no CSS selector that can be used: {shown:?} ({error}); try it in a browser's console")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(selector: &str) -> CrawlOptions {
        let price = Some(selector.to_owned());
        let selectors = CustomSelectors { price, ..CustomSelectors::default() };
        CrawlOptions { custom_selectors: Some(selectors), ..CrawlOptions::default() }
    }

    #[test]
    fn a_bad_selector_is_refused_by_its_name() {
        let long = "a ".repeat(200);
        for bad in ["div[", "..price", "p:nth(", ">>>", "a\0b", &long, "a:has(b:has(c))"] {
            let refused = with(bad).check().unwrap_err();
            assert!(refused.message.starts_with("customSelectors.price "), "{bad:?}: {}", refused.message);
        }
        for good in [".price", "#main > p.price:not(.old)", "[itemprop='price']", "td:has(> b)", "a, b"] {
            assert!(with(good).check().is_ok(), "{good}");
        }
    }

    #[test]
    fn what_a_form_left_empty_is_not_there() {
        let blank = CrawlOptions { user_agent: Some(" ".into()), ..with("  ") };
        let checked = blank.check().unwrap();
        assert_eq!((checked.user_agent, checked.custom_selectors.unwrap().price), (None, None));
    }

    #[test]
    fn numbers_out_of_their_range_are_refused() {
        for bad in [
            CrawlOptions { timeout: Some(999), ..CrawlOptions::default() },
            CrawlOptions { timeout: Some(120_001), ..CrawlOptions::default() },
            CrawlOptions { screenshot_quality: Some(0), ..CrawlOptions::default() },
            CrawlOptions { screenshot_quality: Some(101), ..CrawlOptions::default() },
            CrawlOptions { user_agent: Some("Bot\r\nX: y".into()), ..CrawlOptions::default() },
            CrawlOptions { user_agent: Some("x".repeat(257)), ..CrawlOptions::default() },
        ] {
            assert!(bad.clone().check().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_unknown_option_is_not_overlooked() {
        assert!(serde_json::from_str::<CrawlOptions>(r#"{"customSelector":{}}"#).is_err());
        assert_eq!(serde_json::from_str::<CrawlOptions>("{}").unwrap(), CrawlOptions::default());
    }
}
