//! What has to be done so that a project has the one webhook that it should have.

use serde::Serialize;

use crate::gitlab::HookRow;

/// The name by which a webhook is known as ours, where GitLab has names (17.1).
pub const NAME: &str = "windlass";

/// The webhook that a project should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish<'a> {
    /// Where it goes.
    pub url: &'a str,
    /// Whether certificates are checked.
    pub verify_tls: bool,
    /// Whether it should sign.
    pub signs: bool,
    /// The id that it had when it was set up; none: it never was.
    pub known: Option<i64>,
    /// Whether it was set up with the secrets that are in force.
    pub has_secrets: bool,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum Action {
    /// Make one.
    Create,
    /// Make this one what it should be.
    Repair {
        /// Its id.
        id: i64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Let GitLab try this one, which it has switched off.
    Enable {
        /// Its id.
        id: i64,
    },
    /// Remove this one: there is another.
    Remove {
        /// Its id.
        id: i64,
    },
}

/// Decides what to do. Other people's webhooks are left alone: ours goes to our URL, or has our name and the id that ours was given.
#[must_use]
pub fn plan(found: &[HookRow], wish: &Wish<'_>) -> Vec<Action> {
    let goes_there = |hook: &HookRow| same(&hook.url, wish.url);
    let was_ours = |hook: &HookRow| wish.known == Some(hook.id) && hook.name.as_deref().is_none_or(|name| name == NAME);
    let mut ours: Vec<&HookRow> = found.iter().filter(|hook| goes_there(hook) || was_ours(hook)).collect();
    // The one that was set up stays, else the first.
    ours.sort_by_key(|hook| (wish.known != Some(hook.id), hook.id));
    let Some((keep, surplus)) = ours.split_first() else { return vec![Action::Create] };
    let mut actions = Vec::new();
    if let Some(why) = fault(keep, wish) {
        actions.push(Action::Repair { id: keep.id, why });
    }
    if keep.alert_status.as_deref().is_some_and(|status| status != "executable") {
        actions.push(Action::Enable { id: keep.id });
    }
    actions.extend(surplus.iter().map(|hook| Action::Remove { id: hook.id }));
    actions
}

fn fault(hook: &HookRow, wish: &Wish<'_>) -> Option<&'static str> {
    let faults = [
        (hook.url != wish.url, "its URL is another"),
        (!hook.pipeline_events, "it has no pipeline events"),
        (hook.push_events, "it has push events"),
        (hook.enable_ssl_verification != wish.verify_tls, "whether certificates are checked"),
        (hook.token_present == Some(false), "it has no token"),
        (wish.signs && hook.signing_token_present == Some(false), "it does not sign"),
        (wish.known != Some(hook.id), "nobody knows which token it has"),
        (!wish.has_secrets, "the token has changed"),
    ];
    faults.into_iter().find(|(is_so, _)| *is_so).map(|(_, why)| why)
}

fn same(one: &str, other: &str) -> bool {
    one.trim_end_matches('/').eq_ignore_ascii_case(other.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://chain.example.com/hooks/gitlab";

    fn hook(id: i64) -> HookRow {
        HookRow {
            id,
            url: URL.into(),
            name: Some(NAME.into()),
            pipeline_events: true,
            enable_ssl_verification: true,
            token_present: Some(true),
            alert_status: Some("executable".into()),
            ..HookRow::default()
        }
    }

    fn wish() -> Wish<'static> {
        Wish { url: URL, verify_tls: true, signs: false, known: Some(7), has_secrets: true }
    }

    fn repair(hook: HookRow, wish: &Wish<'_>) -> &'static str {
        match plan(&[hook], wish).as_slice() {
            [Action::Repair { why, .. }] => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_hook_that_is_as_it_should_be_stays_and_others_are_left_alone() {
        let foreign =
            HookRow { id: 3, url: "https://other.example.com/x".into(), name: Some(NAME.into()), ..HookRow::default() };
        assert_eq!(plan(&[foreign.clone(), hook(7)], &wish()), []);
        assert_eq!(plan(&[foreign], &wish()), [Action::Create]);
        assert_eq!(plan(&[], &wish()), [Action::Create]);
    }

    #[test]
    fn what_was_changed_is_repaired() {
        assert_eq!(repair(HookRow { pipeline_events: false, ..hook(7) }, &wish()), "it has no pipeline events");
        assert_eq!(repair(HookRow { push_events: true, ..hook(7) }, &wish()), "it has push events");
        assert_eq!(repair(HookRow { token_present: Some(false), ..hook(7) }, &wish()), "it has no token");
        assert_eq!(
            repair(HookRow { url: "https://old.example.com/".into(), ..hook(7) }, &wish()),
            "its URL is another"
        );
        let signs = Wish { signs: true, ..wish() };
        assert_eq!(repair(HookRow { signing_token_present: Some(false), ..hook(7) }, &signs), "it does not sign");
        assert_eq!(plan(&[hook(7)], &signs), [], "GitLab before 19.0 has no such thing");
        assert_eq!(repair(hook(7), &Wish { known: None, ..wish() }), "nobody knows which token it has");
        assert_eq!(repair(hook(7), &Wish { has_secrets: false, ..wish() }), "the token has changed");
    }

    #[test]
    fn one_that_is_switched_off_is_tried_and_surplus_ones_go() {
        let off = HookRow { alert_status: Some("disabled".into()), ..hook(7) };
        assert_eq!(plan(&[off], &wish()), [Action::Enable { id: 7 }]);
        assert_eq!(plan(&[hook(5), hook(7), hook(9)], &wish()), [Action::Remove { id: 5 }, Action::Remove { id: 9 }]);
        let first = plan(&[hook(9), hook(5)], &Wish { known: None, ..wish() });
        assert_eq!(first[1..], [Action::Remove { id: 9 }], "{first:?}");
    }
}
