//! What a project builds on, from the files of its repository.

use std::collections::{BTreeMap, BTreeSet};

use super::containerfile::{Containerfile, Kind, Where};
use super::facts::{ProjectId, Upstream};

/// Most lines of a `.gitlab-deps` that are read.
const DEPS_MAX: usize = 1000;

/// The projects that can be built on.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// By path, in lower case.
    paths: BTreeMap<String, ProjectId>,
    /// By the place of their images (`container_registry_image_prefix`), in lower case.
    prefixes: BTreeMap<String, ProjectId>,
    /// Hosts by which this GitLab is known, in lower case, with their port if they have one.
    hosts: Vec<String>,
}

impl Catalog {
    /// One for a GitLab that is known by these hosts.
    #[must_use]
    pub fn new(hosts: &[&str]) -> Self {
        Self { hosts: hosts.iter().map(|host| host.to_ascii_lowercase()).collect(), ..Self::default() }
    }

    /// Adds a project; without a prefix where it has no registry.
    pub fn add(&mut self, id: ProjectId, path: &str, prefix: Option<&str>) {
        self.paths.insert(path.to_ascii_lowercase(), id);
        if let Some(prefix) = prefix.filter(|prefix| !prefix.is_empty()) {
            self.prefixes.insert(prefix.trim_end_matches('/').to_ascii_lowercase(), id);
        }
    }

    /// The project that builds an image: the one with the longest prefix of its name, since a group may be called as a project's image.
    #[must_use]
    pub fn project_of(&self, image: &str) -> Option<ProjectId> {
        let name = repository(image).to_ascii_lowercase();
        let mut prefix = name.as_str();
        loop {
            if let Some(id) = self.prefixes.get(prefix) {
                return Some(*id);
            }
            prefix = prefix.rsplit_once('/')?.0;
        }
    }

    /// The project that a line of `.gitlab-deps` names: a path, or a URL of this GitLab.
    fn project_named(&self, line: &str) -> Result<ProjectId, String> {
        let lower = line.to_ascii_lowercase();
        let path = match lower.split_once("://") {
            None => lower.as_str(),
            Some((_, rest)) => {
                let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
                let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
                if !self.hosts.iter().any(|known| known == host) {
                    return Err(format!("{line}: {host} is not this GitLab"));
                }
                path
            }
        };
        let path = path.trim_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path).trim_end_matches('/');
        self.paths.get(path).copied().ok_or_else(|| format!("{line}: the chain knows no project {path}"))
    }
}

/// An image's name without tag and digest.
fn repository(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

/// The files of a repository that say what it builds on, with their text; what is not there is missing.
#[derive(Debug, Clone, Default)]
pub struct Files<'a> {
    /// `.gitlab-deps`
    pub deps: Option<&'a str>,
    /// `Containerfile`
    pub containerfile: Option<&'a str>,
    /// `Dockerfile`
    pub dockerfile: Option<&'a str>,
    /// Further ones, by their paths.
    pub further: Vec<(&'a str, &'a str)>,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// What the project builds on, and whether a digest pins it.
    pub upstreams: BTreeMap<Upstream, bool>,
    /// By project that is built on, the images that say so.
    pub named: BTreeMap<ProjectId, BTreeSet<String>>,
    /// What could not be understood, for people.
    pub problems: Vec<String>,
}

impl Found {
    /// Of a thing that is pinned here and not there, the weaker counts: it moves.
    fn add(&mut self, upstream: Upstream, pinned: bool) {
        self.upstreams.entry(upstream).and_modify(|known| *known &= pinned).or_insert(pinned);
    }
}

/// Finds what a project builds on: from `.gitlab-deps` if it has one, else from Containerfile, else from Dockerfile, and from further files.
/// `args`: values that builds get.
#[must_use]
pub fn discover(files: &Files<'_>, catalog: &Catalog, args: &BTreeMap<String, String>) -> Found {
    let mut found = Found::default();
    match (files.deps, files.containerfile, files.dockerfile) {
        (Some(deps), ..) => {
            for line in deps.lines().take(DEPS_MAX) {
                let line = line.split_once('#').map_or(line, |(line, _)| line).trim();
                match line.trim_start_matches('\u{feff}') {
                    "" => {}
                    line => match catalog.project_named(line) {
                        Ok(id) => found.add(Upstream::Project(id), false),
                        Err(problem) => found.problems.push(format!(".gitlab-deps: {problem}")),
                    },
                }
            }
            // It says what counts: files beside it are no concern of the chain.
            return found;
        }
        (None, Some(text), _) => scan("Containerfile", text, catalog, args, &mut found),
        (None, None, Some(text)) => scan("Dockerfile", text, catalog, args, &mut found),
        (None, None, None) => {}
    }
    for (path, text) in &files.further {
        scan(path, text, catalog, args, &mut found);
    }
    found
}

fn scan(path: &str, text: &str, catalog: &Catalog, args: &BTreeMap<String, String>, found: &mut Found) {
    let file = Containerfile::read(text, args);
    for reference in file.refs.iter().filter(|reference| reference.place != Where::Syntax) {
        match (&reference.image, reference.kind) {
            // BuildKit takes the number of a stage there for an image's name (convert_runmount.go).
            (Some(_), _) if reference.raw.bytes().all(|byte| byte.is_ascii_digit()) => {}
            (Some(image), _) => {
                let pinned = image.contains('@');
                let upstream = match catalog.project_of(image) {
                    Some(id) => {
                        if !pinned {
                            found.named.entry(id).or_default().insert(image.clone());
                        }
                        Upstream::Project(id)
                    }
                    None => Upstream::Image(image.clone()),
                };
                found.add(upstream, pinned);
            }
            (None, Kind::Unresolved) => {
                let unset = reference.unset.join(", ");
                let why = if unset.is_empty() { "its variables".to_owned() } else { unset };
                found.problems.push(format!("{path}: {} is not known without {why}", reference.raw));
            }
            (None, Kind::Invalid) => found.problems.push(format!("{path}: {} is no image", reference.raw)),
            (None, _) => {}
        }
    }
    found.problems.extend(file.error.map(|error| format!("{path}: {error}")));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> Catalog {
        let mut catalog = Catalog::new(&["gitlab.example.com", "gitlab.example.com:8443"]);
        catalog.add(1, "group/base", Some("registry.example.com/group/base"));
        catalog.add(2, "Group/Ruby", Some("registry.example.com/group/ruby"));
        catalog.add(3, "group/ruby/tools", Some("registry.example.com:5050/group/ruby/tools"));
        catalog.add(4, "group/ruby/deep", Some("registry.example.com/group/ruby/deep/"));
        catalog.add(5, "group/none", None);
        catalog
    }

    fn of(files: &Files<'_>) -> Found {
        discover(files, &catalog(), &BTreeMap::from([("CI_REGISTRY".into(), "registry.example.com".into())]))
    }

    fn projects(found: &Found) -> Vec<ProjectId> {
        let ids = found.upstreams.keys().filter_map(|upstream| match upstream {
            Upstream::Project(id) => Some(*id),
            Upstream::Image(_) => None,
        });
        ids.collect()
    }

    #[test]
    fn dependencies_are_named_by_path_or_url() {
        let deps = "\u{feff}# what we build on\n\nhttps://gitlab.example.com/group/base.git\r\n  group/RUBY/  # the language\n\
                    ssh://git@gitlab.example.com:8443/group/ruby/tools\nhttps://other.example.com/group/base\ngroup/missing\n";
        let found = of(&Files { deps: Some(deps), containerfile: Some("FROM x"), ..Files::default() });
        assert_eq!(projects(&found), [1, 2, 3]);
        assert_eq!(found.upstreams.len(), 3, "the Containerfile does not count");
        assert_eq!(
            found.problems,
            [
                ".gitlab-deps: https://other.example.com/group/base: other.example.com is not this GitLab",
                ".gitlab-deps: group/missing: the chain knows no project group/missing",
            ]
        );
        assert_eq!(of(&Files { deps: Some(""), containerfile: Some("FROM x"), ..Files::default() }), Found::default());
    }

    #[test]
    fn images_belong_to_the_project_with_the_longest_prefix() {
        let catalog = catalog();
        for (image, project) in [
            ("registry.example.com/group/base:latest", Some(1)),
            ("registry.example.com/group/base/cache/x:1", Some(1)),
            ("registry.example.com/group/ruby/deep@sha256:0", Some(4)),
            ("registry.example.com/group/ruby/deeper:1", Some(2)),
            ("registry.example.com:5050/group/ruby/tools/x:1", Some(3)),
            ("registry.example.com:5050/group/base:1", None),
            ("registry.example.com/group/basement:1", None),
            ("registry.example.com/group:1", None),
            ("docker.io/library/ruby:3", None),
        ] {
            assert_eq!(catalog.project_of(image), project, "{image}");
        }
    }

    #[test]
    fn the_first_file_that_is_there_counts_and_all_further_ones() {
        let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
        let containerfile = format!(
            "ARG CI_REGISTRY\nFROM ${{CI_REGISTRY}}/group/base@{digest} AS a\nFROM $UNKNOWN\nFROM A b c\nRUN --mount=from=0,target=/x true\n\
             COPY --from=registry.example.com/group/ruby /x /x\nFROM debian:stable\n"
        );
        let dockerfile = "FROM registry.example.com/group/ruby/deep";
        let both = Files { containerfile: Some(&containerfile), dockerfile: Some(dockerfile), ..Files::default() };
        let found = of(&both);
        let debian = Upstream::Image("docker.io/library/debian:stable".into());
        let expected = [(Upstream::Project(1), true), (Upstream::Project(2), false), (debian, false)];
        assert_eq!(found.upstreams, BTreeMap::from(expected));
        assert_eq!(
            found.problems,
            [
                "Containerfile: $UNKNOWN is not known without UNKNOWN",
                "Containerfile: A is no image",
                "Containerfile: line 4: FROM takes an image, and maybe AS and a name",
            ]
        );
        let further = Files { further: vec![("arm/Dockerfile", "FROM registry.example.com/group/base:1")], ..both };
        assert!(!of(&further).upstreams[&Upstream::Project(1)], "pinned here, and not there");
        assert_eq!(projects(&of(&Files { dockerfile: Some(dockerfile), ..Files::default() })), [4]);
    }
}
