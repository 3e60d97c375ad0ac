//! An authority that no system trusts, and a server's certificate of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Files of a server.
pub struct Certificate {
    /// The authority's certificate.
    pub authority: PathBuf,
    /// The server's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Certificate {
    /// For `localhost` and 127.0.0.1, in this directory.
    pub fn make(dir: &Path) -> Self {
        request(dir, &["-subj", "/CN=windlass-tests", "-keyout", "ca.key", "-out", "ca.pem"]);
        let server = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
        let end = ["-addext", "basicConstraints=critical,CA:FALSE", "-CA", "ca.pem", "-CAkey", "ca.key"];
        request(dir, &[&server[..], &end, &["-keyout", "key.pem", "-out", "cert.pem"]].concat());
        Self { authority: dir.join("ca.pem"), certificate: dir.join("cert.pem"), key: dir.join("key.pem") }
    }
}

fn request(dir: &Path, arguments: &[&str]) {
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    command.args(arguments).current_dir(dir).stdout(Stdio::null());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
