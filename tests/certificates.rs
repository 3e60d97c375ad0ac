//! `[job] ca_file`: what trusts the administrator's certificates, and does not without them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use support::git::{git, serve};
use support::http::{Request, Response, Server};
use support::registry::Registry;
use support::storage::on_path;
use support::tls::Certificate;
use support::{Host, Image, Job, Runner, State};

/// What is large in the repository, and its name in Git LFS.
const LARGE: &str = "the file that Git LFS has\n";

/// GitLab as git, Git LFS and the commands of gitlab-runner see it, by HTTPS with a certificate that no system trusts.
struct Forge {
    dir: tempfile::TempDir,
    authority: PathBuf,
    server: Server,
    uploads: Arc<Mutex<Vec<Request>>>,
}

impl Forge {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certificate = Certificate::make(dir.path());
        let uploads: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (files, taken) = (dir.path().join("files"), uploads.clone());
        std::fs::create_dir(&files).unwrap();
        let server = Server::with_tls(certificate.of_a_server(), move |request| answer(&files, &taken, request));
        Self { dir, authority: certificate.authority, server, uploads }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.server.port)
    }

    /// A repository with one commit, as bare.git below what it serves; its large file is to be had over HTTPS alone.
    fn repository(&self) -> PathBuf {
        let work = self.dir.path().join("work");
        std::fs::create_dir(&work).unwrap();
        git(&work, &["init", "--quiet"]);
        std::fs::write(work.join("README"), "the file of the repository\n").unwrap();
        std::fs::write(work.join(".lfsconfig"), format!("[lfs]\n\turl = {}/lfs\n", self.url())).unwrap();
        std::fs::write(work.join(".gitattributes"), "large filter=lfs diff=lfs merge=lfs -text\n").unwrap();
        let pointer = format!(
            "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n",
            support::pushed::digest(LARGE.as_bytes()).trim_start_matches("sha256:"),
            LARGE.len()
        );
        std::fs::write(work.join("large"), pointer).unwrap();
        git(&work, &["add", "."]);
        git(&work, &["commit", "--quiet", "--message=first"]);
        let files = self.dir.path().join("files");
        let bare = files.join("bare.git");
        git(&files, &["clone", "--quiet", "--bare", work.to_str().unwrap(), bare.to_str().unwrap()]);
        // For the old protocol of plain files.
        git(&bare, &["update-server-info"]);
        files
    }
}

fn answer(files: &Path, uploads: &Mutex<Vec<Request>>, request: &Request) -> Response {
    let path = request.path.split('?').next().unwrap_or_default().to_owned();
    let is_upload = matches!(request.method.as_str(), "PUT" | "POST");
    match path.as_str() {
        "/lfs/objects/batch" => {
            let asked = request.json();
            let href = format!("https://{}/lfs/object", request.header("host"));
            let objects: Vec<Value> = asked["objects"].as_array().unwrap().iter().map(|object| {
                json!({"oid": object["oid"], "size": object["size"], "authenticated": true, "actions": {"download": {"href": href}}})
            }).collect();
            let body = json!({"transfer": "basic", "objects": objects}).to_string();
            Response::bytes(200, body.into_bytes()).with("Content-Type", "application/vnd.git-lfs+json")
        }
        "/lfs/object" => Response::bytes(200, LARGE.as_bytes().to_vec()),
        _ if is_upload => {
            uploads.lock().unwrap().push(request.clone());
            Response::json(if request.method == "POST" { 201 } else { 200 }, &json!({}))
        }
        "/cache" => {
            let uploads = uploads.lock().unwrap();
            let kept = uploads.iter().rfind(|upload| upload.path == "/cache");
            kept.map_or(Response::empty(404), |kept| Response::bytes(200, kept.body.clone()))
        }
        path => match std::fs::read(files.join(path.trim_start_matches('/'))) {
            Ok(bytes) => Response::bytes(200, bytes),
            Err(_) => Response::empty(404),
        },
    }
}

/// A host whose helper has git, once without and once with the certificates, and an attempt at a job that is ready on it.
fn without_and_with(forge: &Forge, more: &str, test: impl Fn(&mut support::Attempt<'_>, bool)) {
    let host = Host::start();
    let image = host.image(&Image::git());
    for trusted in [false, true] {
        let ca_file = if trusted { format!("ca_file = '{}'", forge.authority.display()) } else { String::new() };
        host.configure(&format!(
            "[job]\nnetwork = 'host'\n{ca_file}\n{more}\n[job.helper]\nmode = 'image'\nimage = '{image}'"
        ));
        host.crash_daemon();
        let runner = Runner::new(&host);
        let mut attempt = runner.attempt(&Job::new(&image));
        attempt.make_ready();
        test(&mut attempt, trusted);
        attempt.finish();
    }
}

#[test]
fn git_trusts_the_administrators_certificates_in_predefined_stages() {
    let forge = Forge::start();
    forge.repository();
    let clone = format!("GIT_LFS_SKIP_SMUDGE=1 git clone {}/bare.git /builds/clone 2>&1 && echo cloned\n", forge.url());
    without_and_with(&forge, "", |attempt, trusted| {
        let cloned = attempt.run_lines("get_sources", &clone).wait();
        if !trusted {
            assert_ne!(cloned.code, Some(0), "{}", cloned.text());
            cloned.expect_text("certificate");
            return;
        }
        cloned.expect_code(0).expect_text("cloned");
        // The job's own stages have the files, and their image's own settings.
        let build = "cat /etc/windlass-ca.crt | head -n 1; grep -c BEGIN /etc/windlass-ca-bundle.crt; echo \"<$GIT_SSL_CAINFO>\"\n";
        attempt.run_lines("build_script", build).wait().expect_text("BEGIN CERTIFICATE").expect_text("<>");
    });
}

#[test]
fn git_lfs_trusts_them_by_gits_own_setting_and_as_every_program_in_go_does() {
    if !on_path("git-lfs") {
        return eprintln!("SKIPPED: git-lfs is not installed");
    }
    let forge = Forge::start();
    // The repository itself comes without TLS.
    let (_daemon, port) = serve(&forge.repository());
    let clone = format!(
        "rm -rf /builds/clone; GIT_LFS_SKIP_SMUDGE=1 git clone --quiet git://127.0.0.1:{port}/bare.git /builds/clone && cd /builds/clone && cat README\n"
    );
    // What gitlab-runner's own commands for caches and artifacts go by is what is left without the variable of git's.
    let ways = ["git lfs pull", "env -u GIT_SSL_CAINFO git lfs pull"];
    without_and_with(&forge, "", |attempt, trusted| {
        for (number, way) in ways.iter().enumerate() {
            attempt
                .run_lines("get_sources", &clone.replace("/builds/clone", &format!("/builds/clone-{number}")))
                .wait()
                .expect_code(0)
                .expect_text("the file of the repository");
            let pull = format!("cd /builds/clone-{number} && {way} 2>&1; cat large\n");
            let pulled = attempt.run_lines("get_sources", &pull).wait();
            assert_eq!(pulled.text().contains(LARGE), trusted, "{way}: {}", pulled.text());
            assert_eq!(pulled.text().contains("certificate"), !trusted, "{way}: {}", pulled.text());
        }
    });
}

#[test]
fn gitlab_runners_commands_for_artifacts_and_caches_trust_them() {
    let program = std::env::var_os("PATH")
        .and_then(|path| std::env::split_paths(&path).map(|dir| dir.join("gitlab-runner")).find(|file| file.is_file()));
    let Some(program) = program else { return eprintln!("SKIPPED: no gitlab-runner on PATH") };
    let forge = Forge::start();
    let url = forge.url();
    let artifacts = format!(
        "mkdir -p /builds/x && cd /builds/x && echo made >file; gitlab-runner artifacts-uploader --url {url} --token t --id 1 --path file 2>&1\n"
    );
    let caches = format!(
        "cd /builds/x && gitlab-runner cache-archiver --file ../kept.zip --path file --url {url}/cache 2>&1; \
         rm -f ../kept.zip file; gitlab-runner cache-extractor --file ../kept.zip --url {url}/cache 2>&1; cat file\n"
    );
    let volume = format!("volumes = ['{}:/usr/bin/gitlab-runner:ro']", program.display());
    without_and_with(&forge, &volume, |attempt, trusted| {
        let uploaded = attempt.run_lines("upload_artifacts_on_success", &artifacts).wait();
        let came =
            |path: &str| forge.uploads.lock().unwrap().iter().filter(|upload| upload.path.contains(path)).count();
        assert_eq!(came("/api/v4/jobs/1/artifacts"), usize::from(trusted), "{}", uploaded.text());
        let cached = attempt.run_lines("archive_cache", &caches).wait();
        assert_eq!(came("/cache") > 0, trusted, "{}", cached.text());
        assert_eq!(cached.text().ends_with("made\n"), trusted, "{}", cached.text());
        if !trusted {
            uploaded.expect_text("certificate");
            cached.expect_text("certificate");
        }
    });
}

#[test]
fn pulls_trust_them_for_what_is_not_there_and_for_what_is() {
    let Some((registry, authority)) = Registry::with_tls() else { return };
    // The tests' own registries.conf lets everything on loopback do without trust.
    let conf = authority.with_file_name("strict.conf");
    std::fs::write(&conf, "unqualified-search-registries = []\n").unwrap();
    // With a login an image is not everybody's, also where the registry wants none.
    let logins = authority.with_file_name("auth.json");
    let auths = json!({"auths": {registry.image("").trim_end_matches('/'): {"auth": "dGVzdGVyOnNlY3JldA=="}}});
    std::fs::write(&logins, auths.to_string()).unwrap();
    let host = Host::start();
    let configure = |ca_file: &str| {
        host.configure(&format!(
            "[job]\npull_policy = 'if-not-present'\nauth_file = '{}'\n{ca_file}\n[podman.environment]\nCONTAINERS_REGISTRIES_CONF = '{}'",
            logins.display(),
            conf.display()
        ));
        host.crash_daemon();
    };
    let (source, image) = (host.image(&Image::busybox()), registry.image("group/image:1"));
    let push = ["push", "--quiet", "--tls-verify=false", &source, &image];
    let push = host.storage.command().args(push).output().unwrap();
    assert!(push.status.success(), "{}", String::from_utf8_lossy(&push.stderr));
    let runner = Runner::new(&host);
    let (job, other) = (Job::new(&image), Job::new(&image).project(8, "other/project"));
    configure("");
    runner.play(&job).expect(State::system_failure()).expect_log("this host does not trust the registry");
    configure(&format!("ca_file = '{}'", authority.display()));
    runner.play(&job).expect(State::Success).expect_log("Pulled image");
    // Of what is there, the registry is asked for each project.
    let before = registry.manifest_requests();
    runner.play(&other).expect(State::Success).expect_log("present on this host");
    assert!(registry.manifest_requests() > before, "the registry was not asked");
    host.podman(&["rmi", "--force", &image]);
}
