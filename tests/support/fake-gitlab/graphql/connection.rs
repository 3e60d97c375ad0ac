//! Pages of a list, by cursor.

use async_graphql::{Error, OutputType, Result, SimpleObject};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::limits::page_size;
use super::pipeline::Pipeline;
use super::project::Project;
use super::repository::{Blob, RepositoryBlob};

/// Where a page begins and ends.
#[derive(SimpleObject)]
pub struct PageInfo {
    has_next_page: bool,
    has_previous_page: bool,
    start_cursor: Option<String>,
    end_cursor: Option<String>,
}

/// A page.
#[derive(SimpleObject)]
#[graphql(concrete(name = "ProjectConnection", params(Project)))]
#[graphql(concrete(name = "PipelineConnection", params(Pipeline)))]
#[graphql(concrete(name = "RepositoryBlobConnection", params(RepositoryBlob)))]
#[graphql(concrete(name = "BlobConnection", params(Blob)))]
pub struct Connection<T: OutputType> {
    // GitLab's library does not count it.
    #[graphql(complexity = 0)]
    page_info: PageInfo,
    nodes: Vec<T>,
}

/// Which page.
#[derive(Debug, Default)]
pub struct Page {
    /// After this cursor.
    pub after: Option<String>,
    /// Before this cursor.
    pub before: Option<String>,
    /// So many from the beginning.
    pub first: Option<i32>,
    /// So many from the end.
    pub last: Option<i32>,
}

impl<T: OutputType> Connection<T> {
    /// A page of a list in which each has a number of its own.
    pub fn new(all: Vec<(u64, T)>, page: &Page) -> Result<Self> {
        if page.first.is_some() && page.last.is_some() {
            return Err(Error::new("Can only provide either `first` or `last`, not both"));
        }
        let total = all.len();
        let read = |cursor: &Option<String>| {
            let number =
                cursor.as_deref().map(|cursor| read(cursor).ok_or_else(|| Error::new("Please provide a valid cursor")));
            number.transpose()
        };
        // By the order of the numbers and not by their places: what a cursor named may be gone by now.
        let descends = all.first().zip(all.last()).is_some_and(|((first, _), (last, _))| first > last);
        let precedes = |number: u64, cursor: u64| if descends { number > cursor } else { number < cursor };
        let start = read(&page.after)?.map_or(0, |cursor| {
            all.iter().take_while(|(number, _)| precedes(*number, cursor) || *number == cursor).count()
        });
        let end = read(&page.before)?
            .map_or(total, |cursor| all.iter().take_while(|(number, _)| precedes(*number, cursor)).count());
        let end = end.max(start);
        let (from, to) = match page.last {
            Some(_) => (end.saturating_sub(page_size(page.last)).max(start), end),
            None => (start, end.min(start + page_size(page.first))),
        };
        let shown: Vec<(u64, T)> = all.into_iter().skip(from).take(to - from).collect();
        let cursor = |entry: Option<&(u64, T)>| entry.map(|(number, _)| write(*number));
        let page_info = PageInfo {
            has_next_page: to < total,
            has_previous_page: from > 0,
            start_cursor: cursor(shown.first()),
            end_cursor: cursor(shown.last()),
        };
        Ok(Self { page_info, nodes: shown.into_iter().map(|(_, node)| node).collect() })
    }
}

fn write(number: u64) -> String {
    STANDARD.encode(json!({"id": number.to_string()}).to_string())
}

fn read(cursor: &str) -> Option<u64> {
    let text: Value = serde_json::from_slice(&STANDARD.decode(cursor).ok()?).ok()?;
    text["id"].as_str()?.parse().ok()
}
