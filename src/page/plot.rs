//! Plots as SVG, made by the server: columns by day, and a line over time. A table beside each says the same.

use maud::{Markup, html};

use super::fill::{Fill, patterns};

/// Pixels of a plot.
const WIDTH: f64 = 900.0;
/// Pixels of a plot.
const HEIGHT: f64 = 210.0;
/// Pixels left of it, for figures.
const LEFT: f64 = 70.0;
/// Pixels below it, for dates.
const BELOW: f64 = 22.0;
/// Pixels above it.
const ABOVE: f64 = 10.0;
/// Pixels between a piece and the next one, where it is so high that it can spare them.
const GAP: f64 = 1.0;

/// A part of a column.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// What it is.
    pub name: String,
    /// How it is filled.
    pub fill: Fill,
    /// How much.
    pub value: f64,
}

/// A column.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// What is below it.
    pub label: String,
    /// From below upwards.
    pub pieces: Vec<Piece>,
}

/// Columns side by side. `id` names the plot in the page, `scale` stands before what is below the columns, `figure` writes a value.
#[must_use]
pub fn columns(id: &str, name: &str, scale: &str, columns: &[Column], figure: impl Fn(f64) -> String) -> Markup {
    let sum = |column: &Column| column.pieces.iter().map(|piece| piece.value).sum::<f64>();
    let most = round(columns.iter().map(sum).fold(0.0, f64::max), 10.0);
    let step = (WIDTH - LEFT) / count(columns.len().max(1));
    let fills: Vec<Fill> = columns.iter().flat_map(|column| &column.pieces).map(|piece| piece.fill).collect();
    frame(
        name,
        most,
        &figure,
        &html! {
            (patterns(id, &fills))
            @for (index, column) in columns.iter().enumerate() {
                @let x = LEFT + count(index) * step;
                @for (from, piece) in stacked(&column.pieces) {
                    @let (low, high) = (y(from, most), y(from + piece.value, most));
                    @let height = (low - high).max(0.5);
                    @let gap = if height > 4.0 * GAP { GAP } else { 0.0 };
                    g class={ "piece " (piece.fill.class) } {
                        title { (column.label) ": " (piece.name) " " (figure(piece.value)) }
                        (piece.fill.rect(id, (&pixels(x + step * 0.15), &pixels(high + gap)), (&pixels(step * 0.7), &pixels(height - gap))))
                    }
                }
                text class="label" x=(pixels(x + step / 2.0)) y=(pixels(HEIGHT - 6.0)) text-anchor="middle" { (column.label) }
            }
            text class="label" x=(pixels(LEFT - 8.0)) y=(pixels(HEIGHT - 6.0)) text-anchor="end" { (scale) }
        },
    )
}

/// A line over time: points from the left to the right, `limit` as a line across. It is broken after the points at the times of `gaps`; a
/// point that stands alone is a dot.
#[must_use]
pub fn line(
    name: &str,
    points: &[(i64, f64)],
    gaps: &[i64],
    limit: Option<f64>,
    ends: (&str, &str),
    figure: impl Fn(f64) -> String,
) -> Markup {
    // Only bytes are shown this way.
    let most = round(points.iter().map(|(_, value)| *value).chain(limit).fold(0.0, f64::max), 1024.0);
    let (first, last) = (points.first().map_or(0, |point| point.0), points.last().map_or(0, |point| point.0));
    let whole = time(last - first).max(1.0);
    let place =
        |(at, value): &(i64, f64)| (pixels(LEFT + time(at - first) / whole * (WIDTH - LEFT)), pixels(y(*value, most)));
    let runs: Vec<Vec<(String, String)>> =
        points.chunk_by(|(at, _), _| !gaps.contains(at)).map(|run| run.iter().map(place).collect()).collect();
    frame(
        name,
        most,
        &figure,
        &html! {
            @if let Some(limit) = limit {
                line class="limit" x1=(pixels(LEFT)) x2=(pixels(WIDTH)) y1=(pixels(y(limit, most))) y2=(pixels(y(limit, most))) {}
                text class="label" x=(pixels(LEFT + 6.0)) y=(pixels((y(limit, most) - 5.0).max(12.0))) { "kept free: " (figure(limit)) }
            }
            @for run in &runs {
                @match run.as_slice() {
                    [(x, y)] => circle class="dot" cx=(x) cy=(y) r="3" {},
                    run => path class="line" d=(path(run)) {},
                }
            }
            text class="label" x=(pixels(LEFT)) y=(pixels(HEIGHT - 6.0)) { (ends.0) }
            text class="label" x=(pixels(WIDTH)) y=(pixels(HEIGHT - 6.0)) text-anchor="end" { (ends.1) }
        },
    )
}

fn path(run: &[(String, String)]) -> String {
    run.iter().enumerate().map(|(index, (x, y))| format!("{}{x} {y}", if index == 0 { "M" } else { "L" })).collect()
}

fn frame(name: &str, most: f64, figure: &impl Fn(f64) -> String, content: &Markup) -> Markup {
    html! {
        svg class="plot" role="img" aria-label={ (name) "; the table below says the same" } width=(WIDTH) height=(HEIGHT) viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } {
            @for part in [0.0, 0.5, 1.0] {
                line class="grid" x1=(pixels(LEFT)) x2=(pixels(WIDTH)) y1=(pixels(y(part, 1.0))) y2=(pixels(y(part, 1.0))) {}
                text class="label" x=(pixels(LEFT - 8.0)) y=(pixels(y(part, 1.0) + 4.0)) text-anchor="end" { (figure(most * part)) }
            }
            (content)
        }
    }
}

/// The next number upwards that is round, as is its half: a few times a power of ten, in units of a power of `base`.
fn round(most: f64, base: f64) -> f64 {
    if most <= 0.0 {
        return 0.0;
    }
    let unit = base.powf(most.log(base).floor());
    let ten = 10_f64.powf((most / unit).log10().floor()) * unit;
    let rounds = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    ten * rounds.into_iter().find(|round| round * ten >= most).unwrap_or(10.0)
}

/// Pieces with where each begins.
fn stacked(pieces: &[Piece]) -> Vec<(f64, &Piece)> {
    let mut from = 0.0;
    let mut placed = Vec::new();
    for piece in pieces.iter().filter(|piece| piece.value > 0.0) {
        placed.push((from, piece));
        from += piece.value;
    }
    placed
}

fn y(value: f64, most: f64) -> f64 {
    let part = if most > 0.0 { value / most } else { 0.0 };
    HEIGHT - BELOW - part * (HEIGHT - BELOW - ABOVE)
}

fn pixels(number: f64) -> String {
    format!("{number:.1}")
}

#[allow(clippy::cast_precision_loss, reason = "a few hundred")]
fn count(number: usize) -> f64 {
    number as f64
}

#[allow(clippy::cast_precision_loss, reason = "a picture's width")]
fn time(milliseconds: i64) -> f64 {
    milliseconds as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_stand_on_one_another_and_nothing_is_drawn_for_nothing() {
        let piece = |index, name: &str, value| Piece { name: name.into(), fill: Fill::nth(index), value };
        let column =
            Column { label: "Mon".into(), pieces: vec![piece(0, "a", 3.0), piece(1, "b", 0.0), piece(2, "<c>", 1.0)] };
        let text = columns("jobs", "Jobs", "UTC", &[column], |value| format!("{value:.0}")).into_string();
        assert_eq!(text.matches("class=\"piece ").count(), 2, "{text}");
        assert!(text.contains("fill=\"url(#jobs-dots)\"") && text.contains("<pattern id=\"jobs-dots\""), "{text}");
        assert!(text.contains(">UTC</text>") && text.contains("Mon: &lt;c&gt; 1") && !text.contains("<c>"), "{text}");
        let empty = columns("jobs", "Jobs", "UTC", &[], |value| format!("{value:.0}")).into_string();
        assert!(empty.contains("aria-label=\"Jobs"), "{empty}");
    }

    #[test]
    fn scales_end_at_round_numbers() {
        let cases = [(43.0, 10.0, 50.0), (220.0, 10.0, 300.0), (1.0, 10.0, 1.0), (0.7, 10.0, 0.8), (0.0, 10.0, 0.0)];
        for (most, base, top) in cases {
            assert!((round(most, base) - top).abs() < 1e-9, "{most}: {}", round(most, base));
        }
        let gib = f64::from(1 << 30);
        assert!((round(126.2 * gib, 1024.0) / gib - 150.0).abs() < 1e-9);
    }

    #[test]
    fn a_line_goes_from_the_first_point_to_the_last() {
        let points = [(0, 10.0), (50, 5.0), (100, 0.0)];
        let text = line("Free", &points, &[], Some(2.0), ("a", "b"), |value| value.to_string()).into_string();
        assert!(text.contains("d=\"M70.0 10.0L485.0 99.0L900.0 188.0\"") && text.contains("class=\"limit\""), "{text}");
    }
    #[test]
    fn nothing_is_drawn_through_a_gap_and_a_point_alone_is_a_dot() {
        let of = |points: &[(i64, f64)], gaps: &[i64]| {
            let text = line("Free", points, gaps, None, ("a", "b"), |value| value.to_string()).into_string();
            let drawn = |of| text.matches(of).count();
            (drawn("<path class=\"line\""), drawn("<circle class=\"dot\""), text)
        };
        let (lines, dots, text) = of(&[(0, 10.0), (20, 8.0), (50, 5.0), (90, 4.0), (100, 0.0)], &[20, 50]);
        assert_eq!((lines, dots), (2, 1), "{text}");
        assert!(text.contains("cx=\"485.0\" cy=\"99.0\"") && !text.contains("L485.0"), "{text}");
        let (lines, dots, text) = of(&[(7, 10.0)], &[]);
        assert_eq!((lines, dots), (0, 1), "{text}");
        assert_eq!((of(&[], &[]).0, of(&[], &[]).1), (0, 0));
    }
}
