//! The JSON, held against its description.

use serde_json::{Value, json};

use crate::support::chain::{Chain, write_secret};
use crate::support::client;
use crate::support::page::PageAt;
use crate::support::registry::free_port;
use crate::support::wait::seconds;
use crate::support::{Host, Image, Job, Runner, until};

/// Whether an answer is what the description says of a path, and nothing else.
fn check(description: &Value, path: &str, status: &str, answer: &Value) {
    let mut response = &description["paths"][path]["get"]["responses"][status];
    if let Some(name) = response["$ref"].as_str() {
        response = description.pointer(name.strip_prefix('#').unwrap()).unwrap();
    }
    let schema = &response["content"]["application/json"]["schema"];
    assert!(schema.is_object(), "{path} {status} is not described");
    let mut whole = schema.clone();
    whole["components"] = description["components"].clone();
    let validator = jsonschema::validator_for(&whole).unwrap();
    let wrong: Vec<String> =
        validator.iter_errors(answer).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(wrong.is_empty(), "{path}: {wrong:#?}\n{answer:#}");
}

/// Whether every path that is described answers as it is described. `project` is one of the chain's; none: there is no chain.
pub fn check_all(page: PageAt, project: Option<u64>) {
    let description = page.api("openapi.json");
    let paths = description["paths"].as_object().unwrap();
    assert!(paths.len() >= 6, "{paths:?}");
    for (path, _) in paths.iter().filter(|(_, of)| of["servers"].is_null()) {
        let reply = page.get(&address(path, project), &[]);
        let is_of_chain = path.starts_with("/chain") || path == "/images";
        assert_eq!(reply.status, if is_of_chain && project.is_none() { 404 } else { 200 }, "{path}");
        check(&description, path, &reply.status.to_string(), &reply.json());
    }
}

/// Where a path that is described is.
fn address(path: &str, project: Option<u64>) -> String {
    let id = project.map_or_else(|| "1".to_owned(), |id| id.to_string());
    format!("/api/v1{}", path.replace("{id}", &id))
}

#[test]
fn whoever_gets_no_answer_is_told_why_as_the_description_says() {
    let open = PageAt(free_port());
    let _open = Host::configured(&open.settings());
    let closed = PageAt(free_port());
    let secrets = tempfile::tempdir().unwrap();
    let file = secrets.path().join("page-token");
    write_secret(file.clone(), "the-token-of-the-page");
    let _closed = Host::configured(&format!("{}token_file = '{}'\n", closed.settings(), file.display()));
    let description = open.api("openapi.json");
    let wrong = ("Authorization", "Bearer wrong");
    let told_to_wait = || closed.get("/api/v1/now", &[wrong]).status == 429;
    until("too many were wrong", seconds(10), told_to_wait);
    for path in description["paths"].as_object().unwrap().keys().filter(|path| !path.starts_with("/live/")) {
        let at = address(path, None);
        let answers = [
            (401, closed.get(&at, &[])),
            (405, client::ask(open.0, "POST", &at, &[], b"").unwrap()),
            (421, client::ask_as("evil.example.com", open.0, "GET", &at)),
            (429, closed.get(&at, &[wrong])),
        ];
        for (status, reply) in answers {
            assert_eq!((reply.status, reply.header("content-type")), (status, "application/json"), "{path}");
            check(&description, path, &status.to_string(), &reply.json());
        }
    }
    // The changes of the pages answer in plain text.
    let responses = &description["paths"]["/live/{page}"]["get"]["responses"];
    for page in description["paths"]["/live/{page}"]["get"]["parameters"][0]["schema"]["enum"].as_array().unwrap() {
        let at = format!("/live/{}", page.as_str().unwrap());
        let head = client::ask(open.0, "HEAD", &at, &[], b"").unwrap();
        assert_eq!((head.status, head.header("content-type")), (200, "text/event-stream"), "{at}");
        for reply in [
            closed.get(&at, &[]),
            client::ask(open.0, "POST", &at, &[], b"").unwrap(),
            client::ask_as("evil.example.com", open.0, "GET", &at),
            closed.get(&at, &[wrong]),
            open.get("/live/nowhere", &[]),
        ] {
            let told = &responses[reply.status.to_string()]["content"]["text/plain"];
            assert!(told.is_object() && reply.header("content-type").starts_with("text/plain"), "{at}: {reply:?}");
        }
    }
}

#[test]
fn every_answer_is_as_the_description_says() {
    let page = PageAt(free_port());
    let (chain, diamond) = Chain::diamond(&format!("slots = 1\n{}", page.settings()));
    let description = page.api("openapi.json");
    let pipeline = chain.gitlab.pipeline(diamond.base, &json!({"driven": true}));
    chain.gitlab.bring(pipeline, "success");
    let ruby = chain.started(diamond.ruby, 0);
    chain.gitlab.bring(ruby, "failed");
    chain.until_words("images/app", "blocked by");
    let image = chain.host.image(&Image::busybox());
    let runner = Runner::new(&chain.host);
    let mut first = runner.attempt(&Job::new(&image));
    first.make_ready();
    let second = runner.attempt(&Job::new(&image));
    let waiting = second.config();
    waiting.wait_for_output("aiting for a free slot");
    // One that has failed, and is kept.
    assert_eq!(chain.host.json(&["hold", "group/project", "--for", "10m"])[0]["state"], "waiting");
    first.run_lines("build_script", "exit 1\n").wait();
    until("it is said that the job will be held", seconds(20), || page.api("now")["held"][0].is_object());
    check_all(page, Some(diamond.ruby));
    let now = page.api("now");
    assert_eq!((now["busy"].clone(), now["waiting"][0]["id"].clone()), (json!(1), json!(second.job.id)));
    let held = &now["held"][0];
    assert_eq!((&held["id"], &held["project"]), (&json!(first.job.id), &json!("group/project")), "{held:#}");
    assert_eq!(held["state"], "failed", "{held:#}");
    chain.host.json(&["release", &first.job.id.to_string()]);
    let project = page.api(&format!("chain/{}", diamond.ruby));
    assert_eq!(project["downstreams"], json!(["images/app"]));
    assert_eq!(project["starts"][0]["pipeline"], ruby);
    let missing = page.get("/api/v1/chain/999999", &[]);
    assert_eq!(missing.status, 404);
    check(&description, "/chain/{id}", "404", &missing.json());
    // What is described is there, and every part of the description is used.
    let text = description.to_string();
    for name in description["components"]["schemas"].as_object().unwrap().keys() {
        assert!(text.contains(&format!("#/components/schemas/{name}\"")), "{name} is nobody's");
    }
    waiting.terminate();
    waiting.wait();
    second.cleanup().wait().expect_code(0);
    first.finish();
}

#[test]
fn a_daemon_without_a_chain_says_so() {
    let page = PageAt(free_port());
    let _host = Host::configured(&page.settings());
    check_all(page, None);
    let text = page.get("/", &[]).text();
    assert!(!text.contains("href=\"/chain\""), "{text}");
    assert_eq!(page.get("/chain", &[]).status, 404);
}
