//! Templates of layers and of the visual editor: every code is read back, text stays in its box, and what is unsound is
//! refused with its place.

use proptest::prelude::*;
use resvg::usvg;
use rxing::BarcodeFormat;
use serde_json::{Value, json};

use crate::label::{
    Format, Kind, LabelData, LabelError, LabelRenderer, LabelTemplate, Output, canvas::Canvas, pdf,
};

/// A picture of 2 × 1 pixels: red and blue.
fn dot() -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let pixels = image::RgbImage::from_raw(2, 1, vec![255, 0, 0, 0, 0, 255]).unwrap();
    pixels.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn dot_url() -> String {
    use base64::Engine as _;
    format!("data:image/png;base64,{}", base64::engine::general_purpose::STANDARD.encode(dot()))
}

fn document(layers: Value) -> Value {
    json!({ "name": "Test", "dimensions": { "width": 80, "height": 50, "unit": "mm", "dpi": 300 }, "layers": layers })
}

fn layers(layers: Value) -> LabelTemplate {
    LabelTemplate::of("test", Kind::Layers, &document(layers).to_string()).unwrap()
}

fn layer(kind: &str, rect: [f64; 4], properties: Value) -> Value {
    let [x, y, width, height] = rect;
    json!({
        "type": kind,
        "position": { "x": x, "y": y },
        "size": { "width": width, "height": height },
        "properties": properties,
    })
}

fn data(value: Value) -> LabelData {
    LabelData::from_json(&value).unwrap()
}

fn product() -> Value {
    json!({
        "articleNumber": "SD-10023",
        "productName": "Spanplattenschraube Senkkopf 4 × 40 mm",
        "price": 1234.5,
        "ean": "4006381333931",
        "description": "Teilgewinde, Torx T20",
        "tieredPrices": [{ "quantity": 10, "price": 4.5 }, { "quantity": 1, "price": 5 }],
        "category": "Schrauben",
        "productUrl": "https://shop.example/p/1",
    })
}

fn gray(png: &[u8]) -> image::GrayImage {
    image::load_from_memory(png).unwrap().into_luma8()
}

/// What a decoder reads from a picture.
fn read(png: &[u8], format: BarcodeFormat) -> Option<String> {
    let pixels = gray(png);
    let (width, height) = pixels.dimensions();
    let found = rxing::helpers::detect_in_luma(pixels.into_raw(), width, height, Some(format)).ok()?;
    Some(found.getText().to_owned())
}

/// Text and its box in millimetres, of what has an id.
fn drawn(template: &LabelTemplate, data: &LabelData) -> Vec<(String, [f32; 4], String)> {
    fn walk(group: &usvg::Group, found: &mut Vec<(String, [f32; 4], String)>) {
        for node in group.children() {
            if let usvg::Node::Group(group) = node {
                walk(group, found);
                continue;
            }
            let bounds = node.abs_bounding_box();
            let sides = [bounds.left(), bounds.top(), bounds.right(), bounds.bottom()];
            let text = match node {
                usvg::Node::Text(text) => text.chunks().iter().map(|chunk| chunk.text()).collect(),
                _ => String::new(),
            };
            if !node.id().is_empty() {
                found.push((node.id().to_owned(), sides.map(|side| side * 25.4 / 96.0), text));
            }
        }
    }
    let renderer = LabelRenderer::shared();
    let mut canvas = Canvas::new(&renderer.fonts, template, data, template.dpi());
    canvas.draw().unwrap();
    let mut found = Vec::new();
    walk(renderer.tree(&canvas.svg, &canvas.pictures).unwrap().root(), &mut found);
    found
}

fn lines(template: &LabelTemplate, data: &LabelData) -> Vec<String> {
    let found = drawn(template, data).into_iter();
    found.filter(|(_, _, text)| !text.is_empty()).map(|(_, _, text)| text.replace('\u{a0}', " ")).collect()
}

fn png(template: &LabelTemplate, data: &LabelData) -> Vec<u8> {
    LabelRenderer::shared().lay_out(template, data).unwrap().png(template.dpi()).unwrap()
}

#[test]
fn every_kind_of_code_is_read_back_from_the_png() {
    for (format, text, code) in [
        ("EAN13", "4006381333931", BarcodeFormat::EAN_13),
        ("EAN-13", "400638133393", BarcodeFormat::EAN_13),
        ("EAN8", "96385074", BarcodeFormat::EAN_8),
        ("UPCA", "036000291452", BarcodeFormat::UPC_A),
        ("CODE128", "Abc-1234 x", BarcodeFormat::CODE_128),
        ("CODE128", "12345678", BarcodeFormat::CODE_128),
        ("CODE39", "A1-$/", BarcodeFormat::CODE_39),
        ("auto", "SD-10023", BarcodeFormat::CODE_128),
    ] {
        let template = layers(json!([layer(
            "barcode",
            [2.0, 5.0, 76.0, 30.0],
            json!({ "format": format, "data": text })
        )]));
        let found = read(&png(&template, &LabelData::default()), code);
        let expected = if format == "EAN-13" { "4006381333931" } else { text };
        assert_eq!(found.as_deref(), Some(expected), "{format}");
    }
    for level in ["L", "M", "Q", "H"] {
        let properties = json!({ "dataField": "productUrl", "errorCorrectionLevel": level });
        let template = layers(json!([layer("qrcode", [2.0, 2.0, 40.0, 40.0], properties)]));
        let found = read(&png(&template, &data(product())), BarcodeFormat::QR_CODE);
        assert_eq!(found.as_deref(), Some("https://shop.example/p/1"), "{level}");
    }
}

#[test]
fn a_code_is_readable_on_any_ground_and_turned_around() {
    let ground = layer("shape", [0.0, 0.0, 80.0, 50.0], json!({ "shape": "rectangle", "fill": "#123456" }));
    let mut bars = layer("barcode", [15.0, 10.0, 50.0, 30.0], json!({ "format": "EAN13" }));
    for rotation in [0, 90, 180, 270] {
        bars["rotation"] = rotation.into();
        let template = layers(json!([ground, bars]));
        let found = read(&png(&template, &data(product())), BarcodeFormat::EAN_13);
        assert_eq!(found.as_deref(), Some("4006381333931"), "{rotation}");
    }
}

#[test]
fn a_wrong_check_digit_in_the_data_is_an_error_that_names_the_right_one() {
    let template = layers(json!([layer("barcode", [2.0, 5.0, 76.0, 30.0], json!({ "format": "EAN13" }))]));
    let error =
        LabelRenderer::shared().lay_out(&template, &data(json!({ "ean": "4006381333932" }))).unwrap_err();
    let says = "layers[0]: an EAN-13 that begins with 400638133393 ends with the check digit 1, not 2";
    assert_eq!(error.to_string(), says);
}

#[test]
fn values_are_written_as_the_document_says() {
    let dynamic = |field: &str, more: Value| {
        let mut properties = json!({ "fieldType": field });
        properties.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
        layers(json!([layer("dynamic-text", [2.0, 2.0, 76.0, 20.0], properties)]))
    };
    for (field, more, says) in [
        ("articleNumber", json!({}), "Art.Nr.: SD-10023"),
        ("articleNumber", json!({ "formatting": { "prefix": "" } }), "SD-10023"),
        ("price", json!({}), "1.234,50 €"),
        ("price", json!({ "formatting": { "price": { "showCurrency": false } } }), "1.234,50"),
        ("tieredPrice", json!({}), "ab 1 Stk: 5,00 € | ab 10 Stk: 4,50 €"),
        ("ean", json!({}), "4006381333931"),
        (
            "custom",
            json!({ "dataField": "category", "style": { "textTransform": "uppercase" } }),
            "SCHRAUBEN",
        ),
    ] {
        assert_eq!(lines(&dynamic(field, more), &data(product())), [says], "{field}");
    }
    let vertical = dynamic("tieredPrice", json!({ "formatting": { "layout": "vertical" } }));
    assert_eq!(lines(&vertical, &data(product())), ["ab 1 Stk: 5,00 €", "ab 10 Stk: 4,50 €"]);
    let table = dynamic("tieredPrice", json!({ "formatting": { "layout": "table" } }));
    assert_eq!(lines(&table, &data(product())), ["ab 1 Stk", "5,00 €", "ab 10 Stk", "4,50 €"]);
    let text = json!({ "text": "{{productName}} für {{price}}\n{{unknown}}", "maxLines": 3, "fontSize": 8 });
    let text = layers(json!([layer("text", [2.0, 2.0, 76.0, 20.0], text)]));
    assert_eq!(lines(&text, &data(product())), ["Spanplattenschraube Senkkopf 4 × 40 mm für 1.234,50 €"]);
    assert_eq!(
        lines(&dynamic("price", json!({})), &data(json!({ "price": "auf Anfrage" }))),
        ["auf Anfrage"]
    );
}

#[test]
fn a_look_may_depend_on_the_data() {
    let conditional = json!([
        { "condition": { "field": "price", "operator": "greaterThan", "value": 1000 }, "style": { "color": "#ff0000" } },
        { "condition": "category == Dübel", "style": { "hidden": true } },
    ]);
    let properties = json!({ "fieldType": "price", "style": { "conditionalStyles": conditional } });
    let template = layers(json!([layer("dynamic-text", [2.0, 2.0, 76.0, 20.0], properties)]));
    let svg = |value: Value| {
        let renderer = LabelRenderer::shared();
        let data = data(value);
        let mut canvas = Canvas::new(&renderer.fonts, &template, &data, 300);
        canvas.draw().unwrap();
        canvas.svg
    };
    assert!(svg(json!({ "price": 2000 })).contains(r##"fill="#ff0000""##));
    assert!(svg(json!({ "price": 20 })).contains(r##"fill="#000000""##));
    assert!(!svg(json!({ "price": 20, "category": "Dübel" })).contains("<text"));
}

#[test]
fn pictures_come_with_the_template_or_the_data_and_never_from_elsewhere() {
    let place = [10.0, 10.0, 20.0, 10.0];
    let at = |png: &[u8], x: f32| {
        let pixels = image::load_from_memory(png).unwrap().into_rgb8();
        pixels.get_pixel((x / 25.4 * 300.0) as u32, (15.0 / 25.4 * 300.0) as u32).0
    };
    let own = layers(json!([layer("image", place, json!({ "src": dot_url() }))]));
    let drawn = png(&own, &LabelData::default());
    assert!(at(&drawn, 11.0)[0] > 200 && at(&drawn, 29.0)[2] > 200);
    let named = layers(json!([layer("image", place, json!({ "src": "https://cdn.example/a.png" }))]));
    assert_eq!(named.wanted_pictures(&LabelData::default()), ["https://cdn.example/a.png"]);
    let without = LabelRenderer::shared().lay_out(&named, &LabelData::default()).unwrap();
    assert!(without.warnings()[0].contains("object store"), "{:?}", without.warnings());
    let mut with = LabelData::default();
    with.pictures.insert("https://cdn.example/a.png".into(), crate::label::Picture::read(dot()).unwrap());
    assert!(named.wanted_pictures(&with).is_empty() && at(&png(&named, &with), 11.0)[0] > 200);
    let of_data = layers(json!([layer("image", place, json!({ "dataField": "photo" }))]));
    assert!(at(&png(&of_data, &data(json!({ "photo": dot_url() }))), 11.0)[0] > 200);
    for (src, says) in [
        ("file:///etc/passwd", "layers[0].properties.src must be a data: address"),
        ("../../etc/passwd", "layers[0].properties.src must be a data: address"),
        ("//evil.example/a.png", "layers[0].properties.src must be a data: address"),
        ("data:image/svg+xml;base64,PHN2Zy8+", "layers[0].properties.src must be a data: address of a PNG"),
        ("data:image/png;base64,!!", "layers[0].properties.src is no base64"),
        ("data:image/png;base64,iVBORw0KGgo=", "layers[0].properties.src is a broken picture"),
        ("data:image/png;base64,AAAA", "layers[0].properties.src must be a PNG or JPEG picture"),
    ] {
        let document = document(json!([layer("image", place, json!({ "src": src }))]));
        let error = LabelTemplate::of("x", Kind::Layers, &document.to_string()).unwrap_err().to_string();
        assert!(error.starts_with(says), "{error}");
    }
}

#[test]
fn an_unsound_document_is_refused_with_its_place() {
    let at = |index: usize, path: &[&str], value: Value| {
        let text = layer("text", [1.0, 1.0, 20.0, 5.0], json!({ "text": "x", "style": {} }));
        let mut document = document(json!([text, text]));
        let mut place = &mut document["layers"][index];
        for key in path {
            place = &mut place[*key];
        }
        *place = value;
        document
    };
    let wide =
        |width: Value| json!({ "name": "x", "dimensions": { "width": width, "height": 50 }, "layers": [] });
    let many: Vec<Value> = vec![json!({}); 10_000];
    for (document, says) in [
        (
            at(1, &["size", "width"], json!(-5)),
            "layers[1].size.width is -5.00 mm; it must be from 0 to 1000 mm",
        ),
        (at(1, &["size", "width"], json!("NaN")), "layers[1].size.width must be a number"),
        (at(1, &["size", "width"], json!(1e300)), "layers[1].size.width must be a number"),
        (at(1, &["size", "width"], Value::Null), "layers[1].size.width is missing"),
        (at(0, &["size", "height"], json!(0.5)), "layers[0].size.height is 0.50 mm; it must be 1.2 mm"),
        (at(1, &["position", "x"], json!(1e6)), "layers[1].position.x is 1000000.00 mm"),
        (
            at(1, &["position", "unit"], json!("ell")),
            "layers[1].position.unit must be one of mm, cm, inch, in, px, not \"ell\"",
        ),
        (at(0, &["type"], json!("video")), "layers[0].type must be one of text, image"),
        (at(0, &["type"], Value::Null), "layers[0].type is missing"),
        (at(0, &["rotation"], json!("a")), "layers[0].rotation must be a number"),
        (at(0, &["properties"], json!([])), "layers[0].properties must be an object"),
        (
            at(0, &["properties", "text"], json!("x".repeat(3000))),
            "layers[0].properties.text has 3000 characters",
        ),
        (
            at(0, &["properties", "style", "color"], json!("url(#a)")),
            "layers[0].properties.style.color must be a colour",
        ),
        (
            at(0, &["properties", "style", "fontSize"], json!(9000)),
            "layers[0].properties.style.fontSize is 3175.00 mm",
        ),
        (
            at(0, &["properties", "style", "padding"], json!("1 2 3 4 5")),
            "layers[0].properties.style.padding must have one to four",
        ),
        (
            at(0, &["properties", "fieldType"], json!("colour")),
            "layers[0].properties.fieldType must be one of",
        ),
        (at(0, &["visible"], json!(7)), "layers[0].visible must be true or false"),
        (document(json!(many)), "layers has 10000 entries; 200 are allowed"),
        (document(json!({})), "layers must be a list"),
        (document(json!([7])), "layers[0] must be an object"),
        (wide(json!(1000)), "dimensions.width is 1000.00 mm; it must be from 5 to 420 mm"),
        (wide(json!(0)), "dimensions.width is 0.00 mm"),
        (
            json!({ "dimensions": { "width": 50, "height": 30, "dpi": 6000 } }),
            "dimensions.dpi must be a number from 72 to 600",
        ),
        (
            json!({ "dimensions": { "width": 50, "height": 30, "unit": "furlong" } }),
            "dimensions.unit must be one of",
        ),
        (json!({ "dimensions": { "width": 420, "height": 420, "dpi": 600 } }), "the label template must"),
        (json!([]), "the template must be an object"),
    ] {
        let error = LabelTemplate::of("x", Kind::Layers, &document.to_string()).map(|_| ()).expect_err(says);
        assert!(error.to_string().starts_with(says), "{error}");
    }
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let error = LabelTemplate::of("x", Kind::Layers, &deep).unwrap_err().to_string();
    assert!(error.contains("is no JSON: recursion limit"), "{error}");
    let code = |properties: Value| {
        let document = document(json!([layer("barcode", [2.0, 2.0, 70.0, 20.0], properties)]));
        LabelTemplate::of("x", Kind::Layers, &document.to_string()).unwrap_err().to_string()
    };
    assert!(code(json!({ "format": "EAN13", "data": "4006381333932" })).contains("the check digit 1, not 2"));
    assert!(code(json!({ "format": "MSI" })).starts_with("layers[0].properties.format must be one of EAN13"));
}

#[test]
fn a_document_of_the_editor_is_drawn_in_millimetres() {
    let element = |kind: &str, rect: [i32; 4], content: &str| {
        let [x, y, width, height] = rect;
        json!({
            "id": kind, "type": kind, "x": x, "y": y, "width": width, "height": height, "content": content,
            "fontSize": 64, "fontWeight": "bold", "color": "#111111", "align": "left",
        })
    };
    let document = json!({
        "id": "t1", "name": "Editor", "width": 1600, "height": 1200, "widthMm": 100, "heightMm": 75,
        "printLayoutId": "a4",
        "elements": [
            element("text", [80, 80, 1440, 160], "Angebot"),
            element("articleNumber", [80, 260, 700, 100], "12345"),
            element("price", [800, 260, 720, 160], "9,99 €"),
            element("priceTable", [80, 460, 700, 300], ""),
            element("qrCode", [1000, 500, 500, 500], ""),
        ],
    });
    let template = LabelTemplate::of("t1", Kind::Editor, &document.to_string()).unwrap();
    assert_eq!((template.size_mm(), template.dpi()), ((100.0, 75.0), 406));
    let found = drawn(&template, &data(product()));
    let (_, [left, top, ..], text) = &found[0];
    assert_eq!(text, "Angebot");
    assert!((left - 5.0).abs() < 0.6 && *top >= 4.95 && *top < 7.5, "{left} {top}");
    let lines = lines(&template, &data(product()));
    assert!(
        lines.contains(&"Art.Nr.: SD-10023".to_owned()) && lines.contains(&"5,00 €".to_owned()),
        "{lines:?}"
    );
    assert_eq!(
        read(&png(&template, &data(product())), BarcodeFormat::QR_CODE).unwrap(),
        "https://shop.example/p/1"
    );
    for (key, value, says) in [
        ("x", json!(1e9), "elements[0].x is 62500000.00 mm"),
        ("width", json!(-1), "elements[0].width is -0.06 mm"),
        ("type", json!("video"), "elements[0].type must be one of text, image, price"),
        ("content", json!(["a"]), "elements[0].content must be a text"),
    ] {
        let mut bad = document.clone();
        bad["elements"][0][key] = value;
        let error = LabelTemplate::of("x", Kind::Editor, &bad.to_string()).unwrap_err().to_string();
        assert!(error.starts_with(says), "{error}");
    }
}

#[test]
fn a_label_can_be_had_in_every_format_and_always_as_the_same_bytes() {
    let template = layers(json!([
        layer(
            "shape",
            [1.0, 1.0, 78.0, 48.0],
            json!({ "shape": "rectangle", "stroke": "#14532d", "borderRadius": "2mm" })
        ),
        layer("dynamic-text", [4.0, 4.0, 70.0, 14.0], json!({ "fieldType": "productName" })),
        layer("image", [60.0, 30.0, 10.0, 10.0], json!({ "src": dot_url(), "fit": "cover" })),
        layer("barcode", [4.0, 24.0, 45.0, 20.0], json!({})),
    ]));
    let renderer = LabelRenderer::shared();
    let make = |options: Value| {
        let output = Output::from_json(&options)?;
        renderer.make(&template, &data(product()), &output)
    };
    for (options, begins, size) in [
        (json!({}), &b"\x89PNG"[..], (945, 591)),
        (json!({ "format": "png", "scale": 2 }), b"\x89PNG", (1890, 1181)),
        (json!({ "format": "jpg", "quality": 70, "width": 300 }), b"\xff\xd8\xff", (299, 187)),
        (json!({ "format": "svg" }), b"<svg", (945, 591)),
        (json!({ "format": "pdf" }), b"%PDF", (945, 591)),
    ] {
        let (first, second) = (make(options.clone()).unwrap(), make(options.clone()).unwrap());
        assert!(first.bytes.starts_with(begins) && first.bytes == second.bytes, "{options}");
        assert_eq!((first.width, first.height), size, "{options}");
        if matches!(first.format, Format::Png | Format::Jpeg) {
            assert_eq!(gray(&first.bytes).dimensions(), size, "{options}");
        }
    }
    let svg = String::from_utf8(make(json!({ "format": "svg" })).unwrap().bytes).unwrap();
    assert!(svg.contains(r#"width="80mm" height="50mm" viewBox="0 0 "#), "{}", &svg[..200]);
    assert!(!svg.contains("<text") && svg.contains("data:image/png;base64,"));
    for (options, says) in [
        (json!({ "format": "bmp" }), "options.format must be one of png, jpg, jpeg, svg, pdf"),
        (json!({ "quality": 0 }), "options.quality must be a number from 1 to 100"),
        (json!({ "scale": 8 }), "options ask for 7559 × 4724 pixels"),
        (json!({ "dpi": 10_000 }), "options.dpi must be"),
        (json!("png"), "options must be an object"),
    ] {
        let error: LabelError = make(options).unwrap_err();
        assert!(error.to_string().starts_with(says), "{error}");
    }
}

#[test]
fn many_labels_of_one_document_share_their_fonts() {
    let template = LabelTemplate::builtin("standard-label").unwrap();
    let renderer = LabelRenderer::shared();
    let drawing = renderer.lay_out(template, &data(product())).unwrap();
    let (one, many) = (pdf([&drawing]).unwrap(), pdf(std::iter::repeat_n(&drawing, 50)).unwrap());
    let fonts = |pdf: &[u8]| String::from_utf8_lossy(pdf).matches("/FontFile2").count();
    assert_eq!((fonts(&one), fonts(&many)), (2, 2));
    // Each page is far smaller than a document of its own.
    assert!(many.len() < one.len() * 15, "{} {}", one.len(), many.len());
}

fn digits(count: usize) -> impl Strategy<Value = String> {
    proptest::collection::vec(0u8..10, count)
        .prop_map(|digits| digits.into_iter().map(|digit| char::from(b'0' + digit)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_number_becomes_bars_that_hold_it(number in digits(12), width in 42.0..78.0, height in 8.0..45.0) {
        for (format, length, code) in
            [("EAN13", 12, BarcodeFormat::EAN_13), ("EAN8", 7, BarcodeFormat::EAN_8), ("UPCA", 11, BarcodeFormat::UPC_A)]
        {
            let properties = json!({ "format": format, "dataField": "number" });
            let template = layers(json!([layer("barcode", [1.0, 2.0, width, height], properties)]));
            let found = read(&png(&template, &data(json!({ "number": &number[..length] }))), code);
            let found = found.unwrap_or_default();
            prop_assert_eq!(found.get(..length), Some(&number[..length]), "{}", format);
        }
    }

    #[test]
    fn any_text_becomes_a_code_that_holds_it(text in "[ -~]{1,10}", qr in "\\PC{1,60}", height in 8.0..40.0) {
        let text = text.trim();
        prop_assume!(!text.is_empty());
        let bars = layer("barcode", [1.0, 2.0, 78.0, height], json!({ "format": "CODE128", "dataField": "text" }));
        let found = read(&png(&layers(json!([bars])), &data(json!({ "text": text }))), BarcodeFormat::CODE_128);
        prop_assert_eq!(found.as_deref(), Some(text));
        prop_assume!(qr.trim() == qr && !qr.is_empty());
        let square = layer("qrcode", [1.0, 1.0, 48.0, 48.0], json!({ "dataField": "qr" }));
        let drawn = png(&layers(json!([square])), &data(json!({ "qr": qr })));
        let mut picture = rqrr::PreparedImage::prepare(gray(&drawn));
        let read: Vec<String> = picture.detect_grids().iter().map(|grid| grid.decode().unwrap().1).collect();
        prop_assert_eq!(read, [qr]);
    }

    #[test]
    fn any_text_stays_in_its_box(
        text in "\\PC{0,200}",
        width in 1.0f64..78.0,
        height in 1.2f64..48.0,
        size in 3.0f64..80.0,
        padding in 0.0f64..6.0,
        line in 0.8f64..2.0,
        align in prop_oneof!["left", "center", "right"],
        field in prop_oneof!["text", "productName", "price", "tieredPrice"],
    ) {
        let style = json!({
            "fontSize": size, "padding": padding, "lineHeight": line, "textAlign": align, "verticalAlign": "middle",
            "fontWeight": "bold", "border": "1px solid #0066cc",
        });
        let (kind, properties) = match field.as_str() {
            "text" => ("text", json!({ "text": "{{words}}", "style": style })),
            field => ("dynamic-text", json!({ "fieldType": field, "style": style })),
        };
        let template = layers(json!([layer(kind, [1.0, 1.0, width, height], properties)]));
        let values = json!({
            "words": text, "productName": text, "price": 1234567.89,
            "tieredPrices": [{ "quantity": 1, "price": 99999.99 }, { "quantity": 1000, "price": 1 }],
        });
        for (id, [left, top, right, bottom], words) in drawn(&template, &data(values)) {
            prop_assert!(
                left >= 1.0 - 0.05 && top >= 1.0 - 0.05
                    && right <= 1.0 + width as f32 + 0.05 && bottom <= 1.0 + height as f32 + 0.05,
                "{} at {} {} {} {}: {}", id, left, top, right, bottom, words
            );
        }
    }
}
