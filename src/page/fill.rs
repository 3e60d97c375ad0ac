//! What the pieces of plots are filled with: a colour and a pattern each, so that colour alone says nothing.
//!
//! A pattern is drawn in the colour of the ground behind the plot, so it is seen as well as the piece is, in light and in dark.

use maud::{Markup, html};

use crate::protocol::history::JobOutcome;

/// How a piece is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    /// The class of the style sheet, for the colour.
    pub class: &'static str,
    /// The pattern on it.
    pub pattern: Pattern,
}

/// Lines or dots, over and over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// None.
    Plain,
    /// Lines that rise to the right.
    Rising,
    /// Lines that fall to the right.
    Falling,
    /// Lines that cross each other, aslant.
    Crossed,
    /// Lines from above to below.
    Upright,
    /// The same by twos.
    Pairs,
    /// Lines from left to right.
    Level,
    /// Lines from left to right and from above to below.
    Grid,
    /// Dots.
    Dots,
    /// Signs of plus.
    Pluses,
    /// Lines that go up and down.
    Zigzag,
    /// Bricks of a wall.
    Bricks,
}

impl Pattern {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Plain,
        Self::Rising,
        Self::Dots,
        Self::Crossed,
        Self::Upright,
        Self::Falling,
        Self::Grid,
        Self::Zigzag,
        Self::Pairs,
        Self::Pluses,
        Self::Level,
        Self::Bricks,
    ];

    /// Its name in ids.
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Rising => "rising",
            Self::Falling => "falling",
            Self::Crossed => "crossed",
            Self::Upright => "upright",
            Self::Pairs => "pairs",
            Self::Level => "level",
            Self::Grid => "grid",
            Self::Dots => "dots",
            Self::Pluses => "pluses",
            Self::Zigzag => "zigzag",
            Self::Bricks => "bricks",
        }
    }

    /// One of its tiles: pixels of its side, what is drawn on it, and how thick; none: nothing is.
    fn tile(self) -> Option<(u32, &'static str, &'static str)> {
        let tile = match self {
            Self::Plain => return None,
            Self::Rising => (6, "M-1 1L1 -1M0 6L6 0M5 7L7 5", "1.5"),
            Self::Falling => (6, "M-1 5L1 7M0 0L6 6M5 -1L7 1", "1.5"),
            Self::Crossed => (6, "M0 0L6 6M0 6L6 0", "1.2"),
            Self::Upright => (5, "M2.5 0V5", "1.5"),
            Self::Pairs => (10, "M2 0V10M5 0V10", "1.5"),
            Self::Level => (5, "M0 2.5H5", "1.5"),
            Self::Grid => (8, "M0 4H8M4 0V8", "1.2"),
            // Lines without length, whose ends are round.
            Self::Dots => (6, "M1.5 1.5h0M4.5 4.5h0", "2.2"),
            Self::Pluses => (8, "M4 1.5V6.5M1.5 4H6.5", "1.5"),
            Self::Zigzag => (8, "M-2 3L0 5L4 1L8 5L10 3", "1.5"),
            Self::Bricks => (8, "M0 1H8M0 5H8M2 1V5M6 5V9M6 -1V1", "1.2"),
        };
        Some(tile)
    }
}

impl Fill {
    /// What jobs with this outcome are filled with.
    #[must_use]
    pub fn of(outcome: JobOutcome) -> Self {
        let (class, pattern) = match outcome {
            JobOutcome::Success => ("piece-success", Pattern::Plain),
            JobOutcome::Failed => ("piece-failed", Pattern::Crossed),
            JobOutcome::Canceled => ("piece-canceled", Pattern::Dots),
            JobOutcome::Timeout => ("piece-timeout", Pattern::Upright),
            JobOutcome::SystemFailure => ("piece-system-failure", Pattern::Rising),
            JobOutcome::RunnerGone => ("piece-runner-gone", Pattern::Zigzag),
        };
        Self { class, pattern }
    }

    /// What the first, second, ... of things is filled with that have no meaning of their own; as many as there are patterns.
    #[must_use]
    pub fn nth(index: usize) -> Self {
        const SHADES: [&str; 6] = ["shade-0", "shade-1", "shade-2", "shade-3", "shade-4", "shade-5"];
        Self { class: SHADES[index % SHADES.len()], pattern: Pattern::ALL[index % Pattern::ALL.len()] }
    }

    /// A rectangle with it, in a group of its class. `of` names the plot, as [`patterns`] was told it.
    #[must_use]
    pub fn rect(self, of: &str, (x, y): (&str, &str), (width, height): (&str, &str)) -> Markup {
        html! {
            rect class="ground" x=(x) y=(y) width=(width) height=(height) {}
            @if self.pattern != Pattern::Plain {
                rect x=(x) y=(y) width=(width) height=(height) fill={ "url(#" (id(of, self.pattern)) ")" } {}
            }
        }
    }
}

/// The patterns of these fills, for a picture in which they are used. `of` names the plot.
#[must_use]
pub fn patterns(of: &str, fills: &[Fill]) -> Markup {
    let used = Pattern::ALL.into_iter().filter(|pattern| fills.iter().any(|fill| fill.pattern == *pattern));
    html! {
        defs { @for (pattern, (side, lines, width)) in used.filter_map(|pattern| Some((pattern, pattern.tile()?))) {
            pattern id=(id(of, pattern)) patternUnits="userSpaceOnUse" width=(side) height=(side) {
                path class="ink" d=(lines) stroke-width=(width) {}
            }
        } }
    }
}

fn id(of: &str, pattern: Pattern) -> String {
    format!("{of}-{}", pattern.name())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const STYLE: &str = include_str!("assets/style.css");

    fn fills() -> Vec<Fill> {
        JobOutcome::ALL.into_iter().map(Fill::of).chain((0..Pattern::ALL.len()).map(Fill::nth)).collect()
    }

    #[test]
    fn no_two_outcomes_share_a_colour_or_a_pattern() {
        let of: Vec<Fill> = JobOutcome::ALL.into_iter().map(Fill::of).collect();
        let classes: BTreeSet<&str> = of.iter().map(|fill| fill.class).collect();
        let patterns: BTreeSet<&str> = of.iter().map(|fill| fill.pattern.name()).collect();
        assert_eq!((classes.len(), patterns.len()), (of.len(), of.len()), "{of:?}");
    }

    #[test]
    fn each_of_many_things_has_a_pattern_that_no_other_has() {
        let names: BTreeSet<&str> = Pattern::ALL.into_iter().map(Pattern::name).collect();
        let tiles: BTreeSet<_> = Pattern::ALL.into_iter().map(Pattern::tile).collect();
        let nth: BTreeSet<&str> = (0..Pattern::ALL.len()).map(|index| Fill::nth(index).pattern.name()).collect();
        assert_eq!([names.len(), tiles.len(), nth.len()], [Pattern::ALL.len(); 3]);
    }

    #[test]
    fn a_pattern_is_defined_where_it_is_used_and_once() {
        for fill in fills() {
            let used = fill.rect("plot", ("0", "0"), ("9", "9")).into_string();
            let defined = patterns("plot", &[fill, fill]).into_string();
            let wanted = usize::from(fill.pattern != Pattern::Plain);
            let id = format!("plot-{}", fill.pattern.name());
            let counts =
                (used.matches(&format!("url(#{id})")).count(), defined.matches(&format!("id=\"{id}\"")).count());
            assert_eq!(counts, (wanted, wanted), "{used} {defined}");
        }
    }

    /// The value of a variable of the style sheet.
    fn variable<'a>(scheme: &'a str, name: &str) -> &'a str {
        let (_, rest) = scheme.split_once(&format!("{name}: ")).unwrap_or_else(|| panic!("{name} is not set"));
        rest.split(';').next().expect("a value")
    }

    /// How light a colour is, as WCAG reckons it.
    fn light(colour: &str) -> f64 {
        let part = |from: usize| {
            let part = f64::from(u8::from_str_radix(&colour[from..from + 2], 16).expect("a colour")) / 255.0;
            if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
    }

    #[test]
    fn every_piece_stands_out_from_the_ground_and_from_its_pattern_in_light_and_dark() {
        let (light_scheme, rest) = STYLE.split_once("@media (prefers-color-scheme: dark)").expect("both schemes");
        let dark_scheme = rest.split_once("\n}\n").expect("its end").0;
        for (scheme, which) in [(light_scheme, "light"), (dark_scheme, "dark")] {
            let ground = light(variable(scheme, "--panel"));
            for fill in fills() {
                let rule = STYLE.split_once(&format!(".{} {{ color: var(", fill.class)).expect("a rule").1;
                let name = rest_before(rule, ")");
                let own = light(variable(scheme, name));
                let ratio = (own.max(ground) + 0.05) / (own.min(ground) + 0.05);
                assert!(ratio >= 3.0, "{which}: {} has a contrast of {ratio:.2}", fill.class);
            }
        }
        // A pattern has the colour of the ground.
        assert!(STYLE.contains(".ink { fill: none; stroke: var(--panel);"));
    }

    fn rest_before<'a>(text: &'a str, end: &str) -> &'a str {
        text.split(end).next().unwrap_or_default()
    }
}
