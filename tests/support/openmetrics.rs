//! A strict little reader of OpenMetrics text: what it takes, Prometheus takes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use super::host::Host;
use super::wait::seconds;

/// What was read.
#[derive(Debug)]
pub struct Figures {
    /// Type by family.
    pub types: BTreeMap<String, String>,
    /// Value by name and labels, as written.
    pub values: BTreeMap<String, f64>,
}

impl Figures {
    /// What a daemon says now.
    pub fn of(host: &Host) -> Self {
        let (status, text) = get(host, "/metrics");
        assert_eq!(status, 200, "{text}");
        Self::read(&text)
    }

    /// Each family is in docs/watching.md, some by their ending.
    pub fn expect_documented(&self) {
        let page = include_str!("../../docs/watching.md");
        let has = |family: &str| {
            page.contains(&format!("`{family}"))
                || family.strip_prefix("windlass_filesystem").is_some_and(|end| page.contains(&format!("`{end}")))
        };
        let missing: Vec<&String> = self.types.keys().filter(|family| !has(family)).collect();
        assert!(missing.is_empty(), "docs/watching.md lacks {missing:?}");
    }

    /// Reads; panics with what is wrong.
    pub fn read(text: &str) -> Self {
        let body = text.strip_suffix("# EOF\n").expect("it ends with # EOF");
        let (mut types, mut helps, mut values) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        for line in body.lines() {
            if let Some(rest) = line.strip_prefix("# ") {
                let mut words = rest.splitn(3, ' ');
                let (word, family, what) = (words.next(), words.next(), words.next());
                let (family, what) = (family.expect(line), what.unwrap_or_default());
                match word {
                    Some("HELP") => assert!(!what.is_empty() && helps.insert(family.to_owned()), "{line}"),
                    Some("TYPE") => {
                        assert!(types.insert(family.to_owned(), what.to_owned()).is_none(), "twice: {line}")
                    }
                    Some("UNIT") => assert!(family.ends_with(&format!("_{what}")), "{line}"),
                    _ => panic!("neither HELP, TYPE nor UNIT: {line}"),
                }
                continue;
            }
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            let bare = name.split('{').next().unwrap_or_default();
            assert!(bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "no name: {line}");
            let family = Self::family(bare, &types).unwrap_or_else(|| panic!("of no family: {line}"));
            assert!(helps.contains(family), "without HELP: {line}");
            assert!(values.insert(name.to_owned(), value).is_none(), "twice: {line}");
        }
        Self { types, values }
    }

    /// The family of a name: what is before the suffix that its type gives it.
    fn family<'a>(name: &'a str, types: &BTreeMap<String, String>) -> Option<&'a str> {
        for suffix in ["", "_total", "_bucket", "_sum", "_count"] {
            let Some(family) = name.strip_suffix(suffix) else { continue };
            let fits = match types.get(family).map(String::as_str) {
                Some("counter") => suffix == "_total",
                Some("histogram") => matches!(suffix, "_bucket" | "_sum" | "_count"),
                Some("gauge") => suffix.is_empty(),
                _ => false,
            };
            if fits {
                return Some(family);
            }
        }
        None
    }

    /// A value; 0 where there is none yet.
    pub fn get(&self, name: &str) -> f64 {
        self.values.get(name).copied().unwrap_or(0.0)
    }
}

/// Status and body of an answer on the daemon's socket for those who watch it.
pub fn get(host: &Host, path: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(host.run_dir().join("admin.sock")).unwrap();
    stream.set_read_timeout(Some(seconds(20))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: windlass\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}
