//! The page of the past days' jobs: outcomes, durations by stage, pulls.

use maud::{Markup, html};

use super::{Part, badge};
use crate::page::fill::{Fill, Pattern, patterns};
use crate::page::plot::{Column, Piece, columns};
use crate::page::view::past::{DAY, DAYS, Jobs};
use crate::page::words;
use crate::protocol::history::{JobOutcome, StageDay};
use crate::words::rough;

/// Stages that are shown one by one: as many as there are patterns to tell them apart.
const STAGES: usize = Pattern::ALL.len();

/// Its parts; `today` is the begin of this day, in milliseconds since 1970.
#[must_use]
pub fn parts(jobs: &Jobs, today: i64) -> Vec<Part> {
    let days: Vec<i64> = (0..DAYS).rev().map(|back| today - back * DAY).collect();
    vec![
        Part::new("outcomes", &outcomes(jobs, &days)),
        Part::new("stages", &stages(jobs, &days)),
        Part::new("pulls", &pulls(jobs, &days)),
    ]
}

fn outcomes(jobs: &Jobs, days: &[i64]) -> Markup {
    let count = |day: i64, outcome: JobOutcome| {
        let of = jobs.outcomes.iter().filter(|row| row.day == day && row.outcome == outcome);
        of.map(|row| row.count).sum::<u64>()
    };
    let there: Vec<JobOutcome> =
        JobOutcome::ALL.into_iter().filter(|outcome| days.iter().any(|day| count(*day, *outcome) > 0)).collect();
    let column = |day: &i64| Column {
        label: date(*day),
        pieces: there
            .iter()
            .map(|outcome| {
                let name = words::of_outcome(outcome.word()).word.to_owned();
                Piece { name, fill: Fill::of(*outcome), value: number(count(*day, *outcome)) }
            })
            .collect(),
    };
    html! {
        h2 { "Jobs and what came of them" }
        @if there.is_empty() { (super::nothing(jobs.unread.as_ref(), &format!("No job is on record of the last {DAYS} days."))) } @else {
            (picture("outcomes", "Jobs by day (UTC) and outcome", &days.iter().map(column).collect::<Vec<_>>(), things))
            (legend("outcomes", there.iter().map(|outcome| (Fill::of(*outcome), sign(words::of_outcome(outcome.word()))))))
            (table("outcomes-table", "Jobs by day (UTC) and outcome", &there.iter().map(|outcome| badge(words::of_outcome(outcome.word()))).collect::<Vec<_>>(), days, |day, index| {
                let number = count(day, there[index]);
                (number > 0).then(|| number.to_string())
            }))
        }
    }
}

fn stages(jobs: &Jobs, days: &[i64]) -> Markup {
    // What takes most of all comes first.
    let mut all: Vec<(String, u64)> = Vec::new();
    for row in &jobs.stages {
        let sum = row.mean_ms * row.count;
        match all.iter_mut().find(|(name, _)| *name == row.stage) {
            Some((_, known)) => *known += sum,
            None => all.push((row.stage.clone(), sum)),
        }
    }
    all.sort_by(|one, other| other.1.cmp(&one.1).then(one.0.cmp(&other.0)));
    let names: Vec<String> = all.into_iter().map(|(name, _)| name).take(STAGES).collect();
    let find = |day: i64, name: &str| jobs.stages.iter().find(|row| row.day == day && row.stage == name);
    let column = |day: &i64| Column {
        label: date(*day),
        pieces: names
            .iter()
            .enumerate()
            .filter_map(|(index, name)| {
                let row = find(*day, name)?;
                Some(Piece { name: name.clone(), fill: Fill::nth(index), value: number(row.mean_ms) / 1000.0 })
            })
            .collect(),
    };
    html! {
        h2 { "How long stages take" }
        @if names.is_empty() { (super::nothing(jobs.unread.as_ref(), &format!("No stage is on record of the last {DAYS} days."))) } @else {
            (picture("stages", "Mean duration of each stage by day (UTC), one on the other", &days.iter().map(column).collect::<Vec<_>>(), time))
            (legend("stages", names.iter().enumerate().map(|(index, name)| (Fill::nth(index), html! { (name) }))))
            (table("stages-table", "Mean (longest) duration by day (UTC) and stage", &names.iter().map(|name| html! { (name) }).collect::<Vec<_>>(), days, |day, index| {
                find(day, &names[index]).map(|row: &StageDay| format!("{} ({})", time(number(row.mean_ms) / 1000.0), time(number(row.max_ms) / 1000.0)))
            }))
        }
    }
}

fn pulls(jobs: &Jobs, days: &[i64]) -> Markup {
    let of =
        |day: i64, good: bool| jobs.pulls.iter().filter(move |row| row.day == day && (row.result == "success") == good);
    let fills = [JobOutcome::Success, JobOutcome::Failed].map(Fill::of);
    let column = |day: &i64| Column {
        label: date(*day),
        pieces: [(true, "pulled", fills[0]), (false, "failed", fills[1])]
            .into_iter()
            .map(|(good, name, fill)| Piece {
                name: name.to_owned(),
                fill,
                value: number(of(*day, good).map(|row| row.count).sum()),
            })
            .collect(),
    };
    let heads = ["✓ pulled", "✕ failed", "Bytes", "Mean time"].map(|head| html! { (head) });
    html! {
        h2 { "Pulls of images" }
        @if jobs.pulls.is_empty() { (super::nothing(jobs.unread.as_ref(), &format!("No pull is on record of the last {DAYS} days."))) } @else {
            (picture("pulls", "Pulls by day (UTC)", &days.iter().map(column).collect::<Vec<_>>(), things))
            (legend("pulls", fills.into_iter().zip(heads.iter().cloned())))
            (table("pulls-table", "Pulls by day (UTC)", &heads, days, |day, index| {
                let sum = |good| of(day, good).map(|row| row.count).sum::<u64>();
                match index {
                    0 | 1 => Some(sum(index == 0)).filter(|count| *count > 0).map(|count| count.to_string()),
                    2 => Some(of(day, true).map(|row| row.bytes).sum::<u64>()).filter(|bytes| *bytes > 0).map(words::bytes),
                    _ => of(day, true).next().map(|row| time(number(row.mean_ms) / 1000.0)),
                }
            }))
        }
    }
}

/// A number of things: half a thing is none.
fn things(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { String::new() }
}

/// `of` names the plot in the page.
fn picture(of: &str, name: &str, shown: &[Column], figure: impl Fn(f64) -> String) -> Markup {
    html! { div class="scroll" tabindex="0" role="region" aria-label={ "Picture: " (name) } { (columns(&plot(of), name, "UTC", shown, figure)) } }
}

/// What the pieces of a picture stand for, in the order in which they stand on one another. A sample brings its pattern with it, so that
/// it is whole where the picture has no such piece.
fn legend(of: &str, entries: impl Iterator<Item = (Fill, Markup)>) -> Markup {
    let of = format!("{of}-legend");
    html! {
        ul class="legend" aria-label="Pieces of a column, from below upwards" {
            li aria-hidden="true" { "From below upwards:" }
            @for (fill, name) in entries { li {
                svg class={ "swatch " (fill.class) } aria-hidden="true" width="22" height="16" viewBox="0 0 22 16" {
                    (patterns(&of, &[fill]))
                    (fill.rect(&of, ("0", "0"), ("22", "16")))
                }
                (name)
            } }
        }
    }
}

fn plot(of: &str) -> String {
    format!("{of}-plot")
}

/// A look in words, without its colour.
fn sign(look: words::Look) -> Markup {
    html! { span aria-hidden="true" { (look.glyph) " " } (look.word) }
}

/// The days from above, the newest first.
fn table(id: &str, name: &str, heads: &[Markup], days: &[i64], cell: impl Fn(i64, usize) -> Option<String>) -> Markup {
    html! {
        details id=(id) {
            summary { "As a table" }
            div class="scroll" tabindex="0" role="region" aria-label={ "Table: " (name) } {
                table {
                    caption { (name) }
                    thead { tr { th scope="col" { "Day (UTC)" } @for head in heads { th scope="col" { (head) } } } }
                    tbody { @for day in days.iter().rev() { tr {
                        th scope="row" { (date(*day)) }
                        @for index in 0..heads.len() { td { (cell(*day, index).unwrap_or_default()) } }
                    } } }
                }
            }
        }
    }
}

/// Month and day.
fn date(day: i64) -> String {
    crate::page::view::date(day).get(5..10).unwrap_or_default().to_owned()
}

/// Seconds in words; a few of them with a tenth.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some hours at most")]
fn time(seconds: f64) -> String {
    match seconds {
        0.0 => "0s".to_owned(),
        s if s < 10.0 => format!("{s:.1}s"),
        s => rough(s.round() as u64),
    }
}

#[allow(clippy::cast_precision_loss, reason = "a picture's height")]
fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::history::{OutcomeDay, PullDay};

    #[test]
    fn days_without_jobs_are_there_too_and_names_are_text() {
        let day = 20_000 * DAY;
        let jobs = Jobs {
            outcomes: vec![OutcomeDay { day, outcome: JobOutcome::Success, count: 7 }],
            stages: vec![StageDay { day: day - DAY, stage: "<b>".into(), count: 2, mean_ms: 1500, max_ms: 2000 }],
            pulls: vec![PullDay { day, result: "denied".into(), count: 3, bytes: 0, mean_ms: 10 }],
            unread: None,
        };
        let text: String = parts(&jobs, day).into_iter().map(|part| part.html).collect();
        assert_eq!(text.matches("<th scope=\"row\">").count(), 3 * 14, "{text}");
        assert!(
            text.contains("10-04: succeeded 7") && text.contains("1.5s (2.0s)") && text.contains("10-04: failed 3"),
            "{text}"
        );
        assert!(text.contains("&lt;b&gt;") && !text.contains("<b>"), "{text}");
        let none: String = parts(&Jobs::default(), day).into_iter().map(|part| part.html).collect();
        assert!(none.contains("No job is on record") && !none.contains("<svg"), "{none}");
    }

    #[test]
    fn days_say_where_they_begin() {
        let jobs =
            Jobs { outcomes: vec![OutcomeDay { day: 0, outcome: JobOutcome::Success, count: 7 }], ..Jobs::default() };
        let text = super::super::as_read(&parts(&jobs, 0));
        assert!(text.contains("Jobs by day (UTC) and outcome Day (UTC)") && text.contains("01-01 UTC"), "{text}");
    }

    #[test]
    fn what_cannot_be_read_is_not_told_as_nothing() {
        let text = super::super::as_read(&parts(&Jobs { unread: Some("disk I/O error".into()), ..Jobs::default() }, 0));
        assert_eq!(text.matches("can't be read: disk I/O error").count(), 3, "{text}");
        assert!(!text.contains("on record"), "{text}");
    }
}
