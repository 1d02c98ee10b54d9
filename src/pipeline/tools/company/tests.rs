//! The fixture companies, read page by page without a server.

use super::*;

fn site(pages: &[(Role, &str, &str)]) -> CompanyProfile {
    let mut profile = CompanyProfile::default();
    let base = Url::parse("https://www.company.example/").unwrap();
    for (role, path, html) in pages {
        profile.merge(CompanyPage::read(html, &base.join(path).unwrap(), *role).profile);
    }
    profile.finish(&base);
    profile
}

macro_rules! page {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/companies/", $name))
    };
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn structured_data_tells_most_of_a_bakery_and_its_imprint_the_rest() {
    let bakery = site(&[
        (Role::Home, "/", page!("bakery/index.html")),
        (Role::Imprint, "/impressum.html", page!("bakery/impressum.html")),
    ]);
    let Contact { email, phone, address, phones, .. } = bakery.contact_information;
    assert_eq!(email, some("laden@backhaus-sonnentau.example"));
    assert_eq!((phone, phones.len()), (some("+49 761 5550100"), 2), "the fax is none");
    assert_eq!(address, some("Lindenweg 12, 79100 Freiburg, DE"));
    let company = bakery.company_information;
    assert_eq!(
        (company.name, company.legal_name),
        (some("Backhaus Sonnentau"), some("Backhaus Sonnentau e.K."))
    );
    assert_eq!((company.founded, company.vat_id), (some("1987"), some("DE123456789")));
    assert_eq!(company.logo, some("https://www.company.example/logo.svg"));
    let social = bakery.social_media;
    assert_eq!(
        social.facebook,
        some("https://www.facebook.com/backhaussonnentau"),
        "not the button that shares"
    );
    assert_eq!(social.instagram, some("https://www.instagram.com/backhaus.sonnentau"));
    assert_eq!((social.articles, social.linkedin), (some("https://www.company.example/aktuelles/"), None));
    assert_eq!(bakery.description_industry.industry, some("Bakery"));
    assert!(bakery.description_industry.description.unwrap().starts_with("Handwerkliche Bio-Bäckerei"));
    assert_eq!(bakery.certifications, ["Bioland", "Demeter"]);
    assert_eq!(bakery.products, ["Roggensauerteigbrot", "Dinkelbrötchen", "Streuselkuchen"]);
    let [owner] = &bakery.people_information[..] else { panic!("{:?}", bakery.people_information) };
    assert_eq!((&*owner.name, owner.title.as_deref()), ("Marlene Sonntag", Some("Inhaberin")));
}

#[test]
fn rules_read_a_site_without_structured_data() {
    let machining = site(&[
        (Role::Home, "/", page!("machining/index.html")),
        (Role::Imprint, "/impressum", page!("machining/impressum.html")),
        (Role::Contact, "/kontakt", page!("machining/kontakt.html")),
        (Role::Team, "/team", page!("machining/team.html")),
        (Role::Services, "/leistungen", page!("machining/leistungen.html")),
    ]);
    let name = "Brandt Präzisionstechnik GmbH & Co. KG";
    let company = machining.company_information;
    assert_eq!((company.name, company.legal_name), (some(name), some(name)));
    assert_eq!((company.vat_id, company.founded), (some("DE987654321"), some("1962")));
    let contact = machining.contact_information;
    assert_eq!(contact.email, some("info@brandt-praezision.example"), "a general address, and no person's");
    assert_eq!((contact.phone, contact.phones.len()), (some("02373 / 555 20-0"), 1));
    assert_eq!(contact.address, some("Am Stollen 7, 58708 Menden"));
    assert_eq!(machining.certifications, ["ISO 9001:2015", "ISO 13485"]);
    assert_eq!(machining.services, ["CNC-Drehen", "CNC-Fräsen", "Montage von Baugruppen"]);
    assert_eq!(machining.description_industry.industry, some("Mechanical engineering"));
    let people: Vec<_> = machining
        .people_information
        .iter()
        .map(|p| (&*p.name, p.title.as_deref().unwrap_or_default()))
        .collect();
    assert_eq!(
        people,
        [
            ("Katrin Brandt", "Geschäftsführer"),
            ("Uwe Brandt", "Geschäftsführer"),
            ("Dr. Jonas Weber", "Leiter Fertigung")
        ]
    );
    assert_eq!(machining.people_information[2].email, some("j.weber@brandt-praezision.example"));
    assert_eq!(machining.social_media.linkedin, some("https://www.linkedin.com/company/brandt-praezision/"));
}

#[test]
fn microdata_and_a_graph_of_json_are_read_too() {
    let software = site(&[
        (Role::Home, "/", page!("software/index.html")),
        (Role::Contact, "/contact", page!("software/contact.html")),
        (Role::About, "/about-us", page!("software/about-us.html")),
    ]);
    assert_eq!(software.company_information.name, some("Fjordline"));
    assert_eq!(software.company_information.legal_name, some("Fjordline AS"));
    assert_eq!(software.contact_information.address, some("2 Harbour Street, Bergen"));
    assert_eq!(software.contact_information.email, some("hello@fjordline.example"));
    assert_eq!(software.contact_information.phone, some("+47 55 500 100"));
    assert_eq!(software.description_industry.industry, some("Workforce management software"));
    assert_eq!(software.products, ["Fjordline Roster", "Fjordline Desk"]);
    assert_eq!(software.services, ["Onboarding"]);
    assert_eq!(software.certifications, ["ISO/IEC 27001", "SOC 2"]);
    let names: Vec<&str> = software.people_information.iter().map(|person| &*person.name).collect();
    assert_eq!(names, ["Tom Berg", "Ingrid Solheim"]);
    assert_eq!(software.people_information[0].email, some("tom@fjordline.example"));
    assert_eq!(software.social_media.x, some("https://x.com/fjordline"));
    assert_eq!(software.social_media.blog, some("https://www.company.example/blog"));
}

#[test]
fn a_page_that_says_nothing_leaves_its_domain_as_the_name() {
    let bare = site(&[(Role::Home, "/", page!("bare/index.html"))]);
    assert_eq!(bare.company_information.name, some("company.example"));
    assert_eq!((bare.contact_information.email, bare.people_information.len()), (None, 0));
}

#[test]
fn the_pages_that_tell_who_a_company_is_are_found_by_their_links() {
    let url = Url::parse("https://www.company.example/").unwrap();
    let leads = |html: &str| CompanyPage::read(html, &url, Role::Home).leads;
    let found = leads(page!("machining/index.html"));
    let paths: Vec<_> = found.iter().map(|(role, url)| (*role, url.path())).collect();
    assert_eq!(
        paths,
        [
            (Role::Imprint, "/impressum"),
            (Role::Contact, "/kontakt"),
            (Role::About, "/unternehmen"),
            (Role::Team, "/team"),
            (Role::Services, "/leistungen")
        ]
    );
    let elsewhere = r#"<a href="https://other.example/kontakt">Kontakt</a> <a rel="nofollow" href="/kontakt">x</a>
        <a href="/teamwork-blog">nothing</a>"#;
    assert_eq!(leads(elsewhere), []);
}

#[test]
fn what_only_looks_like_a_number_or_an_address_is_none() {
    assert_eq!(text::emails("Bild logo@2x.png, @handle, a@b, x@y.example."), ["x@y.example"]);
    assert_eq!(text::phones("Telefonzeiten 8-12 Uhr\nFax: 0761 5550109\nTel 12"), [""; 0]);
    assert_eq!(text::vat_id("CODE123456789 und DE12345"), None);
    assert_eq!(text::postal(&["im Jahr 2024", "10000 Kunden vertrauen uns"]), None);
    assert!(
        !text::is_person("Leiter Fertigung")
            && !text::is_person("ACME 3000")
            && text::is_person("Dr. Eva von der Heide")
    );
}

#[test]
fn a_hostile_page_is_read_in_bounds() {
    let url = Url::parse("https://www.company.example/").unwrap();
    let page = format!(
        "<script type=application/ld+json>{{\"@type\":\"Organization\",\"name\":\"<b>x</b>\\u0000\",\"employee\":[{}]}}</script>{}",
        vec![r#"{"@type":"Person","name":"A B"}"#; 5_000].join(","),
        "<div><a href='/kontakt'>Kontakt a@b.example".repeat(3_000),
    );
    let read = CompanyPage::read(&page, &url, Role::Home);
    assert_eq!(read.profile.company_information.name.as_deref(), Some("x"));
    assert!(read.profile.people_information.len() <= MAX_LISTED && read.leads.len() <= 2);
}
