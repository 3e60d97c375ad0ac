//! `[page]`.

use std::path::Path;
use std::time::Duration;

use crate::config::checks::Checker;
use crate::config::input::Origin;
use crate::config::keys::PageKeys;
use crate::config::settings::{PageListen, PageSettings};

/// Doctor's programs cost some tenths of a second of CPU time: nothing at this pace.
const DOCTOR_EVERY: Duration = Duration::from_secs(15 * 60);
/// Some hundred requests to GitLab where projects are many, and a container: nothing at this pace.
const DOCTOR_WIDE_EVERY: Duration = Duration::from_secs(3600);
/// A slot for some seconds.
const DOCTOR_BUILD_EVERY: Duration = Duration::from_secs(24 * 3600);
/// The shortest and the longest pace.
const DOCTOR_SPAN: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(365 * 24 * 3600);

pub(super) fn page(check: &mut Checker, given: &PageKeys, run_dir: &Path) -> PageSettings {
    // Whoever may open the socket may look: a port of loopback would be open to every user of the host.
    let default = || Some(PageListen::Unix(run_dir.join("page.sock")));
    let mut pace = |key: &str, given, default| super::chain::span(check, key, given, default, DOCTOR_SPAN);
    let settings = PageSettings {
        listen: given.listen.as_ref().map_or_else(default, |listen| PageListen::parse(&listen.0)),
        token_file: given.token_file.as_ref().map(|path| path.0.clone().into()),
        base_path: given.base_path.as_ref().map(|path| path.0.clone()).unwrap_or_default(),
        hosts: super::more::list(given.hosts.as_ref()),
        doctor_interval: pace("page.doctor_interval", given.doctor_interval, DOCTOR_EVERY),
        doctor_wide_interval: pace("page.doctor_wide_interval", given.doctor_wide_interval, DOCTOR_WIDE_EVERY),
        doctor_build_interval: pace("page.doctor_build_interval", given.doctor_build_interval, DOCTOR_BUILD_EVERY),
    };
    if let Some(listen) = settings.listen.as_ref().filter(|listen| !listen.is_local())
        && settings.token_file.is_none()
    {
        let message = format!(
            "{listen} can be reached from other hosts, so [page] needs token_file: a file with the token that people log in with; \
             or listen at 127.0.0.1 or at a Unix socket"
        );
        check.wrong(&Origin { key: "page.listen".to_owned(), span: None }, message);
    }
    settings
}
