//! The service as systemd runs it, installed in a box (scripts/box.sh) or a virtual machine (scripts/vm.sh), one subject a file.
//!
//! The tests run this program again in the box, with one of those that are ignored here.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod credentials;
mod devices;
mod disk;
mod doctor;
mod machine;
mod nested;
mod pages;
mod reboot;
mod refused;
mod restarts;
mod service;
mod upgrade;

use std::fs;

use serde_json::Value;
use support::installed::{Installed, PATIENCE, text};
use support::until;

/// Settings that fit a box: no registry, no network, and nothing goes because of what else fills the disk that it is on.
const SETTINGS: &str = "slots = 8\n[job]\nnetwork = \"none\"\npull_policy = \"never\"\nbuild_storage = \"none\"\n\
                        [purge]\nmin_free = \"4 MiB\"\nmin_free_inodes = 0\n\
                        [profile.connected]\nslots = 2\njob.network = \"private\"\n";

/// A stage that ends when the file is there.
const UNTIL_TOLD: &str = "echo started\nuntil [ -e /builds/go ]; do sleep 0.05; done\necho whole\n";

/// No slot, no lease and no container is left, of the ten slots of [`SETTINGS`].
fn nothing_is_left(windlass: &Installed) {
    until("no slot is held", PATIENCE, || {
        let status = windlass.status();
        let slots = status["slots"].as_array().unwrap();
        slots.len() == 10
            && slots.iter().all(|slot| slot["lease"].is_null())
            && status["leases"] == Value::Array(vec![])
    });
    assert_eq!(fs::read_dir("/run/windlass/leases").unwrap().count(), 0);
    assert_eq!(containers(windlass), "");
}

/// The ids of all containers of the service's, those that ended too.
fn containers(windlass: &Installed) -> String {
    let left = windlass.podman(&["ps", "--all", "--quiet", "--filter", "label=io.windlass.daemon"]);
    assert!(left.status.success(), "{}", text(&left));
    String::from_utf8(left.stdout).unwrap()
}
