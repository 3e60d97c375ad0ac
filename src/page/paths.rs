//! Which page is at which path, and where the changes of a page come from.

use super::html::chain::Show;
use super::render::Topic;

/// Longest text that projects are searched by, in characters.
const TEXT_MAX: usize = 200;

/// What a path below the base shows.
pub fn topic(path: &str, query: &str) -> Option<Topic> {
    match path {
        "/" => Some(Topic::Now),
        "/disk" => Some(Topic::Disk),
        "/jobs" => Some(Topic::Jobs),
        "/images" => Some(Topic::Images),
        "/chain" => {
            let all = match field(query, "show").as_deref() {
                Some("all") => Some(true),
                Some("not-fresh") => Some(false),
                _ => None,
            };
            let text = field(query, "q").unwrap_or_default().chars().take(TEXT_MAX).collect();
            Some(Topic::Chain(Show { all, text }))
        }
        _ => path.strip_prefix("/chain/")?.parse().ok().map(Topic::Project),
    }
}

/// Where a page is.
pub fn page_path(topic: &Topic) -> String {
    match topic {
        Topic::Now => "/".to_owned(),
        Topic::Disk => "/disk".to_owned(),
        Topic::Jobs => "/jobs".to_owned(),
        Topic::Images => "/images".to_owned(),
        Topic::Chain(show) if *show == Show::default() => "/chain".to_owned(),
        Topic::Chain(show) => format!("/chain{}", show.query()),
        Topic::Project(id) => format!("/chain/{id}"),
    }
}

/// Where its changes come from.
pub fn live_path(topic: &Topic) -> String {
    match topic {
        Topic::Now => "/live/now".to_owned(),
        topic => format!("/live{}", page_path(topic)),
    }
}

/// A field of a form or a query.
pub fn field(text: &str, name: &str) -> Option<String> {
    let value = text.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)?.1;
    let value = value.replace('+', " ");
    Some(percent_encoding::percent_decode_str(&value).decode_utf8_lossy().into_owned())
}

/// Where somebody gets who has logged in. Whatever is no page of these is the first one, so a link leads nowhere else.
pub fn next(wanted: Option<String>) -> String {
    let wanted = wanted.unwrap_or_default();
    let (path, query) = wanted.split_once('?').unwrap_or((&wanted, ""));
    topic(path, query).map_or_else(|| "/".to_owned(), |topic| page_path(&topic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_browsers_send_them() {
        let text = "show=all&q=a%2Fb+c%3Cscript%3E&x";
        assert_eq!(field(text, "q").as_deref(), Some("a/b c<script>"));
        assert_eq!((field(text, "x"), field(text, "token")), (None, None));
    }

    #[test]
    fn paths_lead_to_pages_and_nothing_else_does() {
        assert_eq!(topic("/chain/17", ""), Some(Topic::Project(17)));
        let show = Show { all: Some(false), text: "app".into() };
        assert_eq!(topic("/chain", "show=not-fresh&q=app"), Some(Topic::Chain(show.clone())));
        assert_eq!(live_path(&Topic::Chain(show)), "/live/chain?show=not-fresh&q=app");
        for path in ["", "/chain/", "/chain/x", "/chain/../etc", "/etc/passwd"] {
            assert_eq!(topic(path, ""), None, "{path}");
        }
    }

    #[test]
    fn after_the_login_a_link_leads_to_a_page_of_these_and_to_nothing_else() {
        let to = |wanted: &str| next(Some(wanted.to_owned()));
        for page in ["/", "/disk", "/jobs", "/images", "/chain", "/chain/17", "/chain?show=not-fresh&q=app%2Fx"] {
            assert_eq!(to(page), page);
        }
        assert_eq!(to("/chain?q=\r\nx: y"), "/chain?show=&q=%0D%0Ax%3A%20y");
        for elsewhere in [
            "",
            "//evil.example.com",
            "///evil.example.com/disk",
            "\\\\evil.example.com",
            "/\\evil.example.com",
            "https://evil.example.com/",
            "https:evil.example.com",
            "javascript:alert(1)",
            "evil.example.com",
            "/\t/evil.example.com",
            "/disk\r\nLocation: https://evil.example.com",
            "/chain/17/../../..//evil.example.com",
            "/chain/17\u{0}",
            " /disk",
            "/login",
            "/logout",
            "/api/v1/now",
        ] {
            assert_eq!(to(elsewhere), "/", "{elsewhere:?}");
        }
        assert_eq!(next(None), "/");
    }
}
