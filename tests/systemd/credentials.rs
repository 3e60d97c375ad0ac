//! Secrets as systemd credentials, together with the image chain: what is handed over, what is missing, and what changes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::unistd::User;
use serde_json::{Value, json};

use crate::support::boxed::in_a_box;
use crate::support::chain::Diamond;
use crate::support::client;
use crate::support::gitlab::{Delivery, FakeGitlab, SeenRequest};
use crate::support::installed::{Installed, PATIENCE, text};
use crate::support::registry::free_port;
use crate::support::{Image, Job, Runner, until};
use crate::{SETTINGS, UNTIL_TOLD};

/// Keys that GitLab signs with.
const SIGNING: [&str; 2] =
    ["whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "whsec_HxAREhMUFRYXGBkaGxwdHgABAgMEBQYHCAkKCwwNDg8="];
/// Tokens that GitLab calls with.
const SECRETS: [&str; 2] = ["the-first-secret-of-webhooks", "the-second-secret-of-webhooks"];
/// Tokens for GitLab's API.
const TOKENS: [&str; 3] = ["glpat-first", "glpat-second", "glpat-third"];

#[test]
fn a_rootless_service_with_credentials_goes_by_what_its_last_restart_has_found() {
    in_a_box("credentials::rootless_in_the_box");
}

#[test]
fn a_rootful_service_with_credentials_goes_by_what_its_last_restart_has_found() {
    in_a_box("credentials::rootful_in_the_box");
}

#[test]
#[ignore = "runs in a box"]
fn rootless_in_the_box() {
    in_the_box(false);
}

#[test]
#[ignore = "runs in a box"]
fn rootful_in_the_box() {
    in_the_box(true);
}

/// A file that only root can read, as an administrator replaces it.
fn write(name: &str, secret: &str) {
    let path = Path::new("/etc/windlass").join(name);
    fs::create_dir_all("/etc/windlass").unwrap();
    fs::write(&path, format!("{secret}\n")).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
}

fn in_the_box(rootful: bool) {
    let gitlab = FakeGitlab::start();
    let diamond = Diamond::make(&gitlab);
    gitlab.token(&json!({"token": TOKENS[0]}));
    write("gitlab-token", TOKENS[0]);
    let port = free_port();
    let url = gitlab.url();
    // No webhook-secret yet: the daemon makes one of its own.
    let windlass = Installed::with_credentials(
        rootful,
        &format!(
            "{SETTINGS}[gitlab]\nurl = '{url}'\n[chain]\ngroups = ['images']\ninterval = '1h'\nsettle = '0s'\nwatch.enabled = false\n\
         [webhook]\nlisten = '127.0.0.1:{port}'\nurl = 'http://127.0.0.1:{port}/hooks/gitlab'\nverify_tls = false\n"
        ),
    );
    let chained = Chained { windlass, gitlab, project: diamond.base, port };
    let own = chained.webhook()["token"].as_str().unwrap().to_owned();
    assert_eq!(own.len(), 32);
    assert_eq!(header(&chained.an_event_is_taken(), "x-gitlab-token"), own);
    only_root_and_the_daemon_can_read_them(&chained.windlass);

    // A job that runs over all that follows: with the drop-in, too, the daemon finds its jobs' containers again.
    let image = chained.windlass.image(&Image::busybox());
    let runner = Runner::on(&chained.windlass);
    let mut attempt = runner.attempt(&Job::new(&image));
    attempt.configure().expect_code(0);
    attempt.prepare().wait_for(PATIENCE).expect_code(0);
    let call = attempt.run_lines("build_script", UNTIL_TOLD);
    call.wait_for_output("started");

    // Another token, and the first secrets of webhooks.
    write("gitlab-token", TOKENS[1]);
    write("webhook-secret", SECRETS[0]);
    write("webhook-signing-secret", SIGNING[0]);
    chained.gitlab.token(&json!({"token": TOKENS[1]}));
    chained.gitlab.control("DELETE", &format!("tokens/{}", TOKENS[0]), &Value::Null);
    chained.a_refused_token_is_said_with_what_to_do();
    chained.windlass.restart();
    let first = chained.goes_by(TOKENS[1], SECRETS[0]);
    assert_eq!(chained.call(&own), 401);

    // All of them once more: what is in effect is what was there at the restart.
    write("gitlab-token", TOKENS[2]);
    write("webhook-secret", SECRETS[1]);
    write("webhook-signing-secret", SIGNING[1]);
    chained.gitlab.token(&json!({"token": TOKENS[2]}));
    chained.windlass.systemctl(&["reload", "windlass.service"]);
    chained.goes_by(TOKENS[1], SECRETS[0]);
    chained.gitlab.control("DELETE", &format!("tokens/{}", TOKENS[1]), &Value::Null);
    chained.windlass.restart();
    chained.goes_by(TOKENS[2], SECRETS[1]);
    assert_eq!((chained.call(SECRETS[0]), chained.call_signed_as(&first)), (401, 401));

    let told = chained.windlass.in_job(&attempt.lease(), &["touch", "/builds/go"]);
    assert!(told.status.success(), "{}", text(&told));
    call.wait().expect_code(0).expect_text("started\nwhole");
    attempt.finish();
}

fn only_root_and_the_daemon_can_read_them(windlass: &Installed) {
    let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap();
    assert_eq!(namespace(windlass.pid().unwrap()), namespace(1), "credentials are no reason for a mount namespace");
    let runner = User::from_name("gitlab-runner").unwrap().unwrap();
    let lies = "/etc/windlass/gitlab-token";
    let handed_over = "/run/credentials/windlass.service/gitlab-token";
    let mut refused = vec![(&runner, lies), (&runner, handed_over)];
    // Where the daemon is root, what only root can read is its own.
    refused.extend((!windlass.rootful).then_some((windlass.service(), lies)));
    for (user, path) in refused {
        let read = windlass.command_as(user, user.gid, "cat").arg(path).output().unwrap();
        assert!(!read.status.success() && text(&read).contains("ermission denied"), "{path}: {}", text(&read));
    }
}

/// A header of a call, empty where there is none.
fn header(delivery: &Delivery, name: &str) -> String {
    let found = delivery.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.clone()).unwrap_or_default()
}

/// The service, and the GitLab whose chain it looks after.
struct Chained {
    windlass: Installed,
    gitlab: FakeGitlab,
    /// Of which events come.
    project: u64,
    port: u16,
}

impl Chained {
    /// The project's webhook, once the daemon has looked at everything.
    fn webhook(&self) -> Value {
        until("everything was looked at", PATIENCE, || {
            let status = self.windlass.json(&["chain", "status"]);
            !status["looked_at"].is_null() && status["looking"] == false
        });
        until("the webhook is there", PATIENCE, || self.gitlab.hooks(self.project).len() == 1);
        self.gitlab.hooks(self.project).remove(0)
    }

    /// A pipeline's events arrive; returns the last.
    fn an_event_is_taken(&self) -> Delivery {
        let pipeline = self.gitlab.pipeline(self.project, &json!({}));
        self.gitlab.bring(pipeline, "failed");
        self.gitlab.settle();
        let deliveries = self.gitlab.deliveries();
        let last = deliveries.into_iter().rfind(|delivery| delivery.pipeline == pipeline).expect("a delivery");
        assert_eq!((last.outcome.as_str(), last.response_status), ("delivered", Some(200)), "{:?}", last.error);
        until("the event is looked at", PATIENCE, || {
            let events = self.windlass.json(&["chain", "events"]);
            let events = events["events"].as_array().cloned().unwrap_or_default();
            events.iter().any(|event| event["pipeline"] == pipeline && event["verdict"] == "looked")
        });
        last
    }

    /// What the endpoint answers to the same call with nothing but its signature.
    fn call_signed_as(&self, delivery: &Delivery) -> u16 {
        let signature =
            ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|name| (name, header(delivery, name)));
        let headers: Vec<(&str, &str)> = signature.iter().map(|(name, value)| (*name, value.as_str())).collect();
        client::ask(self.port, "POST", "/hooks/gitlab", &headers, delivery.body.as_bytes()).unwrap().status
    }

    /// What the endpoint answers to a call with this token.
    fn call(&self, token: &str) -> u16 {
        let event = json!({"object_kind": "push"}).to_string();
        let headers = [("X-Gitlab-Token", token)];
        client::ask(self.port, "POST", "/hooks/gitlab", &headers, event.as_bytes()).unwrap().status
    }

    /// The daemon uses this token, and takes what carries this secret or is signed; returns a call that is.
    fn goes_by(&self, token: &str, secret: &str) -> Delivery {
        let refused = |problem: &Value| problem.as_str().is_some_and(|words| words.contains("401"));
        assert!(!self.webhook().is_null());
        self.gitlab.forget_requests();
        let status = self.windlass.json(&["chain", "sync"]);
        assert!(!status["problems"].as_array().is_some_and(|list| list.iter().any(refused)), "{status}");
        let asked = self.gitlab.requests();
        let uses = |request: &SeenRequest| {
            request.header("private-token") == token || request.header("authorization") == format!("Bearer {token}")
        };
        assert!(!asked.is_empty() && asked.iter().all(uses), "another token was used");
        until("the webhook has the secret", PATIENCE, || self.gitlab.hooks(self.project)[0]["token"] == secret);
        assert_eq!(self.call(secret), 200);
        let delivery = self.an_event_is_taken();
        assert_eq!(header(&delivery, "x-gitlab-token"), secret);
        assert_eq!(self.call_signed_as(&delivery), 200);
        delivery
    }

    fn a_refused_token_is_said_with_what_to_do(&self) {
        let _ = self.windlass.windlass(&["chain", "sync"]);
        until("the refusal is said", PATIENCE, || {
            let said = text(&self.windlass.windlass(&["chain", "status"]));
            said.contains("401") && said.contains("/etc/windlass/gitlab-token, and restart windlassd")
        });
        let found = text(&self.windlass.windlass(&["doctor", "--only", "gitlab"]));
        assert!(found.contains("systemctl restart windlass"), "{found}");
    }
}
