//! Which keys and tables there are, asked of the fragment types themselves so that no second list can go stale.

use serde::de::value::Error;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};

use super::fragment::{Fragment, PodmanFragment, ProfileFragment, SocketFragment};
use super::keys::{
    AuditKeys, ChainKeys, ChainProjectKeys, FeedKeys, GitlabKeys, HelperKeys, HistoryKeys, HoldKeys, JobKeys, LaneKeys,
    LimitKeys, MaximumKeys, MetricsKeys, NotifyKeys, PageKeys, PolicyKeys, PurgeKeys, ServiceKeys, WatchKeys,
    WebhookKeys,
};

/// What a table may hold.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// These keys, some of them tables.
    Keys { keys: fn() -> &'static [&'static str], tables: &'static [(&'static str, Shape)] },
    /// A table for each name that the administrator chooses.
    Named(&'static Shape),
    /// Names and texts that the administrator chooses.
    Free,
    /// Any number of such tables.
    List(&'static Shape),
}

const SOCKET: Shape = Shape::Keys { keys: keys_of::<SocketFragment>, tables: &[] };
const PODMAN: Shape = Shape::Keys { keys: keys_of::<PodmanFragment>, tables: &[("environment", Shape::Free)] };
const SERVICE: Shape = Shape::Keys { keys: keys_of::<ServiceKeys>, tables: &[("environment", Shape::Free)] };
const JOB: Shape = Shape::Keys {
    keys: keys_of::<JobKeys>,
    tables: &[
        ("tmpfs", Shape::Free),
        ("ulimits", Shape::Free),
        ("sysctls", Shape::Free),
        ("extra_hosts", Shape::Free),
        ("environment", Shape::Free),
        ("maximum", Shape::Keys { keys: keys_of::<MaximumKeys>, tables: &[] }),
        (
            "service",
            Shape::Keys { keys: keys_of::<LimitKeys>, tables: &[("tmpfs", Shape::Free), ("ulimits", Shape::Free)] },
        ),
        ("helper", Shape::Keys { keys: keys_of::<HelperKeys>, tables: &[] }),
        ("services", Shape::List(&SERVICE)),
    ],
};
const CHAIN: Shape = Shape::Keys {
    keys: keys_of::<ChainKeys>,
    tables: &[
        ("args", Shape::Free),
        ("notify", Shape::Keys { keys: keys_of::<NotifyKeys>, tables: &[] }),
        ("watch", Shape::Keys { keys: keys_of::<WatchKeys>, tables: &[] }),
        ("audit", Shape::Keys { keys: keys_of::<AuditKeys>, tables: &[] }),
        ("project", Shape::List(&CHAIN_PROJECT)),
    ],
};
const CHAIN_PROJECT: Shape = Shape::Keys { keys: keys_of::<ChainProjectKeys>, tables: &[] };
const POLICY: Shape = Shape::Keys { keys: keys_of::<PolicyKeys>, tables: &[] };
const PROFILE: Shape = Shape::Keys { keys: keys_of::<ProfileFragment>, tables: &[("job", JOB)] };

/// The file's own shape.
pub(super) const FILE: Shape = Shape::Keys {
    keys: keys_of::<Fragment>,
    tables: &[
        ("socket", SOCKET),
        ("podman", PODMAN),
        ("gitlab", Shape::Keys { keys: keys_of::<GitlabKeys>, tables: &[] }),
        ("chain", CHAIN),
        ("webhook", Shape::Keys { keys: keys_of::<WebhookKeys>, tables: &[] }),
        ("feed", Shape::Keys { keys: keys_of::<FeedKeys>, tables: &[] }),
        ("page", Shape::Keys { keys: keys_of::<PageKeys>, tables: &[] }),
        ("lanes", Shape::Keys { keys: keys_of::<LaneKeys>, tables: &[] }),
        ("purge", Shape::Keys { keys: keys_of::<PurgeKeys>, tables: &[] }),
        ("hold", Shape::Keys { keys: keys_of::<HoldKeys>, tables: &[] }),
        ("history", Shape::Keys { keys: keys_of::<HistoryKeys>, tables: &[] }),
        ("metrics", Shape::Keys { keys: keys_of::<MetricsKeys>, tables: &[] }),
        ("job", JOB),
        ("policy", Shape::List(&POLICY)),
        ("profile", Shape::Named(&PROFILE)),
    ],
};

/// Every table with fixed keys, by the header that it has in the file; the file itself is `""`.
pub(super) fn tables() -> Vec<(String, &'static [&'static str])> {
    fn walk(header: &str, shape: &Shape, found: &mut Vec<(String, &'static [&'static str])>) {
        match shape {
            Shape::Keys { keys, tables } => {
                found.push((header.to_owned(), keys()));
                for (name, table) in *tables {
                    walk(&join(header, name), table, found);
                }
            }
            Shape::Named(table) => walk(&join(header, "NAME"), table, found),
            Shape::List(table) => walk(&join(header, "0"), table, found),
            Shape::Free => {}
        }
    }
    let mut found = Vec::new();
    walk("", &FILE, &mut found);
    found
}

/// A dotted key, from the header that it is under and its own name.
pub(super) fn join(header: &str, name: &str) -> String {
    match (header, name) {
        ("", _) => name.to_owned(),
        (_, "") => header.to_owned(),
        _ => format!("{header}.{name}"),
    }
}

/// The field names of a struct, as serde's derive hands them to a deserializer.
pub(super) fn keys_of<T: DeserializeOwned>() -> &'static [&'static str] {
    struct Ask<'a>(&'a mut &'static [&'static str]);
    impl<'de> Deserializer<'de> for Ask<'_> {
        type Error = Error;
        fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
            Err(Error::custom("only field names are asked for"))
        }
        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _name: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Error> {
            *self.0 = fields;
            self.deserialize_any(visitor)
        }
        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }
    let mut keys: &'static [&'static str] = &[];
    // Always an error: the fields are what was wanted.
    let _ = T::deserialize(Ask(&mut keys));
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_found_with_its_keys() {
        let tables = tables();
        let headers: Vec<&str> = tables.iter().map(|(header, _)| header.as_str()).collect();
        let job = ["job", "job.maximum", "job.service", "job.helper", "job.services.0"];
        let own: Vec<String> = job.iter().map(|header| format!("profile.NAME.{header}")).collect();
        let mut expected = vec!["", "socket", "podman", "gitlab"];
        expected.extend([
            "chain",
            "chain.notify",
            "chain.watch",
            "chain.audit",
            "chain.project.0",
            "webhook",
            "feed",
            "page",
            "lanes",
            "purge",
            "hold",
            "history",
            "metrics",
        ]);
        expected.extend(job);
        expected.extend(["policy.0", "profile.NAME"]);
        expected.extend(own.iter().map(String::as_str));
        assert_eq!(headers, expected);
        assert!(tables.iter().all(|(_, keys)| !keys.is_empty()), "{tables:?}");
    }

    #[test]
    fn every_table_of_a_shape_is_one_of_its_keys() {
        fn check(shape: &Shape) {
            match shape {
                Shape::Keys { keys, tables } => tables.iter().for_each(|(name, table)| {
                    assert!(keys().contains(name), "{name}");
                    check(table);
                }),
                Shape::Named(table) | Shape::List(table) => check(table),
                Shape::Free => {}
            }
        }
        check(&FILE);
    }
}
