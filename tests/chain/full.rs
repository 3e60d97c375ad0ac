//! A database that takes nothing, as on a full disk: registries are asked no more often for that, and nothing is lost.

use serde_json::json;
use sqlx::{Connection, SqliteConnection};

use super::watch::{built, settings};
use crate::support::chain::Chain;
use crate::support::gitlab::FakeGitlab;
use crate::support::pushed::Pushed;
use crate::support::registry::Registry;
use crate::support::wait::{seconds, until};

/// Statements on the chain's database, beside the daemon.
fn execute(chain: &Chain, statements: &[&'static str]) {
    let path = chain.host.state_dir().join("chain.db");
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let mut database = SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
        for statement in statements {
            sqlx::query(*statement).execute(&mut database).await.unwrap();
        }
        database.close().await.unwrap();
    });
}

/// Has the daemon go through its rounds some more times.
fn go_round(chain: &Chain) {
    (0..10).for_each(|_| chain.sync());
}

#[test]
fn what_a_full_database_does_not_take_is_asked_for_once_and_written_when_there_is_room() {
    let Some(registry) = Registry::open() else { return };
    let host = format!("127.0.0.1:{}", registry.port);
    Pushed::of(&["one"]).push(&registry, "bases/debian", "stable");
    Pushed::of(&["alpine"]).push(&registry, "bases/alpine", "3");
    let gitlab = FakeGitlab::start();
    gitlab.settings(&json!({"registry": host}));
    let from = |image: &str| format!("FROM {host}/bases/{image}\n");
    let ruby = gitlab.project("images/ruby", &[("Containerfile", &from("debian:stable"))]);
    built(&gitlab, ruby);
    let toml = settings(&registry, "every = '10h'");
    let chain = Chain::of(gitlab, &toml);
    until("it is seen", seconds(30), || registry.heads("bases/debian", "stable") == 1);
    let base = || chain.project("images/ruby")["base"]["state"].clone();
    until("its project is known", seconds(30), || base() == "unknown");

    execute(
        &chain,
        &[
            "CREATE TRIGGER full_look BEFORE INSERT ON image_look BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END",
            "CREATE TRIGGER full_built BEFORE INSERT ON built BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END",
        ],
    );
    // An image that nobody has looked up yet, and a success.
    let app = chain.gitlab.project("images/app", &[("Containerfile", &from("alpine:3"))]);
    built(&chain.gitlab, app);
    Pushed::of(&["one", "ruby"]).push(&registry, "images/ruby", "latest");
    let pipeline = chain.gitlab.pipeline(ruby, &json!({"driven": true}));
    chain.gitlab.bring(pipeline, "success");
    chain.sync();
    // Both are found, and neither is written. That it was compared counts though it is not on record.
    until("what was pushed is compared with its base", seconds(30), || base() == "new");
    until("the look is not written", seconds(30), || chain.host.log().contains("write an image's look"));
    assert!(chain.host.log().contains("write what an image was built on"));
    let asked = registry.requests();
    go_round(&chain);
    assert_eq!(registry.requests(), asked, "{}", chain.host.log());
    assert_eq!(registry.heads("bases/alpine", "3"), 1);

    // There is room again: what was found is written, and nobody is asked for it once more.
    execute(&chain, &["DROP TRIGGER full_look", "DROP TRIGGER full_built"]);
    let alpine = || {
        let audit = chain.run(&["audit"]);
        String::from_utf8_lossy(&audit.stdout)
            .lines()
            .any(|line| line.contains("alpine:3") && line.contains("too-young"))
    };
    until("the look is on record", seconds(60), alpine);
    assert_eq!(registry.requests(), asked);
    chain.restart(&toml);
    chain.until_looked();
    assert_eq!(base(), "new", "on record");
    go_round(&chain);
    assert_eq!(registry.requests(), asked);
}
