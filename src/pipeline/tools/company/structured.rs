//! What a page declares in JSON-LD or microdata: organisations, people, offers.

use std::sync::LazyLock;

use scraper::{ElementRef, Html, Selector};
use serde_json::{Map, Value};
use url::Url;

use super::{
    About, Company, CompanyProfile, Contact, MAX_DESCRIPTION, MAX_LISTED, MAX_NAME, MAX_PERSON, Person, place,
};
use crate::pipeline::tools::page::{
    MAX_DATA_DEPTH, MAX_JSON_LD_BYTES, MAX_PROPERTIES, absolute, clean, first_of, item, kinds, picture,
    string,
};

static JSON_LD: LazyLock<Selector> = LazyLock::new(|| {
    Selector::parse(r#"script[type="application/ld+json"]"#).expect("a selector of this file")
});
static MICRODATA: LazyLock<Selector> = LazyLock::new(|| {
    Selector::parse(r#"[itemscope][itemtype*="schema.org/"]"#).expect("a selector of this file")
});

/// Kinds of things that are a company, besides those that look like one.
const COMPANIES: [&str; 12] = [
    "Organization",
    "Corporation",
    "LocalBusiness",
    "ProfessionalService",
    "Store",
    "OnlineBusiness",
    "OnlineStore",
    "FoodEstablishment",
    "MedicalBusiness",
    "LegalService",
    "HomeAndConstructionBusiness",
    "NGO",
];
/// Kinds that have a name and an address, too, and are something else.
const OTHERS: [&str; 12] = [
    "Person",
    "Product",
    "Offer",
    "Service",
    "WebSite",
    "WebPage",
    "Article",
    "NewsArticle",
    "BlogPosting",
    "Event",
    "PostalAddress",
    "JobPosting",
];

/// Everything that a page declares, in JSON-LD's shape.
#[derive(Default)]
pub(super) struct Declared {
    companies: Vec<Map<String, Value>>,
    people: Vec<Map<String, Value>>,
    products: Vec<String>,
    services: Vec<String>,
}

impl Declared {
    pub fn read(document: &Html) -> Declared {
        let mut declared = Declared::default();
        let mut left = MAX_JSON_LD_BYTES;
        for script in document.select(&JSON_LD) {
            let text: String = script.text().collect();
            let Some(after) = left.checked_sub(text.len()) else { break };
            left = after;
            // Raw line breaks inside strings are the one common mistake.
            if let Ok(value) = serde_json::from_str(&text.replace(|c: char| c.is_control(), " ")) {
                declared.collect(&value, MAX_DATA_DEPTH);
            }
        }
        let outermost = |scope: &ElementRef| {
            !scope
                .ancestors()
                .skip(1)
                .filter_map(ElementRef::wrap)
                .any(|around| around.attr("itemscope").is_some())
        };
        let mut left = MAX_PROPERTIES;
        for scope in document.select(&MICRODATA).filter(outermost).take(MAX_LISTED) {
            declared.collect(&item(scope, MAX_DATA_DEPTH, &mut left), MAX_DATA_DEPTH);
        }
        declared
    }

    fn collect(&mut self, value: &Value, depth: usize) {
        if depth == 0 {
            return;
        }
        let item = match value {
            Value::Array(items) => {
                return items.iter().take(500).for_each(|item| self.collect(item, depth - 1));
            }
            Value::Object(item) => item,
            _ => return,
        };
        let kinds = kinds(item);
        let is = |names: &[&str]| kinds.iter().any(|kind| names.contains(kind));
        let name = || string(item.get("name")).and_then(|name| clean(&name, MAX_NAME));
        let looks_like_one = item.contains_key("name")
            && ["telephone", "address", "email", "foundingDate", "employee", "legalName"]
                .iter()
                .any(|key| item.contains_key(*key));
        if is(&COMPANIES) || (looks_like_one && !is(&OTHERS)) {
            self.companies.push(item.clone());
        } else if is(&["Person"]) {
            self.people.push(item.clone());
        } else if is(&["Product", "ProductGroup"]) {
            add(&mut self.products, name());
        } else if is(&["Service"]) {
            let kind = || string(item.get("serviceType")).and_then(|kind| clean(&kind, MAX_NAME));
            add(&mut self.services, name().or_else(kind));
        }
        for key in [
            "@graph",
            "mainEntity",
            "about",
            "publisher",
            "employee",
            "employees",
            "founder",
            "founders",
            "member",
            "hasOfferCatalog",
            "makesOffer",
            "itemListElement",
            "itemOffered",
            "item",
            "department",
        ] {
            if let Some(inner) = item.get(key) {
                self.collect(inner, depth - 1);
            }
        }
    }

    /// What it says of the company: the one with most to say goes before the others.
    pub fn profile(mut self, base: &Url) -> CompanyProfile {
        self.companies.sort_by_key(|company| std::cmp::Reverse(company.len()));
        let mut profile = CompanyProfile::default();
        for company in self.companies.iter().take(5) {
            profile.merge(of(company, base));
        }
        for person in self.people.iter().take(MAX_LISTED) {
            let text = |key: &str, limit| string(person.get(key)).and_then(|text| clean(&text, limit));
            let Some(name) = text("name", MAX_PERSON) else { continue };
            let url = text("url", 2_000).and_then(|url| absolute(base, &url)).map(String::from);
            let email =
                text("email", 300).and_then(|email| super::text::email(email.trim_start_matches("mailto:")));
            profile.merge(CompanyProfile {
                people_information: vec![Person { name, title: text("jobTitle", MAX_PERSON), email, url }],
                ..CompanyProfile::default()
            });
        }
        profile.merge(CompanyProfile {
            products: self.products,
            services: self.services,
            ..CompanyProfile::default()
        });
        profile
    }
}

fn add(list: &mut Vec<String>, name: Option<String>) {
    if let Some(name) = name
        && list.len() < MAX_LISTED
        && !list.contains(&name)
    {
        list.push(name);
    }
}

fn of(company: &Map<String, Value>, base: &Url) -> CompanyProfile {
    let text = |key: &str, limit| string(company.get(key)).and_then(|text| clean(&text, limit));
    let point = company.get("contactPoint").map(first_of);
    let at_point = |key: &str| point.and_then(|point| string(point.get(key)));
    let email = text("email", 300).or_else(|| at_point("email"));
    let email = email.and_then(|email| super::text::email(email.trim_start_matches("mailto:")));
    let phone = text("telephone", 60).or_else(|| at_point("telephone"));
    let phone = phone.and_then(|phone| super::text::phone(phone.trim_start_matches("tel:")));
    let mut profile = CompanyProfile {
        contact_information: Contact {
            emails: email.iter().cloned().collect(),
            phones: phone.iter().cloned().collect(),
            email,
            phone,
            address: company.get("address").and_then(|address| postal(first_of(address))),
        },
        company_information: Company {
            name: text("name", MAX_NAME),
            legal_name: text("legalName", MAX_NAME),
            website: text("url", 2_000).and_then(|url| absolute(base, &url)).map(String::from),
            founded: text("foundingDate", 20).map(|date| date.chars().take(4).collect()),
            vat_id: text("vatID", 20),
            logo: company.get("logo").and_then(|logo| picture(logo, base)),
        },
        description_industry: About {
            description: text("description", MAX_DESCRIPTION),
            industry: text("industry", MAX_NAME).or_else(|| trade(company)),
        },
        ..CompanyProfile::default()
    };
    for place_elsewhere in each(company.get("sameAs")) {
        if let Some(target) = place_elsewhere.as_str().and_then(|url| absolute(base, url)) {
            place(&target, base, &mut profile.social_media);
        }
    }
    for key in ["hasCertification", "hasCredential"] {
        for certificate in each(company.get(key)) {
            let name = string(Some(certificate)).or_else(|| string(certificate.get("name")));
            add(&mut profile.certifications, name.and_then(|name| clean(&name, MAX_NAME)));
        }
    }
    for offer in each(company.get("knowsAbout")) {
        add(&mut profile.services, string(Some(offer)).and_then(|text| clean(&text, MAX_NAME)));
    }
    profile
}

fn each(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    let (many, one) = match value {
        Some(Value::Array(values)) => (values.as_slice(), None),
        one => (&[][..], one),
    };
    many.iter().chain(one).take(MAX_LISTED)
}

/// The trade that a kind of business names: `AutoRepair` is "Auto repair".
fn trade(company: &Map<String, Value>) -> Option<String> {
    let kind = kinds(company).into_iter().find(|kind| !COMPANIES.contains(kind))?;
    let mut words = String::new();
    for c in kind.chars().take(60) {
        if c.is_uppercase() && !words.is_empty() {
            words.push(' ');
            words.extend(c.to_lowercase());
        } else {
            words.push(c);
        }
    }
    (!words.is_empty()).then_some(words)
}

/// An address on one line.
fn postal(address: &Value) -> Option<String> {
    let Value::Object(parts) = address else {
        return string(Some(address)).and_then(|text| clean(&text, MAX_NAME));
    };
    let part = |key: &str| {
        let value = parts.get(key).map(first_of)?;
        // A country may be an object with a name.
        string(Some(value)).or_else(|| string(value.get("name"))).and_then(|text| clean(&text, 100))
    };
    let town =
        [part("postalCode"), part("addressLocality")].into_iter().flatten().collect::<Vec<_>>().join(" ");
    let all = [
        part("streetAddress"),
        Some(town).filter(|town| !town.is_empty()),
        part("addressRegion"),
        part("addressCountry"),
    ];
    let address = all.into_iter().flatten().collect::<Vec<_>>().join(", ");
    (!address.is_empty()).then_some(address)
}
