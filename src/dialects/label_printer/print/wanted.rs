//! What a page wants printed, and how. Two shapes are in use: the flat one names the paper in `format`; in the nested
//! one `layout` has the paper, and `format` is what comes out. Both become one [`Wanted`]. Pure.

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::{answer::Refusal, ask::bad, labels::ids};
use crate::print::{Edges, Layout, Paper};

/// Labels of one print at the most.
const MAX_LABELS: usize = 10_000;
/// What comes out, and what a page may take for it.
const OUTPUTS: [&str; 5] = ["pdf", "png", "jpg", "jpeg", "svg"];

/// What is printed, and how.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrintBody {
    /// Labels of the library, in the order in which they fill the cells.
    #[schema(max_items = 10_000, value_type = Vec<Uuid>)]
    label_ids: Option<Vec<String>>,
    /// The nested shape.
    layout: Option<LayoutBody>,
    /// The paper (A3, A4, A5, Letter, Legal, Custom); beside `layout` what comes out (pdf).
    #[schema(max_length = 20)]
    format: Option<String>,
    grid_config: Option<GridBody>,
    /// What comes out: pdf.
    #[schema(max_length = 20)]
    output_format: Option<String>,
    /// The paper's size in millimetres, instead of that of `format`.
    custom_width: Option<f64>,
    custom_height: Option<f64>,
    #[schema(pattern = "^(portrait|landscape)$")]
    orientation: Option<String>,
    settings: Option<SettingsBody>,
    show_cut_marks: Option<bool>,
    show_borders: Option<bool>,
    /// The sheet that a preview shows, from 1.
    #[schema(minimum = 1)]
    page: Option<u32>,
}

/// A sheet in the nested shape.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LayoutBody {
    /// A name, or `{type, width, height, orientation}` in millimetres.
    #[serde(default)]
    paper_format: Value,
    #[serde(alias = "gridConfig")]
    grid_layout: Option<GridBody>,
    settings: Option<SettingsBody>,
    orientation: Option<String>,
}

/// The grid of cells; lengths in millimetres.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GridBody {
    #[schema(minimum = 1, maximum = 100)]
    columns: Option<u32>,
    #[schema(minimum = 1, maximum = 100)]
    rows: Option<u32>,
    /// Between columns and between rows.
    #[schema(minimum = 0)]
    #[serde(alias = "gap", alias = "gutter")]
    spacing: Option<f64>,
    #[schema(minimum = 0)]
    spacing_x: Option<f64>,
    #[schema(minimum = 0)]
    spacing_y: Option<f64>,
    margins: Option<MarginsBody>,
    #[schema(minimum = 0)]
    margin_top: Option<f64>,
    #[schema(minimum = 0)]
    margin_bottom: Option<f64>,
    #[schema(minimum = 0)]
    margin_left: Option<f64>,
    #[schema(minimum = 0)]
    margin_right: Option<f64>,
}

/// Margins in millimetres.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct MarginsBody {
    #[schema(minimum = 0)]
    top: Option<f64>,
    #[schema(minimum = 0)]
    bottom: Option<f64>,
    #[schema(minimum = 0)]
    left: Option<f64>,
    #[schema(minimum = 0)]
    right: Option<f64>,
}

/// What is drawn beside the labels.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SettingsBody {
    #[serde(alias = "cutMarks")]
    show_cut_marks: Option<bool>,
    #[serde(alias = "borders")]
    show_borders: Option<bool>,
}

/// What is printed, and how.
#[derive(Debug)]
pub struct Wanted {
    pub layout: Layout,
    pub labels: Vec<Uuid>,
    /// `pdf`, or what cannot be made.
    pub output: String,
    /// The sheet that a preview shows, from 0.
    pub page: usize,
}

impl PrintBody {
    /// Everything that a print needs.
    ///
    /// # Errors
    /// A sentence that says what is missing or cannot be printed.
    pub fn wanted(self) -> Result<Wanted, Refusal> {
        let given = self.label_ids.as_deref().ok_or_else(|| bad("labelIds must be an array of ids."))?;
        if given.is_empty() {
            return Err(bad("labelIds is empty. Select labels in the label library first."));
        }
        if given.len() > MAX_LABELS {
            return Err(bad(format!(
                "There are {} labels; print {MAX_LABELS} at a time at the most.",
                given.len()
            )));
        }
        let labels = ids(given)?;
        let output = match (&self.output_format, &self.format) {
            (Some(output), _) => output.clone(),
            (None, Some(format)) if OUTPUTS.contains(&&*format.to_lowercase()) => format.clone(),
            (None, _) => "pdf".into(),
        };
        let page = self.page.unwrap_or(1);
        if page == 0 {
            return Err(bad("page must be 1 or more."));
        }
        let layout = self.layout()?;
        layout.check().map_err(|error| bad(format!("It cannot be printed so: {error}.")))?;
        Ok(Wanted { layout, labels, output: output.trim().to_lowercase(), page: page as usize - 1 })
    }

    /// The sheet alone, which may still make no sense.
    ///
    /// # Errors
    /// When the paper is unknown.
    pub fn layout(&self) -> Result<Layout, Refusal> {
        let nested = self.layout.as_ref();
        let flat_paper = self.format.as_deref().filter(|format| !OUTPUTS.contains(&&*format.to_lowercase()));
        let paper = match nested.map(|layout| &layout.paper_format) {
            None | Some(Value::Null) => {
                PaperWish { name: flat_paper.map(str::to_owned), ..PaperWish::default() }
            }
            Some(given) => PaperWish::read(given)?,
        };
        let orientation = [
            paper.orientation.as_deref(),
            nested.and_then(|layout| layout.orientation.as_deref()),
            self.orientation.as_deref(),
        ];
        let landscape = match orientation.into_iter().flatten().next() {
            None | Some("" | "portrait") => false,
            Some("landscape") => true,
            Some(_) => return Err(bad("orientation must be portrait or landscape.")),
        };
        let (width, height) = paper.size(self.custom_width, self.custom_height)?;
        let turned = landscape && width < height;
        let (width, height) = if turned { (height, width) } else { (width, height) };
        let base = Layout::default();
        let none = GridBody::default();
        let grid = nested.and_then(|layout| layout.grid_layout.as_ref()).or(self.grid_config.as_ref());
        let grid = grid.unwrap_or(&none);
        let margins = |side: fn(&MarginsBody) -> Option<f64>, flat: Option<f64>, base: f64| {
            grid.margins.as_ref().and_then(side).or(flat).unwrap_or(base)
        };
        let spacing = |own: Option<f64>, base: f64| own.or(grid.spacing).unwrap_or(base);
        let settings = [nested.and_then(|layout| layout.settings.as_ref()), self.settings.as_ref()];
        let setting = |read: fn(&SettingsBody) -> Option<bool>, flat: Option<bool>| {
            settings.into_iter().flatten().find_map(read).or(flat).unwrap_or(false)
        };
        Ok(Layout {
            width,
            height,
            columns: grid.columns.unwrap_or(base.columns),
            rows: grid.rows.unwrap_or(base.rows),
            margins: Edges {
                top: margins(|m| m.top, grid.margin_top, base.margins.top),
                right: margins(|m| m.right, grid.margin_right, base.margins.right),
                bottom: margins(|m| m.bottom, grid.margin_bottom, base.margins.bottom),
                left: margins(|m| m.left, grid.margin_left, base.margins.left),
            },
            gap: (spacing(grid.spacing_x, base.gap.0), spacing(grid.spacing_y, base.gap.1)),
            cut_marks: setting(|s| s.show_cut_marks, self.show_cut_marks),
            borders: setting(|s| s.show_borders, self.show_borders),
        })
    }
}

/// A paper as a page names it.
#[derive(Debug, Default)]
pub struct PaperWish {
    name: Option<String>,
    width: Option<f64>,
    height: Option<f64>,
    orientation: Option<String>,
}

impl PaperWish {
    /// `"A4"`, or `{type, width, height, orientation}`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn read(given: &Value) -> Result<PaperWish, Refusal> {
        let word = |key: &str| given[key].as_str().map(str::to_owned);
        match given {
            Value::String(name) => Ok(PaperWish { name: Some(name.clone()), ..PaperWish::default() }),
            Value::Object(_) => Ok(PaperWish {
                name: word("type").or_else(|| word("name")),
                width: given["width"].as_f64(),
                height: given["height"].as_f64(),
                orientation: word("orientation"),
            }),
            _ => Err(bad("paperFormat must be a name such as A4, or {type, width, height}.")),
        }
    }

    /// Width and height in millimetres; sizes that are given win over the name's.
    ///
    /// # Errors
    /// When there is no paper of that name and no size.
    pub fn size(&self, width: Option<f64>, height: Option<f64>) -> Result<(f64, f64), Refusal> {
        let given = |side: Option<f64>| side.filter(|side| *side != 0.0);
        let name = self.name.as_deref().map(str::trim).filter(|name| !name.is_empty());
        let named = match name {
            None => Some(Layout::default()).map(|layout| (layout.width, layout.height)),
            Some(name) => Paper::named(name).map(|paper| (paper.width, paper.height)),
        };
        let own = named.is_none().then_some(()).and(self.width.zip(self.height)).or(named);
        let width = given(width).or(own.map(|(width, _)| width));
        let height = given(height).or(own.map(|(_, height)| height));
        width.zip(height).ok_or_else(|| {
            bad("There is no paper of that name: take A3, A4, A5, Letter or Legal, or give width and height in mm.")
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wanted(body: Value) -> Result<Wanted, Value> {
        serde_json::from_value::<PrintBody>(body).unwrap().wanted().map_err(Refusal::body)
    }

    const ID: &str = "0192f0c1-7f2a-7cc2-8000-000000000001";

    #[test]
    fn both_shapes_say_the_same() {
        let flat = json!({
            "labelIds": [ID], "format": "A3", "outputFormat": "pdf", "showCutMarks": true,
            "gridConfig": { "columns": 3, "rows": 4, "marginTop": 15, "marginBottom": 16, "marginLeft": 0,
                            "marginRight": 8, "spacing": 7 },
        });
        let nested = json!({
            "labelIds": [ID], "format": "pdf",
            "layout": {
                "paperFormat": { "type": "A3", "width": 297, "height": 420 },
                "gridLayout": { "columns": 3, "rows": 4, "spacing": 7,
                                "margins": { "top": 15, "bottom": 16, "left": 0, "right": 8 } },
                "settings": { "showCutMarks": true, "showBorders": false },
            },
        });
        let (flat, nested) = (wanted(flat).unwrap(), wanted(nested).unwrap());
        assert_eq!(flat.layout, nested.layout);
        assert_eq!(flat.layout.margins, Edges { top: 15.0, right: 8.0, bottom: 16.0, left: 0.0 });
        assert_eq!((flat.output, nested.output), ("pdf".into(), "pdf".into()));
    }

    #[test]
    fn what_is_left_out_is_a4_with_two_columns_and_three_rows() {
        assert_eq!(wanted(json!({ "labelIds": [ID] })).unwrap().layout, Layout::default());
        let custom = json!({ "labelIds": [ID], "format": "Custom", "customWidth": 100, "customHeight": 150 });
        let custom = wanted(custom).unwrap().layout;
        assert_eq!((custom.width, custom.height), (100.0, 150.0));
        let turned = wanted(json!({ "labelIds": [ID], "format": "a4", "orientation": "landscape" })).unwrap();
        assert_eq!((turned.layout.width, turned.layout.height), (297.0, 210.0));
    }

    #[test]
    fn what_cannot_be_printed_is_refused_with_a_reason() {
        for (body, part) in [
            (json!({}), "labelIds"),
            (json!({ "labelIds": [] }), "label library"),
            (json!({ "labelIds": ["x"] }), "x"),
            (json!({ "labelIds": vec![ID; 10_001] }), "10000"),
            (json!({ "labelIds": [ID], "format": "B7" }), "paper"),
            (json!({ "labelIds": [ID], "format": "Custom" }), "paper"),
            (json!({ "labelIds": [ID], "layout": { "paperFormat": 4 } }), "paperFormat"),
            (json!({ "labelIds": [ID], "customWidth": 1e9 }), "paper"),
            (json!({ "labelIds": [ID], "gridConfig": { "columns": 0 } }), "columns"),
            (json!({ "labelIds": [ID], "gridConfig": { "spacing": 500 } }), "gap"),
            (json!({ "labelIds": [ID], "orientation": "round" }), "orientation"),
        ] {
            let refused = wanted(body.clone()).unwrap_err();
            assert!(refused["error"].as_str().unwrap().contains(part), "{part}: {refused}");
        }
    }
}
