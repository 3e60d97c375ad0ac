//! Projects, groups, and what is in repositories.

use serde_json::{Value, json};

use crate::support::client::Reply;
use crate::support::gitlab::FakeGitlab;
use crate::{keys, words};

/// What GitLab says of a project in short.
const SIMPLE: &str = "id description name name_with_namespace path path_with_namespace created_at default_branch tag_list \
    topics ssh_url_to_repo http_url_to_repo web_url readme_url forks_count avatar_url star_count last_activity_at visibility \
    namespace";
/// What a chain needs of the rest.
const FULL: [&str; 6] = [
    "container_registry_image_prefix",
    "container_registry_access_level",
    "empty_repo",
    "archived",
    "marked_for_deletion_on",
    "builds_access_level",
];

/// The paths of the projects in an answer.
fn paths(reply: &Reply) -> Vec<String> {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let path = |project: &Value| project["path_with_namespace"].as_str().unwrap().to_owned();
    let mut paths: Vec<String> = reply.json().as_array().unwrap().iter().map(path).collect();
    paths.sort();
    paths
}

/// The path of the next page, behind `/api/v4`.
fn next(reply: &Reply) -> Option<String> {
    let next = reply.header("link").split(", ").find(|link| link.ends_with("rel=\"next\""))?;
    let address = next.trim_start_matches('<').split('>').next().unwrap();
    Some(address.split("/api/v4").nth(1).unwrap().to_owned())
}

#[test]
fn a_groups_projects_are_those_that_gitlab_would_list() {
    let gitlab = FakeGitlab::start();
    gitlab.projects(&json!([
        {"path": "infra/top"}, {"path": "infra/images/base"}, {"path": "infra/images/old", "archived": true},
        {"path": "infrastructure/other"}, {"path": "elsewhere/shared"},
    ]));
    let shared = gitlab.api("GET", "/projects/elsewhere%2Fshared", &Value::Null).json()["id"].as_u64().unwrap();
    gitlab.share("infra", shared);
    let of = |query: &str| paths(&gitlab.api("GET", &format!("/groups/infra/projects{query}"), &Value::Null));
    assert_eq!(of(""), ["elsewhere/shared", "infra/top"]);
    assert_eq!(of("?with_shared=false"), ["infra/top"]);
    let all = of("?include_subgroups=true&with_shared=false");
    assert_eq!(all, ["infra/images/base", "infra/images/old", "infra/top"]);
    let kept = of("?include_subgroups=true&with_shared=false&archived=false");
    assert_eq!(kept, ["infra/images/base", "infra/top"]);
    let subgroup = gitlab.api("GET", "/groups/infra%2Fimages/projects", &Value::Null);
    assert_eq!(paths(&subgroup), ["infra/images/base", "infra/images/old"]);
    let id = subgroup.json()[0]["namespace"]["id"].clone();
    assert_eq!(paths(&gitlab.api("GET", &format!("/groups/{id}/projects"), &Value::Null)), paths(&subgroup));
    assert_eq!(gitlab.api("GET", "/groups/nobody/projects", &Value::Null).json()["message"], "404 Group Not Found");
}

#[test]
fn a_project_has_the_keys_that_it_has_with_gitlab() {
    let gitlab = FakeGitlab::start();
    gitlab.projects(&json!([
        {"path": "Infra/Base"}, {"path": "infra/none", "registry": "disabled"}, {"path": "infra/empty", "empty": true},
    ]));
    let project = |path: &str| gitlab.api("GET", &format!("/projects/{path}"), &Value::Null).json();
    let base = project("infra%2Fbase");
    assert!(FULL.iter().all(|key| base.as_object().unwrap().contains_key(*key)), "{base}");
    assert_eq!(base["path_with_namespace"], "Infra/Base");
    assert_eq!(base["container_registry_image_prefix"], "registry.example.org/infra/base");
    assert_eq!(project("infra%2Fnone")["container_registry_image_prefix"], Value::Null);
    let empty = project("infra%2Fempty");
    assert_eq!((&empty["default_branch"], &empty["empty_repo"]), (&Value::Null, &json!(true)));
    let simple = gitlab.api("GET", "/groups/infra/projects?simple=true", &Value::Null).json();
    assert_eq!(keys(&simple[0]), words(SIMPLE));
}

#[test]
fn a_thousand_projects_come_in_pages_of_a_hundred_at_most() {
    let gitlab = FakeGitlab::start();
    let all: Vec<Value> = (0..1000).map(|number| json!({"path": format!("many/p{number}")})).collect();
    assert_eq!(gitlab.projects(&json!(all)).len(), 1000);
    let mut page = gitlab.api("GET", "/groups/many/projects?per_page=1000&order_by=id&sort=asc", &Value::Null);
    assert_eq!(
        (page.header("x-total"), page.header("x-per-page"), page.header("x-total-pages")),
        ("1000", "100", "10")
    );
    let (mut pages, mut found) = (1, paths(&page));
    while let Some(path) = next(&page) {
        page = gitlab.api("GET", &path, &Value::Null);
        found.extend(paths(&page));
        pages += 1;
    }
    found.sort();
    found.dedup();
    assert_eq!((pages, found.len()), (10, 1000));
    assert_eq!(page.header("x-next-page"), "");
}

#[test]
fn a_renamed_project_is_found_by_its_old_path_for_a_while() {
    let gitlab = FakeGitlab::start_with(&["--root", "/gitlab"]);
    let project = gitlab.project("infra/base", &[]);
    gitlab.change_project(project, &json!({"path": "images/base"}));
    let reply = gitlab.api("GET", "/projects/infra%2Fbase/pipelines?ref=main", &Value::Null);
    let target = format!("{}/api/v4/projects/{project}/pipelines?ref=main", gitlab.url());
    assert_eq!((reply.status, reply.header("location")), (301, target.as_str()));
    let created = gitlab.api("POST", "/projects/infra%2Fbase/pipeline", &json!({"ref": "main"}));
    assert_eq!(created.status, 405, "{}", created.text());
    assert_eq!(gitlab.api("GET", "/projects/images%2Fbase", &Value::Null).json()["id"], project);
    gitlab.project("infra/base", &[]);
    assert_eq!(gitlab.api("GET", "/projects/infra%2Fbase", &Value::Null).status, 200);
    gitlab.remove_project(project);
    let gone = gitlab.api("GET", &format!("/projects/{project}"), &Value::Null);
    assert_eq!((gone.status, gone.json()["message"].as_str()), (404, Some("404 Project Not Found")));
}

#[test]
fn files_are_read_by_branch_tag_and_commit() {
    let gitlab = FakeGitlab::start();
    let project = gitlab.project("infra/base", &[("docker/Containerfile", "FROM one\n")]);
    let raw = |path: &str, name: &str| {
        gitlab.api("GET", &format!("/projects/{project}/repository/files/{path}/raw{name}"), &Value::Null)
    };
    let path = "docker%2FContainerfile";
    let first = raw(path, "?ref=HEAD");
    assert_eq!((first.status, first.text().as_str()), (200, "FROM one\n"));
    let old = first.header("x-gitlab-commit-id").to_owned();
    let new = gitlab.push(project, &json!({"files": {"docker/Containerfile": "FROM two\n", "README": null}}));
    gitlab.push(project, &json!({"tag": "v1", "files": {"docker/Containerfile": {"base64": "AP8="}}}));
    assert_eq!(raw(path, "").text(), "FROM two\n");
    assert_eq!(raw(path, "?ref=main").header("x-gitlab-commit-id"), new);
    assert_eq!(raw(path, &format!("?ref={old}")).text(), "FROM one\n");
    assert_eq!(raw(path, "?ref=v1").body, [0, 0xff]);
    assert_eq!(raw("Containerfile", "?ref=main").json()["message"], "404 File Not Found");
    assert_eq!(raw(path, "?ref=nowhere").json()["message"], "404 Commit Not Found");
    let commits = gitlab.api("GET", &format!("/projects/{project}/repository/commits?per_page=1"), &Value::Null).json();
    assert_eq!((commits.as_array().unwrap().len(), &commits[0]["id"]), (1, &json!(new)));
    assert_eq!(commits[0]["parent_ids"], json!([old]));
}

#[test]
fn trees_come_in_pages_by_number_and_by_key() {
    let gitlab = FakeGitlab::start();
    let project = gitlab.project("infra/base", &[("a/b/one", ""), ("a/two", ""), ("three", ""), ("four", "")]);
    let names = |reply: &Reply| -> Vec<String> {
        let all = reply.json();
        all.as_array()
            .unwrap()
            .iter()
            .map(|entry| format!("{} {}", entry["type"], entry["path"]).replace('"', ""))
            .collect()
    };
    let tree = |query: &str| gitlab.api("GET", &format!("/projects/{project}/repository/tree?{query}"), &Value::Null);
    assert_eq!(names(&tree("")), ["tree a", "blob four", "blob three"]);
    assert_eq!(names(&tree("path=a")), ["tree a/b", "blob a/two"]);
    let all = names(&tree("recursive=true"));
    assert_eq!(all, ["tree a", "tree a/b", "blob a/b/one", "blob a/two", "blob four", "blob three"]);
    for query in ["recursive=true&per_page=4", "recursive=true&per_page=4&pagination=keyset"] {
        let first = tree(query);
        let second = gitlab.api("GET", &next(&first).unwrap(), &Value::Null);
        assert_eq!([names(&first), names(&second)].concat(), all, "{query}");
        assert_eq!(next(&second), None);
    }
    assert_eq!(tree("ref=nowhere").status, 404);
    assert_eq!(tree("path=nowhere").status, 404);
    let empty = gitlab.projects(&json!({"path": "infra/empty", "empty": true}))[0];
    assert_eq!(gitlab.api("GET", &format!("/projects/{empty}/repository/tree"), &Value::Null).status, 404);
}
