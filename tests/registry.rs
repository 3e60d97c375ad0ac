//! The registries' client: against a real registry, and against one that does whatever goes wrong.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use support::http::{Request, Response, Server};
use support::pushed::{INDEX, Pushed, digest, push_index};
use windlass::job::{ImageRef, Secret};
use windlass::registry::{Head, Login, Platform, Registry, RegistryError, RegistrySettings};

/// A client for what is on loopback without TLS.
fn client(port: u16, auth_file: Option<PathBuf>) -> Registry {
    let settings = RegistrySettings {
        auth_file,
        insecure: BTreeSet::from([format!("127.0.0.1:{port}")]),
        certificates: Vec::new(),
        timeout: Duration::from_secs(5),
        ..RegistrySettings::default()
    };
    Registry::new(settings).unwrap()
}

fn image(port: u16, name: &str) -> ImageRef {
    ImageRef::try_from(format!("127.0.0.1:{port}/{name}")).unwrap()
}

fn amd64() -> Platform {
    Platform::try_from("linux/amd64".to_owned()).unwrap()
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn auth_file(directory: &Path, port: u16, login: &str) -> PathBuf {
    use base64::Engine as _;
    let auth = base64::engine::general_purpose::STANDARD.encode(login);
    let path = directory.join("auth.json");
    fs::write(&path, json!({"auths": {format!("127.0.0.1:{port}"): {"auth": auth}}}).to_string()).unwrap();
    path
}

/// A registry that answers as it is told, and the requests that it has seen.
fn odd(answer: impl Fn(&Request) -> Response + Send + Sync + 'static) -> (Server, Arc<Mutex<Vec<Request>>>) {
    let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
    let noted = Arc::clone(&seen);
    let server = Server::start(move |request| {
        noted.lock().unwrap().push(request.clone());
        answer(request)
    });
    (server, seen)
}

fn head(server: &Server, client: &Registry) -> Result<Head, RegistryError> {
    run(client.head(&image(server.port, "x:1")))
}

#[test]
fn a_digest_costs_one_request_and_a_platforms_own_one_more_for_each_index() {
    let Some(registry) = support::registry::Registry::open() else { return };
    let client = client(registry.port, None);
    let (one, other) = (Pushed::of(&["base", "one"]), Pushed::of(&["base", "other"]));
    let (one, other) = (one.push(&registry, "group/x", ""), other.push(&registry, "group/x", ""));
    let index = push_index(&registry, "group/x", "latest", &[("arm64", &other), ("amd64", &one)]);
    let before = registry.requests();
    let name = image(registry.port, "group/x");
    let found = run(client.head(&name)).unwrap();
    assert_eq!((found.digest.as_str(), found.is_index), (index.as_str(), Some(true)));
    assert_eq!(registry.requests() - before, 1);
    for _ in 0..2 {
        assert_eq!(run(client.platform_digest(&name, &found, &amd64())).unwrap().as_str(), one);
    }
    assert_eq!(registry.requests() - before, 2);
    let none = run(client.platform_digest(&name, &found, &Platform::try_from("linux/s390x".to_owned()).unwrap()));
    assert!(none.unwrap_err().to_string().contains("has no image for linux/s390x"));
    // A manifest is its own, and says of what it is made.
    let single = image(registry.port, &format!("group/x@{one}"));
    let found = run(client.head(&single)).unwrap();
    assert_eq!((found.digest.as_str(), found.is_index), (one.as_str(), Some(false)));
    assert_eq!(run(client.platform_digest(&single, &found, &amd64())).unwrap(), found.digest);
    let manifest = run(client.image_manifest(&name, &index.try_into().unwrap(), &amd64())).unwrap();
    let config = run(client.config(&name, &manifest)).unwrap();
    let diff_ids: Vec<&str> = config.diff_ids().iter().map(windlass::registry::Digest::as_str).collect();
    assert_eq!(diff_ids, [digest(b"base"), digest(b"one")]);
    let missing = run(client.head(&image(registry.port, "group/none"))).unwrap_err();
    assert!(matches!(missing, RegistryError::NotFound { .. }), "{missing}");
}

#[test]
fn a_registry_with_passwords_is_asked_with_the_auth_files_and_says_so_without() {
    let Some(registry) = support::registry::Registry::with_passwords() else { return };
    let name = image(registry.port, "group/none");
    let anonymous = run(client(registry.port, None).head(&name)).unwrap_err();
    assert!(matches!(anonymous, RegistryError::Unauthorized { .. }), "{anonymous}");
    assert!(anonymous.to_string().contains("wants a login"), "{anonymous}");
    let dir = tempfile::tempdir().unwrap();
    let wrong = client(registry.port, Some(auth_file(dir.path(), registry.port, "tester:wrong")));
    let before = registry.requests();
    for _ in 0..2 {
        let refused = run(wrong.head(&name)).unwrap_err();
        assert!(matches!(refused, RegistryError::Unauthorized { .. }), "{refused}");
    }
    assert_eq!(registry.requests() - before, 3, "a password that is refused is not tried twice in a row");
    // Somebody puts it right while the program runs.
    auth_file(dir.path(), registry.port, "tester:secret");
    let missing = run(wrong.head(&name)).unwrap_err();
    assert!(matches!(missing, RegistryError::NotFound { .. }), "{missing}");
    let before = registry.requests();
    let _ = run(wrong.head(&name));
    assert_eq!(registry.requests() - before, 1, "that a login is needed is known by now");
}

#[test]
fn a_token_is_fetched_where_the_registry_says_and_used_until_it_expires() {
    let body = json!({"schemaVersion": 2}).to_string();
    let port: Arc<AtomicUsize> = Arc::default();
    let known = Arc::clone(&port);
    let (server, seen) = odd(move |request| match request.path.split('?').next().unwrap() {
        "/token" if request.header("authorization") == "Basic dTpw" => {
            Response::json(200, &json!({"token": "t0k3n", "expires_in": 300}))
        }
        "/token" => Response::json(401, &json!({"details": "incorrect username or password"})),
        _ if request.header("authorization") == "Bearer t0k3n" => {
            Response::empty(200).with("Docker-Content-Digest", digest(body.as_bytes()))
        }
        _ => {
            let realm = format!("http://127.0.0.1:{}/token", known.load(Ordering::Relaxed));
            Response::json(401, &json!({"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}))
                .with(
                    "WWW-Authenticate",
                    format!("Bearer realm=\"{realm}\",service=\"it\",scope=\"repository:x:pull,push,delete\""),
                )
        }
    });
    port.store(usize::from(server.port), Ordering::Relaxed);
    let refused = head(&server, &client(server.port, None)).unwrap_err();
    assert!(matches!(&refused, RegistryError::Unauthorized { .. }), "{refused}");
    assert!(refused.to_string().contains("incorrect username or password"), "{refused}");
    let dir = tempfile::tempdir().unwrap();
    let client = client(server.port, Some(auth_file(dir.path(), server.port, "u:p")));
    seen.lock().unwrap().clear();
    for _ in 0..3 {
        head(&server, &client).unwrap();
    }
    let paths: Vec<String> =
        seen.lock().unwrap().iter().map(|request| format!("{} {}", request.method, request.path)).collect();
    let token = "GET /token?service=it&scope=repository%3Ax%3Apull";
    let question = "HEAD /v2/x/manifests/1";
    assert_eq!(paths, [question, token, question, question, question], "no more than pulling is asked for");
    let accept = seen.lock().unwrap()[0].header("accept").to_owned();
    assert!(accept.contains(INDEX) && accept.contains("manifest.list.v2+json"), "{accept}");
}

#[test]
fn a_login_that_is_for_one_host_alone_follows_no_registry_elsewhere() {
    let (server, seen) = odd(|request| {
        if request.path.starts_with("/token") {
            return Response::empty(401);
        }
        let realm = format!("http://{}/token", request.header("host"));
        Response::empty(401).with("WWW-Authenticate", format!("Bearer realm=\"{realm}\""))
    });
    for (host, sent) in [("gitlab.example.com", false), ("127.0.0.1", true)] {
        let client = client(server.port, None);
        let only_to = Some(BTreeSet::from([host.to_owned()]));
        let login = Login { user: "windlass".into(), password: Secret::new("glpat"), only_to };
        client.offer_login(&format!("127.0.0.1:{}", server.port), login);
        seen.lock().unwrap().clear();
        head(&server, &client).unwrap_err();
        let had = seen.lock().unwrap().iter().any(|request| request.header("authorization").starts_with("Basic"));
        assert_eq!(had, sent, "{host}");
    }
}

#[test]
fn a_registry_that_has_had_enough_is_left_alone_for_as_long_as_it_says() {
    let (server, seen) =
        odd(|_| Response::json(429, &json!({"errors": [{"code": "TOOMANYREQUESTS"}]})).with("Retry-After", "120"));
    let client = client(server.port, None);
    for _ in 0..3 {
        let error = head(&server, &client).unwrap_err();
        let RegistryError::Limited { wait, .. } = error else { panic!("{error}") };
        assert!((110..=120).contains(&wait.as_secs()), "{wait:?}");
    }
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[test]
fn what_docker_hub_says_is_left_is_known() {
    let (server, _) = odd(|_| {
        Response::empty(200)
            .with("Docker-Content-Digest", digest(b"x"))
            .with("ratelimit-limit", "10;w=3600")
            .with("ratelimit-remaining", "7;w=3600")
    });
    let client = client(server.port, None);
    let found = head(&server, &client).unwrap();
    assert_eq!((found.digest.as_str(), found.is_index), (digest(b"x").as_str(), None));
    let limit = client.pull_limit(&format!("127.0.0.1:{}", server.port)).unwrap();
    assert_eq!((limit.limit, limit.remaining), (10, 7));
}

#[test]
fn a_registry_without_head_is_asked_for_the_manifest_itself() {
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).to_string();
    let sent = index.clone();
    for refusal in [405, 200] {
        let sent = sent.clone();
        let (server, seen) = odd(move |request| match request.method.as_str() {
            "HEAD" => Response::empty(refusal),
            _ => Response::bytes(200, sent.clone().into_bytes()),
        });
        let found = head(&server, &client(server.port, None)).unwrap();
        assert_eq!((found.digest.as_str(), found.is_index), (digest(index.as_bytes()).as_str(), Some(true)));
        assert_eq!(seen.lock().unwrap().len(), 2);
    }
}

#[test]
fn what_is_not_what_was_asked_for_counts_for_nothing() {
    type Lie = Box<dyn Fn(&str) -> Response + Send + Sync>;
    let wanted = digest(b"something else");
    let lies: [(&str, Lie); 6] = [
        ("the digest", Box::new(|_| Response::json(200, &json!({"schemaVersion": 2, "manifests": []})))),
        (
            "no manifest",
            Box::new(|_| Response::bytes(200, b"<html>".to_vec()).with("Docker-Content-Digest", digest(b"<html>"))),
        ),
        ("half", Box::new(|_| Response::json(200, &json!({"schemaVersion": 2, "manifests": []})).cut())),
        ("too much", Box::new(|_| Response::bytes(200, vec![b' '; (4 << 20) + 1]))),
        ("a way round", Box::new(|path| Response::empty(307).with("Location", path.to_owned()))),
        ("teapot", Box::new(|_| Response::empty(418))),
    ];
    for (what, lie) in lies {
        let wanted_here = wanted.clone();
        let (server, _) = odd(move |request| match request.method.as_str() {
            "HEAD" => Response::empty(200).with("Docker-Content-Digest", wanted_here.clone()),
            _ => lie(&request.path),
        });
        let client = client(server.port, None);
        let found = head(&server, &client).unwrap();
        let error = run(client.platform_digest(&image(server.port, "x:1"), &found, &amd64())).unwrap_err();
        let is_so = matches!(error, RegistryError::Odd { .. } | RegistryError::Unreachable { .. });
        assert!(is_so, "{what}: {error}");
    }
}

#[test]
fn each_kind_of_refusal_is_told_apart() {
    type Is = fn(&RegistryError) -> bool;
    let cases: [(u16, Is); 6] = [
        (401, |error| matches!(error, RegistryError::Unauthorized { .. })),
        (403, |error| matches!(error, RegistryError::Denied { .. })),
        (404, |error| matches!(error, RegistryError::NotFound { .. })),
        (500, |error| matches!(error, RegistryError::Unreachable { .. })),
        (503, |error| matches!(error, RegistryError::Unreachable { .. })),
        (302, |error| matches!(error, RegistryError::Odd { .. })),
    ];
    for (status, is_it) in cases {
        let (server, _) = odd(move |_| Response::empty(status));
        let error = head(&server, &client(server.port, None)).unwrap_err();
        assert!(is_it(&error), "{status}: {error}");
    }
    let port = support::registry::free_port();
    let error = run(client(port, None).head(&image(port, "x"))).unwrap_err();
    assert!(error.is_about_registry() && error.to_string().contains("refused"), "{error}");
}
