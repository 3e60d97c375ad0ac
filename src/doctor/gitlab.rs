//! GitLab's API: is it reached, is the token good, for how long, and may it do what the chain does?

use jiff::civil::Date;

use super::api;
use super::{Finding, Host};
use crate::gitlab::{Client, GitlabError, MAINTAINER, TokenRow};

/// This many days before its end a token is spoken of.
const EXPIRES_SOON: i64 = 30;
/// How to come to another token, and when it counts.
const RENEW: &str = "make a new one in GitLab (group, Settings, Access tokens; scope api, role Maintainer) and write it into [gitlab] token_file, \
                     which is read again when GitLab refuses the old one; where it is a systemd credential, into /etc/windlass/gitlab-token, \
                     and systemctl restart windlass";
/// Most names in one line.
const NAMES_MAX: usize = 5;

/// Looks at it.
pub async fn check(host: &Host) -> Vec<Finding> {
    if host.options.quick {
        return vec![Finding::skipped("gitlab", "left out by --quick", None)];
    }
    let is_on = host.settings.chain.is_on();
    let client = match api::client(host) {
        Ok(Some(client)) => client,
        Ok(None) => {
            let remedy = "[gitlab] url in windlass.toml, for verify_jobs and the image chain";
            return vec![Finding::skipped("gitlab", "the configuration names no GitLab", Some(remedy))];
        }
        Err(error) => {
            return vec![Finding::error(
                "gitlab",
                error,
                "the image chain does not run, and a daemon for it alone does not start; with verify_jobs none does",
                "correct [gitlab] in windlass.toml, or the file that it names",
            )];
        }
    };
    let url = client.url().to_string();
    if !client.has_token() {
        return vec![no_token(&url, is_on)];
    }
    let (version, token) = (client.version().await, client.token().await);
    let mut findings = vec![reached(&url, version.as_deref())];
    if version.as_ref().is_err_and(|error| error.refusal().is_none()) {
        return findings;
    }
    match &token {
        Ok(token) => findings.extend(judge_token(token, today(&client))),
        // The refusal of an expired token is said above.
        Err(_) if version.is_err() => return findings,
        Err(error) => {
            findings.push(Finding::skipped("token", format!("GitLab says nothing of the token: {error}"), None))
        }
    }
    if is_on {
        findings.extend(roles(host, &client).await);
    }
    findings
}

fn no_token(url: &str, is_on: bool) -> Finding {
    let give =
        "install -m 0600 -o windlass /dev/stdin /etc/windlass/gitlab-token, and [gitlab] token_file in windlass.toml";
    if !is_on {
        return Finding::ok("token", format!("no token for {url}; without a chain none is needed"));
    }
    Finding::error("token", format!("there is no token for {url}"), "the image chain can't ask or start anything", give)
}

fn reached(url: &str, version: Result<&str, &GitlabError>) -> Finding {
    match version {
        Ok(version) => Finding::ok("gitlab", format!("{url} is GitLab {version}")),
        Err(error) if error.is_about_token() => Finding::error(
            "token",
            error.to_string(),
            "the image chain stands still: nothing is seen, and nothing is started",
            RENEW,
        ),
        Err(error) if error.refusal().is_some() => Finding::error(
            "gitlab",
            error.to_string(),
            "GitLab does not answer as GitLab does: the address leads elsewhere, or it is out of order",
            "look at [gitlab] url and proxy in windlass.toml, and at GitLab itself",
        ),
        Err(error) => Finding::error(
            "gitlab",
            error.to_string(),
            "the image chain stands still, and with verify_jobs all jobs fail",
            "curl -v what [gitlab] url says; [gitlab] ca_file for certificates of your own authority, proxy for a proxy",
        ),
    }
}

fn today(client: &Client) -> Option<Date> {
    let now = jiff::Timestamp::from_millisecond(client.now()).ok()?;
    Some(now.to_zoned(jiff::tz::TimeZone::UTC).date())
}

fn judge_token(token: &TokenRow, today: Option<Date>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if token.scopes.iter().any(|scope| scope == "api") {
        findings.push(Finding::ok("token-scope", "the token has the scope api"));
    } else {
        let has = if token.scopes.is_empty() { "none".to_owned() } else { token.scopes.join(", ") };
        findings.push(Finding::error(
            "token-scope",
            format!("the token's scopes are {has}; api is missing"),
            "pipelines can't be started, nor webhooks set up: the chain only looks on",
            RENEW,
        ));
    }
    let end = token.expires_at.as_deref().and_then(|text| text.parse::<Date>().ok());
    let left = today.zip(end).and_then(|(today, end)| Some(i64::from(today.until(end).ok()?.get_days())));
    findings.push(match (left, &token.expires_at) {
        (Some(days), Some(end)) if days <= 0 => {
            Finding::error("token-end", format!("the token has expired ({end})"), "the image chain stands still", RENEW)
        }
        (Some(days), Some(end)) if days <= EXPIRES_SOON => Finding::warning(
            "token-end",
            format!("the token expires in {days} day(s), on {end}"),
            "from then on the image chain stands still",
            RENEW,
        ),
        (_, Some(end)) => Finding::ok("token-end", format!("the token is good until {end}")),
        (_, None) => Finding::ok("token-end", "the token does not expire"),
    });
    findings
}

async fn roles(host: &Host, client: &Client) -> Vec<Finding> {
    let look = async {
        let all = api::projects(host, client, None).await?;
        let of_groups = api::projects(host, client, Some(MAINTAINER)).await?;
        let mut without = Vec::new();
        for project in &all {
            let path = &project.path_with_namespace;
            let is_single = host.settings.chain.projects.iter().any(|single| single.eq_ignore_ascii_case(path));
            let has = of_groups.iter().any(|other| other.id == project.id)
                || (is_single && client.role(path).await? >= MAINTAINER);
            if !has {
                without.push(path.clone());
            }
        }
        Ok::<_, GitlabError>((all.len(), without))
    };
    match look.await {
        Ok((count, without)) => vec![judge_roles(count, &without)],
        Err(error) => vec![Finding::error(
            "token-role",
            error.to_string(),
            "what the chain is made of can't be read: it stands still",
            "look at groups and projects of [chain] in windlass.toml, and whether the token's user is a member of them",
        )],
    }
}

fn judge_roles(count: usize, without: &[String]) -> Finding {
    if count == 0 {
        return Finding::warning(
            "token-role",
            "the token sees no project in the groups of [chain]",
            "there is nothing that the chain could build",
            "look at groups, include and exclude of [chain] in windlass.toml, and at the token's groups in GitLab",
        );
    }
    if without.is_empty() {
        return Finding::ok(
            "token-role",
            format!("the token has the role Maintainer in all {count} project(s) of the chain"),
        );
    }
    Finding::error(
        "token-role",
        format!("the token lacks the role Maintainer in {} of {count} project(s): {}", without.len(), names(without)),
        "there no webhook can be set up, nor a pipeline be started on a protected branch",
        "make the token's user Maintainer of these projects, or use a token of the group above them with that role",
    )
}

/// The first of many names.
pub fn names(all: &[String]) -> String {
    let shown = all.iter().take(NAMES_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(NAMES_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::super::finding::tests::{expect_remedies, level};
    use super::*;

    fn token(scope: &str, end: Option<&str>) -> Vec<Finding> {
        let row = TokenRow { scopes: vec![scope.into()], expires_at: end.map(str::to_owned) };
        let findings = judge_token(&row, Some("2026-05-12".parse().expect("a day")));
        expect_remedies(&findings);
        findings
    }

    #[test]
    fn a_token_has_a_scope_and_an_end() {
        assert_eq!(level(&token("api", None), "token-scope"), Level::Ok);
        assert_eq!(level(&token("read_api", None), "token-scope"), Level::Error);
        let end = |day| level(&token("api", Some(day)), "token-end");
        assert_eq!(
            (end("2026-06-12"), end("2026-06-11"), end("2026-05-13")),
            (Level::Ok, Level::Warning, Level::Warning)
        );
        assert_eq!((end("2026-05-12"), end("2025-01-01")), (Level::Error, Level::Error));
        assert_eq!(level(&token("api", None), "token-end"), Level::Ok);
        assert_eq!((no_token("u", true).level, no_token("u", false).level), (Level::Error, Level::Ok));
    }

    #[test]
    fn a_role_that_is_missing_is_said_with_the_projects() {
        assert_eq!(judge_roles(3, &[]).level, Level::Ok);
        let some: Vec<String> = (0..7).map(|number| format!("g/{number}")).collect();
        let finding = judge_roles(9, &some);
        assert!(finding.what.ends_with("7 of 9 project(s): g/0, g/1, g/2, g/3, g/4 and 2 more"), "{finding:?}");
        expect_remedies(&[finding, judge_roles(0, &[])]);
    }
}
