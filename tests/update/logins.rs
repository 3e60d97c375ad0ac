//! Registries that want a login, and healthchecks that nobody runs.

use base64::Engine as _;
use serde_json::json;

use crate::LABEL;
use crate::support::boxed::in_a_box;
use crate::support::registry::Registry;
use crate::support::updater::{Does, Updater, outcome};

#[test]
fn logins_are_those_of_the_label_the_configuration_or_podman() {
    in_a_box("logins::logins_in_the_box");
}

#[test]
#[ignore = "runs in a box"]
fn logins_in_the_box() {
    let Some(host) = Updater::new(false) else { return };
    let Some(registry) = Registry::with_passwords() else { return };
    let name = format!("127.0.0.1:{}", registry.port);
    host.trust(&name);
    let login = base64::engine::general_purpose::STANDARD.encode("tester:secret");
    let text = json!({"auths": {&name: {"auth": login}}}).to_string();
    let good = host.secret("registries.json", &text).display().to_string();
    let images = ["own", "plain"].map(|name| registry.image(&format!("{name}:latest")));
    // Of one the container says where its login is, of the other nobody does. podman's timers check neither.
    let unchecked = "--health-cmd 'test -e /healthy' --health-interval disable --health-retries 1 --health-timeout 2s";
    let labels = [
        format!("{LABEL} --label io.containers.autoupdate.authfile={good} {unchecked}"),
        format!("{LABEL} {unchecked}"),
    ];
    let push = |image: &str, does: Does| host.push_with(image, does, 0, &["--creds", "tester:secret"]);
    for ((name, image), options) in ["own", "plain"].iter().zip(&images).zip(&labels) {
        push(image, Does::Well);
        host.podman(&["pull", "--quiet", "--creds", "tester:secret", image]);
        host.service(name, image, options);
        push(image, Does::Well);
    }
    let (code, report) = host.run();
    assert_eq!(
        (code, outcome(&report, "own.service"), outcome(&report, "plain.service")),
        (1, "updated", "failed"),
        "{report}"
    );
    assert!(report.to_string().contains("login"), "{report}");
    host.configure(&format!("auth_file = \"{good}\""));
    let (code, report) = host.run();
    assert_eq!((code, outcome(&report, "plain.service")), (0, "updated"), "{report}");
    // podman's own file.
    host.configure("");
    push(&images[1], Does::Well);
    std::fs::create_dir_all("/run/containers/0").unwrap();
    std::fs::write("/run/containers/0/auth.json", &text).unwrap();
    let (code, report) = host.run();
    assert_eq!((code, outcome(&report, "plain.service")), (0, "updated"), "{report}");
    // One that never gets healthy is seen though nobody else looks.
    push(&images[1], Does::Ail);
    let (code, report) = host.run();
    assert_eq!((code, outcome(&report, "plain.service")), (1, "rolled-back"), "{report}");
    host.stop(&["own.service", "plain.service"]);
}
