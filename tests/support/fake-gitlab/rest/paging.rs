//! Pages of a list, by number, and the headers that lead from one to the next.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::Call;
use crate::http::Answer;
use crate::state::State;

/// The most that a page has.
pub const PAGE_MAX: u64 = 100;
/// What it has where nothing is said.
pub const PAGE_DEFAULT: u64 = 20;
/// In longer lists GitLab does not count.
const COUNTED_MAX: usize = 10_000;

/// How many a page is to have.
pub fn per_page(call: &Call<'_>, max: u64) -> usize {
    let wanted = call.parameters.number("per_page").filter(|wanted| *wanted > 0).unwrap_or(PAGE_DEFAULT);
    usize::try_from(wanted.min(max)).unwrap_or(usize::MAX)
}

/// The page that was asked for, of all that there is.
pub fn page<T>(state: &State, call: &Call<'_>, all: &[T], show: impl FnMut(&T) -> Value) -> Answer {
    let size = per_page(call, PAGE_MAX);
    let number = call.parameters.number("page").and_then(|page| usize::try_from(page).ok()).unwrap_or(1).max(1);
    let pages = all.len().div_ceil(size).max(1);
    let shown: Vec<Value> = all.iter().skip((number - 1).saturating_mul(size)).take(size).map(show).collect();
    let is_counted = all.len() <= COUNTED_MAX;
    let at = |page: usize| {
        let numbers = [("page", page.to_string()), ("per_page", size.to_string())];
        link(state, call, &numbers)
    };
    let mut links = Vec::new();
    if number > 1 {
        links.push(format!("<{}>; rel=\"prev\"", at(number - 1)));
    }
    if number < pages {
        links.push(format!("<{}>; rel=\"next\"", at(number + 1)));
    }
    links.push(format!("<{}>; rel=\"first\"", at(1)));
    let neighbour = |page: usize, there: bool| if there { page.to_string() } else { String::new() };
    let mut answer = Answer::json(200, &Value::Array(shown))
        .with("X-Next-Page", neighbour(number + 1, number < pages))
        .with("X-Page", number.to_string())
        .with("X-Per-Page", size.to_string())
        .with("X-Prev-Page", neighbour(number.saturating_sub(1), number > 1));
    if is_counted {
        links.push(format!("<{}>; rel=\"last\"", at(pages)));
        answer = answer.with("X-Total", all.len().to_string()).with("X-Total-Pages", pages.to_string());
    }
    answer.with("Link", links.join(", "))
}

/// The address of a request with some of its parameters replaced.
pub fn link(state: &State, call: &Call<'_>, replaced: &[(&str, String)]) -> String {
    let mut all = call.request.query_pairs();
    all.remove("private_token");
    all.extend(replaced.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string().replace("%5F", "_");
    let query: Vec<String> = all.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    format!("{}{}?{}", state.settings.url, call.request.path, query.join("&"))
}
