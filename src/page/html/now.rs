//! The first page: what goes on now.

use maud::{Markup, html};

use super::{Clock, Part, badge, breakable, doctor, linked, meter, moment, time};
use crate::page::view::now::{Job, Now, Slot};
use crate::page::words;

/// Its parts.
#[must_use]
pub fn parts(now: &Now, clock: Clock) -> Vec<Part> {
    vec![
        Part::new("doctor", &doctor::errors(now.doctor.as_ref(), clock)),
        Part::new("summary", &summary(now, clock)),
        Part::new("slots", &slots(now, clock)),
        Part::new("waiting", &waiting(now, clock)),
        Part::new("held", &held(now)),
    ]
}

fn summary(now: &Now, clock: Clock) -> Markup {
    html! {
        @if let Some(since) = &now.drained_since {
            p class="notice warn" { span aria-hidden="true" { "◆ " } strong { "Drained" } " " (time(clock, since)) ": no new jobs are taken until " code { "windlass undrain" } "." }
        }
        @if !now.warnings.is_empty() {
            div class="notice bad" {
                h2 { "Somebody should look at this" }
                ul { @for warning in &now.warnings { li { (warning) } } }
            }
        }
        dl class="facts" {
            div { dt { "Slots in use" } dd { (now.busy) " of " (now.slots.iter().filter(|slot| !slot.goes).count()) } }
            div { dt { "Jobs waiting" } dd { (now.waiting.len()) } }
            div { dt { "Doctor" } dd { (doctor::fact(now.doctor.as_ref(), clock)) } }
            div { dt { "Daemon" } dd { (now.version) ", started " (time(clock, &now.started_at)) } }
        }
    }
}

fn slots(now: &Now, clock: Clock) -> Markup {
    html! {
        h2 { "Slots" }
        @if now.slots.is_empty() { p { "No jobs run here: this daemon looks after the image chain alone." } }
        ul class="tiles" {
            @for slot in &now.slots {
                @match &slot.job {
                    Some(job) => (tile(slot, job, clock)),
                    None => li class="tile free" id=(name(slot)) { (head(slot)) p { "free" } },
                }
            }
        }
    }
}

fn name(slot: &Slot) -> String {
    format!("slot-{}-{}", slot.profile, slot.index)
}

fn head(slot: &Slot) -> Markup {
    html! { p class="slot" { (slot.profile) "/" (slot.index) @if slot.goes { " (goes with its job)" } } }
}

fn tile(slot: &Slot, job: &Job, clock: Clock) -> Markup {
    let look = words::of_lease(&job.state);
    html! {
        li class={ "tile " (look.class) } id=(name(slot)) {
            (head(slot))
            h3 { (job.project) }
            p { (linked(job.url.as_deref(), &html! { "Job " (job.id) })) " " (badge(look)) }
            @for step in &job.steps { p class="step" { (breakable(&step.what)) ", begun " (time(clock, &step.since)) } }
            p {
                @match (&job.stage, &job.stage_since) {
                    (Some(stage), Some(since)) => { code { (stage) } " began " (time(clock, since)) },
                    _ => { "came " (time(clock, &job.since)) },
                }
            }
            @if let Some(image) = &job.image { p class="image" { (breakable(image)) } }
            (memory(job))
            (cpus(job))
            @if let Some(problem) = &job.problem { p class="problem" { span aria-hidden="true" { "✕ " } (problem) } }
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "a picture's width")]
fn memory(job: &Job) -> Markup {
    let Some(now) = job.memory else { return html! {} };
    html! {
        div class="use" {
            p class="pair" {
                span { "Memory " strong { (words::bytes(now)) } }
                @if let Some(limit) = job.memory_limit { span class="quiet" { "of " (words::bytes(limit)) } }
            }
            @if let Some(limit) = job.memory_limit {
                (meter(now as f64, limit as f64, job.memory_peak.map(|peak| peak as f64)))
            }
            @if let Some(peak) = job.memory_peak { p class="peak" { "at most " (words::bytes(peak)) } }
        }
    }
}

fn cpus(job: &Job) -> Markup {
    let Some(now) = job.cpus else { return html! {} };
    html! {
        div class="use" {
            p class="pair" {
                span { "CPUs " strong { (format!("{now:.2}")) } }
                @if let Some(limit) = job.cpus_limit { span class="quiet" { "of " (format!("{limit:.1}")) } }
            }
            @if let Some(limit) = job.cpus_limit { (meter(now, limit, job.cpus_peak)) }
            @if let Some(peak) = job.cpus_peak { p class="peak" { "at most " (format!("{peak:.2}")) } }
        }
    }
}

fn waiting(now: &Now, clock: Clock) -> Markup {
    html! {
        h2 { "Waiting" }
        @if now.waiting.is_empty() {
            p { "No job waits for a slot here. One that GitLab calls pending has not been taken by this host's gitlab-runner." }
        } @else {
            div class="scroll" tabindex="0" role="region" aria-label="Jobs that wait" {
                table {
                    caption { "Jobs that wait, the first first" }
                    thead { tr { th scope="col" { "Job" } th scope="col" { "Project" } th scope="col" { "Since" } th scope="col" { "Waits for" } th scope="col" { "Fails" } } }
                    tbody {
                        @for job in &now.waiting {
                            tr {
                                th scope="row" { (linked(job.url.as_deref(), &html! { (job.id) })) }
                                td { (job.project) }
                                td { (time(clock, &job.since)) }
                                td { (job.waits_for) }
                                td { @if let Some(until) = &job.until { (moment(until)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn held(now: &Now) -> Markup {
    if now.held.is_empty() {
        return html! {};
    }
    html! {
        h2 { "Held" }
        p { "Failed jobs whose containers are kept, with their memory and directories. " code { "windlass shell JOB" } " looks at one, " code { "windlass release JOB" } " ends it." }
        div class="scroll" tabindex="0" role="region" aria-label="Jobs that are held" {
            table {
                caption { "Failed jobs that are kept" }
                thead { tr { th scope="col" { "Job" } th scope="col" { "Project" } th scope="col" { "State" } th scope="col" { "Until" } th scope="col" { "Asked for by" } } }
                tbody {
                    @for job in &now.held {
                        tr {
                            th scope="row" { (linked(job.url.as_deref(), &html! { (job.id) })) }
                            td { (job.project) }
                            td { (badge(words::of_hold(&job.state))) }
                            td { (moment(&job.until)) }
                            td { (job.by) }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::as_read;
    use super::*;
    use crate::page::view::now::Held;
    use crate::protocol::daemon::StepStatus;

    fn job() -> Job {
        Job {
            id: 11,
            url: Some("https://gitlab.example.com/g/p/-/jobs/11".into()),
            project: "g/<p>".into(),
            state: "running".into(),
            stage: Some("build_script".into()),
            steps: Vec::new(),
            since: "2026-01-01T00:00:00Z".into(),
            stage_since: Some("2026-01-01T00:10:00Z".into()),
            image: Some("registry.example.com/base:1".into()),
            problem: None,
            memory: Some(64 << 20),
            memory_peak: Some(128 << 20),
            memory_limit: Some(256 << 20),
            cpus: Some(0.5),
            cpus_peak: Some(1.75),
            cpus_limit: Some(2.0),
        }
    }

    fn shown(job: Option<Job>, held: Vec<Held>) -> String {
        let slot = Slot { profile: "default".into(), index: 0, goes: false, job };
        let now = Now {
            version: "1.2.3".into(),
            started_at: "2025-12-31T22:00:00Z".into(),
            drained_since: None,
            warnings: Vec::new(),
            doctor: None,
            busy: 1,
            slots: vec![slot],
            waiting: Vec::new(),
            held,
        };
        let clock = Clock::At(crate::page::view::seconds("2026-01-01T01:00:00Z").expect("a time"));
        as_read(&parts(&now, clock))
    }

    #[test]
    fn a_job_shows_what_it_uses_what_it_used_at_most_and_what_it_may() {
        let text = shown(Some(job()), Vec::new());
        for words in [
            "Memory 64.0 MiB of 256.0 MiB",
            "at most 128.0 MiB",
            "CPUs 0.50 of 2.0",
            "at most 1.75",
            "build_script began 50m ago",
        ] {
            assert!(text.contains(words), "{words:?} is missing:\n{text}");
        }
        let unlimited = Job { memory_limit: None, memory_peak: None, cpus: None, ..job() };
        let text = shown(Some(unlimited), Vec::new());
        assert!(text.contains("Memory 64.0 MiB") && !text.contains("at most") && !text.contains("CPUs"), "{text}");
    }

    #[test]
    fn what_a_preparation_waits_for_is_told() {
        let step = StepStatus { what: "pulling image alpine".into(), since: "2026-01-01T00:59:00Z".into() };
        let text = shown(Some(Job { stage: None, stage_since: None, steps: vec![step], ..job() }), Vec::new());
        assert!(text.contains("pulling image alpine") && text.contains(", begun 1m ago"), "{text}");
    }

    #[test]
    fn the_last_restart_is_told() {
        let text = shown(None, Vec::new());
        assert!(text.contains("1.2.3, started 3h ago"), "{text}");
        assert!(!text.contains("Held"), "{text}");
    }

    #[test]
    fn held_jobs_are_told_with_project_end_and_who_asked() {
        let held = Held {
            id: 12,
            url: None,
            project: "g/<q>".into(),
            state: "held".into(),
            until: "2026-01-01T09:30:00Z".into(),
            by: "root (sudo by alice)".into(),
        };
        let text = shown(None, vec![held]);
        for words in
            ["Held", "12", "g/&lt;q&gt;", "2026-01-01 09:30:00 UTC", "root (sudo by alice)", "windlass release"]
        {
            assert!(text.contains(words), "{words:?} is missing:\n{text}");
        }
    }
}
