//! podman's words, made into ones that a person can act on.

use crate::job::ImageRef;
use crate::protocol::daemon::FailureClass;

use super::PodmanError;

/// Longest message passed on, in characters.
const LENGTH_MAX: usize = 600;

/// The essence of podman's stderr: its last error without decoration, in one line.
#[must_use]
pub fn said(stderr: &str) -> String {
    let lines: Vec<&str> =
        stderr.lines().map(|line| line.trim().trim_start_matches("* ")).filter(|line| !line.is_empty()).collect();
    let from = lines.iter().rposition(|line| line.starts_with("Error:")).unwrap_or(lines.len().saturating_sub(1));
    // The last error may go on over lines of its own.
    let text = lines[from..].join(" ");
    let text = text.trim_start_matches("Error:").trim();
    let text = if text.is_empty() { "it gave no reason" } else { text };
    text.chars().filter(|character| !character.is_control()).take(LENGTH_MAX).collect()
}

/// What kind of failure a failed pull is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullFailure {
    /// The registry refuses these logins.
    Denied,
    /// There is no such image.
    Missing,
    /// Nothing that could be pulled was named.
    Invalid,
    /// The registry wants fewer requests.
    Limited,
    /// The registry can't be reached, or fails itself: later it may work.
    Unreachable,
    /// Anything of this host's own.
    Host,
}

impl PullFailure {
    /// In one word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Missing => "missing",
            Self::Invalid => "invalid",
            Self::Limited => "limited",
            Self::Unreachable => "unreachable",
            Self::Host => "host",
        }
    }

    /// What a registry, or the way to it, said, in the words of [`essence`].
    fn of(said: &str) -> Self {
        let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
        if has(&["toomanyrequests", "too many requests", "rate limit", "statuscode: 429"]) {
            Self::Limited
        } else if has(&[
            "unauthorized",
            "authentication required",
            "access to the resource is denied",
            "denied:",
            "403 (forbidden)",
            // A refusal without a word of its own: no JSON in it.
            "statuscode: 401",
            "statuscode: 403",
            "invalid username/password",
            "is blocked in",
        ]) {
            Self::Denied
        } else if has(&[
            "manifest unknown",
            "name unknown",
            "repository not found",
            "404 (not found)",
            "statuscode: 404",
            "not found: manifest",
            "requested image's manifest",
            "no image found in manifest list for architecture",
            "no image found in image index for architecture",
        ]) {
            Self::Missing
        } else if has(&["short-name", "unqualified-search", "invalid reference format", "parsing reference"]) {
            Self::Invalid
        } else if has(&DISTRUST) || has(&[FULL]) {
            Self::Host
        } else if has(&[
            "connection refused",
            "no such host",
            "server misbehaving",
            "temporary failure in name resolution",
            "i/o timeout",
            "tls handshake timeout",
            "timeout awaiting response headers",
            "context deadline exceeded",
            "connection timed out",
            "network is unreachable",
            "no route to host",
            "connection reset",
            "broken pipe",
            "eof",
            "500 (internal server error)",
            "502 (bad gateway)",
            "503 (service unavailable)",
            "504 (gateway timeout",
            "received unexpected http status: 5",
            "statuscode: 5",
        ]) {
            Self::Unreachable
        } else {
            Self::Host
        }
    }

    /// Whose failure it is. Trying again is no use when the registry has understood and refused.
    #[must_use]
    pub fn class(self) -> FailureClass {
        match self {
            Self::Denied | Self::Missing | Self::Invalid => FailureClass::Job,
            Self::Limited | Self::Unreachable | Self::Host => FailureClass::System,
        }
    }
}

/// What Go says of a certificate or of TLS that it does not like.
const DISTRUST: [&str; 4] = ["x509", "certificate", "tls:", "http response to https"];
/// What the kernel says of a full disk.
const FULL: &str = "no space left on device";
/// What is no name though there is a slash in it.
const SLASHED: [&str; 3] = ["i/o", "net/http", "username/password"];

/// What was said, in small letters and without the names of images, registries and addresses in it: whoever chooses a name is not to
/// choose what its failure is taken for.
fn essence(said: &str) -> String {
    let words: Vec<String> = said.split_whitespace().map(str::to_lowercase).collect();
    let is_name = |at: usize| {
        let word = &words[at];
        let before = |back: usize| at.checked_sub(back).map_or("", |at| words[at].as_str());
        let after = words.get(at + 1).map_or("", String::as_str);
        let slashed = word.contains('/') && !SLASHED.contains(&word.trim_end_matches([':', ',']));
        let tag = before(1) == "manifest" && after == "in";
        let host = before(1) == "lookup" || before(2) == "container" && before(1) == "registry";
        slashed || word.contains('"') || tag || host
    };
    let kept: Vec<&str> = (0..words.len()).filter(|at| !is_name(*at)).map(|at| words[at].as_str()).collect();
    kept.join(" ")
}

/// A failure in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// What kind it is.
    pub kind: PullFailure,
    /// For the job log.
    pub message: String,
}

/// What a failed pull means.
#[must_use]
pub fn explain_pull(image: &ImageRef, error: &PodmanError) -> Explained {
    let said = &error.message;
    let essence = essence(said);
    let kind = PullFailure::of(&essence);
    let registry = said.rsplit_once(": ").map_or(said.as_str(), |(_, words)| words);
    let has = |words: &[&str]| words.iter().any(|word| essence.contains(word));
    let message = match kind {
        PullFailure::Limited => format!(
            "the registry's pull limit was met for image {image}. Later, with credentials, or from a mirror it will work. The registry: {said}"
        ),
        PullFailure::Denied if has(&["is blocked in"]) => {
            format!("this host's registries.conf blocks the registry of image {image}. podman: {said}")
        }
        PullFailure::Denied => format!(
            "the registry does not let this job pull image {image} ({registry}). Check its name, and the credentials for it. podman: {said}"
        ),
        PullFailure::Missing if has(&["for architecture"]) => {
            format!("image {image} is not there for the platform asked for ({registry}). podman: {said}")
        }
        PullFailure::Missing => {
            format!("image {image} does not exist ({registry}). Check its name and tag. podman: {said}")
        }
        PullFailure::Invalid => format!("{image} is no image reference. podman: {said}"),
        PullFailure::Unreachable => {
            format!("the registry of image {image} can't be reached from this host, or fails. podman: {said}")
        }
        PullFailure::Host if has(&[FULL]) => {
            format!("this host's disk is full: image {image} could not be stored. podman: {said}")
        }
        PullFailure::Host if has(&DISTRUST) => format!(
            "this host does not trust the registry of image {image}; see containers-registries.conf(5) and containers-certs.d(5). podman: {said}"
        ),
        PullFailure::Host => format!("image {image} could not be pulled. podman: {said}"),
    };
    Explained { kind, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(message: &str) -> Explained {
        let image = ImageRef::try_from("r.example.com/g/x:1".to_owned()).expect("valid");
        explain_pull(&image, &PodmanError { operation: "pull".into(), message: message.into(), code: Some(125) })
    }

    #[test]
    fn the_last_error_line_counts() {
        assert_eq!(said("Trying to pull x...\nError: initializing source: gone\n"), "initializing source: gone");
        assert_eq!(said("time=\"x\" level=warning\n"), "time=\"x\" level=warning");
        assert_eq!(
            said("Error: removing x: 1 error occurred:\n\t* unlinkat y: busy\n\n"),
            "removing x: 1 error occurred: unlinkat y: busy"
        );
        assert_eq!(said(""), "it gave no reason");
    }

    #[test]
    fn refusals_are_the_jobs_failure() {
        let cases = [
            "initializing source docker://r.example.com/g/x:1: reading manifest 1 in r.example.com/g/x: manifest unknown: manifest unknown",
            "initializing source docker://x: reading manifest: unauthorized: authentication required",
            "initializing source docker://x: requested access to the resource is denied",
            "initializing source docker://r.example.com/g/x:1: reading manifest 1 in r.example.com/g/x: StatusCode: 403, ",
            "Requesting bearer token: invalid status code from registry 403 (Forbidden)",
            "short-name \"x\" did not resolve to an alias and no unqualified-search registries are defined",
        ];
        for case in cases {
            let Explained { kind, message } = explained(case);
            assert_eq!(kind.class(), FailureClass::Job, "{case}");
            assert!(message.contains("r.example.com/g/x:1") && message.contains(case), "{message}");
        }
    }

    #[test]
    fn trouble_on_the_way_is_the_systems_failure() {
        let cases = [
            "pinging container registry localhost:1: Get \"http://localhost:1/v2/\": dial tcp [::1]:1: connect: connection refused",
            "toomanyrequests: You have reached your pull rate limit.",
            "received unexpected HTTP status: 503 Service Unavailable",
            "tls: failed to verify certificate: x509: certificate signed by unknown authority",
            "writing blob: storing blob to file: no space left on device",
        ];
        for case in cases {
            assert_eq!(explained(case).kind.class(), FailureClass::System, "{case}");
        }
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        let cases = [
            "pinging container registry r.example.com: Get \"https://r.example.com/v2/\": net/http: TLS handshake timeout",
            "Get \"https://r.example.com/v2/\": context deadline exceeded",
            "Get \"https://r.example.com/v2/\": net/http: timeout awaiting response headers",
            "pinging container registry r.example.com: dial tcp: lookup r.example.com on 192.0.2.53:53: server misbehaving",
            "dial tcp: lookup r.example.com: Temporary failure in name resolution",
            "dial tcp 192.0.2.7:443: connect: connection timed out",
            "dial tcp: lookup r.example.com on 192.0.2.53:53: read udp 192.0.2.1:4->192.0.2.53:53: i/o timeout",
            "reading manifest 1 in r.example.com/g/x: StatusCode: 502, <html>",
        ];
        for case in cases {
            assert_eq!(explained(case).kind, PullFailure::Unreachable, "{case}");
        }
    }

    #[test]
    fn a_name_does_not_decide_what_its_failure_is() {
        let cases = [
            "initializing source docker://r.example.com/x509/certificate:1: reading manifest 1 in r.example.com/x509/certificate: received unexpected HTTP status: 503 Service Unavailable",
            "initializing source docker://unauthorized.example.com/g/x:denied: reading manifest denied: in r.example.com/g/x: Get \"https://r.example.com/v2/tls:/manifests/x509\": EOF",
            "reading manifest x509 in r.example.com/g/x: received unexpected HTTP status: 500 Internal Server Error",
            "pinging container registry certificate.example.com: Get \"https://certificate.example.com/v2/\": dial tcp: lookup certificate.example.com: no such host",
            "(Mirrors also failed: [mirror.example.com/x509/g:1: reading manifest]): r.example.com/x509/g:1: connection refused",
        ];
        for case in cases {
            let Explained { kind, message } = explained(case);
            assert_eq!(kind, PullFailure::Unreachable, "{case}");
            assert!(!message.contains("does not trust") && message.contains(case), "{message}");
        }
        let refused = "reading manifest eof in r.example.com/connection/refused: manifest unknown";
        assert_eq!(explained(refused).kind, PullFailure::Missing);
    }
}
