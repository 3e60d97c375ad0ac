//! The host's clock against GitLab's, and whether something keeps it right.

use super::run;
use super::{Finding, Host, api};

/// From this difference on people wonder about times, in milliseconds.
const OFF: i64 = 5_000;
/// From this one on signatures of webhooks and tokens are refused, in milliseconds.
const WRONG: i64 = 60_000;

/// Looks at it.
pub async fn check(host: &Host) -> Vec<Finding> {
    let mut findings = Vec::new();
    match api::client(host) {
        _ if host.options.quick => findings.push(Finding::skipped("clock", "left out by --quick", None)),
        Ok(Some(client)) => {
            let asked = client.version().await;
            // A refusal has its time too.
            findings.push(match asked {
                Err(error) if error.refusal().is_none() => {
                    Finding::skipped("clock", "GitLab does not answer: see there", None)
                }
                _ => against_gitlab(client.clock_ahead()),
            });
        }
        _ => findings.push(Finding::skipped("clock", "there is no GitLab to compare it with ([gitlab] url)", None)),
    }
    if host.systemd {
        let shown = run::output("timedatectl", &["show", "-p", "NTP", "-p", "NTPSynchronized"]).await;
        findings.push(synchronized(shown.as_deref()));
    }
    findings
}

fn against_gitlab(ahead: i64) -> Finding {
    let (off, direction) = (ahead.abs(), if ahead > 0 { "behind" } else { "ahead of" });
    let what = format!("this host's clock is {:.1} s {direction} GitLab's", off as f64 / 1000.0);
    let remedy = "timedatectl set-ntp true, or systemctl enable --now chronyd; on both hosts";
    if off > WRONG {
        let meaning = "signed webhooks are refused, certificates and tokens may count as expired or not yet valid, and caches look old";
        return Finding::error("clock", what, meaning, remedy);
    }
    if off > OFF {
        return Finding::warning("clock", what, "times in logs of both don't fit, and it will get worse", remedy);
    }
    Finding::ok("clock", "this host's clock is GitLab's")
}

fn synchronized(shown: Result<&str, &String>) -> Finding {
    let Ok(text) = shown else { return Finding::skipped("clock-sync", "timedatectl says nothing", None) };
    let properties = run::properties(text);
    let is = |key: &str| properties.get(key).is_some_and(|value| value == "yes");
    if is("NTPSynchronized") {
        return Finding::ok("clock-sync", "the clock is synchronized");
    }
    let what = if is("NTP") {
        "the clock is not synchronized yet, or its servers are not reached"
    } else {
        "nothing synchronizes the clock"
    };
    Finding::warning(
        "clock-sync",
        what,
        "it will be off some day, and then webhooks and certificates are refused",
        "timedatectl set-ntp true, or systemctl enable --now chronyd; timedatectl timesync-status or chronyc sources says more",
    )
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::super::finding::tests::expect_remedies;
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_said_with_its_direction() {
        assert_eq!((against_gitlab(0).level, against_gitlab(-5_000).level), (Level::Ok, Level::Ok));
        let behind = against_gitlab(30_000);
        assert!(behind.what.contains("30.0 s behind"), "{behind:?}");
        let far = against_gitlab(-90_000);
        assert!(far.level == Level::Error && far.what.contains("90.0 s ahead of"), "{far:?}");
        let none = synchronized(Ok("NTP=no\nNTPSynchronized=no\n"));
        assert_eq!((synchronized(Ok("NTP=yes\nNTPSynchronized=yes\n")).level, none.level), (Level::Ok, Level::Warning));
        expect_remedies(&[behind, far, none]);
    }
}
