//! What a job may use, by the administrator's rules. Decided on normal forms of references, so that no spelling slips by.

use globset::GlobBuilder;

use super::image::ImageRef;
use crate::config::{PolicyRule, PullPolicy};

/// The rule for a project: the first whose patterns fit its path.
///
/// # Errors
/// When none fits, which a checked configuration never has: its last rule is for every project.
pub fn rule_for<'a>(rules: &'a [PolicyRule], project: &str) -> Result<&'a PolicyRule, String> {
    let fits = |rule: &&PolicyRule| match &rule.projects {
        None => true,
        // GitLab's paths are one whatever their case.
        Some(patterns) => patterns.iter().any(|pattern| glob(pattern, project, true)),
    };
    rules.iter().find(fits).ok_or_else(|| format!("no rule is for the project {project}"))
}

/// May a job use this image?
///
/// # Errors
/// Which rule forbids it, and what it allows.
pub fn check_image(rule: &PolicyRule, image: &ImageRef) -> Result<(), String> {
    check(rule, "image", "allowed_images", rule.allowed_images.as_deref(), image)
}

/// May a job have a service of this image?
///
/// # Errors
/// Which rule forbids it, and what it allows.
pub fn check_service(rule: &PolicyRule, image: &ImageRef) -> Result<(), String> {
    check(rule, "service", "allowed_services", rule.allowed_services.as_deref(), image)
}

fn check(
    rule: &PolicyRule,
    what: &str,
    key: &str,
    patterns: Option<&[String]>,
    image: &ImageRef,
) -> Result<(), String> {
    match patterns {
        Some(patterns) if !matches(patterns, image) => Err(format!(
            "{what} {image} ({}) is not allowed: {key} of {} has {}",
            image.as_str(),
            rule.name,
            list(patterns)
        )),
        _ => Ok(()),
    }
}

/// May a job run an image as this user?
///
/// # Errors
/// Which rule forbids it, or that it can't be a user.
pub fn check_user(rule: &PolicyRule, user: &str) -> Result<(), String> {
    let part = |text: &str| {
        !text.is_empty()
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
            && !text.starts_with('-')
    };
    let (name, group) = user.split_once(':').map_or((user, None), |(name, group)| (name, Some(group)));
    if !part(name) || !group.is_none_or(part) {
        return Err(format!(
            "{user:?} is no user of an image: write a name or number, with :group behind it if needed"
        ));
    }
    match &rule.allowed_users {
        Some(users) if !users.iter().any(|allowed| allowed == user) => {
            Err(format!("user {user} is not allowed: allowed_users of {} has {}", rule.name, list(users)))
        }
        _ => Ok(()),
    }
}

/// The pull policies for an image: those of the job's that are allowed, or the configuration's when it has none (`GetPullPolicies` and
/// `GetAllowedPullPolicies` of GitLab Runner).
///
/// # Errors
/// A word that is none, or that the rule allows none of them.
pub fn pull_policies(
    rule: &PolicyRule,
    wanted: &[String],
    configured: &[PullPolicy],
) -> Result<Vec<PullPolicy>, String> {
    if wanted.is_empty() {
        return Ok(configured.to_vec());
    }
    let allowed = rule.allowed_pull_policies.as_deref().unwrap_or(configured);
    let read = |word: &String| {
        PullPolicy::parse(word)
            .ok_or_else(|| format!("{word:?} is no pull_policy: there are always, if-not-present and never"))
    };
    let mut policies = wanted.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    policies.retain(|policy| allowed.contains(policy));
    if policies.is_empty() {
        let words: Vec<String> = allowed.iter().map(|policy| policy.word().to_owned()).collect();
        return Err(format!(
            "pull_policy {} is not allowed: allowed_pull_policies of {} has {}",
            wanted.join(", "),
            rule.name,
            list(&words)
        ));
    }
    Ok(policies)
}

/// Whether an image may run privileged.
#[must_use]
pub fn may_be_privileged(rule: &PolicyRule, image: &ImageRef) -> bool {
    matches(&rule.allowed_privileged_images, image)
}

/// Whether a service of this image may run privileged.
#[must_use]
pub fn service_may_be_privileged(rule: &PolicyRule, image: &ImageRef) -> bool {
    matches(&rule.allowed_privileged_services, image)
}

/// A platform as podman takes it: `os/architecture[/variant]`.
///
/// # Errors
/// When it is none.
pub fn check_platform(platform: &str) -> Result<(), String> {
    let word = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let parts: Vec<&str> = platform.split('/').collect();
    if (2..=3).contains(&parts.len()) && parts.iter().all(|part| word(part)) {
        return Ok(());
    }
    Err(format!("{platform:?} is no platform; one looks like linux/arm64"))
}

/// Whether one of the patterns fits an image: its name, or its name with tag or digest. `*` stops at `/`, `**` does not. A digest is
/// allowed by name, or by a pattern with an `@`: who may push makes one that begins as a tag is wanted to.
#[must_use]
pub fn matches(patterns: &[String], image: &ImageRef) -> bool {
    patterns.iter().any(|pattern| {
        let pattern = normal(pattern);
        let whole = pattern.contains('@') || !image.as_str().contains('@');
        (whole && glob(&pattern, image.as_str(), false)) || glob(&pattern, image.name(), false)
    })
}

/// A pattern in the form that references have when they are judged: `alpine:*` is `docker.io/library/alpine:*`.
fn normal(pattern: &str) -> String {
    let pattern = pattern.trim();
    if pattern.starts_with("**") {
        return pattern.to_owned();
    }
    match pattern.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':', '*', '?', '[', '{']) || host == "localhost" => {
            let host = host.to_ascii_lowercase();
            match host.as_str() {
                "docker.io" | "index.docker.io" if !rest.contains('/') && !rest.starts_with("**") => {
                    format!("docker.io/library/{rest}")
                }
                "index.docker.io" => format!("docker.io/{rest}"),
                _ => format!("{host}/{rest}"),
            }
        }
        Some(_) => format!("docker.io/{pattern}"),
        None => format!("docker.io/library/{pattern}"),
    }
}

/// A pattern that is none, which the configuration's check refuses, fits nothing.
fn glob(pattern: &str, text: &str, any_case: bool) -> bool {
    GlobBuilder::new(pattern)
        .literal_separator(true)
        .case_insensitive(any_case)
        .build()
        .is_ok_and(|glob| glob.compile_matcher().is_match(text))
}

fn list(words: &[String]) -> String {
    if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str) -> ImageRef {
        ImageRef::try_from(name.to_owned()).expect(name)
    }

    fn rule(images: &[&str]) -> PolicyRule {
        let images = images.iter().map(|image| (*image).to_owned()).collect();
        PolicyRule { name: "[job]".into(), allowed_images: Some(images), ..PolicyRule::default() }
    }

    #[test]
    fn all_spellings_of_an_image_are_one() {
        let alpine = rule(&["alpine"]);
        let digest = format!("alpine@sha256:{}", "0123".repeat(16));
        for name in [
            "alpine",
            "alpine:3",
            "docker.io/alpine",
            "docker.io/library/alpine:latest",
            "index.docker.io/library/alpine",
            &digest,
        ] {
            assert!(check_image(&alpine, &image(name)).is_ok(), "{name}");
        }
        for name in [
            "alpine2",
            "evil.example.com/alpine",
            "evil.example.com/library/alpine",
            "group/alpine",
            "localhost/alpine",
            "docker.io:443/library/alpine",
        ] {
            let error = check_image(&alpine, &image(name)).expect_err(name);
            assert!(error.contains("allowed_images of [job] has alpine"), "{error}");
        }
    }

    #[test]
    fn a_pattern_stops_at_a_slash_unless_it_says_otherwise() {
        let group = rule(&["R.example.com:5000/group/**", "r.example.com/*/x:1.*"]);
        for name in ["r.example.com:5000/group/a:1", "R.EXAMPLE.com:5000/group/a/b", "r.example.com/g/x:1.2"] {
            assert!(check_image(&group, &image(name)).is_ok(), "{name}");
        }
        for name in
            ["r.example.com/group/a", "r.example.com:5000/groups/a", "r.example.com/g/h/x:1.2", "r.example.com/g/x:2"]
        {
            assert!(check_image(&group, &image(name)).is_err(), "{name}");
        }
        assert!(check_image(&rule(&["**"]), &image("any.example.com/x")).is_ok());
        // A digest that begins with 1 is no tag that does.
        let digest = image(&format!("r.example.com/g/x@sha256:{}", "12".repeat(32)));
        let by_tag = rule(&["r.example.com/g/*:1*", "r.example.com/g/x*:1*"]);
        assert!(check_image(&by_tag, &digest).is_err());
        for allowed in ["r.example.com/g/*", "r.example.com/g/x@*", "r.example.com/*/x@sha256:12*"] {
            assert!(check_image(&rule(&[allowed]), &digest).is_ok(), "{allowed}");
        }
        assert!(check_image(&rule(&[]), &image("alpine")).expect_err("none").ends_with("has nothing"));
        assert!(check_image(&PolicyRule::default(), &image("alpine")).is_ok(), "no list, no limit");
    }

    #[test]
    fn the_first_rule_that_fits_a_project_counts() {
        let named = |name: &str, projects: Option<&[&str]>| PolicyRule {
            name: name.into(),
            projects: projects.map(|list| list.iter().map(|text| (*text).to_owned()).collect()),
            ..PolicyRule::default()
        };
        let rules = [named("1", Some(&["infra/*"])), named("2", Some(&["infra/**", "web/site"])), named("job", None)];
        let chosen = |project: &str| rule_for(&rules, project).expect("a rule").name.clone();
        assert_eq!(["infra/a", "Infra/A/b", "web/site", "web/site/x"].map(chosen), ["1", "2", "2", "job"]);
    }

    #[test]
    fn pull_policies_are_the_jobs_only_where_they_are_allowed() {
        let configured = [PullPolicy::Always, PullPolicy::IfNotPresent];
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let open = PolicyRule { name: "[job]".into(), ..PolicyRule::default() };
        assert_eq!(pull_policies(&open, &[], &configured), Ok(configured.to_vec()));
        assert_eq!(pull_policies(&open, &words(&["if-not-present"]), &configured), Ok(vec![PullPolicy::IfNotPresent]));
        assert!(
            pull_policies(&open, &words(&["never"]), &configured)
                .expect_err("not allowed")
                .contains("always, if-not-present")
        );
        assert!(pull_policies(&open, &words(&["sometimes"]), &configured).expect_err("no word").contains("sometimes"));
        // What is not allowed is left out, as with the Docker executor.
        let some = pull_policies(&open, &words(&["never", "always"]), &configured);
        assert_eq!(some, Ok(vec![PullPolicy::Always]));
        let own = PolicyRule { allowed_pull_policies: Some(vec![PullPolicy::Never]), ..open };
        assert_eq!(pull_policies(&own, &words(&["always", "never"]), &configured), Ok(vec![PullPolicy::Never]));
        assert!(
            pull_policies(&own, &words(&["always"]), &configured).expect_err("not in the list").contains("has never")
        );
    }

    #[test]
    fn users_and_platforms_are_checked() {
        let open = PolicyRule::default();
        for user in ["app", "1000", "1000:1000", "a-b.c_d"] {
            assert!(check_user(&open, user).is_ok(), "{user}");
        }
        for user in ["", "-x", "a b", "a:", ":1", "a:b:c", "r\u{fc}t"] {
            assert!(check_user(&open, user).is_err(), "{user}");
        }
        let some = PolicyRule { allowed_users: Some(vec!["app".into()]), ..PolicyRule::default() };
        assert!(check_user(&some, "app").is_ok() && check_user(&some, "root").is_err());
        assert!(
            check_platform("linux/arm64/v8").is_ok()
                && check_platform("linux").is_err()
                && check_platform("--x/y").is_err()
        );
    }

    #[test]
    fn nothing_is_privileged_unless_it_is_named() {
        let rule = PolicyRule { allowed_privileged_images: vec!["docker:*".into()], ..PolicyRule::default() };
        assert!(may_be_privileged(&rule, &image("docker:27-dind")) && !may_be_privileged(&rule, &image("alpine")));
        assert!(!service_may_be_privileged(&rule, &image("docker:27-dind")));
    }
}
