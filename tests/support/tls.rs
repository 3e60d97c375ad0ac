//! An authority that no system trusts, and a server's certificate of it.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

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

    /// What a server of these tests' own needs for it.
    pub fn of_a_server(&self) -> Arc<ServerConfig> {
        let chain = CertificateDer::pem_file_iter(&self.certificate).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(&self.key).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap())
    }
}

/// Somebody who answers with a certificate, and says nothing more. It ends when it is dropped.
pub struct Impostor {
    at: (&'static str, u16),
    stop: Arc<AtomicBool>,
    callers: Arc<AtomicU32>,
    accepting: Option<JoinHandle<()>>,
}

impl Impostor {
    /// Starts one.
    pub fn start(address: &'static str, port: u16, certificate: &Certificate) -> Self {
        let listener = TcpListener::bind((address, port)).unwrap();
        let (stop, callers) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
        let (ends, counts, config) = (Arc::clone(&stop), Arc::clone(&callers), certificate.of_a_server());
        let accepting = thread::spawn(move || {
            for mut caller in listener.incoming().flatten() {
                if ends.load(Ordering::Relaxed) {
                    break;
                }
                counts.fetch_add(1, Ordering::Relaxed);
                caller.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                let mut session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                // A caller that does not trust it goes.
                let _ = session.complete_io(&mut caller);
            }
        });
        Self { at: (address, port), stop, callers, accepting: Some(accepting) }
    }

    /// How many have come.
    pub fn callers(&self) -> u32 {
        self.callers.load(Ordering::Relaxed)
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // It waits for a caller.
        let _ = TcpStream::connect(self.at);
        let _ = self.accepting.take().map(JoinHandle::join);
    }
}

fn request(dir: &Path, arguments: &[&str]) {
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    command.args(arguments).current_dir(dir).stdout(Stdio::null());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
