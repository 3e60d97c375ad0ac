//! What doctor calls an error, with what it means and what mends it.

use maud::{Markup, html};

use super::{Clock, time};
use crate::page::view::doctor::{Doctor, Trouble};

/// What does not work; nothing where all does.
pub fn errors(doctor: Option<&Doctor>, clock: Clock) -> Markup {
    let Some(doctor) = doctor.filter(|doctor| !doctor.errors.is_empty()) else { return html! {} };
    html! {
        div class="notice bad" {
            h2 { span aria-hidden="true" { "✕ " } (counted(doctor.errors.len(), "error")) " on this host" }
            ul class="troubles" { @for error in &doctor.errors { (trouble(error, clock)) } }
            p class="quiet" { code { "sudo windlass doctor" } " looks now, and also at what only root may read." }
        }
    }
}

fn trouble(error: &Trouble, clock: Clock) -> Markup {
    html! {
        li {
            h3 { (error.subject) }
            p class="said" { (error.what) }
            dl {
                @if let Some(meaning) = &error.meaning { div { dt { "Means" } dd { (meaning) } } }
                @if let Some(remedy) = &error.remedy { div { dt { "Mend" } dd class="remedy" { (remedy) } } }
                div { dt { "Looked at" } dd { (time(clock, &error.looked_at)) } }
            }
        }
    }
}

/// In a few words.
pub fn fact(doctor: Option<&Doctor>, clock: Clock) -> Markup {
    let Some(doctor) = doctor else { return html! { "has not looked yet" } };
    html! {
        (counted(doctor.errors.len(), "error")) ", " (counted(doctor.warnings, "warning"))
        @for look in &doctor.looks { "; " (look.at) " " (time(clock, &look.looked_at)) }
    }
}

fn counted(count: usize, one: &str) -> String {
    match count {
        0 => format!("no {one}s"),
        1 => format!("1 {one}"),
        count => format!("{count} {one}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::view::doctor::Look;

    #[test]
    fn an_error_is_there_with_what_mends_it_and_says_nothing_by_itself() {
        let error = Trouble {
            subject: "Socket",
            check: "socket-caller",
            looked_at: "2026-01-01T00:00:00Z".into(),
            what: "user <b> can't".into(),
            meaning: Some("each job fails".into()),
            remedy: Some("usermod -aG".into()),
        };
        let look = Look { looked_at: error.looked_at.clone(), at: "this host", subjects: vec!["Socket"] };
        let doctor = Doctor { looked_at: error.looked_at.clone(), looks: vec![look], warnings: 2, errors: vec![error] };
        let text = errors(Some(&doctor), Clock::Bare).into_string();
        for words in ["1 error on this host", "user &lt;b&gt; can't", "each job fails", "usermod -aG", "Socket"] {
            assert!(text.contains(words), "{words}: {text}");
        }
        let good = Doctor { errors: vec![], ..doctor };
        let none = [errors(Some(&good), Clock::Bare), errors(None, Clock::Bare)];
        assert!(none.iter().all(|markup| markup.0.is_empty()));
        assert!(fact(Some(&good), Clock::Bare).into_string().starts_with("no errors, 2 warnings; this host "));
    }
}
