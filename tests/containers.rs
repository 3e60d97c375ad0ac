//! What an administrator gives to containers, as it is in them: networks of jobs' own, and the program that makes containers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use support::storage::on_path;
use support::{Host, Image, Job, Runner, State};

/// A web server on port 8080 that tells what its network looks like.
fn server() -> Image {
    let looks = "mkdir /tmp/www && cat /sys/class/net/eth0/mtu >/tmp/www/mtu && grep -c fd /proc/net/if_inet6 >/tmp/www/ipv6; exec httpd -f -p 8080 -h /tmp/www";
    Image::busybox().expose(8080).cmd(&["sh", "-c", looks])
}

/// Plays a job with a web server as a service; returns its log.
fn beside_a_server(settings: &str, script: &[&str]) -> String {
    let host = Host::configured(settings);
    let services = json!([{"name": host.image(&server()), "alias": "web"}]);
    let job = Job::new(&host.image(&Image::busybox())).with("services", services).script(script);
    let outcome = Runner::new(&host).play(&job);
    outcome.expect(State::Success);
    outcome.log()
}

#[test]
fn packets_in_a_network_of_a_jobs_own_are_as_large_as_the_administrator_says_for_job_and_services() {
    let looks = ["echo job $(cat /sys/class/net/eth0/mtu)", "echo service $(wget -q -O - http://web:8080/mtu)"];
    for (settings, mtu) in [("network_mtu = 1399", 1399), ("", 1500)] {
        let log = beside_a_server(&format!("[job]\nnetwork = 'private'\n{settings}"), &looks);
        let has = |who: &str| log.contains(&format!("\n{who} {mtu}\n"));
        assert!(has("job") && has("service"), "{log}");
    }
}

#[test]
fn a_network_of_a_jobs_own_has_ipv6_where_the_administrator_says_so() {
    if !std::path::Path::new("/proc/net/if_inet6").exists() {
        return eprintln!("SKIPPED: this kernel has no IPv6");
    }
    let looks = [
        "address=$(awk '$2 == \"web\" && $1 ~ /:/ { print $1 }' /etc/hosts)",
        "echo \"job $(grep -c '^fd' /proc/net/if_inet6) <${address%%:*}\"",
        "test -z \"$address\" || echo service $(wget -q -O - \"http://[$address]:8080/ipv6\")",
    ];
    let log = beside_a_server("[job]\nnetwork = 'private'\nipv6 = true", &looks);
    assert!(log.contains("\njob 1 <fd") && log.contains("\nservice 1\n"), "{log}");
    let log = beside_a_server("[job]\nnetwork = 'private'", &looks);
    assert!(log.contains("\njob 0 <\n"), "{log}");
}

#[test]
fn the_runtime_that_the_administrator_names_makes_the_containers_of_jobs_and_services() {
    let dir = tempfile::tempdir().unwrap();
    let (runtime, trace) = (dir.path().join("runtime"), dir.path().join("trace"));
    let real = if on_path("runc") { "runc" } else { "crun" };
    std::fs::write(&runtime, format!("#!/bin/sh\necho \"$@\" >>{}\nexec {real} \"$@\"\n", trace.display())).unwrap();
    for path in [dir.path(), &runtime] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let made = || {
        let calls = std::fs::read_to_string(&trace).unwrap_or_default();
        calls.lines().filter(|call| call.split(' ').any(|word| word == "create")).count()
    };
    beside_a_server("", &["true"]);
    assert_eq!(made(), 0);
    beside_a_server(&format!("[job]\nruntime = '{}'", runtime.display()), &["true"]);
    assert_eq!(made(), 2, "{:?}", std::fs::read_to_string(&trace));
}
