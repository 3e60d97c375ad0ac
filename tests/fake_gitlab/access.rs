//! Tokens: which are accepted, and what they may do.

use serde_json::{Value, json};

use crate::support::gitlab::FakeGitlab;

#[test]
fn a_token_that_is_wrong_expired_or_revoked_is_refused_in_gitlabs_words() {
    let gitlab = FakeGitlab::start();
    gitlab.token(&json!({"token": "old", "expires_at": "2020-01-01"}));
    gitlab.token(&json!({"token": "lost", "revoked": true}));
    let refused = |token: &str| {
        let reply = gitlab.api_as(token, "GET", "/groups/infra/projects", &Value::Null);
        assert_eq!(reply.status, 401);
        reply.json()
    };
    assert_eq!(refused("unknown"), json!({"message": "401 Unauthorized"}));
    let text = "Token is expired. You can either do re-authorization or token refresh.";
    assert_eq!(refused("old"), json!({"error": "invalid_token", "error_description": text}));
    assert_eq!(refused("lost")["error"], "invalid_token");
    let nobody = gitlab.ask("GET", "/api/v4/version", &[], b"").unwrap();
    assert_eq!((nobody.status, nobody.json()), (401, json!({"message": "401 Unauthorized"})));
}

#[test]
fn a_token_is_taken_from_either_header() {
    let gitlab = FakeGitlab::start();
    gitlab.token(&json!({"token": "mine", "scopes": ["read_api"], "expires_at": "2999-12-31", "username": "me"}));
    for header in [("PRIVATE-TOKEN", "mine"), ("Authorization", "Bearer mine")] {
        let reply = gitlab.ask("GET", "/api/v4/personal_access_tokens/self", &[header], b"").unwrap();
        let about = reply.json();
        assert_eq!(about["scopes"], json!(["read_api"]));
        assert_eq!((&about["active"], &about["expires_at"]), (&json!(true), &json!("2999-12-31")));
        assert_eq!(gitlab.ask("GET", "/api/v4/user", &[header], b"").unwrap().json()["username"], "me");
    }
    let version = gitlab.api("GET", "/version", &Value::Null).json();
    assert_eq!(version["version"], "19.4.0");
    assert_eq!(gitlab.api("GET", "/metadata", &Value::Null).json()["version"], "19.4.0");
}

#[test]
fn a_scope_that_is_too_small_and_a_role_that_is_too_low_are_two_refusals() {
    let gitlab = FakeGitlab::start();
    let project = gitlab.project("infra/base", &[]);
    gitlab.token(&json!({"token": "reader", "scopes": ["read_api"]}));
    gitlab.token(&json!({"token": "developer", "role": 30}));
    gitlab.token(&json!({"token": "reporter", "role": 20}));
    gitlab.token(&json!({"token": "files", "scopes": ["read_repository"]}));
    let create = |token: &str, branch: &str| {
        gitlab.api_as(token, "POST", &format!("/projects/{project}/pipeline"), &json!({"ref": branch}))
    };
    let scope = create("reader", "main");
    assert_eq!((scope.status, &scope.json()["error"]), (403, &json!("insufficient_scope")));
    assert_eq!(scope.json()["scope"], "api");
    assert_eq!(gitlab.api_as("reader", "GET", &format!("/projects/{project}"), &Value::Null).status, 200);
    assert_eq!(gitlab.api_as("files", "GET", &format!("/projects/{project}"), &Value::Null).status, 403);
    let role = create("reporter", "main");
    assert_eq!((role.status, role.json()), (403, json!({"message": "403 Forbidden"})));
    // A developer may run what is not protected.
    let protected = create("developer", "main");
    let text = protected.json()["message"]["base"][0].as_str().unwrap().to_owned();
    assert!(protected.status == 400 && text.contains("sufficient permission to run a pipeline on 'main'"), "{text}");
    gitlab.push(project, &json!({"branch": "topic"}));
    assert_eq!(create("developer", "topic").status, 201);
    for token in ["developer", "reporter"] {
        assert_eq!(gitlab.api_as(token, "GET", &format!("/projects/{project}/hooks"), &Value::Null).status, 403);
        let scope = format!("/projects/{project}/job_token_scope");
        assert_eq!(gitlab.api_as(token, "GET", &scope, &Value::Null).status, 403);
    }
}

#[test]
fn what_a_token_does_not_reach_is_not_there() {
    let gitlab = FakeGitlab::start();
    gitlab.projects(&json!([{"path": "infra/base"}, {"path": "infra/deep/app"}, {"path": "secret/app"}]));
    gitlab.token(&json!({"token": "group", "role": 0, "roles": {"infra": 40, "infra/deep": 20}}));
    let ask = |path: &str| gitlab.api_as("group", "GET", path, &Value::Null);
    assert_eq!(ask("/projects/infra%2Fbase/hooks").status, 200);
    assert_eq!(ask("/projects/infra%2Fdeep%2Fapp/hooks").status, 403);
    assert_eq!(ask("/projects/secret%2Fapp").json(), json!({"message": "404 Project Not Found"}));
    assert_eq!(ask("/groups/secret/projects").status, 404);
    let least = ask("/groups/infra/projects?include_subgroups=true&min_access_level=40").json();
    assert_eq!(least.as_array().unwrap().len(), 1);
}

#[test]
fn a_project_says_whose_job_tokens_may_reach_it() {
    let gitlab = FakeGitlab::start();
    let base = gitlab.project("infra/base", &[]);
    let app = gitlab.projects(&json!({
        "path": "infra/app", "job_token_projects": [base], "job_token_groups": ["infra"], "inbound_job_tokens": true,
    }))[0];
    let ask = |path: &str| gitlab.api("GET", &format!("/projects/{app}/job_token_scope{path}"), &Value::Null).json();
    assert_eq!(ask(""), json!({"inbound_enabled": true, "outbound_enabled": false}));
    let listed = ask("/allowlist");
    let ids: Vec<_> = listed.as_array().unwrap().iter().map(|project| project["id"].clone()).collect();
    assert_eq!(ids, [json!(app), json!(base)]);
    assert_eq!(ask("/groups_allowlist")[0]["name"], "infra");
}
