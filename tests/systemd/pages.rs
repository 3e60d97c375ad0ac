//! The two pages that lead from an empty host to the first job and to the first chain: what they tell to type and to write is typed and
//! written, in a box. A command that is in neither table of this file is run as it stands, so a new one is tried from its first day on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::getuid;

use crate::support::boxed::{in_a_box_with, skip};
use crate::support::chain::Diamond;
use crate::support::gitlab::FakeGitlab;
use crate::support::installed::{Installed, PATIENCE, run, source, text};
use crate::support::packages::{self, PACKAGES};
use crate::support::registry::Registry;
use crate::support::storage::on_path;
use crate::support::{Image, Job, Runner, State, until};

/// Commands that can't be run here, what is run instead, and why.
const INSTEAD: [(&str, &str, &str); 5] = [
    ("scripts/prepare.sh --for package", "true", "what it installs is there, and a box has no network"),
    ("scripts/build.sh --release", "true", "the test's own build stands in: a release build takes many minutes"),
    ("scripts/package.sh", "cp \"$WINDLASS_PACKAGES\"/*.deb .", "made before, of the test's own build"),
    (
        "sudo apt-get install ./windlass-cli_*.deb ./windlass_*.deb",
        "sudo apt-get install --no-install-recommends ./windlass-cli_*.deb ./windlass_*.deb",
        "a box has no network for recommended packages that this machine lacks",
    ),
    (
        "sudo dnf install ./windlass-cli-*.rpm ./windlass-[0-9]*.rpm",
        "true",
        "this is no Fedora; the tests of the packages install the .rpm",
    ),
];

/// What commands show when they work, and how they may end where that is not with 0.
const SHOWS: [(&str, &[i32], &str); 19] = [
    ("windlass check", &[0], "slots = "),
    // A box has no GitLab, no name server, and a kernel of which it gets few controllers.
    ("sudo windlass doctor", &[0, 1], "user windlass"),
    ("sudo windlass try --image docker.io/library/alpine:latest -- uname -a", &[0], "Job succeeded"),
    ("sudo windlass doctor --only runner --only socket --only helper", &[0, 1], "Socket"),
    ("sudo windlass status", &[0], "default/3"),
    ("sudo journalctl -u windlass PROJECT=group/app", &[0], "has slot default/0"),
    ("windlass chain scan Containerfile", &[0], "registry.example.com/images/base:latest"),
    (
        "windlass chain scan --arg CI_REGISTRY=registry.example.com */Containerfile",
        &[0],
        "registry.example.com/images/base",
    ),
    (
        "sudo windlass doctor --only gitlab --only webhooks --only clock",
        &[0, 1],
        "none is set up or mended while dry_run is set",
    ),
    ("sudo windlass chain status", &[0], "images/ruby"),
    ("sudo windlass chain graph", &[0], "images/app"),
    ("sudo windlass chain plan", &[0], ""),
    ("sudo windlass chain audit", &[0, 1], ""),
    ("sudo windlass chain rebuild images/base", &[0], "images/base"),
    ("sudo windlass chain events", &[0], "images/base"),
    ("sudo systemctl enable --now windlass.socket windlass.service", &[0], ""),
    ("sudo systemctl reload windlass", &[0], ""),
    ("sudo systemctl restart windlass", &[0], ""),
    ("sudo systemctl daemon-reload && sudo systemctl restart gitlab-runner", &[0], ""),
];

/// Blocks that are no commands and name no file of theirs: language, first words, and what is done with them.
const BLOCKS: [(&str, &str, Block); 4] = [
    ("toml", "concurrent = 4", Block::RunnerConfig),
    ("yaml", "# .gitlab-ci.yml", Block::Job),
    ("dockerfile", "FROM ", Block::Containerfile),
    // TLS is a reverse proxy's; GitLab's part calls the daemon's port itself.
    ("nginx", "location", Block::Nothing),
];

/// What is done with a block.
#[derive(Debug, Clone, Copy)]
enum Block {
    /// gitlab-runner's configuration, and a service of that name.
    RunnerConfig,
    /// A job that is run as gitlab-runner would.
    Job,
    /// What the commands after it read.
    Containerfile,
    /// Nothing: it can't be tried here.
    Nothing,
}

#[test]
fn the_first_job_and_the_first_chain_come_about_as_their_pages_say() {
    if !getuid().is_root() || !on_path("systemd-nspawn") || !on_path("apt-get") {
        return skip("a box takes root and systemd-nspawn, and what the pages tell takes apt-get");
    }
    let directory = tempfile::Builder::new().prefix("wl-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    packages::make("0.1.0", directory.path(), &["--only", "deb"]);
    in_a_box_with("pages::in_the_box", &[(PACKAGES, directory.path())]);
}

#[test]
fn what_stands_in_for_a_command_is_of_one_that_is_still_there() {
    let all: Vec<String> = ["docs/first-job.md", "docs/first-chain.md"].into_iter().flat_map(commands_of).collect();
    for command in INSTEAD.map(|(command, _, _)| command).into_iter().chain(SHOWS.map(|(command, _, _)| command)) {
        assert!(all.iter().any(|known| known == command), "no page has {command:?}");
    }
}

/// The code blocks of a page: their language, and their lines.
pub fn blocks(page: &str) -> Vec<(String, Vec<String>)> {
    let text = fs::read_to_string(source(page)).unwrap();
    let mut blocks = Vec::new();
    let mut open: Option<(String, Vec<String>)> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some((language.to_owned(), Vec::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, lines))) => lines.push(line.to_owned()),
            (None, None) => {}
        }
    }
    assert!(open.is_none() && blocks.len() > 5, "{page}");
    blocks
}

/// The commands of a block of shell, without what is said about them.
fn commands(lines: &[String]) -> Vec<String> {
    let said = |line: &str| line.find("  #").map_or(line.len(), |at| at);
    let commands = lines.iter().map(|line| line[..said(line)].trim().to_owned());
    commands.filter(|command| !command.is_empty() && !command.starts_with('#')).collect()
}

fn commands_of(page: &str) -> Vec<String> {
    blocks(page).into_iter().filter(|(language, _)| language == "sh").flat_map(|(_, lines)| commands(&lines)).collect()
}

/// An empty host, and who reads the pages on it.
struct Reader {
    directory: PathBuf,
    gitlab: FakeGitlab,
    diamond: Diamond,
    /// Stands in for Docker Hub.
    _hub: Registry,
}

impl Reader {
    fn new() -> Self {
        let directory = PathBuf::from("/root/reader");
        fs::create_dir(&directory).unwrap();
        // Who reads is root, on a machine that may lack it.
        let sudo = Path::new("/usr/local/bin/sudo");
        fs::create_dir_all("/usr/local/bin").unwrap();
        fs::write(sudo, "#!/bin/sh\nexec \"$@\"\n").unwrap();
        fs::set_permissions(sudo, PermissionsExt::from_mode(0o755)).unwrap();
        let hub = Registry::open().expect("docker-registry; scripts/prepare.sh --for test installs it");
        fs::create_dir_all("/etc/containers/registries.conf.d").unwrap();
        let conf =
            format!("[[registry]]\nprefix = \"docker.io\"\nlocation = \"127.0.0.1:{}\"\ninsecure = true\n", hub.port);
        fs::write("/etc/containers/registries.conf.d/50-hub.conf", conf).unwrap();
        let image = Image::busybox();
        image.make(Command::new("podman"));
        run(Command::new("podman")
            .args(["push", "--quiet", "--tls-verify=false", &image.name()])
            .arg(hub.image("library/alpine:latest")));
        let gitlab = FakeGitlab::start();
        let diamond = Diamond::make(&gitlab);
        Self { directory, gitlab, diamond, _hub: hub }
    }

    fn read(&self, page: &str) {
        for (language, lines) in blocks(page) {
            eprintln!("---- {page}: {language}\n{}", lines.join("\n"));
            let first = lines[0].as_str();
            match (language.as_str(), first.strip_prefix("# /")) {
                ("sh", _) => {
                    if lines.iter().any(|line| line.contains("chain rebuild")) {
                        self.let_it_go();
                    }
                    commands(&lines).iter().for_each(|command| self.type_in(command));
                }
                (_, Some(path)) => self.write(&Path::new("/").join(path), &lines),
                _ => {
                    let known = BLOCKS.iter().find(|(of, begins, _)| *of == language && first.starts_with(begins));
                    let (_, _, what) = known.unwrap_or_else(|| panic!("{page}: what is {first:?} ({language})?"));
                    self.take(*what, &lines);
                }
            }
        }
    }

    /// Runs a command as it stands, or what stands in for it.
    fn type_in(&self, command: &str) {
        let instead = INSTEAD.iter().find(|(known, _, _)| *known == command);
        let (codes, words) = SHOWS
            .iter()
            .find(|(known, _, _)| *known == command)
            .map_or((&[0][..], ""), |(_, codes, words)| (codes, words));
        if command.contains("windlass chain") && !command.contains(" scan ") {
            // A person types more slowly than the daemon starts.
            until("the chain is known", PATIENCE, || self.chain_is_known());
        }
        if command.contains("windlass chain events") {
            // And than GitLab says what it has begun.
            let said = || Command::new("windlass").args(["chain", "events"]).output().unwrap();
            until("something is known of a rebuild", PATIENCE, || text(&said()).contains(words));
        }
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", instead.map_or(command, |(_, instead, _)| instead)]);
        shell.current_dir(&self.directory).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = shell.spawn().unwrap();
        // Only the command that asks for the token reads it.
        let mut stdin = child.stdin.take().unwrap();
        let _ = std::io::Write::write_all(&mut stdin, format!("{}\n", FakeGitlab::TOKEN).as_bytes());
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let shown = text(&output);
        eprintln!("$ {command}\n{shown}");
        assert!(output.status.code().is_some_and(|code| codes.contains(&code)), "{command}: {}", output.status);
        assert!(shown.contains(words), "{command} does not show {words:?}");
    }

    /// "Take `dry_run` away", says the page before its last commands.
    fn let_it_go(&self) {
        let file = "/etc/windlass/conf.d/60-chain.toml";
        let text = fs::read_to_string(file).unwrap();
        let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with("dry_run = true")).collect();
        assert_eq!(kept.len() + 1, text.lines().count(), "{text}");
        fs::write(file, kept.join("\n") + "\n").unwrap();
    }

    fn chain_is_known(&self) -> bool {
        let shown = Command::new("windlass").args(["chain", "status", "--json"]).output().unwrap();
        let status: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap_or_default();
        status["projects"].as_array().is_some_and(|projects| projects.len() == 4) && status["looking"] == false
    }

    /// Writes a file that a page has, with this box's addresses for those of the example.
    fn write(&self, path: &Path, lines: &[String]) {
        let text = lines.join("\n").replace("https://gitlab.example.com", self.gitlab.url());
        let text = text.replace("https://chain.example.com/hooks/gitlab", "http://127.0.0.1:9252/hooks/gitlab");
        // Where no page says to make a directory, there is one.
        fs::write(path, text + "\n").unwrap();
    }

    fn take(&self, block: Block, lines: &[String]) {
        match block {
            Block::Nothing => {}
            Block::Containerfile => {
                let below = self.directory.join("ruby");
                fs::create_dir(&below).unwrap();
                for place in [&self.directory, &below] {
                    self.write(&place.join("Containerfile"), lines);
                }
            }
            Block::RunnerConfig => {
                run(Command::new("useradd").args(["--system", "--create-home", "gitlab-runner"]));
                let config = Path::new("/etc/gitlab-runner/config.toml");
                // Its package makes it.
                fs::create_dir_all("/etc/gitlab-runner").unwrap();
                self.write(config, lines);
                fs::set_permissions(config, PermissionsExt::from_mode(0o600)).unwrap();
                let unit = "[Service]\nUser=gitlab-runner\nType=exec\nExecStart=/bin/sleep infinity\n";
                fs::write("/etc/systemd/system/gitlab-runner.service", unit).unwrap();
            }
            Block::Job => {
                let shown: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
                assert_eq!(shown, ["# .gitlab-ci.yml", "hello:", "image: alpine:latest", "script:", "- uname -a"]);
                let windlass = Installed::found(false, &[]);
                // gitlab-runner's user came after the daemon's start, as it does on a new host.
                until("the user is let in", PATIENCE, || {
                    windlass.journal(&[]).contains("this host has user \"gitlab-runner\" now")
                });
                let runner = Runner::on(&windlass);
                let job = Job::new("alpine:latest").project(4711, "group/app").script(&["uname -a"]);
                let outcome = runner.play(&job);
                outcome.expect(State::Success).expect_log("Linux").expect_log("Using image alpine:latest");
            }
        }
    }
}

#[test]
#[ignore = "runs in a box"]
fn in_the_box() {
    let reader = Reader::new();
    reader.read("docs/first-job.md");
    reader.read("docs/first-chain.md");
    // What the last page is for: a build of the base, and after it what builds on it.
    let Diamond { base, ruby, node, .. } = reader.diamond;
    let started = |project: u64| {
        let pipelines = reader.gitlab.pipelines(project);
        pipelines.iter().find(|pipeline| pipeline["source"] == "api").and_then(|pipeline| pipeline["id"].as_u64())
    };
    assert_eq!((started(ruby), started(node)), (None, None));
    reader.gitlab.bring(started(base).expect("the base is built"), "success");
    until("what builds on it is built", PATIENCE, || started(ruby).is_some() && started(node).is_some());
}
