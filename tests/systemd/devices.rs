//! CDI devices, which podman looks for in directories of the host's: in a box those are the box's own.

use std::fs;

use serde_json::json;

use crate::support::boxed::in_a_box;
use crate::support::installed::Installed;
use crate::support::{Image, Job, Runner, State};
use crate::{SETTINGS, nothing_is_left};

#[test]
fn jobs_of_a_rootless_daemon_have_the_cdi_devices_that_the_administrator_names_and_their_services_have_none() {
    in_a_box("devices::rootless_in_the_box");
}

#[test]
fn jobs_of_a_rootful_daemon_have_the_cdi_devices_that_the_administrator_names_and_their_services_have_none() {
    in_a_box("devices::rootful_in_the_box");
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

fn in_the_box(rootful: bool) {
    // What a vendor's tool writes: a device, its files, and how programs learn of it.
    let edits = json!({
        "env": ["ACCELERATOR=the first", "TAKEN=by the device"],
        "deviceNodes": [{"path": "/dev/net/tun"}],
        "mounts": [{"hostPath": "/etc/cdi", "containerPath": "/accelerator", "options": ["ro", "bind"]}],
    });
    let device = json!({"cdiVersion": "0.3.0", "kind": "example.com/accelerator",
        "devices": [{"name": "first", "containerEdits": edits}]});
    fs::create_dir_all("/etc/cdi").unwrap();
    fs::write("/etc/cdi/accelerator.json", device.to_string()).unwrap();
    let settings = SETTINGS.replace("[job]\n", "[job]\ndevices = [\"example.com/accelerator=first\"]\n");
    assert_ne!(settings, SETTINGS);
    let windlass = Installed::new(rootful, &settings);
    let image = windlass.image(&Image::busybox());
    let looks = "test -c /dev/net/tun && test -s /accelerator/accelerator.json && echo \"$ACCELERATOR\"";
    let serves = format!("mkdir /tmp/www; ({looks} || echo nothing) >/tmp/www/has; exec httpd -f -p 8080 -h /tmp/www");
    let service = windlass.image(&Image::busybox().expose(8080).cmd(&["sh", "-c", &serves]));
    let job = Job::new(&image)
        .with("services", json!([{"name": service, "alias": "web"}]))
        .variable("TAKEN", "by the job")
        .script(&[
            &format!("echo job has $({looks})"),
            "echo service has $(wget -q -O - http://web:8080/has)",
            "echo taken $TAKEN",
        ]);
    let outcome = Runner::on(&windlass).play(&job);
    outcome.expect(State::Success).expect_log("\njob has the first\n").expect_log("\nservice has nothing\n");
    // A job's variables count more, as they do over the image's.
    outcome.expect_log("\ntaken by the job\n");
    nothing_is_left(&windlass);
}
