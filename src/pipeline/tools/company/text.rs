//! Rules that read a company's plain text: addresses, numbers, names with legal forms, certificates, people.

use scraper::{ElementRef, Html, Node};

use super::Person;

pub(super) const SERVICE_HEADINGS: [&str; 10] = [
    "services",
    "our services",
    "what we do",
    "what we offer",
    "leistungen",
    "unsere leistungen",
    "dienstleistungen",
    "unsere dienstleistungen",
    "angebot",
    "unser angebot",
];
pub(super) const PRODUCT_HEADINGS: [&str; 6] =
    ["products", "our products", "produkte", "unsere produkte", "sortiment", "unser sortiment"];

/// Elements that stand on lines of their own.
const BLOCKS: [&str; 26] = [
    "p", "div", "li", "ul", "ol", "h1", "h2", "h3", "h4", "h5", "h6", "tr", "td", "th", "table", "section",
    "article", "header", "footer", "address", "dt", "dd", "main", "nav", "form", "hr",
];
const HIDDEN: [&str; 6] = ["script", "style", "noscript", "template", "head", "svg"];

/// The text that a person sees, a block a line.
pub(super) fn visible(document: &Html, limit: usize) -> String {
    read(document.root_element(), limit)
}

/// The lines of one element.
pub(super) fn lines_of(element: ElementRef) -> Vec<String> {
    read(element, 2_000).lines().map(str::to_owned).collect()
}

fn read(root: ElementRef, limit: usize) -> String {
    let mut text = String::new();
    let mut last_block = None;
    for node in root.descendants() {
        match node.value() {
            Node::Element(element) if element.name() == "br" => text.push('\n'),
            Node::Text(piece) => {
                // Up to the block that it stands in; a page's depth is bounded.
                let mut is_hidden = false;
                let mut block = None;
                for around in node.ancestors() {
                    let Some(element) = around.value().as_element() else { continue };
                    is_hidden |= HIDDEN.contains(&element.name());
                    if block.is_none() && BLOCKS.contains(&element.name()) {
                        block = Some(around.id());
                    }
                }
                if is_hidden {
                    continue;
                }
                if block != last_block {
                    text.push('\n');
                    last_block = block;
                }
                text.extend(piece.chars().map(|c| if c.is_whitespace() || c.is_control() { ' ' } else { c }));
            }
            _ => {}
        }
        if text.len() > limit {
            break;
        }
    }
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

/// An e-mail address, if this is one and not an example or a file's name.
pub(super) fn email(text: &str) -> Option<String> {
    let text = text.trim().trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    let (name, host) = text.split_once('@')?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || ".-_+".contains(c);
    let good = !name.is_empty()
        && name.len() <= 64
        && name.chars().all(is_name)
        && host.len() <= 255
        && host.contains('.')
        && host.split('.').all(|part| {
            !part.is_empty()
                && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
                && !part.starts_with('-')
        })
        && host
            .rsplit('.')
            .next()
            .is_some_and(|last| last.len() >= 2 && last.chars().all(|c| c.is_ascii_alphabetic()));
    let is_file =
        ["png", "jpg", "jpeg", "gif", "svg", "webp"].iter().any(|end| host.ends_with(&format!(".{end}")));
    (good && !is_file).then_some(text)
}

/// E-mail addresses in a text, also those that are written to be read by people only.
pub(super) fn emails(text: &str) -> Vec<String> {
    let plain =
        [" (at) ", "(at)", " [at] ", "[at]"].iter().fold(text.to_owned(), |text, at| text.replace(at, "@"));
    let plain = [" (dot) ", "(dot)", " [dot] ", "[dot]", "(punkt)", "[punkt]"]
        .iter()
        .fold(plain, |text, dot| text.replace(dot, "."));
    let mut found = Vec::new();
    for word in plain
        .split(|c: char| c.is_whitespace() || "<>()[],;:\"'|".contains(c))
        .filter(|word| word.contains('@'))
    {
        if let Some(email) = email(word)
            && !found.contains(&email)
        {
            found.push(email);
        }
    }
    found
}

/// The digits of a number, the plus in front among them.
pub(super) fn digits(text: &str) -> String {
    let plus = text.trim_start().starts_with('+');
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    if plus { format!("+{digits}") } else { digits }
}

/// A phone number as it is written, if this is one.
pub(super) fn phone(text: &str) -> Option<String> {
    let text = text.trim().replace(['\u{a0}', '\u{2009}'], " ");
    let end = text.find(|c: char| !(c.is_ascii_digit() || "+-–/(). ".contains(c))).unwrap_or(text.len());
    let number = text[..end].trim().trim_end_matches(['-', '–', '/', '(', '.', ' ']).to_owned();
    let count = number.chars().filter(char::is_ascii_digit).count();
    let starts = number.starts_with(['+', '0', '(']) || count >= 9;
    ((6..=15).contains(&count) && starts).then_some(number)
}

/// Numbers behind a word that promises one; a fax is no phone.
pub(super) fn phones(text: &str) -> Vec<String> {
    const WORDS: [&str; 8] =
        ["telefonnummer", "telefon", "telephone", "phone", "tel.", "tel", "fon", "call us"];
    let mut found: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| line.len() < 300) {
        let lower = line.to_lowercase();
        if lower.len() != line.len() {
            continue;
        }
        let promise = WORDS.iter().filter_map(|word| {
            let at = lower.find(word)?;
            let before = lower[..at].chars().next_back();
            before.is_none_or(|c| !c.is_alphanumeric()).then_some(at + word.len())
        });
        for at in promise.take(1) {
            let rest = line[at..].trim_start_matches(|c: char| ": .\t|–-".contains(c));
            if let Some(phone) = phone(rest)
                && !found.iter().any(|known| digits(known) == digits(&phone))
            {
                found.push(phone);
            }
        }
    }
    found
}

/// A postal address in the form of the German-speaking countries: a street with a number, then a code with a town.
pub(super) fn postal<T: AsRef<str>>(lines: &[T]) -> Option<String> {
    let lines: Vec<&str> = lines.iter().map(|line| line.as_ref().trim()).collect();
    let is_street = |text: &str| {
        let last = text.split_whitespace().next_back().unwrap_or_default();
        text.len() < 80
            && text.chars().find(|c| c.is_alphabetic()).is_some_and(char::is_uppercase)
            && text.chars().filter(|c| c.is_alphabetic()).count() >= 4
            && last.starts_with(|c: char| c.is_ascii_digit())
            && last.len() <= 8
            && !text.contains(['@', ':'])
    };
    let is_town = |text: &str| {
        let (code, town) = text.split_once(' ').unwrap_or_default();
        let digits = code.trim_start_matches(|c: char| c.is_ascii_uppercase() || c == '-');
        (4..=5).contains(&digits.len())
            && digits.chars().all(|c| c.is_ascii_digit())
            && town.chars().next().is_some_and(char::is_uppercase)
            && town.len() < 80
    };
    for (at, line) in lines.iter().enumerate() {
        // "Hauptstr. 5, 12345 Berlin" on one line, or on two.
        for (comma, _) in line.match_indices(", ").chain(line.match_indices(" · ")) {
            let (street, town) = (&line[..comma], line[comma..].trim_start_matches([',', ' ', '·']));
            let street = street.rsplit(", ").next().unwrap_or(street);
            if is_street(street) && is_town(town) {
                return Some(format!("{street}, {town}"));
            }
        }
        if at > 0 && is_town(line) && is_street(lines[at - 1]) {
            return Some(format!("{}, {line}", lines[at - 1]));
        }
    }
    None
}

const LEGAL_FORMS: [&str; 20] = [
    "GmbH & Co. KG",
    "GmbH & Co KG",
    "gGmbH",
    "GmbH",
    "UG (haftungsbeschränkt)",
    "AG",
    "SE",
    "KG",
    "OHG",
    "GbR",
    "e.K.",
    "e. K.",
    "e.V.",
    "e.G.",
    "Ltd.",
    "Ltd",
    "Inc.",
    "LLC",
    "B.V.",
    "S.A.",
];

/// The first line that is a name with its legal form.
pub(super) fn legal_name(text: &str) -> Option<String> {
    text.lines().take(400).find_map(|line| {
        let line = line.trim();
        let form = LEGAL_FORMS.iter().find(|form| {
            line.match_indices(**form).any(|(at, _)| {
                let after = line[at + form.len()..].chars().next();
                at > 1 && line[..at].ends_with(' ') && after.is_none_or(|c| !c.is_alphanumeric())
            })
        })?;
        let end = line.find(form)? + form.len();
        let name = line[..end].rsplit([':', '|']).next()?.trim();
        // A sentence that mentions one is no name.
        let words = name.split_whitespace().count();
        (words <= 8 && name.starts_with(|c: char| c.is_uppercase() || c.is_ascii_digit()))
            .then(|| name.to_owned())
    })
}

/// The part of a page's title that is the company's name.
pub(super) fn name_of_title(title: &str) -> Option<String> {
    let title = [" – ", " - ", " — ", " · ", " :: "]
        .iter()
        .fold(title.to_owned(), |title, mark| title.replace(mark, " | "));
    let parts: Vec<&str> = title.split(" | ").collect();
    let is_word = |part: &&&str| {
        let part = part.trim().to_lowercase();
        !part.is_empty()
            && !["home", "homepage", "startseite", "start", "willkommen", "welcome", "index"]
                .contains(&&*part)
    };
    let legal = parts.iter().find(|part| LEGAL_FORMS.iter().any(|form| part.trim().ends_with(form)));
    let name =
        legal.or_else(|| parts.iter().filter(is_word).min_by_key(|part| part.trim().chars().count()))?;
    let name = name.trim();
    let name =
        ["Willkommen bei ", "Welcome to "].iter().find_map(|start| name.strip_prefix(start)).unwrap_or(name);
    (!name.is_empty()).then(|| name.to_owned())
}

/// A German or European VAT number.
pub(super) fn vat_id(text: &str) -> Option<String> {
    for (at, _) in text.match_indices("DE").chain(text.match_indices("ATU")) {
        let before = text[..at].chars().next_back();
        let prefix = if text[at..].starts_with("ATU") { "ATU" } else { "DE" };
        let wanted = if prefix == "DE" { 9 } else { 8 };
        let rest: String = text[at + prefix.len()..].chars().take(14).filter(|c| *c != ' ').collect();
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        if before.is_none_or(|c| !c.is_alphanumeric()) && digits.len() == wanted {
            return Some(format!("{prefix}{digits}"));
        }
    }
    None
}

/// The year behind "seit", "gegründet", "founded in" and the like.
pub(super) fn founded(text: &str) -> Option<String> {
    const WORDS: [&str; 8] = [
        "gegründet im jahr ",
        "gegründet ",
        "gründung: ",
        "founded in ",
        "founded: ",
        "established in ",
        "since ",
        "seit ",
    ];
    let lower = text.to_lowercase();
    WORDS.iter().find_map(|word| {
        lower.match_indices(word).find_map(|(at, _)| {
            let year: String = lower[at + word.len()..].chars().take_while(char::is_ascii_digit).collect();
            let number: u32 = year.parse().ok()?;
            (year.len() == 4 && (1500..2100).contains(&number)).then_some(year)
        })
    })
}

/// Names of certificates that stand in the text.
pub(super) fn certifications(text: &str) -> Vec<String> {
    const NAMES: [&str; 22] = [
        "TISAX",
        "IATF 16949",
        "HACCP",
        "EMAS",
        "SOC 2",
        "PCI DSS",
        "B Corp",
        "Fairtrade",
        "FSC",
        "PEFC",
        "BRCGS",
        "GMP",
        "DIN EN 1090",
        "EN 9100",
        "AZAV",
        "MSC",
        "Bioland",
        "Demeter",
        "Naturland",
        "RAL",
        "TÜV",
        "VdS",
    ];
    let mut found: Vec<String> = Vec::new();
    let is_alone = |at: usize, length: usize| {
        let before = text[..at].chars().next_back();
        let after = text[at + length..].chars().next();
        before.is_none_or(|c| !c.is_alphanumeric()) && after.is_none_or(|c| !c.is_alphanumeric())
    };
    for start in ["ISO/IEC ", "ISO ", "ISO-"] {
        for (at, _) in text.match_indices(start) {
            let rest = &text[at + start.len()..];
            let number: String =
                rest.chars().take_while(|c| c.is_ascii_digit() || ":-".contains(*c)).collect();
            let number = number.trim_end_matches([':', '-']);
            let whole = number.split([':', '-']).next().unwrap_or_default();
            if (3..=5).contains(&whole.len()) && is_alone(at, start.len() + number.len()) {
                let name = format!("{} {number}", start.trim_end_matches([' ', '-']));
                if !found.iter().any(|known| known.contains(whole)) {
                    found.push(name);
                }
            }
        }
    }
    for name in NAMES {
        if text.match_indices(name).any(|(at, _)| is_alone(at, name.len())) {
            found.push(name.to_owned());
        }
    }
    found
}

/// Whether a text may be a person's name: two to four capitalised words without digits.
pub(super) fn is_person(text: &str) -> bool {
    const NOT: [&str; 22] = [
        "unser",
        "unsere",
        "our",
        "team",
        "the",
        "kontakt",
        "contact",
        "meet",
        "manager",
        "head",
        "leiter",
        "leitung",
        "leiterin",
        "director",
        "chief",
        "sales",
        "vertrieb",
        "geschäftsführer",
        "geschäftsführerin",
        "engineer",
        "officer",
        "über",
    ];
    let words: Vec<&str> = text.split_whitespace().collect();
    let titles = ["Dr.", "Prof.", "Dipl.-Ing.", "Ing.", "von", "van", "de", "zu", "der"];
    (2..=5).contains(&words.len())
        && words.iter().all(|word| {
            titles.contains(word)
                || (word.chars().next().is_some_and(char::is_uppercase)
                    && word.chars().all(|c| c.is_alphabetic() || "-'’.".contains(c)))
        })
        && !words.iter().any(|word| NOT.contains(&&*word.to_lowercase()))
}

/// Who an imprint names as those who act for the company.
pub(super) fn managers(text: &str) -> Vec<Person> {
    const WORDS: [(&str, &str); 12] = [
        ("geschäftsführerinnen", "Geschäftsführerin"),
        ("geschäftsführerin", "Geschäftsführerin"),
        ("geschäftsführer", "Geschäftsführer"),
        ("geschäftsführung", "Geschäftsführung"),
        ("vertreten durch", "Vertretungsberechtigt"),
        ("vorstand", "Vorstand"),
        ("inhaberin", "Inhaberin"),
        ("inhaber", "Inhaber"),
        ("managing directors", "Managing Director"),
        ("managing director", "Managing Director"),
        ("represented by", "Representative"),
        ("owner", "Owner"),
    ];
    let lines: Vec<&str> = text.lines().collect();
    let mut people: Vec<Person> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let lower = line.to_lowercase();
        let Some((word, title)) = WORDS.iter().find(|(word, _)| lower.starts_with(word)) else { continue };
        // Lower-casing may change lengths, but not of these words.
        let rest = line.get(word.len()..).unwrap_or_default();
        let rest = rest.trim_start_matches(|c: char| ": ".contains(c)).trim_start_matches("den ").trim();
        let said = if rest.is_empty() { lines.get(at + 1).copied().unwrap_or_default() } else { rest };
        for name in said
            .split([',', ';', '/'])
            .flat_map(|part| part.split(" und "))
            .flat_map(|part| part.split(" and "))
        {
            let name = name.split('(').next().unwrap_or_default().trim();
            let name = name.strip_prefix("Herr ").or(name.strip_prefix("Frau ")).unwrap_or(name);
            if is_person(name) && !people.iter().any(|known| known.name == name) {
                people.push(Person {
                    name: name.to_owned(),
                    title: Some((*title).to_owned()),
                    ..Person::default()
                });
            }
        }
    }
    people
}

/// The industry whose words a text has most of.
pub(super) fn industry(text: &str) -> Option<&'static str> {
    const INDUSTRIES: [(&str, &[&str]); 14] = [
        (
            "Software",
            &[
                "software",
                "cloud",
                "saas",
                "app ",
                "apps",
                "it-",
                "digital",
                "webentwicklung",
                "web development",
            ],
        ),
        (
            "Bakery and food",
            &["bäckerei", "bakery", "brot", "bread", "konditorei", "lebensmittel", "food", "bio-"],
        ),
        (
            "Mechanical engineering",
            &[
                "maschinenbau",
                "machine",
                "maschinen",
                "cnc",
                "drehteile",
                "frästeile",
                "fertigung",
                "machining",
                "präzision",
            ],
        ),
        (
            "Construction",
            &[
                "bauunternehmen",
                "hochbau",
                "tiefbau",
                "construction",
                "sanierung",
                "dachdecker",
                "roofing",
                "zimmerei",
            ],
        ),
        ("Logistics", &["logistik", "logistics", "spedition", "transport", "freight", "lager"]),
        (
            "Healthcare",
            &["praxis", "klinik", "clinic", "medizin", "medical", "health", "pflege", "zahnarzt", "dental"],
        ),
        ("Consulting", &["beratung", "consulting", "unternehmensberatung", "strategy", "strategie"]),
        (
            "Legal services",
            &["rechtsanwalt", "rechtsanwälte", "kanzlei", "law firm", "legal advice", "notar"],
        ),
        ("Retail", &["onlineshop", "online shop", "einzelhandel", "retail", "store", "fachgeschäft"]),
        (
            "Energy",
            &["solar", "photovoltaik", "photovoltaic", "wind power", "energie", "energy", "wärmepumpe"],
        ),
        (
            "Education",
            &["schule", "school", "akademie", "academy", "weiterbildung", "training", "university"],
        ),
        ("Hospitality", &["hotel", "restaurant", "gasthof", "catering", "café"]),
        ("Marketing", &["werbeagentur", "marketing", "agency", "agentur", "branding", "design studio"]),
        (
            "Electrical engineering",
            &["elektrotechnik", "elektro", "electrical", "schaltschrank", "automation", "sensor"],
        ),
    ];
    let text = text.to_lowercase();
    let score = |words: &[&str]| words.iter().map(|word| text.matches(word).count().min(3)).sum::<usize>();
    let best =
        INDUSTRIES.iter().map(|(name, words)| (score(words), *name)).rev().max_by_key(|(score, _)| *score)?;
    (best.0 > 0).then_some(best.1)
}
