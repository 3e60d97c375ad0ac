//! The GraphQL API: what it answers, what it refuses, what it counts.

use serde_json::{Value, json};

use crate::support::gitlab::FakeGitlab;

/// One page of a group, as a chain asks for it.
const SCAN: &str = "query Scan($group: ID!, $after: String, $n: Int!, $paths: [String!]!) {
  queryComplexity { score limit }
  group(fullPath: $group) {
    projects(includeSubgroups: true, includeArchived: false, first: $n, after: $after) {
      pageInfo { hasNextPage endCursor }
      nodes {
        id
        fullPath
        archived
        webUrl
        repository {
          rootRef
          blobs(paths: $paths, first: 3) { nodes { path rawTextBlob } }
        }
        pipelines(first: 1) { nodes { id status ref sha source updatedAt } }
      }
    }
  }
}";

fn scan(gitlab: &FakeGitlab, size: u64, after: &Value) -> Value {
    let paths = ["Containerfile", "Dockerfile", ".gitlab-deps"];
    gitlab.graphql(SCAN, &json!({"group": "infra", "n": size, "after": after, "paths": paths}))
}

#[test]
fn a_page_of_projects_comes_with_files_and_the_newest_pipeline() {
    let gitlab = FakeGitlab::start();
    let ids = gitlab.projects(&json!([
        {"path": "infra/base", "files": {"Containerfile": "FROM os\n", "Dockerfile": {"base64": "AP8="}}},
        {"path": "infra/empty", "empty": true},
        {"path": "infra/hidden", "repository": "disabled", "builds": "disabled"},
        {"path": "infra/old", "archived": true},
    ]));
    let pipeline = gitlab.pipeline(ids[0], &json!({"to": "success"}));
    gitlab.pipeline(ids[0], &json!({"parent": pipeline}));
    let answer = scan(&gitlab, 100, &Value::Null);
    assert_eq!(answer["data"]["queryComplexity"], json!({"score": 74, "limit": 250}));
    let projects = &answer["data"]["group"]["projects"];
    assert_eq!(projects["pageInfo"]["hasNextPage"], false);
    let nodes = projects["nodes"].as_array().unwrap();
    let node = |path: &str| nodes.iter().find(|node| node["fullPath"] == path).unwrap();
    assert_eq!(nodes.len(), 3);
    let base = node("infra/base");
    assert_eq!(base["id"], format!("gid://gitlab/Project/{}", ids[0]));
    let blobs =
        json!([{"path": "Containerfile", "rawTextBlob": "FROM os\n"}, {"path": "Dockerfile", "rawTextBlob": null}]);
    assert_eq!(base["repository"], json!({"rootRef": "main", "blobs": {"nodes": blobs}}));
    let newest = &base["pipelines"]["nodes"];
    assert_eq!((newest.as_array().unwrap().len(), &newest[0]["status"]), (1, &json!("SUCCESS")));
    assert_eq!(newest[0]["id"], format!("gid://gitlab/Ci::Pipeline/{pipeline}"));
    let time = newest[0]["updatedAt"].as_str().unwrap();
    assert!(time.len() == 20 && time.ends_with('Z'), "{time}");
    assert_eq!(node("infra/empty")["repository"], json!({"rootRef": null, "blobs": null}));
    let hidden = node("infra/hidden");
    assert_eq!((&hidden["repository"], &hidden["pipelines"]), (&Value::Null, &Value::Null));
}

#[test]
fn pages_follow_each_other_even_when_projects_go() {
    let gitlab = FakeGitlab::start();
    let all: Vec<Value> = (0..150).map(|number| json!({"path": format!("infra/p{number}")})).collect();
    let ids = gitlab.projects(&json!(all));
    let first = scan(&gitlab, 1000, &Value::Null);
    let page = &first["data"]["group"]["projects"];
    assert_eq!((page["nodes"].as_array().unwrap().len(), &page["pageInfo"]["hasNextPage"]), (100, &json!(true)));
    // That is what the cursor names.
    gitlab.remove_project(ids[50]);
    let second = scan(&gitlab, 100, &page["pageInfo"]["endCursor"]);
    let rest = second["data"]["group"]["projects"]["nodes"].as_array().unwrap();
    assert_eq!(rest.len(), 50);
    assert!(!page["nodes"].as_array().unwrap().iter().any(|node| rest.contains(node)));
    let wrong = scan(&gitlab, 100, &json!("nonsense"));
    assert_eq!(wrong["errors"][0]["message"], "Please provide a valid cursor");
}

#[test]
fn what_costs_too_much_is_refused_with_its_cost() {
    let gitlab = FakeGitlab::start();
    gitlab.project("infra/base", &[]);
    gitlab.settings(&json!({"graphql": {"max_complexity": 60}}));
    let text = "Query has complexity of 74, which exceeds max complexity of 60";
    assert_eq!(scan(&gitlab, 100, &Value::Null), json!({"errors": [{"message": text}]}));
    let half = scan(&gitlab, 50, &Value::Null);
    assert_eq!(half["data"]["queryComplexity"]["score"], 56);
    // Without `first` a page may have a hundred, and costs twice as much.
    let cost = |blobs: &str| {
        let query = format!(
            "{{ queryComplexity {{ score }} project(fullPath: \"infra/base\") {{ repository {{ {blobs} }} }} }}"
        );
        gitlab.graphql(&query, &json!({}))["data"]["queryComplexity"]["score"].as_u64().unwrap()
    };
    let paths = r#"paths: ["a", "b", "c"]"#;
    let part = "{ nodes { path rawTextBlob } }";
    assert_eq!(cost(&format!("blobs({paths}) {part}")) - cost(&format!("blobs({paths}, first: 3) {part}")), 8);
}

#[test]
fn a_query_that_gitlab_would_refuse_is_refused() {
    let gitlab = FakeGitlab::start();
    gitlab.project("infra/base", &[]);
    let refused = |query: &str| {
        let answer = gitlab.graphql(query, &json!({}));
        assert!(answer.get("data").is_none(), "{answer}");
        answer["errors"][0]["message"].as_str().unwrap().to_owned()
    };
    let unknown = refused("{ project(fullPath: \"infra/base\") { imagePrefix } }");
    assert_eq!(unknown, "Field 'imagePrefix' doesn't exist on type 'Project'");
    refused("{ project { id } }");
    refused("query($path: String!) { project(fullPath: $path) { id } }");
    refused("{ project(fullPath: \"infra/base\") { pipelines(status: success) { nodes { id } } } }");
    refused("{ project(fullPath: \"infra/base\") { repository { blobs { nodes { path } } } } }");
    refused("{ project(fullPath: \"infra/base\") { pipelines }");
}

#[test]
fn pipelines_and_trees_are_asked_for_by_branch() {
    let gitlab = FakeGitlab::start();
    let project = gitlab.project("infra/base", &[("Containerfile", "FROM os\n"), ("sub/Dockerfile", "FROM os\n")]);
    let head = gitlab.push(project, &json!({"branch": "topic"}));
    let wanted = gitlab.pipeline(project, &json!({"to": "failed"}));
    gitlab.pipeline(project, &json!({"branch": "topic", "to": "failed"}));
    gitlab.pipeline(project, &json!({"to": "running"}));
    let answer = gitlab.graphql(
        "{ project(fullPath: \"INFRA/base\") {
            archived markedForDeletion containerRegistryEnabled ciConfigPathOrDefault lastActivityAt
            pipelines(ref: \"main\", status: FAILED, source: \"push\", updatedAfter: \"2020-01-01T00:00:00Z\", first: 5) {
                nodes { id iid status ref child createdAt finishedAt }
            }
            repository { empty exists
                tree(ref: \"topic\", recursive: true) { lastCommit { sha } blobs { nodes { path } } }
                blobs(paths: [\"Containerfile\"], ref: \"topic\") { nodes { oid size } }
            }
        } currentUser { username } metadata { version } }",
        &json!({}),
    );
    let data = &answer["data"];
    assert_eq!(data["metadata"]["version"], "19.4.0");
    let shown = &data["project"];
    let nodes = shown["pipelines"]["nodes"].as_array().unwrap();
    assert_eq!((nodes.len(), &nodes[0]["id"]), (1, &json!(format!("gid://gitlab/Ci::Pipeline/{wanted}"))));
    assert_eq!((&nodes[0]["iid"], &nodes[0]["child"]), (&json!("1"), &json!(false)));
    let tree = &shown["repository"]["tree"];
    assert_eq!(tree["lastCommit"]["sha"], head);
    assert_eq!(tree["blobs"]["nodes"], json!([{"path": "Containerfile"}, {"path": "sub/Dockerfile"}]));
    assert_eq!(shown["repository"]["blobs"]["nodes"][0]["size"], "8");
    assert_eq!(shown["ciConfigPathOrDefault"], ".gitlab-ci.yml");
    // A status that is newer than the schema breaks the one pipeline and is no answer.
    gitlab.set_status(wanted, "levitating");
    let query = "{ project(fullPath: \"infra/base\") { pipelines { nodes { status } } } }";
    assert!(gitlab.graphql(query, &json!({}))["errors"][0]["message"].as_str().unwrap().contains("levitating"));
}

#[test]
fn it_can_be_absent_unwilling_or_closed_to_a_token() {
    let gitlab = FakeGitlab::start();
    let ask = |token: &str| {
        let bearer = format!("Bearer {token}");
        gitlab.ask(
            "POST",
            "/api/graphql",
            &[("Authorization", &bearer)],
            b"{\"query\": \"{ currentUser { username } }\"}",
        )
    };
    assert_eq!(ask(FakeGitlab::TOKEN).unwrap().json()["data"]["currentUser"]["username"], "group_9_bot");
    gitlab.token(&json!({"token": "narrow", "scopes": ["read_repository"]}));
    for token in ["wrong", "narrow"] {
        let refused = ask(token).unwrap();
        assert_eq!((refused.status, refused.json()), (401, json!({"errors": [{"message": "Invalid token"}]})));
    }
    gitlab.settings(&json!({"graphql": {"refusal": "Something went wrong"}}));
    assert_eq!(ask(FakeGitlab::TOKEN).unwrap().json(), json!({"errors": [{"message": "Something went wrong"}]}));
    gitlab.settings(&json!({"graphql": {"enabled": false}}));
    assert_eq!(ask(FakeGitlab::TOKEN).unwrap().status, 404);
    assert!(gitlab.graphql("{ metadata { version } }", &json!({})).get("data").is_none());
}
