//! Companies: what their own sites say of them, by structured data first and by rules where that is silent.
//!
//! [`CompanyPage::read`] reads one page and is pure; [`CompanyProfile::merge`] puts the pages of one site together;
//! [`visit`](visit::visit) walks the few pages of a site on which companies say who they are.

mod structured;
mod text;
pub mod visit;

use std::sync::LazyLock;

use scraper::{ElementRef, Html, Selector};
use serde::{Deserialize, Serialize};
use url::Url;

use self::structured::Declared;
use super::page::{absolute, clean, collapse, first_attr, is_nofollow, parse};

/// Of each list of a profile.
const MAX_LISTED: usize = 50;
const MAX_NAME: usize = 200;
const MAX_DESCRIPTION: usize = 2_000;
/// Of the text that the rules read.
const MAX_TEXT: usize = 200_000;
/// A name in the title of a team's card is not longer.
const MAX_PERSON: usize = 80;

/// What is known of a company, in the shape that clients get.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CompanyProfile {
    pub contact_information: Contact,
    pub company_information: Company,
    pub social_media: SocialMedia,
    pub people_information: Vec<Person>,
    pub description_industry: About,
    pub certifications: Vec<String>,
    pub products: Vec<String>,
    pub services: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Contact {
    pub email: Option<String>,
    pub phone: Option<String>,
    pub address: Option<String>,
    /// Further ones, the first again among them.
    pub emails: Vec<String>,
    pub phones: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Company {
    pub name: Option<String>,
    /// With its legal form.
    pub legal_name: Option<String>,
    pub website: Option<String>,
    pub founded: Option<String>,
    pub vat_id: Option<String>,
    pub logo: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SocialMedia {
    pub linkedin: Option<String>,
    pub facebook: Option<String>,
    pub x: Option<String>,
    pub instagram: Option<String>,
    pub youtube: Option<String>,
    pub blog: Option<String>,
    pub articles: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Person {
    pub name: String,
    pub title: Option<String>,
    pub email: Option<String>,
    pub url: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    pub description: Option<String>,
    pub industry: Option<String>,
}

/// What a page of a company's site is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    Home,
    Imprint,
    Contact,
    About,
    Team,
    Services,
}

impl Role {
    /// Those that are looked for, the most telling first.
    pub const WANTED: [Role; 5] = [Role::Imprint, Role::Contact, Role::About, Role::Team, Role::Services];

    /// Words of an address or of a link's text that promise such a page.
    fn words(self) -> &'static [&'static str] {
        match self {
            Role::Home => &[],
            Role::Imprint => {
                &["impressum", "imprint", "legal-notice", "legal notice", "anbieterkennzeichnung"]
            }
            Role::Contact => &["kontakt", "contact", "get-in-touch", "get in touch"],
            Role::About => &[
                "ueber-uns",
                "über-uns",
                "über uns",
                "ueber uns",
                "about",
                "unternehmen",
                "company",
                "wer-wir-sind",
                "who-we-are",
                "firma",
            ],
            Role::Team => &["team", "people", "mitarbeiter", "ansprechpartner", "management", "leadership"],
            Role::Services => &[
                "leistungen",
                "services",
                "service",
                "produkte",
                "products",
                "loesungen",
                "lösungen",
                "solutions",
            ],
        }
    }
}

/// What one page says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CompanyPage {
    pub profile: CompanyProfile,
    /// Pages of the same site that may say more.
    pub leads: Vec<(Role, Url)>,
}

macro_rules! selectors {
    ($($name:ident = $css:literal;)*) => {
        $(static $name: LazyLock<Selector> = LazyLock::new(|| Selector::parse($css).expect("a selector of this file"));)*
    };
}

selectors! {
    LINKS = "a[href]";
    TITLE = "title";
    OG_SITE = r#"meta[property="og:site_name"]"#;
    APP_NAME = r#"meta[name="application-name"]"#;
    DESCRIPTION = r#"meta[name="description"]"#;
    OG_DESCRIPTION = r#"meta[property="og:description"]"#;
    ADDRESS = "address, [itemprop=address], .address, .adresse";
    PARAGRAPHS = "main p, article p, section p, body > p";
    HEADINGS = "h1, h2, h3, h4";
    CARDS = r#"[class*="team" i] > *, [class*="member" i], [class*="person" i], [class*="employee" i], [class*="mitarbeiter" i]"#;
    CARD_NAME = r#"h2, h3, h4, h5, [class*="name" i], strong"#;
    CARD_TITLE = r#"[class*="title" i], [class*="role" i], [class*="position" i], [class*="job" i], p, span"#;
    ITEMS = "li, h3, h4, dt";
}

impl CompanyPage {
    /// Reads the page that was found at `url`.
    pub fn read(html: &str, url: &Url, role: Role) -> CompanyPage {
        let document = parse(html);
        let declared = Declared::read(&document);
        let text = text::visible(&document, MAX_TEXT);
        let mut profile = declared.profile(url);
        links(&document, url, &mut profile);
        let rules = CompanyProfile {
            contact_information: Contact {
                email: None,
                phone: None,
                address: address(&document, &text),
                emails: text::emails(&text),
                phones: text::phones(&text),
            },
            company_information: Company {
                name: site_name(&document, role),
                legal_name: (role == Role::Imprint).then(|| text::legal_name(&text)).flatten(),
                vat_id: text::vat_id(&text),
                founded: text::founded(&text),
                website: None,
                logo: None,
            },
            description_industry: About { description: description(&document, role), industry: None },
            people_information: people(&document, &text, url, role),
            certifications: text::certifications(&text),
            products: listed(&document, &text::PRODUCT_HEADINGS),
            services: listed(&document, &text::SERVICE_HEADINGS),
            social_media: SocialMedia::default(),
        };
        profile.merge(rules);
        profile.bound();
        CompanyPage { profile, leads: leads(&document, url) }
    }
}

impl CompanyProfile {
    /// Takes in what another page, or another way of reading, says where this one is silent.
    pub fn merge(&mut self, other: CompanyProfile) {
        fn or(mine: &mut Option<String>, other: Option<String>) {
            if mine.is_none() {
                *mine = other;
            }
        }
        fn and(mine: &mut Vec<String>, other: Vec<String>) {
            for new in other {
                if !mine.iter().any(|known| known.eq_ignore_ascii_case(&new)) {
                    mine.push(new);
                }
            }
        }
        let CompanyProfile {
            contact_information: contact,
            company_information: company,
            social_media: social,
            people_information,
            description_industry: about,
            certifications,
            products,
            services,
        } = other;
        or(&mut self.contact_information.email, contact.email);
        or(&mut self.contact_information.phone, contact.phone);
        or(&mut self.contact_information.address, contact.address);
        and(&mut self.contact_information.emails, contact.emails);
        let phones = &mut self.contact_information.phones;
        for phone in contact.phones {
            if !phones.iter().any(|known| text::digits(known) == text::digits(&phone)) {
                phones.push(phone);
            }
        }
        let mine = &mut self.company_information;
        or(&mut mine.name, company.name);
        or(&mut mine.legal_name, company.legal_name);
        or(&mut mine.website, company.website);
        or(&mut mine.founded, company.founded);
        or(&mut mine.vat_id, company.vat_id);
        or(&mut mine.logo, company.logo);
        let mine = &mut self.social_media;
        or(&mut mine.linkedin, social.linkedin);
        or(&mut mine.facebook, social.facebook);
        or(&mut mine.x, social.x);
        or(&mut mine.instagram, social.instagram);
        or(&mut mine.youtube, social.youtube);
        or(&mut mine.blog, social.blog);
        or(&mut mine.articles, social.articles);
        or(&mut self.description_industry.description, about.description);
        or(&mut self.description_industry.industry, about.industry);
        for person in people_information {
            match self.people_information.iter_mut().find(|known| known.name == person.name) {
                Some(known) => {
                    or(&mut known.title, person.title);
                    or(&mut known.email, person.email);
                    or(&mut known.url, person.url);
                }
                None => self.people_information.push(person),
            }
        }
        and(&mut self.certifications, certifications);
        and(&mut self.products, products);
        and(&mut self.services, services);
    }

    /// The last word on a site whose pages were read: what follows from the rest.
    pub fn finish(&mut self, home: &Url) {
        let contact = &mut self.contact_information;
        // A general address is a company's rather than a person's.
        let general = |email: &&String| {
            ["info@", "kontakt@", "contact@", "hello@", "office@", "mail@"]
                .iter()
                .any(|start| email.starts_with(start))
        };
        let email = contact.emails.iter().find(general).or(contact.emails.first()).cloned();
        contact.email = contact.email.take().or(email);
        contact.phone = contact.phone.take().or_else(|| contact.phones.first().cloned());
        for (one, all) in [(&contact.email, &mut contact.emails), (&contact.phone, &mut contact.phones)] {
            if let Some(one) = one
                && !all.contains(one)
            {
                all.insert(0, one.clone());
            }
        }
        let company = &mut self.company_information;
        company.website = company.website.take().or_else(|| Some(home.to_string()));
        let host = || home.host_str().map(|host| host.trim_start_matches("www.").to_owned());
        company.name = company.name.take().or_else(|| company.legal_name.clone()).or_else(host);
        let about = &mut self.description_industry;
        if about.industry.is_none() {
            let said = [about.description.as_deref().unwrap_or_default(), &self.services.join(" ")].join(" ");
            about.industry = text::industry(&said).map(str::to_owned);
        }
        self.bound();
    }

    fn bound(&mut self) {
        self.people_information.truncate(MAX_LISTED);
        for list in [
            &mut self.certifications,
            &mut self.products,
            &mut self.services,
            &mut self.contact_information.emails,
            &mut self.contact_information.phones,
        ] {
            list.truncate(MAX_LISTED);
        }
    }
}

/// What the page's links say: addresses to write and call to, and places elsewhere.
fn links(document: &Html, url: &Url, profile: &mut CompanyProfile) {
    let contact = &mut profile.contact_information;
    for anchor in document.select(&LINKS).take(3_000) {
        let href = anchor.attr("href").unwrap_or_default().trim();
        if let Some(address) = strip_scheme(href, "mailto:") {
            let address = address.split('?').next().unwrap_or_default();
            if let Some(email) = text::email(&decode(address))
                && !contact.emails.contains(&email)
            {
                contact.emails.push(email);
            }
        } else if let Some(number) = strip_scheme(href, "tel:") {
            if let Some(phone) = text::phone(&decode(number))
                && !contact.phones.iter().any(|known| text::digits(known) == text::digits(&phone))
            {
                contact.phones.push(phone);
            }
        } else if let Some(target) = absolute(url, href) {
            place(&target, url, &mut profile.social_media);
        }
    }
}

fn strip_scheme<'a>(href: &'a str, scheme: &str) -> Option<&'a str> {
    href.get(..scheme.len()).filter(|start| start.eq_ignore_ascii_case(scheme)).map(|_| &href[scheme.len()..])
}

/// Percent-encoded text as it is meant.
fn decode(text: &str) -> String {
    url::form_urlencoded::parse(text.replace('+', "%2B").as_bytes())
        .map(|(key, value)| if value.is_empty() { key.into_owned() } else { format!("{key}={value}") })
        .collect()
}

/// Takes a link in that leads to a place of the company elsewhere, or to its blog.
fn place(target: &Url, page: &Url, social: &mut SocialMedia) {
    let host = target.host_str().unwrap_or_default();
    let host = host.strip_prefix("www.").unwrap_or(host);
    let path = target.path().to_lowercase();
    // A button that shares this page names nobody.
    let shares = ["share", "intent", "sharer", "sharearticle", "plugins", "dialog", "embed", "watch"];
    let first = path.split('/').find(|part| !part.is_empty()).unwrap_or_default();
    let is_own = |domains: &[&str]| {
        domains.iter().any(|domain| host == *domain || host.ends_with(&format!(".{domain}")))
            && !first.is_empty()
            && !shares.iter().any(|share| first.starts_with(share))
    };
    let slot = if is_own(&["linkedin.com"]) {
        &mut social.linkedin
    } else if is_own(&["facebook.com", "fb.com"]) {
        &mut social.facebook
    } else if is_own(&["x.com", "twitter.com"]) {
        &mut social.x
    } else if is_own(&["instagram.com"]) {
        &mut social.instagram
    } else if is_own(&["youtube.com"]) {
        &mut social.youtube
    } else if target.origin() == page.origin() || host.starts_with("blog.") {
        match first {
            _ if host.starts_with("blog.") => &mut social.blog,
            "blog" => &mut social.blog,
            "news" | "articles" | "artikel" | "aktuelles" | "presse" | "press" | "magazin" => {
                &mut social.articles
            }
            _ => return,
        }
    } else {
        return;
    };
    if slot.is_none() {
        *slot = Some(target.to_string());
    }
}

/// The pages of the same site that promise to say who the company is.
fn leads(document: &Html, url: &Url) -> Vec<(Role, Url)> {
    let mut leads: Vec<(Role, Url)> = Vec::new();
    for anchor in document.select(&LINKS).filter(|anchor| !is_nofollow(*anchor)).take(3_000) {
        let Some(target) = absolute(url, anchor.attr("href").unwrap_or_default()) else { continue };
        if target.origin() != url.origin() || target.path() == url.path() {
            continue;
        }
        let label: String = anchor.text().collect::<String>().to_lowercase();
        let label = label.trim();
        let path = target.path().to_lowercase();
        let fits = |role: &Role| {
            let words = role.words();
            let in_path = path.split(['/', '.', '_']).any(|part| {
                words.contains(&part) || words.iter().any(|word| part.starts_with(&format!("{word}-")))
            });
            in_path
                || (label.len() < 40
                    && words.iter().any(|word| label == *word || label.starts_with(&format!("{word} "))))
        };
        if let Some(role) = Role::WANTED.into_iter().find(fits)
            && !leads.iter().any(|(_, known)| *known == target)
            && leads.iter().filter(|(known, _)| *known == role).count() < 2
        {
            leads.push((role, target));
        }
    }
    leads.sort_by_key(|(role, _)| *role);
    leads
}

/// The company's name as the page's head has it.
fn site_name(document: &Html, role: Role) -> Option<String> {
    let named =
        [&OG_SITE, &APP_NAME].into_iter().find_map(|selector| first_attr(document, selector, "content"));
    if let Some(name) = named.and_then(|name| clean(name, MAX_NAME)) {
        return Some(name);
    }
    if role != Role::Home {
        return None;
    }
    let title: String = document.select(&TITLE).next()?.text().collect();
    text::name_of_title(&collapse(&title, MAX_NAME)?)
}

fn description(document: &Html, role: Role) -> Option<String> {
    if !matches!(role, Role::Home | Role::About) {
        return None;
    }
    let declared = [&DESCRIPTION, &OG_DESCRIPTION]
        .into_iter()
        .filter_map(|selector| first_attr(document, selector, "content"))
        .find_map(|text| clean(text, MAX_DESCRIPTION));
    declared.or_else(|| {
        let paragraphs = document.select(&PARAGRAPHS).take(50);
        paragraphs.filter_map(|p| inner(p, MAX_DESCRIPTION)).find(|text| text.chars().count() > 80)
    })
}

/// An element's text as a person reads it.
fn inner(element: ElementRef, limit: usize) -> Option<String> {
    collapse(&element.text().take(2_000).collect::<Vec<_>>().join(" "), limit)
}

fn address(document: &Html, text: &str) -> Option<String> {
    let marked = document.select(&ADDRESS).take(20).filter_map(|element| {
        let lines = text::lines_of(element);
        text::postal(&lines)
    });
    let lines: Vec<&str> = text.lines().collect();
    marked.into_iter().next().or_else(|| text::postal(&lines))
}

/// People by the cards of a team's page, and by what an imprint must say.
fn people(document: &Html, text: &str, url: &Url, role: Role) -> Vec<Person> {
    let mut people: Vec<Person> = Vec::new();
    if matches!(role, Role::Team | Role::About | Role::Contact | Role::Home) {
        for card in document.select(&CARDS).take(200) {
            let Some(name) = card
                .select(&CARD_NAME)
                .filter_map(|name| inner(name, MAX_PERSON))
                .find(|name| text::is_person(name))
            else {
                continue;
            };
            if people.iter().any(|known| known.name == name) {
                continue;
            }
            let title = card.select(&CARD_TITLE).filter_map(|title| inner(title, MAX_PERSON)).find(|title| {
                *title != name
                    && !title.contains('@')
                    && !text::is_person(title)
                    && text::digits(title).len() < 5
            });
            let hrefs = || card.select(&LINKS).filter_map(|anchor| anchor.attr("href"));
            let email = hrefs().filter_map(|href| strip_scheme(href.trim(), "mailto:")).find_map(text::email);
            let url = hrefs().filter_map(|href| absolute(url, href)).map(String::from).next();
            people.push(Person { name, title, email, url });
        }
    }
    if role == Role::Imprint {
        people.extend(text::managers(text));
    }
    people
}

/// The items of the list under a heading such as "Our services".
fn listed(document: &Html, headings: &[&str]) -> Vec<String> {
    let is_wanted = |heading: &ElementRef| {
        inner(*heading, 60).is_some_and(|text| {
            let text = text.to_lowercase();
            let text = text.trim_matches(|c: char| !c.is_alphanumeric());
            headings.contains(&text)
        })
    };
    let mut found: Vec<String> = Vec::new();
    for heading in document.select(&HEADINGS).filter(is_wanted).take(5) {
        let level = heading.value().name().to_owned();
        // What follows it up to the next heading of its kind.
        for sibling in heading.next_siblings().filter_map(ElementRef::wrap).take(20) {
            if sibling.value().name() == level {
                break;
            }
            let own = ITEMS.matches(&sibling).then_some(sibling);
            for item in own.into_iter().chain(sibling.select(&ITEMS)).take(MAX_LISTED) {
                // An item that holds others is their list.
                if item.select(&ITEMS).next().is_some()
                    && item.value().name() == "li"
                    && item.select(&HEADINGS).next().is_none()
                {
                    continue;
                }
                let name = item.select(&HEADINGS).next().unwrap_or(item);
                if let Some(text) = inner(name, 120)
                    && !found.contains(&text)
                {
                    found.push(text);
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;
