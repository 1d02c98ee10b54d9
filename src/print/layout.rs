//! Where labels lie on a sheet of paper, in millimetres from its upper left corner.

/// A paper that has a name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Paper {
    pub name: &'static str,
    pub width: f64,
    pub height: f64,
    /// What people call it.
    pub display_name: &'static str,
}

/// The papers that are known by name, upright.
pub const FORMATS: [Paper; 5] = [
    Paper { name: "A3", width: 297.0, height: 420.0, display_name: "A3 (297 × 420 mm)" },
    Paper { name: "A4", width: 210.0, height: 297.0, display_name: "A4 (210 × 297 mm)" },
    Paper { name: "A5", width: 148.0, height: 210.0, display_name: "A5 (148 × 210 mm)" },
    Paper { name: "Letter", width: 215.9, height: 279.4, display_name: "Letter (8.5 × 11 in)" },
    Paper { name: "Legal", width: 215.9, height: 355.6, display_name: "Legal (8.5 × 14 in)" },
];

impl Paper {
    /// The paper of this name, in any case.
    pub fn named(name: &str) -> Option<Paper> {
        FORMATS.into_iter().find(|paper| paper.name.eq_ignore_ascii_case(name.trim()))
    }
}

/// What a layout may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A side of the paper, in millimetres.
    pub paper: (f64, f64),
    /// Columns, and rows.
    pub cells: (u32, u32),
    /// Cells of one sheet at the most.
    pub cells_of_sheet: u32,
    /// A side of a cell at the least, in millimetres.
    pub cell: f64,
}

/// What a layout may be.
pub const LIMITS: Limits = Limits { paper: (20.0, 1200.0), cells: (1, 100), cells_of_sheet: 1000, cell: 3.0 };

/// Between a cell and its cut marks, in millimetres.
const MARK_OFFSET: f64 = 1.0;
/// The length of a cut mark where there is room for it; shorter than the least it is left out.
const MARK_LENGTH: (f64, f64) = (1.0, 5.0);
/// Lengths that differ by less are the same, in millimetres: sums of decimal fractions are not exact.
const SAME: f64 = 1e-6;

/// Four distances from the edges of the paper.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Edges {
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
    pub left: f64,
}

impl Edges {
    /// The same on every side.
    pub const fn all(distance: f64) -> Edges {
        Edges { top: distance, right: distance, bottom: distance, left: distance }
    }
}

/// A sheet with its cells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layout {
    /// Width and height of the paper.
    pub width: f64,
    pub height: f64,
    pub columns: u32,
    pub rows: u32,
    pub margins: Edges,
    /// Between columns, and between rows.
    pub gap: (f64, f64),
    /// Short lines in the margins that show where to cut.
    pub cut_marks: bool,
    /// A hairline around each cell.
    pub borders: bool,
}

/// A rectangle on the paper.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rect {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

impl Rect {
    pub fn right(&self) -> f64 {
        self.x + self.width
    }

    pub fn bottom(&self) -> f64 {
        self.y + self.height
    }
}

/// A straight line on the paper.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    pub from: (f64, f64),
    pub to: (f64, f64),
}

/// Why nothing can be printed that way: a sentence that says what to change.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LayoutError {
    #[error("the paper is {width} × {height} mm; each side must be between {} and {} mm", LIMITS.paper.0, LIMITS.paper.1)]
    Paper { width: f64, height: f64 },
    #[error(
        "there are {columns} columns and {rows} rows; give 1 to {} of each and {} cells at the most",
        LIMITS.cells.1, LIMITS.cells_of_sheet
    )]
    Cells { columns: u32, rows: u32 },
    #[error("{what} must be 0 mm or more and less than the paper")]
    Distance { what: &'static str },
    #[error(
        "margins and gaps leave {width:.1} × {height:.1} mm for each label; make them smaller or take fewer columns and rows, so that {} mm are left on each side",
        LIMITS.cell
    )]
    NoRoom { width: f64, height: f64 },
}

impl Default for Layout {
    /// A4 with two columns and three rows.
    fn default() -> Layout {
        grid(FORMATS[1], 2, 3, 10.0, 5.0)
    }
}

const fn grid(paper: Paper, columns: u32, rows: u32, margin: f64, gap: f64) -> Layout {
    Layout {
        width: paper.width,
        height: paper.height,
        columns,
        rows,
        margins: Edges::all(margin),
        gap: (gap, gap),
        cut_marks: false,
        borders: false,
    }
}

/// A sheet of labels as it is sold: cells of a fixed size without gaps, in the middle of the paper.
const fn sold(paper: Paper, columns: u32, rows: u32, cell: (f64, f64)) -> Layout {
    let beside = (paper.width - columns as f64 * cell.0) / 2.0;
    let above = (paper.height - rows as f64 * cell.1) / 2.0;
    let margins = Edges { top: above, right: beside, bottom: above, left: beside };
    Layout { margins, ..grid(paper, columns, rows, 0.0, 0.0) }
}

/// A layout that comes with the program.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    pub id: &'static str,
    pub name: &'static str,
    /// The name of its paper.
    pub paper: &'static str,
    pub layout: Layout,
}

/// Label sheets as they are sold, and even grids on plain paper.
pub const PRESETS: [Preset; 12] = {
    const A3: Paper = FORMATS[0];
    const A4: Paper = FORMATS[1];
    const fn preset(id: &'static str, name: &'static str, paper: &'static str, layout: Layout) -> Preset {
        Preset { id, name, paper, layout }
    }
    [
        preset("a4-3x8", "A4, 3 × 8 labels of 70 × 37 mm", "A4", sold(A4, 3, 8, (70.0, 37.0))),
        preset("a4-3x7", "A4, 3 × 7 labels of 70 × 42 mm", "A4", sold(A4, 3, 7, (70.0, 42.0))),
        preset("a4-2x4", "A4, 2 × 4 labels of 105 × 74 mm", "A4", sold(A4, 2, 4, (105.0, 74.0))),
        preset("a4-2x2", "A4, 2 × 2 labels of 105 × 148 mm", "A4", sold(A4, 2, 2, (105.0, 148.0))),
        preset("a4-grid-2x2", "A4, grid of 2 × 2", "A4", grid(A4, 2, 2, 10.0, 5.0)),
        preset("a4-grid-2x3", "A4, grid of 2 × 3", "A4", grid(A4, 2, 3, 10.0, 5.0)),
        preset("a4-grid-3x3", "A4, grid of 3 × 3", "A4", grid(A4, 3, 3, 10.0, 5.0)),
        preset("a4-grid-2x4", "A4, grid of 2 × 4", "A4", grid(A4, 2, 4, 10.0, 5.0)),
        preset("a3-grid-2x4", "A3, grid of 2 × 4", "A3", grid(A3, 2, 4, 15.0, 7.0)),
        preset("a3-grid-2x6", "A3, grid of 2 × 6", "A3", grid(A3, 2, 6, 15.0, 7.0)),
        preset("a3-grid-3x4", "A3, grid of 3 × 4", "A3", grid(A3, 3, 4, 15.0, 7.0)),
        preset("a3-grid-3x6", "A3, grid of 3 × 6", "A3", grid(A3, 3, 6, 15.0, 7.0)),
    ]
};

impl Layout {
    /// Whether labels can be printed that way.
    ///
    /// # Errors
    /// The first thing that is wrong, in words.
    pub fn check(&self) -> Result<(), LayoutError> {
        let (width, height) = (self.width, self.height);
        let paper = |side: f64| (LIMITS.paper.0..=LIMITS.paper.1).contains(&side);
        if !paper(width) || !paper(height) {
            return Err(LayoutError::Paper { width, height });
        }
        let (columns, rows) = (self.columns, self.rows);
        let counts = LIMITS.cells.0..=LIMITS.cells.1;
        if !counts.contains(&columns) || !counts.contains(&rows) || columns * rows > LIMITS.cells_of_sheet {
            return Err(LayoutError::Cells { columns, rows });
        }
        let Edges { top, right, bottom, left } = self.margins;
        for (what, distance, side) in [
            ("the top margin", top, height),
            ("the right margin", right, width),
            ("the bottom margin", bottom, height),
            ("the left margin", left, width),
            ("the gap between columns", self.gap.0, width),
            ("the gap between rows", self.gap.1, height),
        ] {
            if !(0.0..side).contains(&distance) {
                return Err(LayoutError::Distance { what });
            }
        }
        let (width, height) = self.cell_size();
        if width < LIMITS.cell || height < LIMITS.cell {
            return Err(LayoutError::NoRoom { width, height });
        }
        Ok(())
    }

    /// Width and height of each cell: (paper − margins − gaps) / count.
    pub fn cell_size(&self) -> (f64, f64) {
        let side = |paper: f64, margins: f64, gap: f64, count: u32| {
            (paper - margins - gap * (f64::from(count) - 1.0)) / f64::from(count.max(1))
        };
        (
            side(self.width, self.margins.left + self.margins.right, self.gap.0, self.columns),
            side(self.height, self.margins.top + self.margins.bottom, self.gap.1, self.rows),
        )
    }

    /// Cells of one sheet.
    pub fn cells(&self) -> usize {
        (self.columns * self.rows) as usize
    }

    /// Sheets that so many labels need.
    pub fn pages(&self, labels: usize) -> usize {
        labels.div_ceil(self.cells().max(1))
    }

    /// The cell of this number; they are filled row by row from the upper left one, number 0.
    pub fn cell(&self, number: usize) -> Rect {
        let (column, row) = (number % self.columns as usize, number / self.columns as usize);
        let (width, height) = self.cell_size();
        // Each from the paper's edge, so that errors of addition do not add up.
        Rect {
            x: self.margins.left + column as f64 * (width + self.gap.0),
            y: self.margins.top + row as f64 * (height + self.gap.1),
            width,
            height,
        }
    }

    /// Cut marks: lines in the margins that point at each edge of the cells and touch none of them. A margin that has
    /// no room for them has none.
    pub fn marks(&self) -> Vec<Line> {
        if !self.cut_marks {
            return Vec::new();
        }
        let (width, height) = self.cell_size();
        let (gap_x, gap_y) = self.gap;
        let Edges { top, right, bottom, left } = self.margins;
        let xs = edges(left, width, gap_x, self.columns);
        let ys = edges(top, height, gap_y, self.rows);
        let mut marks = Vec::new();
        let length = |margin: f64| {
            let room = margin - MARK_OFFSET;
            (room >= MARK_LENGTH.0).then(|| room.min(MARK_LENGTH.1))
        };
        for (margin, inner, outwards) in
            [(top, top - MARK_OFFSET, -1.0), (bottom, self.height - bottom + MARK_OFFSET, 1.0)]
        {
            if let Some(length) = length(margin) {
                // The sum of three lengths may miss the paper's edge by a hair.
                let outer = (inner + outwards * length).clamp(0.0, self.height);
                marks.extend(xs.iter().map(|x| Line { from: (*x, inner), to: (*x, outer) }));
            }
        }
        for (margin, inner, outwards) in
            [(left, left - MARK_OFFSET, -1.0), (right, self.width - right + MARK_OFFSET, 1.0)]
        {
            if let Some(length) = length(margin) {
                let outer = (inner + outwards * length).clamp(0.0, self.width);
                marks.extend(ys.iter().map(|y| Line { from: (inner, *y), to: (outer, *y) }));
            }
        }
        marks
    }
}

/// Where cells begin and end on one axis, each place once.
fn edges(first: f64, side: f64, gap: f64, count: u32) -> Vec<f64> {
    let mut places = Vec::with_capacity(count as usize * 2);
    for number in 0..count {
        let begin = first + f64::from(number) * (side + gap);
        places.push(begin);
        places.push(begin + side);
    }
    places.dedup_by(|later, earlier| (*later - *earlier).abs() < SAME);
    places
}

/// How many columns and rows of labels of a size fit on a paper inside a margin.
pub fn fill(paper: (f64, f64), margin: f64, label: (f64, f64)) -> (u32, u32) {
    let count = |side: f64, label: f64| {
        let fitting = ((side - 2.0 * margin + SAME) / label).floor();
        fitting.clamp(0.0, f64::from(LIMITS.cells.1)) as u32
    };
    (count(paper.0, label.0), count(paper.1, label.1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sheets_that_are_sold_have_cells_of_their_size_to_the_hair() {
        for (id, size) in [
            ("a4-3x8", (70.0, 37.0)),
            ("a4-3x7", (70.0, 42.0)),
            ("a4-2x4", (105.0, 74.0)),
            ("a4-2x2", (105.0, 148.0)),
        ] {
            let preset = PRESETS.iter().find(|preset| preset.id == id).unwrap();
            let (width, height) = preset.layout.cell_size();
            assert!(
                (width - size.0).abs() < 1e-9 && (height - size.1).abs() < 1e-9,
                "{id}: {width} × {height}"
            );
        }
    }

    #[test]
    fn all_presets_can_be_printed() {
        for preset in PRESETS {
            preset.layout.check().unwrap();
            assert_eq!(Paper::named(preset.paper).unwrap().width, preset.layout.width);
        }
    }

    #[test]
    fn the_default_sheet_has_cells_of_92_and_a_half_by_89() {
        let layout = Layout::default();
        assert_eq!(layout.cell_size(), (92.5, 89.0));
        assert_eq!(layout.cell(5), Rect { x: 107.5, y: 198.0, width: 92.5, height: 89.0 });
        assert_eq!((layout.pages(0), layout.pages(6), layout.pages(7)), (0, 1, 2));
    }

    #[test]
    fn labels_fill_a_paper_inside_its_margin() {
        assert_eq!(fill((210.0, 297.0), 10.0, (70.0, 50.0)), (2, 5));
        assert_eq!(fill((210.0, 297.0), 0.0, (70.0, 37.0)), (3, 8));
        assert_eq!(fill((210.0, 297.0), 10.0, (200.0, 50.0)), (0, 5));
        assert_eq!(fill((210.0, 297.0), 0.0, (0.1, 0.1)), (100, 100));
    }

    #[test]
    fn what_cannot_be_printed_is_refused_with_the_reason() {
        let base = Layout::default();
        for (layout, part) in [
            (Layout { width: f64::NAN, ..base }, "the paper"),
            (Layout { height: 5000.0, ..base }, "the paper"),
            (Layout { columns: 0, ..base }, "columns"),
            (Layout { columns: 100, rows: 100, ..base }, "columns"),
            (Layout { gap: (-1.0, 0.0), ..base }, "the gap between columns"),
            (Layout { margins: Edges { left: f64::INFINITY, ..base.margins }, ..base }, "the left margin"),
            (Layout { margins: Edges::all(105.0), ..base }, "leave"),
            (Layout { columns: 60, gap: (5.0, 5.0), ..base }, "leave"),
        ] {
            let said = layout.check().unwrap_err().to_string();
            assert!(said.contains(part), "{said}");
        }
    }

    fn layouts() -> impl Strategy<Value = Layout> {
        let paper = (50.0..500.0f64, 50.0..500.0f64);
        let margins = (0.0..20.0f64, 0.0..20.0f64, 0.0..20.0f64, 0.0..20.0f64);
        let gaps = prop_oneof![Just((0.0, 0.0)), (0.0..10.0f64, 0.0..10.0f64)];
        (paper, 1..12u32, 1..12u32, margins, gaps).prop_map(
            |((width, height), columns, rows, (top, right, bottom, left), gap)| Layout {
                width,
                height,
                columns,
                rows,
                margins: Edges { top, right, bottom, left },
                gap,
                cut_marks: true,
                borders: true,
            },
        )
    }

    proptest! {
        #[test]
        fn cells_lie_inside_the_margins_and_never_overlap(layout in layouts()) {
            prop_assume!(layout.check().is_ok());
            let cells: Vec<Rect> = (0..layout.cells()).map(|number| layout.cell(number)).collect();
            for (number, cell) in cells.iter().enumerate() {
                prop_assert!(cell.x >= layout.margins.left - SAME && cell.y >= layout.margins.top - SAME);
                prop_assert!(cell.right() <= layout.width - layout.margins.right + SAME);
                prop_assert!(cell.bottom() <= layout.height - layout.margins.bottom + SAME);
                for other in &cells[..number] {
                    let apart = cell.x >= other.right() - SAME || other.x >= cell.right() - SAME
                        || cell.y >= other.bottom() - SAME || other.y >= cell.bottom() - SAME;
                    prop_assert!(apart, "{cell:?} and {other:?}");
                }
            }
            // They fill what the margins leave.
            let last = cells[cells.len() - 1];
            prop_assert!((last.right() - (layout.width - layout.margins.right)).abs() < SAME);
            prop_assert!((last.bottom() - (layout.height - layout.margins.bottom)).abs() < SAME);
        }

        #[test]
        fn marks_lie_on_the_paper_outside_of_all_cells_and_point_at_every_edge(layout in layouts()) {
            prop_assume!(layout.check().is_ok());
            let marks = layout.marks();
            for mark in &marks {
                for (x, y) in [mark.from, mark.to] {
                    prop_assert!((0.0..=layout.width).contains(&x) && (0.0..=layout.height).contains(&y));
                }
                for number in 0..layout.cells() {
                    let cell = layout.cell(number);
                    let (left, right) = (mark.from.0.min(mark.to.0), mark.from.0.max(mark.to.0));
                    let (top, bottom) = (mark.from.1.min(mark.to.1), mark.from.1.max(mark.to.1));
                    let outside = right < cell.x - SAME || left > cell.right() + SAME
                        || bottom < cell.y - SAME || top > cell.bottom() + SAME;
                    prop_assert!(outside, "{mark:?} in {cell:?}");
                }
            }
            if layout.margins.top >= 2.0 {
                for number in 0..layout.cells() {
                    let cell = layout.cell(number);
                    for x in [cell.x, cell.right()] {
                        let pointed = marks.iter().any(|mark| {
                            (mark.from.0 - x).abs() < SAME && (mark.to.0 - x).abs() < SAME
                                && mark.from.1 < layout.margins.top
                        });
                        prop_assert!(pointed, "nothing points at x = {x}");
                    }
                }
            }
        }
    }
}
