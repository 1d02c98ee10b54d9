//! What labels look like, and that codes are read back.

mod layers;

use super::{limits::MAX_TEMPLATE_BYTES, template::*, *};
use crate::product::{ProductFacts, Tier};

fn facts() -> ProductFacts {
    ProductFacts {
        article_number: Some("SD-10023".into()),
        name: Some("Spanplattenschraube Senkkopf 4 × 40 mm, verzinkt".into()),
        price: Some(12.49),
        currency: Some("EUR".into()),
        ean: Some("2000000100234".into()),
        description: Some("Teilgewinde, Torx T20, 200 Stück je Packung. Für Möbel und Innenausbau.".into()),
        ..ProductFacts::default()
    }
}

fn tiers(count: u32) -> Vec<Tier> {
    (0..count)
        .map(|n| Tier { min_quantity: 10u32.pow(n % 5) * (n + 1), price: 1234.5 - f64::from(n) })
        .collect()
}

fn long() -> ProductFacts {
    ProductFacts {
        article_number: Some("HERSTELLER-4711-0815-ÜBERLANG-1234567890".into()),
        name: Some(format!(
            "{} {}",
            "Donaudampfschifffahrtsgesellschaft".repeat(5),
            "Höhenverstellbarer Tisch ".repeat(30)
        )),
        price: Some(1_234_567.89),
        description: Some("Ein sehr langer Text über Schrauben, Dübel und Größen. ".repeat(40)),
        tiers: tiers(6),
        ..facts()
    }
}

fn data(facts: ProductFacts) -> LabelData {
    LabelData {
        facts,
        code_url: Some("https://shop.example/schrauben/spanplattenschraube-4x40".into()),
        ..LabelData::default()
    }
}

fn cases() -> Vec<(&'static str, LabelData)> {
    let without_ean = ProductFacts { ean: None, ..facts() };
    let tiered = ProductFacts { tiers: tiers(6), ..facts() };
    let markup = ProductFacts {
        name: Some("</text><script>alert(1)</script> & \"Ä\" ' ]]> <g data-field=\"price\"/>".into()),
        article_number: Some("<&>\u{0}\u{202e}\n".into()),
        description: Some("& <![CDATA[ 漢字 😀".into()),
        currency: Some("<€€€".into()),
        ..without_ean.clone()
    };
    vec![
        ("plain", data(facts())),
        ("without-ean", data(without_ean)),
        ("tiers", data(tiered)),
        ("tiers-3", data(ProductFacts { tiers: tiers(3), ..facts() })),
        ("long", data(long())),
        ("long-without-ean", data(ProductFacts { ean: None, ..long() })),
        ("empty", LabelData::default()),
        ("markup", data(markup)),
    ]
}

/// The boxes that a template shows for this data.
fn shown<'a>(pieces: &'a [Piece], drawing: &Canvas, boxes: &mut Vec<&'a FieldBox>) {
    for piece in pieces {
        match piece {
            Piece::Svg(_) | Piece::Layer(_) => {}
            Piece::Field(spec) => boxes.push(spec),
            Piece::Only { field, present, pieces } => {
                if drawing.has(*field) == *present {
                    shown(pieces, drawing, boxes);
                }
            }
        }
    }
}

/// What was drawn for boxes: the box's name, its left, top, right and bottom in millimetres, its text.
fn drawn(group: &usvg::Group, found: &mut Vec<(String, [f32; 4], String)>) {
    for node in group.children() {
        let (bounds, text) = match node {
            usvg::Node::Group(group) => {
                drawn(group, found);
                continue;
            }
            // The digits under bars have no descenders, so the ink is what counts there.
            usvg::Node::Text(text) if text.id() == "barcode" => {
                (text.flattened().bounding_box().transform(text.abs_transform()).unwrap(), text)
            }
            usvg::Node::Text(text) => (text.abs_bounding_box(), text),
            usvg::Node::Path(path) if path.id().is_empty() => continue,
            other => {
                let bounds = other.abs_bounding_box();
                let sides = [bounds.left(), bounds.top(), bounds.right(), bounds.bottom()];
                found.push((other.id().to_owned(), sides.map(|side| side * 25.4 / 96.0), String::new()));
                continue;
            }
        };
        let sides = [bounds.left(), bounds.top(), bounds.right(), bounds.bottom()];
        let words = text.chunks().iter().map(|chunk| chunk.text()).collect();
        found.push((text.id().to_owned(), sides.map(|side| side * 25.4 / 96.0), words));
    }
}

fn texts(label: &LabelTemplate, data: &LabelData, field: &str) -> Vec<String> {
    let renderer = LabelRenderer::new();
    let mut drawing = Canvas::new(&renderer.fonts, label, data, label.dpi());
    drawing.draw().unwrap();
    let mut found = Vec::new();
    drawn(renderer.tree(&drawing.svg, &drawing.pictures).unwrap().root(), &mut found);
    found
        .into_iter()
        .filter(|(id, _, text)| id == field && !text.is_empty())
        .map(|(_, _, text)| text)
        .collect()
}

fn gray(png: &[u8]) -> image::GrayImage {
    image::load_from_memory(png).unwrap().into_luma8()
}

#[test]
fn nothing_ever_leaves_its_box() {
    let renderer = LabelRenderer::new();
    for template in LabelTemplate::builtins() {
        for (case, data) in cases() {
            let mut drawing = Canvas::new(&renderer.fonts, template, &data, template.dpi());
            drawing.draw().unwrap();
            let mut boxes = Vec::new();
            shown(&template.pieces, &drawing, &mut boxes);
            let mut found = Vec::new();
            drawn(renderer.tree(&drawing.svg, &drawing.pictures).unwrap().root(), &mut found);
            assert!(case == "empty" || found.len() > 3, "{} {case}", template.id);
            for (id, [left, top, right, bottom], text) in found {
                let inside = boxes.iter().any(|spec| {
                    let codes = ["barcode", "qrCode"].contains(&id.as_str()) && spec.field == Field::Code;
                    (spec.field.name() == id || codes)
                        && left >= spec.spec.rect.x - 0.02
                        && top >= spec.spec.rect.y - 0.02
                        && right <= spec.spec.rect.x + spec.spec.rect.width + 0.02
                        && bottom <= spec.spec.rect.y + spec.spec.rect.height + 0.02
                });
                assert!(inside, "{} {case}: {id} at {left} {top} {right} {bottom}: {text}", template.id);
            }
        }
    }
}

#[test]
fn a_long_name_is_wrapped_and_cut_and_people_are_told() {
    let template = LabelTemplate::builtin("standard-label").unwrap();
    let lines = texts(template, &data(long()), "productName");
    assert_eq!(lines.len(), 2);
    assert!(lines[1].ends_with('…'), "{lines:?}");
    let label = LabelRenderer::new().render(template, &data(long())).unwrap();
    assert!(
        label.warnings.iter().any(|warning| warning.contains("product name is too long")),
        "{:?}",
        label.warnings
    );
    assert_eq!(texts(template, &data(facts()), "productName").join(" "), facts().name.unwrap());
}

#[test]
fn a_price_is_printed_whole_or_not_at_all() {
    for template in LabelTemplate::builtins() {
        let printed = texts(template, &data(long()), "price");
        assert_eq!(printed, ["1.234.567,89\u{a0}€"], "{}", template.id);
    }
    let narrow = r#"<svg xmlns="http://www.w3.org/2000/svg" width="20mm" height="10mm" viewBox="0 0 20 10">
        <g data-field="price" data-x="1" data-y="1" data-width="3" data-height="8" data-font-size="5"/></svg>"#;
    let narrow = LabelTemplate::parse("narrow", narrow).unwrap();
    let label = LabelRenderer::new().render(&narrow, &data(long())).unwrap();
    assert!(texts(&narrow, &data(long()), "price").is_empty());
    assert_eq!(label.warnings, ["The price does not fit into its box and is left out."]);
}

#[test]
fn price_tiers_stand_one_in_a_line_or_joined_but_never_torn() {
    let data = data(ProductFacts { tiers: tiers(6), ..facts() });
    let lines = texts(LabelTemplate::builtin("detailed-label").unwrap(), &data, "tieredPrice");
    assert_eq!(lines.len(), 6);
    assert_eq!(lines[0].replace('\u{a0}', " "), "ab 1 Stk: 1.234,50 €");
    let joined = texts(LabelTemplate::builtin("custom-label").unwrap(), &data, "tieredPrice");
    let words: Vec<String> = joined.join(" ").split(" | ").map(|tier| tier.replace('\u{a0}', " ")).collect();
    assert_eq!(joined.len(), 2);
    assert!(
        words.join(" ").replace(" |", "").starts_with("ab 1 Stk: 1.234,50 € ab 20 Stk: 1.233,50 €"),
        "{joined:?}"
    );
    assert!(joined.iter().all(|line| line.starts_with("ab")), "{joined:?}");
}

#[test]
fn markup_in_a_name_is_printed_as_it_stands() {
    let data = cases().pop().unwrap().1;
    let printed = texts(LabelTemplate::builtin("custom-label").unwrap(), &data, "productName").join(" ");
    assert_eq!(printed, data.facts.name.unwrap());
}

#[test]
fn a_camera_reads_the_qr_code_from_the_png() {
    let without_ean = LabelData { facts: ProductFacts { ean: None, ..facts() }, ..data(facts()) };
    for template in LabelTemplate::builtins() {
        let label = LabelRenderer::new().render(template, &without_ean).unwrap();
        let mut picture = rqrr::PreparedImage::prepare(gray(&label.png));
        let read: Vec<String> = picture.detect_grids().iter().map(|grid| grid.decode().unwrap().1).collect();
        // The smallest label has no room for the address and says so.
        let small = label.warnings.iter().any(|warning| warning.contains("holds the article number"));
        assert_eq!(small, template.id == "compact-label");
        let expected = if small { "SD-10023".to_owned() } else { without_ean.code_url.clone().unwrap() };
        assert_eq!(read, [expected], "{}", template.id);
    }
}

#[test]
fn a_label_has_its_qr_code_where_it_wishes_and_nowhere_else() {
    let at = |position, size| QrWish { enabled: true, position, size, level: Some("H".into()) };
    let (with_ean, without_ean) =
        (data(facts()), LabelData { facts: ProductFacts { ean: None, ..facts() }, ..data(facts()) });
    // One whose box holds either kind of code, and one whose box is for a QR code alone.
    for (id, data) in [("standard-label", &with_ean), ("detailed-label", &without_ean)] {
        let template = LabelTemplate::builtin(id).unwrap();
        let (width, height) = template.size_mm();
        for (wish, x, y, side) in [
            (at(Some((5.0, 3.0)), Some(25.0)), 5.0, 3.0, 25.0),
            (at(Some((900.0, 900.0)), Some(26.0)), width - 26.0, height - 26.0, 26.0),
            (at(None, Some(24.0)), width - 26.0, height - 26.0, 24.0),
        ] {
            let label = LabelRenderer::new().render(&template.with_qr(&wish), data).unwrap();
            let mut picture = rqrr::PreparedImage::prepare(gray(&label.png));
            let grids = picture.detect_grids();
            let read: Vec<String> = grids.iter().map(|grid| grid.decode().unwrap().1).collect();
            let mm = |pixels: i32| pixels as f32 * 25.4 / template.dpi() as f32;
            let expected = [data.code_url.clone().unwrap()];
            assert_eq!(read, expected, "{id} {wish:?} {:?}", label.warnings);
            for corner in grids[0].bounds {
                let inside = |at: f32, from: f32| (from - 0.1..=from + side + 0.1).contains(&at);
                assert!(inside(mm(corner.x), x) && inside(mm(corner.y), y), "{id}: {corner:?}");
            }
        }
        let none = template.with_qr(&QrWish::default());
        let label = LabelRenderer::new().render(&none, data).unwrap();
        assert!(rqrr::PreparedImage::prepare(gray(&label.png)).detect_grids().is_empty(), "{id}");
        let usual = QrWish { enabled: true, ..QrWish::default() };
        let wished = LabelRenderer::new().render(&template.with_qr(&usual), data).unwrap();
        let own = LabelRenderer::new().render(template, data).unwrap();
        assert!(wished.png == own.png, "{id}: where the template has it");
    }
}

/// Reads thirteen digits from one row of pixels by the widths of its bars and gaps, as a scanner does.
fn scan(row: &[u8]) -> Option<String> {
    const WIDTHS: [[usize; 4]; 10] = [
        [3, 2, 1, 1],
        [2, 2, 2, 1],
        [2, 1, 2, 2],
        [1, 4, 1, 1],
        [1, 1, 3, 2],
        [1, 2, 3, 1],
        [1, 1, 1, 4],
        [1, 3, 1, 2],
        [1, 2, 1, 3],
        [3, 1, 1, 2],
    ];
    const FIRST: [&str; 10] =
        ["AAAAAA", "AABABB", "AABBAB", "AABBBA", "ABAABB", "ABBAAB", "ABBBAA", "ABABAB", "ABABBA", "ABBABA"];
    let dark: Vec<bool> = row.iter().map(|value| *value < 128).collect();
    let inked = &dark[dark.iter().position(|d| *d)?..=dark.iter().rposition(|d| *d)?];
    let runs: Vec<usize> = inked.chunk_by(|a, b| a == b).map(<[bool]>::len).collect();
    if runs.len() != 59 || !inked.len().is_multiple_of(95) {
        return None;
    }
    let widths: Vec<usize> = runs.iter().map(|run| run / (inked.len() / 95)).collect();
    let (mut digits, mut parity) = (String::new(), String::new());
    for digit in widths[3..27].chunks(4).chain(widths[32..56].chunks(4)) {
        let reversed: Vec<usize> = digit.iter().rev().copied().collect();
        let odd = WIDTHS.iter().position(|known| known == digit);
        let even = WIDTHS.iter().position(|known| known == &reversed[..]);
        parity.push(if odd.is_some() { 'A' } else { 'B' });
        digits.push_str(&odd.or(even)?.to_string());
    }
    let first = FIRST.iter().position(|known| *known == &parity[..6])?;
    Some(format!("{first}{digits}"))
}

#[test]
fn a_scanner_reads_the_bars_from_the_png() {
    for template in LabelTemplate::builtins() {
        for ean in ["2000000100234", "4006381333931", "9780201379624"] {
            let data = LabelData {
                facts: ProductFacts { ean: Some(ean.into()), ..facts() },
                ..LabelData::default()
            };
            let label = LabelRenderer::new().render(template, &data).unwrap();
            let pixels = gray(&label.png);
            let mut boxes = Vec::new();
            let renderer = LabelRenderer::new();
            let drawing = Canvas::new(&renderer.fonts, template, &data, template.dpi());
            shown(&template.pieces, &drawing, &mut boxes);
            let spec = boxes.iter().find(|spec| matches!(spec.field, Field::Code | Field::Barcode)).unwrap();
            let at = |mm: f32| (mm * template.dpi() as f32 / 25.4) as u32;
            let row: Vec<u8> = (at(spec.spec.rect.x)..at(spec.spec.rect.x + spec.spec.rect.width))
                .map(|x| pixels.get_pixel(x, at(spec.spec.rect.y + spec.spec.rect.height / 4.0)).0[0])
                .collect();
            assert_eq!(scan(&row).as_deref(), Some(ean), "{}", template.id);
        }
    }
}

#[test]
fn an_ean_with_a_wrong_check_digit_becomes_no_bars() {
    let wrong = data(ProductFacts { ean: Some("2000000100235".into()), ..facts() });
    let template = LabelTemplate::builtin("detailed-label").unwrap();
    assert!(texts(template, &wrong, "barcode").is_empty());
    let label = LabelRenderer::new().render(template, &wrong).unwrap();
    assert_eq!(label.warnings, ["There is no valid EAN, so there are no bars."]);
}

#[test]
fn the_pdf_has_exactly_the_templates_size_and_real_text() {
    for template in LabelTemplate::builtins() {
        let pdf = LabelRenderer::new().render(template, &data(facts())).unwrap().pdf;
        let text = String::from_utf8_lossy(&pdf);
        let after = text.split_once("/MediaBox").unwrap().1.trim_start().trim_start_matches('[');
        let numbers: Vec<f32> = after
            .split(']')
            .next()
            .unwrap()
            .split_whitespace()
            .map(|number| number.parse().unwrap())
            .collect();
        let (width, height) = template.size_mm();
        for (points, mm) in numbers.iter().zip([0.0, 0.0, width, height]) {
            assert!((points / 72.0 * 25.4 - mm).abs() < 0.001, "{}: {numbers:?}", template.id);
        }
        assert!(
            text.contains("LiberationSans") && text.contains("/FontFile2") && text.contains("/ToUnicode")
        );
        assert!(!text.contains("/Subtype/Image") && !text.contains("/CreationDate"));
    }
}

#[test]
fn the_png_has_the_templates_pixels_and_knows_its_size_in_the_world() {
    let template = LabelTemplate::builtin("standard-label").unwrap();
    let label = LabelRenderer::new().render(template, &data(facts())).unwrap();
    assert_eq!((label.width_px, label.height_px), (827, 496));
    assert_eq!(gray(&label.png).dimensions(), (827, 496));
    // 11,811 pixels per metre in both directions, and the checksum that other programs write for it.
    assert_eq!(&label.png[33..54], b"\0\0\0\x09pHYs\0\0\x2e\x23\0\0\x2e\x23\x01\x78\xa5\x3f\x76");
}

#[test]
fn one_renderer_serves_many_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&LabelRenderer::new());
}

#[test]
fn the_same_label_is_the_same_bytes() {
    for template in LabelTemplate::builtins() {
        for (case, data) in cases() {
            let first = LabelRenderer::new().render(template, &data).unwrap();
            let second = LabelRenderer::new().render(template, &data).unwrap();
            assert!(first.png == second.png && first.pdf == second.pdf, "{} {case}", template.id);
        }
    }
}

#[test]
fn a_template_is_found_by_id_or_by_name() {
    assert_eq!(LabelTemplate::builtins().len(), 4);
    for asked in ["standard-label", "Standard Label", " STANDARD  label"] {
        assert_eq!(LabelTemplate::builtin(asked).unwrap().id(), "standard-label");
    }
    assert!(LabelTemplate::builtin("no such label").is_none());
}

#[test]
fn an_unsound_template_is_refused_with_the_reason() {
    let page = |attributes: &str, inside: &str| {
        format!(r#"<svg xmlns="http://www.w3.org/2000/svg" {attributes}>{inside}</svg>"#)
    };
    let sound = r#"width="50mm" height="30mm" viewBox="0 0 50 30""#;
    let boxed = |rest: &str| page(sound, &format!(r#"<g data-x="1" data-y="1" data-height="9" {rest}/>"#));
    let deep = page(sound, &format!("{}{}", "<g>".repeat(40), "</g>".repeat(40)));
    for (svg, reason) in [
        (page(sound, r#"<image href="file:///etc/passwd"/>"#), "<image> is not allowed"),
        (page(sound, r##"<use href="#a"/>"##), "<use> is not allowed"),
        (page(sound, "<style>@import 'x'</style>"), "<style> is not allowed"),
        (page(sound, r#"<rect style="fill:red"/>"#), "remove the attribute style"),
        ("<!DOCTYPE svg [<!ENTITY a 'b'>]><svg/>".into(), "no well-formed SVG"),
        (page(sound, "<g>"), "no well-formed SVG"),
        (page(sound, &"<g/>".repeat(5_000)), "no well-formed SVG"),
        (deep, "nested deeper"),
        (page(r#"width="50" height="30mm" viewBox="0 0 50 30""#, ""), "width=\"50\""),
        (page(r#"width="50mm" height="900mm" viewBox="0 0 50 900""#, ""), "height=\"900mm\""),
        (page(r#"width="50mm" height="30mm" viewBox="0 0 100 60""#, ""), "viewBox"),
        (page(&format!("{sound} data-dpi=\"9000\""), ""), "data-dpi"),
        (page(r#"width="420mm" height="420mm" viewBox="0 0 420 420" data-dpi="600""#, ""), "too many"),
        (boxed(r#"data-field="colour" data-width="9""#), "no such field"),
        (boxed(r#"data-field="price" data-width="60""#), "reaches beyond"),
        (boxed(r#"data-field="price" data-width="NaN""#), "needs data-width"),
        (boxed(r#"data-field="price" data-width="9" data-color="red;x""#), "data-color"),
        (boxed(r#"data-field="price" data-width="9" data-font-size="9" data-transform="""#), "too low"),
        (boxed(r#"data-field="price" data-width="9" transform="scale(9)""#), "transform"),
        (boxed(r#"data-when="ean" data-unless="ean""#), "keep one"),
        ("x".repeat(MAX_TEMPLATE_BYTES + 1), "make it smaller"),
    ] {
        let error = LabelTemplate::parse("x", &svg).map(|_| ()).expect_err(reason).to_string();
        assert!(error.contains(reason), "{error} / {reason}");
    }
}
