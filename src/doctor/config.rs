//! The files of the configuration, and those that it names for secrets.

use std::ffi::CString;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, geteuid, getgrouplist};

use super::{Finding, Host};
use crate::config::{self, Settings};

/// Looks at them.
pub fn check(host: &Host) -> Vec<Finding> {
    let file = host.options.config.display().to_string();
    if let Some(errors) = &host.wrong {
        let count = errors.problems().len();
        let meaning = match host.options.own {
            Some(_) => {
                "windlassd goes on with what it has; it does not start with this configuration, and a reload is refused"
            }
            None => {
                "windlassd does not start with this configuration, and a reload is refused; the checks below go by the defaults"
            }
        };
        return vec![Finding::error(
            "config",
            format!("{file} has {count} error{}:\n{errors}", if count == 1 { "" } else { "s" }),
            meaning,
            format!("correct what is named; `windlass check {file}` shows whether that was all"),
        )];
    }
    let mut findings = vec![Finding::ok("config", format!("{file} is valid"))];
    findings.extend(config::warnings(&host.settings).into_iter().map(|warning| {
        Finding::warning(
            "config-names",
            warning,
            "what the configuration names is not on this host",
            format!("add it to this host, or correct the name in {file}"),
        )
    }));
    let groups = CString::new(host.user.name.as_str()).ok().and_then(|name| getgrouplist(&name, host.user.gid).ok());
    let groups = groups.unwrap_or_default().into_iter().map(Gid::as_raw).collect::<Vec<_>>();
    for (key, path, loss) in secrets(&host.settings) {
        let about = std::fs::metadata(path).map(|about| (about.uid(), about.gid(), about.mode()));
        // Whoever else looks may be kept out where the service is not.
        let is_trusted = geteuid().is_root() || geteuid() == host.user.uid;
        if !is_trusted && about.as_ref().is_err_and(|error| error.kind() == ErrorKind::PermissionDenied) {
            findings.push(Finding::skipped(
                "secret-file",
                format!("{key}: only root may look"),
                Some("sudo windlass doctor"),
            ));
            continue;
        }
        findings.extend(secret(key, path, loss, about, (&host.user.name, host.user.uid.as_raw(), &groups)));
    }
    findings
}

/// The files of secrets that the settings name, and what there is not without them.
fn secrets(settings: &Settings) -> Vec<(&'static str, &PathBuf, &'static str)> {
    let (gitlab, webhook) = (&settings.gitlab, &settings.webhook);
    let all = [
        ("[gitlab] token_file", &gitlab.token_file, "the image chain does not run (nor a daemon for it alone)"),
        ("[webhook] secret_file", &webhook.secret_file, "the image chain does not run (nor a daemon for it alone)"),
        (
            "[webhook] signing_secret_file",
            &webhook.signing_secret_file,
            "the image chain does not run (nor a daemon for it alone)",
        ),
        ("[feed] token_file", &settings.feed.token_file, "there is no feed for the hosts' updates"),
        ("[page] token_file", &settings.page.token_file, "there is no page"),
    ];
    all.into_iter().filter_map(|(key, path, loss)| Some((key, path.as_ref()?, loss))).collect()
}

/// Judges a secret's file by its owner, group and mode, for the service's user, with its uid and groups.
fn secret(
    key: &str,
    path: &Path,
    loss: &str,
    about: Result<(u32, u32, u32), std::io::Error>,
    (name, uid, groups): (&str, u32, &[u32]),
) -> Option<Finding> {
    let path = path.display();
    let meaning = format!("with the next start of windlassd {loss}");
    let mends = format!("chown {name} {path}; chmod 0600 {path}; systemctl restart windlass.service");
    let finding = |what: String, remedy: String| Some(Finding::error("secret-file", what, meaning.clone(), remedy));
    let (owner, group, mode) = match about {
        Ok(about) => about,
        Err(error) => {
            let remedy = match error.kind() {
                ErrorKind::NotFound => {
                    format!("install -m 0600 -o {name} /dev/stdin {path}; systemctl restart windlass.service")
                }
                _ => format!(
                    "namei -l {path} shows which directory keeps {name} out; systemctl restart windlass.service"
                ),
            };
            return finding(format!("{key}: {path}: {error}"), remedy);
        }
    };
    let may_read = match () {
        () if uid == 0 => true,
        () if owner == uid => mode & 0o400 != 0,
        () => groups.contains(&group) && mode & 0o040 != 0,
    };
    match (mode & 0o004 != 0, may_read) {
        (true, _) => {
            finding(format!("{key}: every user of this host can read {path} (mode {:04o})", mode & 0o7777), mends)
        }
        (false, false) => finding(format!("{key}: the service's user {name} can't read {path}"), mends),
        (false, true) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::tests::expect_remedies;
    use super::*;

    #[test]
    fn a_secret_is_for_the_services_user_to_read_and_for_nobody_else() {
        let of = |uid, about| secret("[page] token_file", Path::new("/t"), "there is no page", about, ("w", uid, &[8]));
        for (owner, group, mode) in [(7, 0, 0o600), (7, 0, 0o640), (0, 8, 0o640)] {
            assert_eq!(of(7, Ok((owner, group, mode))), None, "{owner} {group} {mode:o}");
        }
        assert_eq!(of(0, Ok((7, 0, 0o600))), None, "root reads all");
        let bad = [
            of(7, Ok((0, 0, 0o600))),
            of(7, Ok((7, 0, 0o644))),
            of(7, Ok((0, 8, 0o600))),
            of(7, Err(ErrorKind::NotFound.into())),
            of(7, Err(ErrorKind::PermissionDenied.into())),
        ];
        let bad = bad.map(|finding| finding.expect("a finding"));
        expect_remedies(&bad);
        assert!(bad[0].what.contains("user w can't read /t") && bad[1].what.contains("every user"), "{bad:#?}");
        let writes = |finding: &Finding| finding.remedy.as_deref().is_some_and(|remedy| remedy.contains("/dev/stdin"));
        assert!(writes(&bad[3]) && !writes(&bad[4]), "what may be there is not written over: {bad:#?}");
    }
}
