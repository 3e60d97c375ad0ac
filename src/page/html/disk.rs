//! The page of the disks: free space, what projects keep, images.

use maud::{Markup, html};

use super::{Clock, Part, meter, time};
use crate::page::view::disk::{Disk, ProjectLanes};
use crate::page::words;
use crate::protocol::admin::{FileSystem, ImageRow};

/// Most rows of a table.
const ROWS: usize = 200;

/// Its parts.
#[must_use]
pub fn parts(disk: &Disk, clock: Clock) -> Vec<Part> {
    vec![
        Part::new("space", &space(disk)),
        Part::new("lanes", &lanes(disk, clock)),
        Part::new("images", &images(disk, clock)),
    ]
}

fn space(disk: &Disk) -> Markup {
    html! {
        h2 { "Free space" }
        @for file_system in &disk.file_systems { (of(file_system)) }
        dl class="facts" {
            div { dt { "Kept by projects" } dd { (words::bytes(disk.lane_bytes)) } }
            div { dt { "Images" } dd { (words::bytes(disk.image_bytes)) " (shared layers count for each)" } }
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "a picture's width")]
fn of(file_system: &FileSystem) -> Markup {
    let used = file_system.bytes.saturating_sub(file_system.free_bytes);
    let is_short = file_system.free_bytes < file_system.kept_free_bytes;
    html! {
        div class="use" {
            p {
                strong { (words::bytes(file_system.free_bytes)) " free" } " of " (words::bytes(file_system.bytes)) " on " code { (file_system.path) }
                "; the purge keeps " (words::bytes(file_system.kept_free_bytes)) " free"
                @if is_short { " " span class="badge bad" { span aria-hidden="true" { "✕" } " too little is free" } }
            }
            (meter(used as f64, file_system.bytes as f64, None))
        }
    }
}

fn lanes(disk: &Disk, clock: Clock) -> Markup {
    html! {
        h2 { "What projects keep" }
        @if disk.projects.is_empty() { p { "Nothing." } } @else {
            div class="scroll" tabindex="0" role="region" aria-label="What projects keep" {
                table {
                    caption { "Build directories and caches by project, the largest first" }
                    thead { tr { th scope="col" { "Project" } th scope="col" { "Lane" } th scope="col" class="number" { "Size" } th scope="col" { "Last used" } th scope="col" { "Used by job" } th scope="col" { "Would go by" } } }
                    @for project in disk.projects.iter().take(ROWS) { (project_rows(project, clock)) }
                }
            }
            @if disk.projects.len() > ROWS { p { "And " (disk.projects.len() - ROWS) " more projects." } }
        }
    }
}

fn project_rows(project: &ProjectLanes, clock: Clock) -> Markup {
    html! {
        tbody {
            tr class="sum" {
                th scope="rowgroup" { (project.project) }
                td { (project.lanes.len()) @if project.lanes.len() == 1 { " lane" } @else { " lanes" } }
                td class="number" { strong { (words::bytes(project.bytes)) } }
                td {} td {} td {}
            }
            @for lane in &project.lanes {
                tr {
                    td class="quiet" { @if lane.protected { "protected refs" } @else { "other refs" } }
                    td { (lane.lane) }
                    td class="number" { @match lane.bytes { Some(bytes) => (words::bytes(bytes)), None => "not measured" } }
                    td { @if lane.jobs.is_empty() { (time(clock, &minute(&lane.last_use))) } @else { "in use" } }
                    td { (lane.jobs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")) }
                    td { (lane.goes_by.as_deref().unwrap_or("")) }
                }
            }
        }
    }
}

fn images(disk: &Disk, clock: Clock) -> Markup {
    html! {
        h2 { "Images" }
        @if disk.images.is_empty() { p { "None." } } @else {
            div class="scroll" tabindex="0" role="region" aria-label="Images on this host" {
                table {
                    caption { "Images on this host, the largest first" }
                    thead { tr { th scope="col" { "Image" } th scope="col" class="number" { "Size" } th scope="col" { "Last used" } th scope="col" { "Stays because" } th scope="col" { "Would go by" } } }
                    tbody { @for image in disk.images.iter().take(ROWS) { tr {
                        th scope="row" class="image" { (name(image)) }
                        td class="number" { (words::bytes(image.bytes)) }
                        td { @match &image.last_use { Some(at) => (time(clock, &minute(at))), None => "not by a job" } }
                        td { (image.stays.as_deref().unwrap_or("")) }
                        td { (image.goes_by.as_deref().unwrap_or("")) }
                    } } }
                }
            }
            @if disk.images.len() > ROWS { p { "And " (disk.images.len() - ROWS) " more." } }
        }
    }
}

fn name(image: &ImageRow) -> String {
    match image.names.as_slice() {
        [] => image.id.chars().take(12).collect(),
        names => names.join(" "),
    }
}

/// Times that were made of ages move by a second now and then: to the minute they stay.
fn minute(date: &str) -> String {
    match date.get(..16) {
        Some(start) => format!("{start}:00Z"),
        None => date.to_owned(),
    }
}
