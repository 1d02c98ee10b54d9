//! Papers and grids: what there is, what fits, and whether it can be printed.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{
    super::{
        answer::{Refusal, RefusalBody, success},
        ask::{Body, bad},
    },
    wanted::{PaperWish, PrintBody},
};
use crate::print::{FORMATS, Layout, PRESETS, fill};

/// The margin that is kept free when a grid is worked out, and the size of a label that is not said, in millimetres.
const MARGIN: f64 = 10.0;
const LABEL: (f64, f64) = (70.0, 50.0);
/// Labels that a grid may be worked out for.
const MAX_COUNT: u32 = 1_000_000;
/// Most printers leave a rim of this width white, in millimetres.
const UNPRINTABLE: f64 = 4.0;
/// On a cell of a smaller side codes are too small for most scanners, in millimetres.
const SMALL: f64 = 25.0;

/// The papers that are known by name.
#[utoipa::path(get, path = "/api/print/formats", tag = "print", responses((status = 200, body = Value)))]
pub async fn formats() -> Response {
    // The pages show whole millimetres; sheets are as exact as the paper.
    let formats = FORMATS.map(|paper| {
        json!({
            "name": paper.name, "width": paper.width.round(), "height": paper.height.round(),
            "displayName": paper.display_name,
        })
    });
    Json(json!({ "success": true, "data": formats })).into_response()
}

/// Sheets of labels as they are sold, and even grids.
#[utoipa::path(get, path = "/api/print/presets", tag = "print", responses((status = 200, body = Value)))]
pub async fn presets() -> Response {
    let presets = PRESETS.map(|preset| {
        let layout = preset.layout;
        let (width, height) = layout.cell_size();
        json!({
            "id": preset.id, "name": preset.name, "format": preset.paper,
            "labelWidth": rounded(width), "labelHeight": rounded(height),
            "gridConfig": {
                "columns": layout.columns, "rows": layout.rows, "spacing": layout.gap.0,
                "marginTop": rounded(layout.margins.top), "marginBottom": rounded(layout.margins.bottom),
                "marginLeft": rounded(layout.margins.left), "marginRight": rounded(layout.margins.right),
            },
        })
    });
    Json(json!({ "success": true, "data": presets })).into_response()
}

/// To a thousandth of a millimetre, without the dust of binary fractions.
fn rounded(mm: f64) -> f64 {
    (mm * 1000.0).round() / 1000.0
}

/// How many labels of which size are to go on which paper.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GridWish {
    /// A name, or `{type, width, height}` in millimetres.
    #[serde(default)]
    paper_format: Value,
    #[schema(minimum = 1, maximum = 1_000_000)]
    label_count: Option<u32>,
    /// In millimetres.
    #[schema(minimum = 3)]
    label_width: Option<f64>,
    #[schema(minimum = 3)]
    label_height: Option<f64>,
}

/// The grid that has the most labels of a size on a paper with margins of 10 mm.
#[utoipa::path(
    post, path = "/api/print/calculate-grid", tag = "print", request_body = GridWish,
    responses(
        (status = 200, body = Value), (status = 400, body = RefusalBody), (status = 413, body = RefusalBody),
    ),
)]
pub async fn calculate_grid(Body(wish): Body<GridWish>) -> Result<Response, Refusal> {
    let Some(count) = wish.label_count.filter(|count| (1..=MAX_COUNT).contains(count)) else {
        return Err(bad(format!("labelCount must be from 1 to {MAX_COUNT}.")));
    };
    if wish.paper_format.is_null() {
        return Err(bad("paperFormat is required."));
    }
    let paper = PaperWish::read(&wish.paper_format)?.size(None, None)?;
    let label = (wish.label_width.unwrap_or(LABEL.0), wish.label_height.unwrap_or(LABEL.1));
    if !(3.0..=1200.0).contains(&label.0) || !(3.0..=1200.0).contains(&label.1) {
        return Err(bad("labelWidth and labelHeight must be from 3 to 1200 mm."));
    }
    let (columns, rows) = fill(paper, MARGIN, label);
    if columns == 0 || rows == 0 {
        return Err(bad(format!(
            "A label of {} × {} mm does not fit on the paper inside a margin of {MARGIN} mm.",
            label.0, label.1
        )));
    }
    let of_sheet = columns * rows;
    Ok(success(json!({
        "columns": columns, "rows": rows, "totalPages": count.div_ceil(of_sheet), "labelsPerPage": of_sheet,
    })))
}

/// Whether a sheet can be printed, with what is wrong and what is doubtful about it.
#[utoipa::path(
    post, path = "/api/print/validate-layout", tag = "print", request_body = PrintBody,
    responses(
        (status = 200, body = Value), (status = 400, body = RefusalBody), (status = 413, body = RefusalBody),
    ),
)]
pub async fn validate_layout(Body(body): Body<PrintBody>) -> Result<Response, Refusal> {
    let layout = body.layout()?;
    let (width, height) = layout.cell_size();
    Ok(success(match layout.check() {
        Err(error) => json!({ "valid": false, "errors": [error.to_string()], "warnings": [] }),
        Ok(()) => json!({
            "valid": true, "errors": [], "warnings": doubts(&layout),
            "labelWidth": rounded(width), "labelHeight": rounded(height), "labelsPerPage": layout.cells(),
        }),
    }))
}

/// What may not come out as wished.
pub fn doubts(layout: &Layout) -> Vec<String> {
    let mut doubts = Vec::new();
    let margins = layout.margins;
    if [margins.top, margins.right, margins.bottom, margins.left].iter().any(|margin| *margin < UNPRINTABLE) {
        doubts.push(format!(
            "Most printers leave {UNPRINTABLE} mm white at each edge; print at actual size, and see whether yours prints the outermost labels whole."
        ));
    }
    let (width, height) = layout.cell_size();
    if width.min(height) < SMALL {
        doubts.push(format!(
            "Labels of {width:.1} × {height:.1} mm are small: their codes may be too small for a scanner."
        ));
    }
    if layout.cut_marks && layout.marks().is_empty() {
        doubts.push("The margins have no room for cut marks; make them 2 mm or wider.".into());
    }
    doubts
}
