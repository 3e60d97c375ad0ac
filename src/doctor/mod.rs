//! `windlass doctor`: what a host needs so that jobs run and the image chain goes on, looked at from where the service looks.
//!
//! One file per subject. Each gathers facts (thin: it reads files, asks podman, GitLab and systemd) and judges them (pure), and works as
//! far as it can where the daemon is down, the configuration is wrong or a program is missing: that is when it is needed.

mod answers;
mod api;
mod build;
mod cgroups;
mod clock;
mod config;
mod disk;
mod finding;
mod gitlab;
mod helper;
mod host;
mod ids;
mod ids_in_use;
mod network;
mod podman;
mod rounds;
mod run;
mod runner;
mod runner_config;
mod runner_unit;
mod seen;
mod selinux;
mod service;
mod socket;
mod targets;
mod tunnel;
mod webhooks;

pub use finding::{Finding, Level, Row, Subject};
pub use host::{Host, Options, Own, RUNNER_CONFIG};
pub use rounds::{Found, Pace, Paces, Practice, Round, Rounds};

/// Looks at one subject.
pub async fn examine(host: &Host, subject: Subject) -> Vec<Row> {
    let findings = match subject {
        subject if subject.is_of_jobs() && !host.settings.runs_jobs() => {
            let what = "this daemon is for the image chain alone (slots = 0): it runs no jobs, and needs no podman";
            vec![Finding::skipped("no-jobs", what, None)]
        }
        Subject::Config => config::check(host),
        Subject::Service => service::check(host).await,
        Subject::Podman => podman::check(host).await,
        Subject::Ids => ids::check(host),
        Subject::Cgroups => cgroups::check(host).await,
        Subject::Selinux => selinux::check(host).await,
        Subject::Disk => disk::check(host).await,
        Subject::Socket => socket::check(host).await,
        Subject::Runner => runner::check(host).await,
        Subject::Helper => helper::check(host).await,
        Subject::Network => network::check(host).await,
        Subject::Build => build::check(host).await,
        Subject::Gitlab => gitlab::check(host).await,
        Subject::Webhooks => webhooks::check(host).await,
        Subject::Clock => clock::check(host).await,
    };
    findings.into_iter().map(|finding| Row { subject, finding }).collect()
}
