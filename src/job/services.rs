//! A job's services: their names in its network, and their variables.

use std::collections::BTreeMap;

use super::secrets::VariableKinds;

/// The names that an image gives to a service (`helpers/container/services` of GitLab Runner): without tag, digest and port,
/// with `/` as `__`, and with `/` as `-`.
#[must_use]
pub fn names_of(image: &str) -> Vec<String> {
    let image = image.split('@').next().unwrap_or_default();
    let slash = image.rfind('/').map_or(0, |slash| slash + 1);
    let last = image[slash..].split(':').next().unwrap_or_default();
    // A port follows the first part.
    let path = match image[..slash].split_once('/') {
        Some((host, rest)) => format!("{}/{rest}{last}", host.split(':').next().unwrap_or_default()),
        None => last.to_owned(),
    };
    let mut names = vec![path.replace('/', "__"), path.replace('/', "-")];
    names.dedup();
    names
}

/// Whether a name can stand in /etc/hosts and on a command line.
#[must_use]
pub fn is_host_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.len() <= 253 && name.starts_with(inner) && name.chars().all(|c| inner(c) || c == '-' || c == '.')
}

/// A text with its variables (`$NAME`, `${NAME}`, `$$`) filled in; unknown ones are empty (`expand` in common/spec of GitLab Runner,
/// which is Go's os.Expand).
#[must_use]
pub fn expand<'a>(text: &str, value: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        expanded.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        let (name, after) = name_at(rest);
        match name {
            Some("$") => expanded.push('$'),
            Some(name) => expanded.push_str(value(name).unwrap_or_default()),
            None => expanded.push('$'),
        }
        rest = after;
    }
    expanded.push_str(rest);
    expanded
}

/// The name behind a `$`, and what follows it.
fn name_at(text: &str) -> (Option<&str>, &str) {
    if let Some(rest) = text.strip_prefix('{') {
        return match rest.split_once('}') {
            Some((name, after)) => (Some(name), after),
            None => (None, text),
        };
    }
    if let Some(after) = text.strip_prefix('$') {
        return (Some("$"), after);
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    if end == 0 { (None, text) } else { (Some(&text[..end]), &text[end..]) }
}

/// A service's variables.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ServiceVariables {
    /// Those whose value anybody may see: public in GitLab, and written out in full there.
    pub plain: BTreeMap<String, String>,
    /// The others.
    pub secret: BTreeMap<String, String>,
}

/// What a service sees: the job's public variables and the runner's own, and what it has itself. A value that some variable was
/// filled into may hold any other's, so it counts as secret.
#[must_use]
pub fn variables<'a>(
    job: impl Iterator<Item = (&'a str, &'a str)>,
    kinds: &VariableKinds,
    own: &[(String, String)],
) -> ServiceVariables {
    let all: BTreeMap<&str, &str> = job.collect();
    let visible = all.iter().filter(|(name, _)| !kinds.private.contains(**name) && is_variable(name));
    let mut found = ServiceVariables::default();
    for (name, value) in visible {
        // What the job response does not name comes from the runner's own configuration, which may hold anything.
        let open = kinds.public.contains(*name) && kinds.literal.contains(*name);
        let set = if open { &mut found.plain } else { &mut found.secret };
        set.insert((*name).to_owned(), (*value).to_owned());
    }
    let own: Vec<&(String, String)> = own.iter().filter(|(name, _)| is_variable(name)).collect();
    for (name, value) in &own {
        let value = expand(value, |wanted| {
            let others = own.iter().rev().find(|(other, _)| other == wanted && other != name);
            others.map(|(_, value)| value.as_str()).or_else(|| all.get(wanted).copied())
        });
        found.plain.remove(name);
        found.secret.insert(name.clone(), value);
    }
    found
}

/// Whether it can be the name of an environment variable on a command line of podman.
fn is_variable(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_gives_names_as_with_docker() {
        assert_eq!(names_of("postgres:16"), ["postgres"]);
        assert_eq!(
            names_of("registry.example.com:5000/group/my-db:1@sha256:0"),
            ["registry.example.com__group__my-db", "registry.example.com-group-my-db"]
        );
        assert_eq!(names_of("tutum/wordpress"), ["tutum__wordpress", "tutum-wordpress"]);
    }

    #[test]
    fn variables_are_filled_in_as_go_does() {
        let value = |name: &str| (name == "A").then_some("1");
        assert_eq!(expand("$A-${A}-$B-$$-$", value), "1-1--$-$");
        assert_eq!(expand("${A", value), "${A");
        assert_eq!(expand("x", value), "x");
    }

    #[test]
    fn a_service_sees_no_secret_of_the_job_unless_it_asks_for_it() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let kinds = VariableKinds {
            private: set(&["TOKEN"]),
            public: set(&["CI_PROJECT_ID", "URL"]),
            files: set(&[]),
            literal: set(&["CI_PROJECT_ID", "TOKEN"]),
        };
        let job = [
            ("TOKEN", "s3cret"),
            ("CI_PROJECT_ID", "7"),
            ("URL", "https://s3cret@x"),
            ("CI_RUNNER_ID", "3"),
            ("A B", "x"),
        ];
        let own = [
            ("PASSWORD".to_owned(), "p-$CI_PROJECT_ID-$TOKEN".to_owned()),
            ("CI_RUNNER_ID".to_owned(), "4".to_owned()),
        ];
        let found = variables(job.into_iter(), &kinds, &own);
        let pairs =
            |map: &BTreeMap<String, String>| map.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ");
        assert_eq!(pairs(&found.plain), "CI_PROJECT_ID=7");
        assert_eq!(pairs(&found.secret), "CI_RUNNER_ID=4 PASSWORD=p-7-s3cret URL=https://s3cret@x");
    }

    #[test]
    fn a_name_that_is_no_host_name_is_none() {
        for name in ["", "-x", "a b", "a:1", "a,b", "b\u{e4}"] {
            assert!(!is_host_name(name), "{name:?}");
        }
        assert!(is_host_name("my_db.x-1"));
    }
}
