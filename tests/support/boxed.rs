//! Tests that run in a box (scripts/box.sh) or a virtual machine (scripts/vm.sh), with a systemd of their own: the test's program is run
//! again in it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use nix::unistd::getuid;

use super::installed::{source, text};
use super::storage::on_path;
use super::wait::seconds;

/// How long a box may take, in seconds: several times what it does on two cores.
const BOX: u64 = 600;
/// And for each restart that `WINDLASS_RESTARTS` asks for.
const RESTART: u64 = 15;
/// Variables that say how much is done in it.
const AMOUNTS: [&str; 2] = ["WINDLASS_RESTARTS", "WINDLASS_MACHINE_RESTARTS"];
/// How long a boot of a virtual machine may take, as long.
const MACHINE: &str = "1200";
/// How many times slower than this machine a virtual one may be.
const SLOWER: &str = "8";

/// Boxes take turns: the jobs of one are enough for a machine.
static TURN: Mutex<()> = Mutex::new(());

/// A test that needs what is missing here, and was not run: no failure, but where `WINDLASS_NO_SKIP=1` says that all has to be there.
pub fn skip(missing: &str) {
    let strict = std::env::var_os("WINDLASS_NO_SKIP").is_some_and(|value| value == "1");
    assert!(!strict, "WINDLASS_NO_SKIP is set, and what this test takes is missing: {missing}");
    eprintln!("SKIPPED: {missing}");
}

/// Runs an ignored test of the calling program in a box of its own.
pub fn in_a_box(test: &str) {
    in_a_box_with(test, &[]);
}

/// The same with variables that name directories, which the box sees.
pub fn in_a_box_with(test: &str, directories: &[(&str, &Path)]) {
    in_boots(test, 1, directories);
}

/// The same in each boot of a box that is booted so often on the same files. [`boot`] says which it is.
pub fn in_a_box_that_reboots(test: &str, boots: u32) {
    in_boots(test, boots, &[]);
}

/// The same with files that lie over those of this machine.
pub fn in_a_box_over(test: &str, files: &Path) {
    in_box(test, 1, &["--over".as_ref(), files], &[]);
}

/// Which boot of its box this is, from 1 on.
pub fn boot() -> u32 {
    std::env::var("WINDLASS_BOOT").expect("a box").parse().expect("a number")
}

/// Ends this box at once, as a host that loses its power.
pub fn lose_power() -> ! {
    let ended = Command::new("systemctl").args(["poweroff", "--force", "--force"]).status();
    // The kernel kills everything, this process too, in its own time.
    std::thread::sleep(seconds(60));
    panic!("the box is still there: {ended:?}");
}

/// The same in each boot of a virtual machine with a kernel of its own, where limits hold.
pub fn in_a_machine_that_reboots(test: &str, boots: u32) {
    if !getuid().is_root() || !on_path("linux.uml") {
        return skip("a virtual machine takes root and linux.uml, which Debian has for x86_64");
    }
    let mut command = Command::new(source("scripts/vm.sh"));
    command.args(["--timeout", MACHINE, "--boots", &boots.to_string()]);
    run_in(command, test, &[("WINDLASS_PATIENCE", Path::new(SLOWER))]);
}

fn in_boots(test: &str, boots: u32, directories: &[(&str, &Path)]) {
    let shared: Vec<&Path> = directories.iter().flat_map(|(_, directory)| [Path::new("--share"), directory]).collect();
    in_box(test, boots, &shared, directories);
}

/// With further arguments of scripts/box.sh.
fn in_box(test: &str, boots: u32, further: &[&Path], variables: &[(&str, &Path)]) {
    if !getuid().is_root() || !on_path("systemd-nspawn") {
        return skip("a box takes root and systemd-nspawn");
    }
    let mut command = Command::new(source("scripts/box.sh"));
    let restarts = std::env::var("WINDLASS_RESTARTS").ok().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
    let limit = (BOX + RESTART * restarts).to_string();
    command.args(["--timeout", &limit, "--boots", &boots.to_string()]);
    command.args(further);
    run_in(command, test, variables);
}

/// Runs a test of this program in what a script makes, with these variables. `WINDLASS_ROOT` names the files of another system to run it on.
fn run_in(mut script: Command, test: &str, variables: &[(&str, &Path)]) {
    if let Some(root) = std::env::var_os("WINDLASS_ROOT") {
        script.arg("--root").arg(root);
    }
    script.arg("--share").arg(target()).arg("--share").arg(env!("CARGO_MANIFEST_DIR")).arg("--");
    script.arg("env").args(variables.iter().map(|(name, value)| format!("{name}={}", value.display())));
    script.args(AMOUNTS.iter().filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?))));
    script.arg(std::env::current_exe().unwrap()).args([
        test,
        "--exact",
        "--ignored",
        "--nocapture",
        "--test-threads=1",
    ]);
    let turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let output = script.output().unwrap();
    drop(turn);
    let shown = text(&output);
    assert!(output.status.success() && shown.contains("test result: ok. 1 passed"), "in {script:?}:\n{shown}");
    // What was measured in it, for who asks for it (--nocapture).
    eprintln!("{shown}");
}

/// Where this program was built.
fn target() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned()
}
