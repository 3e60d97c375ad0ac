use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use super::*;
use crate::protocol::files::Measured;

fn measured(path: &Path, open: bool) -> Measured {
    match perform(&Request::Measure { path: path.to_owned(), open }) {
        Reply::Measured(measured) => measured,
        other => panic!("{other:?}"),
    }
}

/// Makes a chain of directories longer than any path may be; needs as many steps as it is deep.
fn deep(top: &Path, depth: usize) {
    use nix::fcntl::openat;
    use nix::sys::stat::{Mode, mkdirat};
    let mut at = walk::open_root(top).expect("open");
    for _ in 0..depth {
        mkdirat(&at, c"a-directory-with-a-name", Mode::from_bits_truncate(0o755)).expect("mkdir");
        at = openat(&at, c"a-directory-with-a-name", walk::DIRECTORY, Mode::empty()).expect("open");
    }
    drop(openat(
        &at,
        c"file",
        nix::fcntl::OFlag::O_CREAT | nix::fcntl::OFlag::O_WRONLY,
        Mode::from_bits_truncate(0o600),
    ));
}

#[test]
fn a_tree_deeper_than_any_path_is_measured_opened_and_removed() {
    let top = tempfile::tempdir().expect("tempdir");
    let tree = top.path().join("tree");
    fs::create_dir(&tree).expect("mkdir");
    deep(&tree, 3000);
    assert_eq!(measured(&tree, true).inodes, 3002);
    assert_eq!(perform(&Request::Empty { path: top.path().to_owned() }), Reply::Done);
    assert_eq!(fs::read_dir(top.path()).expect("read").count(), 0);
    assert_eq!(perform(&Request::Empty { path: top.path().to_owned() }), Reply::Done, "once more");
}

#[test]
fn no_link_is_followed() {
    let top = tempfile::tempdir().expect("tempdir");
    let (tree, outside) = (top.path().join("tree"), top.path().join("outside"));
    fs::create_dir_all(tree.join("inside")).expect("mkdir");
    fs::create_dir(&outside).expect("mkdir");
    fs::write(outside.join("file"), vec![1; 1 << 20]).expect("write");
    fs::set_permissions(outside.join("file"), PermissionsExt::from_mode(0o600)).expect("chmod");
    symlink(&outside, tree.join("to-directory")).expect("symlink");
    symlink(outside.join("file"), tree.join("to-file")).expect("symlink");
    let sum = measured(&tree, true);
    assert!(sum.bytes < 1 << 20 && sum.inodes == 4, "{sum:?}");
    let ids = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
    assert_eq!(perform(&Request::Own { path: tree.clone(), owner: ids, open: true }), Reply::Done);
    assert_eq!(fs::metadata(outside.join("file")).expect("stat").mode() & 0o777, 0o600);
    // The tree itself as a link is refused too.
    symlink(&outside, top.path().join("link")).expect("symlink");
    let reply = perform(&Request::Measure { path: top.path().join("link"), open: false });
    assert!(matches!(reply, Reply::Failed { .. }), "{reply:?}");
    assert_eq!(perform(&Request::Empty { path: tree.clone() }), Reply::Done);
    assert!(fs::read_dir(&tree).expect("read").next().is_none() && outside.join("file").exists());
}

#[test]
fn a_file_with_two_names_counts_once_and_a_hole_not_at_all() {
    let top = tempfile::tempdir().expect("tempdir");
    fs::write(top.path().join("one"), vec![1; 1 << 20]).expect("write");
    let once = measured(top.path(), false);
    fs::hard_link(top.path().join("one"), top.path().join("two")).expect("link");
    fs::File::create(top.path().join("hole")).and_then(|file| file.set_len(1 << 30)).expect("hole");
    let again = measured(top.path(), false);
    assert_eq!((once.inodes, again.inodes), (2, 3));
    assert!(again.bytes - once.bytes < 1 << 16, "{once:?} {again:?}");
    assert_eq!(again.owner, Some(nix::unistd::getuid().as_raw()));
}

fn tidied(builds: &Path, project: &str) -> (Option<String>, u64) {
    let trash = builds.parent().expect("parent").join("trash");
    fs::create_dir_all(&trash).expect("mkdir");
    let request = Request::Tidy { path: builds.to_owned(), project: PathBuf::from(project), trash: trash.clone() };
    let Reply::Tidied { suspicious, locks } = perform(&request) else { panic!("{:?}", perform(&request)) };
    assert_eq!(perform(&Request::Empty { path: trash.clone() }), Reply::Done);
    assert!(fs::read_dir(trash).expect("read").next().is_none());
    (suspicious, locks)
}

#[test]
fn secrets_and_locks_go_and_the_clone_stays() {
    let top = tempfile::tempdir().expect("tempdir");
    let builds = top.path().join("builds");
    let project = builds.join("g/p");
    for directory in [".git/objects/pack", ".git/refs/heads/fe", ".git/modules/db", ".git/objects/ab", "src"] {
        fs::create_dir_all(project.join(directory)).expect("mkdir");
    }
    let locks = [".git/index.lock", ".git/refs/heads/fe/main.lock", ".git/modules/db/config.lock", ".git/gc.pid"];
    let kept = [".git/HEAD", ".git/objects/ab/cd", "Cargo.lock", "src/index.lock"];
    for file in locks.iter().chain(&kept).chain(&[".git/objects/pack/tmp_pack_abc"]) {
        fs::write(project.join(file), "x").expect("write");
    }
    fs::create_dir_all(builds.join("g/p.tmp/deep")).expect("mkdir");
    fs::write(builds.join("g/p.tmp/deep/SECRET"), "x").expect("write");
    assert_eq!(tidied(&builds, "g/p"), (None, 5));
    assert!(!builds.join("g/p.tmp").exists() && locks.iter().all(|file| !project.join(file).exists()));
    assert!(kept.iter().all(|file| project.join(file).exists()));
    assert_eq!(tidied(&builds, "g/p"), (None, 0), "nothing left to do");
    assert_eq!(tidied(&builds, "other/project"), (None, 0), "nothing there");
    fs::create_dir(builds.join(".git")).expect("mkdir");
    fs::write(builds.join(".git/index.lock"), "x").expect("write");
    assert_eq!(tidied(&builds, ""), (None, 1), "the build directory itself");
}

#[test]
fn planted_links_lead_nowhere() {
    let top = tempfile::tempdir().expect("tempdir");
    let (builds, outside) = (top.path().join("builds"), top.path().join("outside"));
    fs::create_dir_all(outside.join("p.tmp")).expect("mkdir");
    fs::create_dir_all(outside.join(".git")).expect("mkdir");
    fs::write(outside.join("p.tmp/file"), "x").expect("write");
    fs::write(outside.join(".git/index.lock"), "x").expect("write");
    fs::create_dir_all(builds.join("h")).expect("mkdir");
    symlink(&outside, builds.join("g")).expect("symlink");
    symlink(&outside, builds.join("h/p")).expect("symlink");
    symlink(outside.join("p.tmp"), builds.join("h/p.tmp")).expect("symlink");
    assert!(tidied(&builds, "g/p").0.is_some());
    assert!(tidied(&builds, "h/p").0.is_some());
    fs::create_dir_all(builds.join("i/p")).expect("mkdir");
    symlink(outside.join(".git"), builds.join("i/p/.git")).expect("symlink");
    assert!(tidied(&builds, "i/p").0.is_some());
    assert!(builds.join("h/p.tmp").symlink_metadata().is_err(), "the link itself goes");
    assert!(tidied(&builds, "../outside/p").0.is_some());
    assert!(outside.join("p.tmp/file").exists() && outside.join(".git/index.lock").exists());
}
