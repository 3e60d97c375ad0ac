//! Who we are to a registry: podman's auth file with its credential helpers, and logins that the program itself offers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::job::Secret;
use crate::job::registry_auth::{AuthFile, Sources};

/// A larger auth file is none, in bytes.
const FILE_MAX: u64 = 1 << 20;
/// How long a credential helper may take.
const HELPER_LIMIT: Duration = Duration::from_secs(10);
/// Longest answer of a credential helper, in bytes.
const HELPER_ANSWER_MAX: u64 = 64 * 1024;
/// How long a helper's answer counts: some make passwords that expire.
const HELPER_AGE_MAX: Duration = Duration::from_secs(300);

/// A user and a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password, or a token in its place.
    pub password: Secret,
    /// The hosts that may see it; none: whoever the registry names. A registry chooses who gives out its tokens, so what is worth more than
    /// images must not follow it anywhere.
    pub only_to: Option<BTreeSet<String>>,
}

impl Login {
    /// Whether it may be sent there.
    pub(super) fn may_go_to(&self, url: &Url) -> bool {
        self.only_to.as_ref().is_none_or(|hosts| url.host_str().is_some_and(|host| hosts.contains(host)))
    }

    /// As the header of `Basic`.
    pub(super) fn header(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("{}:{}", self.user, self.password.expose())))
    }
}

/// When a helper was asked, and what it said.
type Helped = (Instant, Option<Login>);

/// The logins.
#[derive(Debug, Default)]
pub(super) struct Logins {
    file: Option<PathBuf>,
    offered: Mutex<BTreeMap<String, Login>>,
    helped: Mutex<HashMap<(String, String), Helped>>,
}

/// An auth file as podman would read it, once it is merged.
#[derive(Deserialize)]
struct Merged {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    identitytoken: String,
}

/// What a file says of an image.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Login(Login),
    /// The name of a helper, and the registry to ask it for.
    Helper(String, String),
}

impl Logins {
    pub(super) fn new(file: Option<PathBuf>) -> Self {
        Self { file, ..Self::default() }
    }

    /// Offers a login for what is at or below a path, where the auth file has none.
    pub(super) fn offer(&self, path: &str, login: Login) {
        self.offered.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), login);
    }

    /// Forgets what helpers have said: a registry does not take it.
    pub(super) fn forget_helped(&self) {
        self.helped.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The login for an image, by its name without tag and digest. The file is read each time: people change it.
    pub(super) async fn login(&self, name: &str) -> Result<Option<Login>, String> {
        if let Some(file) = &self.file {
            let text = read(file).await?;
            match find(&text, name).map_err(|reason| format!("auth file {}: {reason}", file.display()))? {
                Found::Login(login) => return Ok(Some(login)),
                Found::Helper(helper, registry) => return self.helped(helper, registry).await,
                Found::Nothing => {}
            }
        }
        let offered = self.offered.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = offered.iter().filter(|(path, _)| fits(path, name)).max_by_key(|(path, _)| path.len());
        Ok(fitting.map(|(_, login)| login.clone()))
    }

    async fn helped(&self, helper: String, registry: String) -> Result<Option<Login>, String> {
        let key = (helper, registry);
        {
            let helped = self.helped.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, login)) = helped.get(&key).filter(|(at, _)| at.elapsed() < HELPER_AGE_MAX) {
                return Ok(login.clone());
            }
        }
        let login = ask_helper(&format!("docker-credential-{}", key.0), &key.1).await?;
        self.helped.lock().unwrap_or_else(PoisonError::into_inner).insert(key, (Instant::now(), login.clone()));
        Ok(login)
    }
}

async fn read(file: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("auth file {} can't be read: {error}", file.display());
    let about = tokio::fs::metadata(file).await.map_err(failed)?;
    if about.len() > FILE_MAX {
        return Err(format!("auth file {} is larger than {FILE_MAX} bytes, which none is", file.display()));
    }
    tokio::fs::read_to_string(file).await.map_err(failed)
}

/// Whether a path of an auth file is about an image of this name.
fn fits(path: &str, name: &str) -> bool {
    name.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What a file says of an image: the longest path counts.
fn find(text: &str, name: &str) -> Result<Found, String> {
    let registry = name.split('/').next().unwrap_or_default().to_owned();
    let sources = Sources { host: Some(text), ..Sources::default() };
    let (merged, _) = AuthFile::merge(&sources, std::slice::from_ref(&registry))?;
    // Paths in one form, and the store as a helper of the registry: that is what merging is for.
    let merged: Merged =
        serde_json::from_str(&merged.to_json()).map_err(|error| format!("an entry makes no sense: {error}"))?;
    let entry = merged.auths.iter().filter(|(path, _)| fits(path, name)).max_by_key(|(path, _)| path.len());
    let helper = merged.helpers.iter().filter(|(path, _)| fits(path, name)).max_by_key(|(path, _)| path.len());
    match (entry, helper) {
        (entry, Some((path, helper))) if entry.is_none_or(|(other, _)| other.len() <= path.len()) => {
            Ok(Found::Helper(helper.clone(), path.clone()))
        }
        (Some((path, entry)), _) if entry.auth.is_empty() && !entry.identitytoken.is_empty() => {
            Err(format!("{path} has an identity token, which is not known here; give it user and password"))
        }
        (Some((_, entry)), _) if entry.auth.is_empty() => Ok(Found::Nothing),
        (Some((path, entry)), _) => {
            let decoded = STANDARD.decode(&entry.auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
            // Docker pads what it writes with NUL.
            let (user, password) = pair.ok_or_else(|| format!("{path}: auth is not user:password in base64"))?;
            let password = Secret::new(password.trim_end_matches('\0'));
            Ok(Found::Login(Login { user: user.to_owned(), password, only_to: None }))
        }
        (None, None) => Ok(Found::Nothing),
        (None, Some(_)) => unreachable!("a helper without an entry beside it counts"),
    }
}

/// Asks a credential helper (docker-credential-helpers): it gets the registry and answers with JSON.
async fn ask_helper(program: &str, registry: &str) -> Result<Option<Login>, String> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "Username")]
        user: String,
        #[serde(rename = "Secret")]
        secret: Secret,
    }
    let work = async {
        let mut child = tokio::process::Command::new(program)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that asks for nothing may be gone already.
            let _ = stdin.write_all(format!("{registry}\n").as_bytes()).await;
        }
        let mut answer = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(HELPER_ANSWER_MAX).read_to_end(&mut answer).await?;
        }
        std::io::Result::Ok((child.wait().await?, answer))
    };
    let (status, answer) = match tokio::time::timeout(HELPER_LIMIT, work).await {
        Err(_) => return Err(format!("{program} took longer than {HELPER_LIMIT:?} and was ended")),
        Ok(Err(error)) => return Err(format!("{program} can't be run: {error}")),
        Ok(Ok(done)) => done,
    };
    if !status.success() {
        // Its own words for having none; they come on stdout.
        return match String::from_utf8_lossy(&answer).contains("credentials not found") {
            true => Ok(None),
            false => Err(format!("{program} ended with {status}")),
        };
    }
    let answer: Answer = serde_json::from_slice(&answer).map_err(|_| format!("{program} answers no login"))?;
    if answer.user == "<token>" {
        return Err(format!("{program} gives an identity token for {registry}, which is not known here"));
    }
    Ok(Some(Login { user: answer.user, password: answer.secret, only_to: None }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should say where")]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn user(found: &Found) -> &str {
        match found {
            Found::Login(login) => &login.user,
            _ => "",
        }
    }

    #[test]
    fn the_longest_path_counts_as_with_podman() {
        let text = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"aHViOmE="},"r.example.com":{"auth":"aG9zdDph"},
            "r.example.com/group":{"auth":"Z3JvdXA6YTpi"}},"credHelpers":{"r.example.com/group/ecr":"ecr"}}"#;
        for (name, expected) in [
            ("docker.io/library/debian", "hub"),
            ("r.example.com/x", "host"),
            ("r.example.com/group/x", "group"),
            ("r.example.com/grouped", "host"),
        ] {
            assert_eq!(user(&find(text, name).unwrap()), expected, "{name}");
        }
        let Found::Login(login) = find(text, "r.example.com/group").unwrap() else { panic!("no login") };
        assert_eq!((login.password.expose(), login.header().as_str()), ("a:b", "Basic Z3JvdXA6YTpi"));
        let helper = |name: &str, registry: &str| Found::Helper(name.into(), registry.into());
        assert_eq!(find(text, "r.example.com/group/ecr/x").unwrap(), helper("ecr", "r.example.com/group/ecr"));
        let store = r#"{"auths":{"r":{"auth":"aDph"}},"credsStore":"pass"}"#;
        assert_eq!(find(store, "other.example.com/x").unwrap(), helper("pass", "other.example.com"));
        assert_eq!(user(&find(store, "r/x").unwrap()), "h");
        assert_eq!(find("{}", "other.example.com/x").unwrap(), Found::Nothing);
        assert_eq!(find(r#"{"auths":{"r":{}}}"#, "r/x").unwrap(), Found::Nothing);
        for wrong in ["", r#"{"auths":{"r":{"auth":"%"}}}"#, r#"{"auths":{"r":{"identitytoken":"x"}}}"#] {
            assert!(find(wrong, "r/x").is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_login_goes_only_where_it_may() {
        let mut login = Login { user: "u".into(), password: Secret::new("p"), only_to: None };
        let url = |text: &str| Url::parse(text).unwrap();
        assert!(login.may_go_to(&url("https://evil.example.com/token")));
        login.only_to = Some(BTreeSet::from(["gitlab.example.com".to_owned()]));
        assert!(login.may_go_to(&url("https://gitlab.example.com/jwt/auth")));
        assert!(!login.may_go_to(&url("https://gitlab.example.com.evil.example.com/jwt/auth")));
    }

    #[tokio::test]
    async fn a_helper_gives_a_login_or_says_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("helper");
        let script = |text: &str| {
            std::fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        script("read registry; echo \"{\\\"Username\\\":\\\"$registry\\\",\\\"Secret\\\":\\\"s\\\"}\"");
        let ask = async || ask_helper(program.to_str().unwrap(), "r.example.com").await;
        let login = ask().await.unwrap().unwrap();
        assert_eq!((login.user.as_str(), login.password.expose()), ("r.example.com", "s"));
        script("echo 'credentials not found in native keychain'; exit 1");
        assert_eq!(ask().await, Ok(None));
        for (wrong, said) in [
            ("exit 3", "exit status: 3"),
            ("echo nonsense", "answers no login"),
            ("echo '{\"Username\":\"<token>\",\"Secret\":\"s\"}'", "identity token"),
        ] {
            script(wrong);
            let error = ask().await.unwrap_err();
            assert!(error.contains(said), "{wrong}: {error}");
        }
        let missing = ask_helper("docker-credential-windlass-has-no-such", "r").await.unwrap_err();
        assert!(missing.contains("can't be run"), "{missing}");
    }

    #[tokio::test]
    async fn what_is_offered_counts_where_the_file_has_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("auth.json");
        std::fs::write(&file, r#"{"auths":{"r.example.com/own":{"auth":"ZmlsZTph"}}}"#).unwrap();
        let logins = Logins::new(Some(file.clone()));
        logins.offer("r.example.com", Login { user: "offered".into(), password: Secret::new("p"), only_to: None });
        let of = async |name: &str| logins.login(name).await.unwrap().map(|login| login.user);
        assert_eq!(of("r.example.com/own/x").await.as_deref(), Some("file"));
        assert_eq!(of("r.example.com/x").await.as_deref(), Some("offered"));
        assert_eq!(of("r.example.community/x").await, None);
        std::fs::remove_file(&file).unwrap();
        assert!(logins.login("r.example.com/x").await.unwrap_err().contains("auth.json"));
    }
}
