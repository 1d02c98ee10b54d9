//! Fills a template's boxes with a product's values: from pieces to the SVG text of one label, one unit a millimetre.

use std::fmt::Write as _;

use super::{
    LabelError,
    codes::{self, Bars, Level, QR_QUIET},
    data::LabelData,
    format::{Formats, Layout},
    limits::{MAX_PICTURES, MAX_TIERS, SMALLEST_MODULE, SMALLEST_TEXT},
    picture::Picture,
    style::{Case, Style},
    template::{
        Content, Field, FieldBox, Fit, Form, LabelTemplate, Layer, Part, PictureSource, Piece, Place, Rect,
        Source,
    },
    text::{Fitted, Fonts, TextSpec, fit, fit_by_force, printable},
};
use crate::product::is_ean13;

/// One label on its way from pieces to SVG text.
pub(super) struct Canvas<'a> {
    fonts: &'a Fonts,
    template: &'a LabelTemplate,
    data: &'a LabelData,
    /// Pixels per millimetre of the picture that it is meant for: modules of codes lie on whole pixels.
    per_mm: f32,
    pub svg: String,
    /// What `picture:0`, `picture:1`, … in the SVG stand for.
    pub pictures: Vec<Picture>,
    pub warnings: Vec<String>,
}

impl<'a> Canvas<'a> {
    pub(super) fn new(
        fonts: &'a Fonts,
        template: &'a LabelTemplate,
        data: &'a LabelData,
        dpi: u32,
    ) -> Canvas<'a> {
        let per_mm = dpi as f32 / 25.4;
        Canvas {
            fonts,
            template,
            data,
            per_mm,
            svg: String::new(),
            pictures: Vec::new(),
            warnings: Vec::new(),
        }
    }

    pub(super) fn draw(&mut self) -> Result<(), LabelError> {
        self.pieces(&self.template.pieces)
    }

    fn pieces(&mut self, pieces: &[Piece]) -> Result<(), LabelError> {
        for piece in pieces {
            match piece {
                Piece::Svg(svg) => self.svg.push_str(svg),
                Piece::Field(field_box) => self.field(field_box),
                Piece::Only { field, present, pieces } => {
                    if self.has(*field) == *present {
                        self.pieces(pieces)?;
                    }
                }
                Piece::Layer(layer) => self.layer(layer)?,
            }
        }
        Ok(())
    }

    pub(super) fn has(&self, field: Field) -> bool {
        match field {
            Field::TieredPrice => !self.data.facts.tiers.is_empty(),
            Field::Barcode => self.ean().is_some(),
            Field::QrCode => self.qr_text().is_some(),
            Field::Code => self.ean().is_some() || self.qr_text().is_some(),
            text => !self.paragraphs(text, &Formats::default()).is_empty(),
        }
    }

    fn ean(&self) -> Option<&str> {
        self.data.facts.ean.as_deref().filter(|ean| is_ean13(ean))
    }

    fn qr_text(&self) -> Option<&str> {
        let texts = [self.data.code_url.as_deref(), self.data.facts.article_number.as_deref()];
        texts.into_iter().flatten().find(|text| !text.trim().is_empty())
    }

    /// The field's text, one entry for each line that must begin anew; empty when there is none.
    fn paragraphs(&self, field: Field, formats: &Formats) -> Vec<String> {
        let facts = &self.data.facts;
        let currency = facts.currency.as_deref();
        let text = match field {
            Field::Price => facts
                .price
                .or(facts.tiers.first().map(|tier| tier.price))
                .and_then(|price| formats.price.money(price, currency))
                // "Auf Anfrage"
                .or_else(|| self.template.value(self.data, "price")),
            // A list whose only text is the name gives it as the description too; once on a label is enough.
            Field::Description => facts
                .description
                .clone()
                .or_else(|| self.template.value(self.data, "description"))
                .filter(|text| facts.name.as_ref() != Some(text)),
            Field::TieredPrice => {
                let tiers = facts.tiers.iter().take(MAX_TIERS);
                return tiers
                    .filter_map(|tier| {
                        let price = formats.price.money(tier.price, currency)?;
                        Some(formats.tiers.tier(tier.min_quantity, &price))
                    })
                    .collect();
            }
            Field::Barcode | Field::QrCode | Field::Code => None,
            other => self.template.value(self.data, other.name()),
        };
        text.map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "))
            .filter(|t| !t.is_empty())
            .into_iter()
            .collect()
    }

    /// The text with its values; a price as the layer writes prices.
    fn filled(&self, parts: &[Part], formats: &Formats) -> String {
        let part = |part: &Part| match part {
            Part::Words(words) => words.clone(),
            Part::Value(key) => match Field::of_key(key) {
                Some(field) => self.paragraphs(field, formats).join(&formats.tiers.separator),
                None => self.template.value(self.data, key).unwrap_or_default(),
            },
        };
        parts.iter().map(part).collect()
    }

    /// The plain value behind a code or a picture.
    fn plain(&self, source: &Source, formats: &Formats) -> Option<String> {
        let text = match source {
            Source::Field(Field::Price) => self.paragraphs(Field::Price, formats).pop(),
            Source::Field(field) => self.template.value(self.data, field.name()),
            Source::Key(key) => self.template.value(self.data, key),
            Source::Text(parts) => Some(self.filled(parts, formats)),
        };
        text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    // ---- boxes of SVG files ----

    fn field(&mut self, spec: &FieldBox) {
        let (rect, align) = (spec.spec.rect, spec.spec.align);
        match (spec.field, self.ean().map(str::to_owned)) {
            (Field::Barcode | Field::Code, Some(ean)) => {
                if let Ok(bars) = Bars::of(Some(codes::Symbology::Ean13), &ean) {
                    self.bars(&bars, rect, align, true, "barcode");
                }
            }
            (Field::Barcode, None) => {
                self.warnings.push("There is no valid EAN, so there are no bars.".into())
            }
            (Field::QrCode | Field::Code, _) => self.qr_of_product(rect, align, Level::M, "qrCode"),
            _ => {
                let formats = Formats { prefix: spec.prefix.clone(), ..Formats::default() };
                let paragraphs = self.paragraphs(spec.field, &formats);
                self.text(
                    Some(spec.field),
                    &spec.field.words(),
                    spec.field.name(),
                    paragraphs,
                    &spec.spec,
                    &formats,
                );
            }
        }
    }

    // ---- layers ----

    fn layer(&mut self, layer: &Layer) -> Result<(), LabelError> {
        let patches: Vec<_> =
            layer.conditional.iter().filter_map(|one| one.patch(self.template, self.data)).collect();
        let style = patches.into_iter().fold(layer.style.clone(), |style, patch| style.with(patch));
        if style.hidden {
            return Ok(());
        }
        let Rect { x, y, width, height } = layer.rect;
        let turned = layer.rotation != 0.0 || layer.opacity < 1.0;
        if turned {
            let _ = write!(
                self.svg,
                r#"<g transform="rotate({:.3} {:.3} {:.3})" opacity="{:.3}">"#,
                layer.rotation,
                x + width / 2.0,
                y + height / 2.0,
                layer.opacity
            );
        }
        let done = self.content(layer, &style);
        if turned {
            self.svg.push_str("</g>");
        }
        done
    }

    fn content(&mut self, layer: &Layer, style: &Style) -> Result<(), LabelError> {
        let (rect, formats) = (layer.rect, &layer.formats);
        match &layer.content {
            Content::Shape(form) => self.shape(*form, rect, style),
            Content::Text(source) => self.layer_text(layer, source, style),
            Content::Table => self.table(layer, style),
            Content::Bars { symbology, source, digits } => {
                let Some(text) = self.plain(source, formats) else {
                    self.warnings.push(format!("There is no value for the bar code {}.", layer.name));
                    return Ok(());
                };
                let bars = Bars::of(*symbology, &text)
                    .map_err(|why| LabelError::Data(format!("{}: {why}", layer.place)))?;
                self.ground(rect, style);
                self.bars(&bars, rect.inside(style.padding), style.align, *digits, &layer.place);
            }
            Content::Qr { source, level } => {
                self.ground(rect, style);
                let inner = rect.inside(style.padding);
                match source {
                    None => self.qr_of_product(inner, style.align, *level, &layer.place),
                    Some(source) => match self.plain(source, formats) {
                        None => {
                            self.warnings.push(format!("There is no value for the QR code {}.", layer.name))
                        }
                        Some(text) => {
                            if !self.qr(&text, inner, style.align, *level, &layer.place) {
                                self.warnings.push(format!(
                                    "The box of {} is too small for a QR code that a camera can read.",
                                    layer.name
                                ));
                            }
                        }
                    },
                }
            }
            Content::Picture { source, fit } => self.picture(layer, source, *fit, style),
        }
        Ok(())
    }

    /// Codes are dark on white whatever lies below.
    fn ground(&mut self, rect: Rect, style: &Style) {
        let white = style.background.clone().or_else(|| Some("#ffffff".into()));
        self.frame(rect, &Style { background: white, ..style.clone() });
    }

    /// Background and border, the border inside of the box.
    fn frame(&mut self, rect: Rect, style: &Style) {
        let border = style.border_color.as_deref().filter(|_| style.border_width > 0.0);
        if style.background.is_none() && border.is_none() {
            return;
        }
        let inset = if border.is_some() { style.border_width / 2.0 } else { 0.0 };
        let Rect { x, y, width, height } = rect.inside([inset; 4]);
        let radius = style.radius.min(width / 2.0).min(height / 2.0);
        let _ = write!(
            self.svg,
            r#"<rect x="{x:.3}" y="{y:.3}" width="{width:.3}" height="{height:.3}" rx="{radius:.3}" {}/>"#,
            paint(style)
        );
    }

    fn shape(&mut self, form: Form, rect: Rect, style: &Style) {
        let inset = if style.border_color.is_some() { style.border_width / 2.0 } else { 0.0 };
        let Rect { x, y, width, height } = rect.inside([inset; 4]);
        let _ = match form {
            Form::Rectangle => return self.frame(rect, style),
            Form::Ellipse => write!(
                self.svg,
                r#"<ellipse cx="{:.3}" cy="{:.3}" rx="{:.3}" ry="{:.3}" {}/>"#,
                x + width / 2.0,
                y + height / 2.0,
                width / 2.0,
                height / 2.0,
                paint(style)
            ),
            Form::Line => {
                // Along the longer side of its box, through the middle.
                let thick = style.border_width.max(0.05);
                let color =
                    style.border_color.as_deref().or(style.background.as_deref()).unwrap_or("#000000");
                let (x1, y1, x2, y2) = if rect.width >= rect.height {
                    let y = rect.y + rect.height / 2.0;
                    (rect.x, y, rect.x + rect.width, y)
                } else {
                    let x = rect.x + rect.width / 2.0;
                    (x, rect.y, x, rect.y + rect.height)
                };
                let dashes = if style.dashed { r#" stroke-dasharray="1 1""# } else { "" };
                write!(
                    self.svg,
                    r#"<path d="M{x1:.3} {y1:.3}L{x2:.3} {y2:.3}" stroke="{color}" stroke-width="{thick:.3}"{dashes}/>"#
                )
            }
        };
    }

    fn layer_text(&mut self, layer: &Layer, source: &Source, style: &Style) {
        let formats = &layer.formats;
        let (field, paragraphs) = match source {
            Source::Field(field) => (Some(*field), self.paragraphs(*field, formats)),
            Source::Key(key) => (None, self.template.value(self.data, key).into_iter().collect()),
            Source::Text(parts) => {
                let text = self.filled(parts, formats);
                let lines = text.split(['\n', '\r']).map(|line| line.trim().to_owned());
                (None, lines.filter(|line| !line.is_empty()).collect())
            }
        };
        let what = field.map_or_else(|| layer.name.clone(), Field::words);
        let fixed = matches!(source, Source::Text(_));
        if fixed || !paragraphs.is_empty() {
            self.frame(layer.rect, style);
        }
        let cased = |text: String| match style.case {
            Case::AsIs => text,
            Case::Upper => text.to_uppercase(),
            Case::Lower => text.to_lowercase(),
            Case::Capital => capitals(&text),
        };
        let paragraphs: Vec<String> = paragraphs.into_iter().map(cased).collect();
        let may_be_cut = field.is_none_or(Field::may_be_cut);
        let spec = text_spec(style, inner(layer.rect, style), may_be_cut);
        if let Some((right, down, color)) = &style.shadow {
            let below = Rect { x: spec.rect.x + right, y: spec.rect.y + down, ..spec.rect };
            let below = TextSpec { rect: below, color: color.clone(), ..spec.clone() };
            // It tells people nothing that the text itself does not.
            let told = self.warnings.len();
            self.text(field, &what, &layer.place, paragraphs.clone(), &below, formats);
            self.warnings.truncate(told);
        }
        self.text(field, &what, &layer.place, paragraphs, &spec, formats);
    }

    fn table(&mut self, layer: &Layer, style: &Style) {
        let tiers = &self.data.facts.tiers;
        if tiers.is_empty() {
            return;
        }
        let rect = inner(layer.rect, style);
        let gap = 0.6f32.min(rect.width * 0.05);
        let smallest = style.smallest();
        let most = ((rect.height / (smallest * 1.25)) as usize).min(MAX_TIERS);
        if most == 0 {
            self.warnings.push("The tiered price does not fit into its box and is left out.".into());
            return;
        }
        let currency = self.data.facts.currency.as_deref();
        let rows: Vec<(String, String)> = tiers
            .iter()
            .take(most)
            .filter_map(|tier| {
                let price = layer.formats.price.money(tier.price, currency)?.replace(' ', "\u{a0}");
                Some((format!("ab\u{a0}{}\u{a0}Stk", tier.min_quantity), price))
            })
            .collect();
        if tiers.len() > rows.len() {
            self.warnings.push(format!("Only the first {} price tiers are shown.", rows.len()));
        }
        let height = (rect.height / rows.len().max(1) as f32).min(style.font_size * 1.7);
        let first = rect.y + (rect.height - height * rows.len() as f32) / 2.0;
        let cell = |row: usize, right: bool| {
            let half = (rect.width - gap) / 2.0;
            let cell = Rect {
                x: if right { rect.x + half + gap } else { rect.x },
                y: first + row as f32 * height,
                width: half,
                height,
            };
            TextSpec {
                align: if right { Place::End } else { Place::Start },
                valign: Place::Middle,
                max_lines: 1,
                bold: right || style.bold,
                ..text_spec(style, cell, false)
            }
        };
        let cells: Vec<(TextSpec, String)> = rows
            .into_iter()
            .enumerate()
            .flat_map(|(row, (quantity, price))| [(cell(row, false), quantity), (cell(row, true), price)])
            .collect();
        let sizes = cells.iter().map(|(spec, text)| {
            let font = self.fonts.face(spec.bold);
            let text = [text.clone()];
            let fitted = fit(&text, spec, font).or_else(|| fit_by_force(&text, spec, font));
            fitted.map(|fitted| fitted.size)
        });
        let Some(size) = sizes.reduce(|a, b| Some(a?.min(b?))).flatten() else {
            self.warnings.push("The tiered price does not fit into its box and is left out.".into());
            return;
        };
        self.frame(layer.rect, style);
        let count = cells.len() / 2;
        for row in 1..count {
            let y = first + row as f32 * height;
            let color = style.border_color.as_deref().unwrap_or("#c9ced6");
            let _ = write!(
                self.svg,
                r#"<path d="M{:.3} {y:.3}H{:.3}" stroke="{color}" stroke-opacity="0.5" stroke-width="0.1"/>"#,
                rect.x,
                rect.x + rect.width
            );
        }
        for (spec, text) in cells {
            let fitted = Fitted { size, lines: vec![text], cut: false };
            self.place(&layer.place, &spec, &fitted);
        }
    }

    fn picture(&mut self, layer: &Layer, source: &PictureSource, fit: Fit, style: &Style) {
        let missing = |address: &str| {
            let shown: String = address.chars().take(80).collect();
            format!(
                "The picture {} ({shown}) is not in this server's object store and is left out.",
                layer.name
            )
        };
        let found = match source {
            PictureSource::Own(picture) => Ok(picture.clone()),
            PictureSource::Address(address) => {
                self.data.pictures.get(address).cloned().ok_or_else(|| missing(address))
            }
            PictureSource::Key(key) => match self.template.value(self.data, key) {
                None => Err(format!("There is no picture for {}.", layer.name)),
                Some(url) if url.starts_with("data:") => {
                    Picture::of_data_url(&url).map_err(|why| format!("The picture {} {why}.", layer.name))
                }
                Some(address) => self.data.pictures.get(&address).cloned().ok_or_else(|| missing(&address)),
            },
        };
        let picture = match found {
            Ok(picture) if self.pictures.len() < MAX_PICTURES => picture,
            Ok(_) => {
                self.warnings.push(format!("Only the first {MAX_PICTURES} pictures are drawn."));
                return;
            }
            Err(why) => return self.warnings.push(why),
        };
        self.frame(layer.rect, style);
        let aspect = match fit {
            Fit::Contain => "xMidYMid meet",
            Fit::Cover => "xMidYMid slice",
            Fit::Fill => "none",
        };
        let Rect { x, y, width, height } = inner(layer.rect, style);
        let _ = write!(
            self.svg,
            r#"<image x="{x:.3}" y="{y:.3}" width="{width:.3}" height="{height:.3}" preserveAspectRatio="{aspect}" href="picture:{}"/>"#,
            self.pictures.len()
        );
        self.pictures.push(picture);
    }

    // ---- text ----

    fn text(
        &mut self,
        field: Option<Field>,
        what: &str,
        id: &str,
        paragraphs: Vec<String>,
        spec: &TextSpec,
        formats: &Formats,
    ) {
        let font = self.fonts.face(spec.bold);
        let mut replaced = false;
        let mut paragraphs: Vec<String> = paragraphs
            .iter()
            .map(|text| {
                printable(&format!("{}{text}{}", formats.prefix, formats.suffix), font, &mut replaced)
            })
            .filter(|text| !text.trim().is_empty())
            .collect();
        if paragraphs.is_empty() {
            if matches!(field, Some(Field::Price | Field::ProductName | Field::ArticleNumber)) {
                self.warnings.push(format!("The product has no {what}."));
            }
            return;
        }
        if replaced {
            self.warnings.push(format!("The {what} holds characters that the label's font lacks."));
        }
        if field == Some(Field::TieredPrice) {
            if self.data.facts.tiers.len() > MAX_TIERS {
                self.warnings.push(format!("Only the first {MAX_TIERS} price tiers are shown."));
            }
            // A tier is never torn apart: only the gaps between tiers are ordinary spaces.
            paragraphs.iter_mut().for_each(|tier| *tier = tier.replace(' ', "\u{a0}"));
        }
        if field == Some(Field::Price) {
            paragraphs.iter_mut().for_each(|price| *price = price.replace(' ', "\u{a0}"));
        }
        let joined = (field == Some(Field::TieredPrice)).then(|| {
            let bar = printable(formats.tiers.separator.trim(), font, &mut false);
            paragraphs.join(&if bar.is_empty() { "  ".to_owned() } else { format!("\u{a0}{bar} ") })
        });
        let ways = match (joined, formats.tiers.layout) {
            (Some(joined), Layout::Joined) => vec![vec![joined]],
            (Some(_), Layout::Vertical) | (None, _) => vec![paragraphs],
            (Some(joined), Layout::AsFits) => vec![paragraphs, vec![joined]],
        };
        let fitted = ways.iter().find_map(|way| fit(way, spec, font));
        let forced = || {
            let forced = ways.iter().filter_map(|way| fit_by_force(way, spec, font));
            forced.reduce(|best, other| if other.size > best.size { other } else { best })
        };
        match fitted.or_else(forced) {
            None => self.warnings.push(format!("The {what} does not fit into its box and is left out.")),
            Some(text) => {
                if text.cut {
                    self.warnings.push(format!("The {what} is too long for its box and was cut."));
                } else if text.size < spec.min_font_size - 0.001 {
                    self.warnings.push(format!("The {what} had to be printed very small."));
                }
                self.place(id, spec, &text);
            }
        }
    }

    fn place(&mut self, id: &str, spec: &TextSpec, text: &Fitted) {
        let font = self.fonts.face(spec.bold);
        let free = spec.rect.height - font.block_height(text.lines.len(), spec.leading) * text.size;
        let first_baseline = spec.rect.y + free * spec.valign.share() + font.ascent * text.size;
        let x = spec.rect.x + spec.rect.width * spec.align.share();
        let anchor = ["start", "middle", "end"][(spec.align.share() * 2.0) as usize];
        let weight = if spec.bold { "bold" } else { "normal" };
        let decoration =
            spec.decoration.map(|line| format!(r#" text-decoration="{line}""#)).unwrap_or_default();
        for (number, line) in text.lines.iter().enumerate() {
            let y = first_baseline + number as f32 * spec.leading * text.size;
            let _ = write!(
                self.svg,
                r#"<text id="{id}" x="{x:.3}" y="{y:.3}" font-size="{:.3}" font-weight="{weight}" text-anchor="{anchor}" fill="{}"{decoration}>{}</text>"#,
                text.size,
                spec.color,
                escape(line)
            );
        }
    }

    // ---- codes ----

    /// Bars on whole pixels, the guards a little longer, the digits below.
    fn bars(&mut self, bars: &Bars, rect: Rect, align: Place, digits: bool, id: &str) {
        let modules = bars.quiet.0 + bars.modules.len() + bars.quiet.1;
        let Some((module, left)) = self.grid(rect, rect.width, modules, align) else {
            self.warnings.push("The box is too narrow for bars that a scanner can read.".into());
            return;
        };
        let font = &self.fonts.regular;
        // Digits stand in the cells of seven modules; a low box gets lower digits.
        let cell = 7.0 * module / font.width("0") * 0.92;
        let widest = bars.digits.iter().map(|(text, _, width)| width * module / font.width(text).max(0.01));
        let share = if bars.digits.len() == 1 { 0.2 } else { 0.3 };
        let size = widest.fold(cell, f32::min).min(rect.height * share);
        let digits = digits && size > 0.5;
        let (digits_height, gap) = if digits { (font.cap_height * size, 0.25 * size) } else { (0.0, 0.0) };
        // Letters have descenders and accents, digits have not.
        let below = if digits && bars.digits.len() == 1 { font.descent * size } else { 0.0 };
        let bar_height = rect.height - digits_height - gap - below;
        let start = left + bars.quiet.0 as f32 * module;
        let _ = write!(self.svg, r##"<path id="{id}" shape-rendering="crispEdges" fill="#000" d=""##);
        let mut at = 0;
        while at < bars.modules.len() {
            let run = bars.modules[at..].iter().take_while(|bar| **bar == bars.modules[at]).count();
            if bars.modules[at] == 1 {
                let height = bar_height + if bars.is_guard(at) { digits_height * 0.55 } else { 0.0 };
                let (x, y, width) = (start + at as f32 * module, rect.y, run as f32 * module);
                let _ = write!(self.svg, "M{x:.4} {y:.4}h{width:.4}v{height:.4}h-{width:.4}z");
            }
            at += run;
        }
        self.svg.push_str(r#""/>"#);
        let baseline = rect.y + rect.height - 0.02 * size - below;
        for (text, middle, _) in bars.digits.iter().filter(|_| digits) {
            let _ = write!(
                self.svg,
                r##"<text id="{id}" x="{:.3}" y="{baseline:.3}" font-size="{size:.3}" text-anchor="middle" fill="#000">{}</text>"##,
                start + middle * module,
                escape(text)
            );
        }
    }

    fn qr_of_product(&mut self, rect: Rect, align: Place, level: Level, id: &str) {
        let Some(text) = self.qr_text().map(str::to_owned) else {
            return self
                .warnings
                .push("There is neither an address nor an article number for a code.".into());
        };
        if self.qr(&text, rect, align, level, id) {
            return;
        }
        let number = self.data.facts.article_number.clone().filter(|number| *number != text);
        if number.is_some_and(|number| self.qr(&number, rect, align, level, id)) {
            self.warnings.push(
                "The address is too long for a QR code of this size; it holds the article number.".into(),
            );
        } else {
            self.warnings.push("The box is too small for a QR code that a camera can read.".into());
        }
    }

    /// Whether the code fits and was drawn.
    fn qr(&mut self, text: &str, rect: Rect, align: Place, level: Level, id: &str) -> bool {
        let side = rect.width.min(rect.height);
        let Some((width, dark)) = codes::qr(text, level) else { return false };
        let Some((module, left)) = self.grid(rect, side, width + 2 * QR_QUIET, align) else { return false };
        let free = rect.height - (width + 2 * QR_QUIET) as f32 * module;
        let top = ((rect.y + free / 2.0) * self.per_mm).round() / self.per_mm;
        let (left, top) = (left + QR_QUIET as f32 * module, top + QR_QUIET as f32 * module);
        let _ = write!(self.svg, r##"<path id="{id}" shape-rendering="crispEdges" fill="#000" d=""##);
        for (row, line) in dark.chunks(width).enumerate() {
            let mut at = 0;
            while at < width {
                let run = line[at..].iter().take_while(|dark| **dark == line[at]).count();
                if line[at] {
                    let (x, y, length) =
                        (left + at as f32 * module, top + row as f32 * module, run as f32 * module);
                    let _ = write!(self.svg, "M{x:.4} {y:.4}h{length:.4}v{module:.4}h-{length:.4}z");
                }
                at += run;
            }
        }
        self.svg.push_str(r#""/>"#);
        true
    }

    /// The width of one module and the left edge of `modules` of them inside `width` of the box, both on whole
    /// pixels so that all bars are equally sharp. `None` when they would be too narrow to be read.
    fn grid(&self, rect: Rect, width: f32, modules: usize, align: Place) -> Option<(f32, f32)> {
        let module = (width * self.per_mm / modules as f32).floor() / self.per_mm;
        if module < SMALLEST_MODULE {
            return None;
        }
        let free = rect.width - modules as f32 * module;
        Some((module, ((rect.x + free * align.share()) * self.per_mm).round() / self.per_mm))
    }
}

/// Where a layer's content goes: inside of its border, its padding and its shadow.
fn inner(rect: Rect, style: &Style) -> Rect {
    let border = if style.border_color.is_some() { style.border_width } else { 0.0 };
    let (right, down) = style.shadow.as_ref().map_or((0.0, 0.0), |(right, down, _)| (*right, *down));
    let [top, end, bottom, start] = style.padding;
    rect.inside([top + border, end + border + right, bottom + border + down, start + border])
}

fn text_spec(style: &Style, rect: Rect, may_be_cut: bool) -> TextSpec {
    // A low box gets lower letters, so that one line always fits.
    let lowest = (rect.height / 1.2).max(SMALLEST_TEXT);
    TextSpec {
        rect,
        font_size: style.font_size,
        min_font_size: style.smallest().min(lowest),
        max_lines: style.max_lines,
        leading: style.leading,
        bold: style.bold,
        align: style.align,
        valign: style.valign,
        color: style.color.clone(),
        decoration: style.decoration,
        may_be_cut,
    }
}

fn paint(style: &Style) -> String {
    let mut paint = format!(r#"fill="{}""#, style.background.as_deref().unwrap_or("none"));
    if let Some(color) = style.border_color.as_deref().filter(|_| style.border_width > 0.0) {
        let _ = write!(paint, r#" stroke="{color}" stroke-width="{:.3}""#, style.border_width);
        if style.dashed {
            paint.push_str(r#" stroke-dasharray="1 1""#);
        }
    }
    paint
}

fn capitals(text: &str) -> String {
    let mut begins = true;
    text.chars()
        .flat_map(|c| {
            let upper = begins && c.is_alphabetic();
            begins = c.is_whitespace();
            let (up, same) = if upper { (Some(c.to_uppercase()), None) } else { (None, Some(c)) };
            up.into_iter().flatten().chain(same)
        })
        .collect()
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
