//! The fake GitLab as tests use it: started, told what to do and how to go wrong, asked what it has seen.
//!
//! What the bodies may have is said at the head of the program's control module.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde::Deserialize;
use serde_json::{Value, json};

use super::client::{self, Reply};
use super::programs;
use super::wait::{seconds, until};

/// A fake GitLab on loopback; it ends when this is dropped.
pub struct FakeGitlab {
    child: Child,
    url: String,
}

/// A request that it has seen.
#[derive(Debug, Clone, Deserialize)]
pub struct SeenRequest {
    /// Its number, which only grows.
    pub id: u64,
    /// When it came, in milliseconds since 1970.
    pub at: i64,
    /// GET, POST, ...
    pub method: String,
    /// Its path without the root, still encoded.
    pub path: String,
    /// What follows the question mark, still encoded.
    pub query: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
    /// The status of the answer; none where none was sent, or not yet.
    pub status: Option<u16>,
    /// How it was made to go wrong.
    pub fault: Option<Value>,
}

impl SeenRequest {
    /// A header, by its name in lower case; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value.as_str())
    }

    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// A webhook that it has sent, or has not.
#[derive(Debug, Clone, Deserialize)]
pub struct Delivery {
    /// Its number.
    pub id: u64,
    /// The hook.
    pub hook: u64,
    /// Its project.
    pub project: u64,
    /// What it told of.
    pub pipeline: u64,
    /// The status that it told.
    pub status: String,
    /// `delivered`, `failed`, or why it was not sent: `dropped`, `disabled`, `recursion`, `silent`, `deleted`.
    pub outcome: String,
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// How long it took.
    pub took_ms: u64,
    /// Where it went.
    pub url: String,
    /// What was sent along.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
    /// The status of the receiver's answer.
    pub response_status: Option<u16>,
    /// Why there was none.
    pub error: Option<String>,
}

impl Delivery {
    /// What it said.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

impl FakeGitlab {
    /// A token that may do everything.
    pub const TOKEN: &str = "glpat-fake";

    /// Starts one as it is today.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one with these arguments, such as `--root /gitlab` or `--gitlab-version 17.0.0`.
    pub fn start_with(arguments: &[&str]) -> Self {
        let mut child = Command::new(programs::fake_gitlab())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("http://127.0.0.1:"), "it says {line:?}");
        Self { child, url: line.trim().to_owned() }
    }

    /// Its URL, with the root and without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its process.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    fn port(&self) -> u16 {
        self.url.split([':', '/']).nth(4).unwrap().parse().unwrap()
    }

    fn root(&self) -> &str {
        self.url.splitn(4, '/').nth(3).map_or("", |root| &self.url[self.url.len() - root.len() - 1..])
    }

    /// Sends a request as it is; `path` begins behind the root.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Reply> {
        client::ask(self.port(), method, &format!("{}{path}", self.root()), headers, body)
    }

    /// Calls the REST API with the token that may do everything; `path` begins behind `/api/v4`.
    pub fn api(&self, method: &str, path: &str, body: &Value) -> Reply {
        self.api_as(Self::TOKEN, method, path, body)
    }

    /// The same with another token.
    pub fn api_as(&self, token: &str, method: &str, path: &str, body: &Value) -> Reply {
        let headers = [("PRIVATE-TOKEN", token), ("Content-Type", "application/json")];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.ask(method, &format!("/api/v4{path}"), &headers, body.as_bytes()).unwrap()
    }

    /// Asks the GraphQL API.
    pub fn graphql(&self, query: &str, variables: &Value) -> Value {
        let body = json!({"query": query, "variables": variables}).to_string();
        let headers = [("Authorization", &*format!("Bearer {}", Self::TOKEN)), ("Content-Type", "application/json")];
        self.ask("POST", "/api/graphql", &headers, body.as_bytes()).unwrap().json()
    }

    /// Has it do something; panics when that makes no sense.
    pub fn control(&self, method: &str, path: &str, body: &Value) -> Value {
        let reply = self.ask(method, &format!("/_control/{path}"), &[], body.to_string().as_bytes()).unwrap();
        assert!(reply.status < 300, "{method} {path} {body}: {}", reply.text());
        reply.json()
    }

    /// Changes the instance.
    pub fn settings(&self, change: &Value) {
        self.control("POST", "settings", change);
    }

    /// Shifts its clock against the host's.
    pub fn set_clock_ahead(&self, milliseconds: i64) {
        self.settings(&json!({"clock_ahead_ms": milliseconds}));
    }

    /// Adds or replaces a token.
    pub fn token(&self, token: &Value) {
        self.control("POST", "tokens", token);
    }

    /// Whether it takes a token.
    pub fn knows(&self, token: &str) -> bool {
        self.api_as(token, "GET", "/user", &Value::Null).status == 200
    }

    /// Makes a project with these files on its default branch.
    pub fn project(&self, path: &str, files: &[(&str, &str)]) -> u64 {
        let files: BTreeMap<_, _> = files.iter().copied().collect();
        self.projects(&json!({"path": path, "files": files}))[0]
    }

    /// Makes a project, or a list of them; their ids.
    pub fn projects(&self, projects: &Value) -> Vec<u64> {
        let made = self.control("POST", "projects", projects);
        made.as_array().unwrap().iter().map(|project| project["id"].as_u64().unwrap()).collect()
    }

    /// Changes a project; another `path` renames it.
    pub fn change_project(&self, project: u64, change: &Value) {
        self.control("POST", &format!("projects/{project}"), change);
    }

    /// Removes a project.
    pub fn remove_project(&self, project: u64) {
        self.control("DELETE", &format!("projects/{project}"), &Value::Null);
    }

    /// Shares a project with a group.
    pub fn share(&self, group: &str, project: u64) {
        self.control("POST", "groups/share", &json!({"group": group, "project": project}));
    }

    /// Commits; the id of the commit.
    pub fn push(&self, project: u64, push: &Value) -> String {
        self.control("POST", &format!("projects/{project}/push"), push)["sha"].as_str().unwrap().to_owned()
    }

    /// A project's hooks, with their secrets.
    pub fn hooks(&self, project: u64) -> Vec<Value> {
        list(&self.control("GET", &format!("projects/{project}/hooks"), &Value::Null))
    }

    /// Makes a pipeline of any kind; its id.
    pub fn pipeline(&self, project: u64, new: &Value) -> u64 {
        self.control("POST", &format!("projects/{project}/pipelines"), new)["id"].as_u64().unwrap()
    }

    /// A pipeline as it is.
    pub fn show(&self, pipeline: u64) -> Value {
        self.control("GET", &format!("pipelines/{pipeline}"), &Value::Null)
    }

    /// All pipelines of a project that the API lists, the newest first.
    pub fn pipelines(&self, project: u64) -> Vec<Value> {
        list(&self.api("GET", &format!("/projects/{project}/pipelines?per_page=100"), &Value::Null).json())
    }

    /// Brings a pipeline to a status on the way that GitLab takes.
    pub fn bring(&self, pipeline: u64, status: &str) -> Value {
        self.control("POST", &format!("pipelines/{pipeline}"), &json!({"to": status}))
    }

    /// Gives a pipeline a status at once, even one that nobody knows.
    pub fn set_status(&self, pipeline: u64, status: &str) -> Value {
        self.control("POST", &format!("pipelines/{pipeline}"), &json!({"set": status}))
    }

    /// Runs again what has failed.
    pub fn retry(&self, pipeline: u64) -> Value {
        self.control("POST", &format!("pipelines/{pipeline}/retry"), &json!({}))
    }

    /// Ends a pipeline.
    pub fn cancel(&self, pipeline: u64) -> Value {
        self.control("POST", &format!("pipelines/{pipeline}/cancel"), &json!({}))
    }

    /// Starts a manual job.
    pub fn play(&self, pipeline: u64, job: &str) -> Value {
        self.control("POST", &format!("pipelines/{pipeline}/play"), &json!({"job": job}))
    }

    /// Lets a manual job that has run wait once more.
    pub fn rearm(&self, pipeline: u64, job: &str) -> Value {
        self.control("POST", &format!("pipelines/{pipeline}/rearm"), &json!({"job": job}))
    }

    /// Changes how webhooks go wrong.
    pub fn webhooks(&self, change: &Value) {
        self.control("POST", "webhooks", change);
    }

    /// Calls a hook with any body, with token and signature as all of that hook have them.
    pub fn send(&self, hook: u64, kind: &str, body: &Value) {
        self.control("POST", "webhooks/send", &json!({"hook": hook, "kind": kind, "body": body}));
    }

    /// Sends the webhooks that were kept, `kept`, `backwards` or `shuffled`; how many there were.
    pub fn release(&self, order: &str) -> u64 {
        self.control("POST", "webhooks/release", &json!({"order": order}))["released"].as_u64().unwrap()
    }

    /// Waits until no webhook is on its way any more, but for those that are kept.
    pub fn settle(&self) {
        until("no webhook is on its way", seconds(60), || {
            self.control("GET", "webhooks", &Value::Null)["under_way"] == 0
        });
    }

    /// Every webhook so far.
    pub fn deliveries(&self) -> Vec<Delivery> {
        serde_json::from_value(self.control("GET", "deliveries", &Value::Null)).unwrap()
    }

    /// Forgets the webhooks so far.
    pub fn forget_deliveries(&self) {
        self.control("DELETE", "deliveries", &Value::Null);
    }

    /// Lets something go wrong.
    pub fn fault(&self, plan: &Value) {
        self.control("POST", "faults", plan);
    }

    /// Lets the next `times` requests of this method to this path go wrong; `*` in the path stands for anything.
    pub fn fail(&self, times: u64, method: &str, path: &str, what: &Value) {
        self.fault(&json!({"times": times, "method": method, "path": path, "what": what}));
    }

    /// Lets nothing go wrong with requests any more.
    pub fn end_faults(&self) {
        self.control("DELETE", "faults", &Value::Null);
    }

    /// Allows so many requests in so many seconds to everybody; none: any number.
    pub fn budget(&self, allowance: Option<(u64, u64)>) {
        let allowance = allowance.map(|(limit, window)| json!({"limit": limit, "window_s": window}));
        self.control("POST", "budget", &json!(allowance));
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.requests_where("")
    }

    /// Those of this method to this path, in which `*` stands for anything.
    pub fn requests_to(&self, method: &str, path: &str) -> Vec<SeenRequest> {
        self.requests_where(&format!("?method={method}&path={path}"))
    }

    fn requests_where(&self, query: &str) -> Vec<SeenRequest> {
        serde_json::from_value(self.control("GET", &format!("requests{query}"), &Value::Null)).unwrap()
    }

    /// Forgets the requests so far.
    pub fn forget_requests(&self) {
        self.control("DELETE", "requests", &Value::Null);
    }
}

impl Drop for FakeGitlab {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}")).clone()
}
