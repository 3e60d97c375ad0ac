//! The files of the configuration.

use super::{Finding, Host};
use crate::config;

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
    findings
}
