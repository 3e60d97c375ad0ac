//! Registries and disks in trouble: nothing that runs is touched, and all goes on when the trouble is over.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::LABEL;
use crate::support::boxed::in_a_box;
use crate::support::installed::{run, text};
use crate::support::proxy::{Proxy, Trouble};
use crate::support::updater::{Does, Updater, outcome};

#[test]
fn a_registry_or_a_disk_in_trouble_touches_nothing_that_runs() {
    in_a_box("trouble::trouble_in_the_box");
}

#[test]
#[ignore = "runs in a box"]
fn trouble_in_the_box() {
    let Some(host) = Updater::new(false) else { return };
    trouble(&host);
}

/// Fills a file system; what has to go to make room again.
fn fill(directory: &Path) -> PathBuf {
    let path = directory.join("filler");
    run(Command::new("sh").args(["-c", "dd if=/dev/zero of=\"$0\" bs=1M 2>/dev/null; true"]).arg(&path));
    path
}

/// Registries and disks in trouble.
pub fn trouble(host: &Updater) {
    let proxy = Proxy::start(&host.registry, &[], &[]);
    host.trust(&proxy.host());
    let (pushed, web) = (host.registry.image("web:latest"), proxy.image("web:latest"));
    host.push(&pushed, Does::Well, 0);
    host.service("web", &web, LABEL);
    let before = host.container("web");
    assert_eq!(outcome(&host.run().1, "web.service"), "current");
    let new = host.push(&pushed, Does::Well, 3 << 20);
    let fails = |what: &str, words: &str| {
        let (code, report) = host.run();
        assert_eq!((code, outcome(&report, "web.service")), (1, "failed"), "{what}: {report}");
        let reason = report["units"][0]["reason"].as_str().unwrap().to_owned();
        assert!(reason.contains(words), "{what}: {reason}");
        assert_eq!(host.container("web"), before, "{what}");
        assert_eq!(host.image(&web).as_ref(), Some(&before.1), "{what}");
        assert!(host.record("web.service")["journey"].is_null(), "{what}");
    };
    proxy.meet(&vec![Trouble::Status(401); 20], &[]);
    fails("401", "web:latest");
    proxy.meet(&[Trouble::Later(3600)], &[]);
    fails("429", "enough requests");
    // Each pull tries again: half a layer, as often as it likes.
    proxy.meet(&[], &vec![Trouble::Half; 100]);
    fails("half a layer", "could not be pulled");
    proxy.meet(&[], &[]);

    // Disks that are full: where podman keeps images, and where records are, which has one of its own for that.
    let state = host.state();
    run(Command::new("mkdir").arg("-p").arg(&state));
    let owner = host.user.as_ref().map_or_else(String::new, |user| format!(",uid={},gid={}", user.uid, user.gid));
    run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size=64k,mode=0700{owner}"), "none"]).arg(&state));
    host.json(&["hold", "web"]);
    host.json(&["release", "web"]);
    let used = run(Command::new("df").args(["--block-size=1M", "--output=used"]).arg(host.disk()));
    let used: u64 = used.lines().last().unwrap().trim().parse().unwrap();
    run(Command::new("mount").args(["-o", &format!("remount,size={}m", used + 64)]).arg(host.disk()));
    let filler = fill(host.disk());
    fails("a full disk", "could not be pulled");
    fs::remove_file(filler).unwrap();
    let filler = fill(&state);
    let output = host.windlass(&["run"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("nothing was changed"), "{}", text(&output));
    assert_eq!(host.container("web"), before);
    fs::remove_file(filler).unwrap();

    let (code, report) = host.run();
    assert_eq!((code, outcome(&report, "web.service")), (0, "updated"), "{report}");
    assert_eq!(host.container("web").1, new);
    let before = host.container("web");
    // Nobody listens.
    drop(proxy);
    let (code, report) = host.run();
    assert_eq!((code, outcome(&report, "web.service")), (1, "failed"), "{report}");
    assert_eq!(host.container("web"), before);
    host.stop(&["web.service"]);
    run(Command::new("umount").arg("--lazy").arg(&state));
}
