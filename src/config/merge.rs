//! From a fragment to the merged input: applies the defaults and fills each profile's gaps from the top level.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::fragment::{Field, Fragment, PodmanFragment, ProfileFragment, SocketFragment};
use super::input::{Given, Input, JobInput, Origin, PodmanInput, ProfileInput, SocketInput};
use super::keys::JobKeys;
use super::schema::join;
use super::settings::{ExecMode, Network, PullPolicy};
use super::texts::OneOrMore;
use super::tree::show_key;
use super::values::{TimeSpan, Whole};
use super::words::{NamespaceMode, Word};

/// Applies the defaults. Nothing is checked here, so nothing can fail.
pub(super) fn merge(fragment: Fragment) -> Input {
    let top = Header(String::new());
    let default = ProfileInput {
        name: Given { value: super::DEFAULT_PROFILE.to_owned(), origin: top.origin("", None) },
        slots: top.value("slots", fragment.slots, Whole(2)),
        slot_wait: top.value("slot_wait", fragment.slot_wait, minutes(10)),
        job: default_job(fragment.job),
    };
    Input {
        run_dir: top.value("run_dir", fragment.run_dir, "/run/windlass".to_owned()),
        state_dir: top.value("state_dir", fragment.state_dir, "/var/lib/windlass".to_owned()),
        socket: socket(fragment.socket),
        podman: podman(fragment.podman),
        gitlab: fragment.gitlab,
        chain: fragment.chain,
        webhook: fragment.webhook,
        feed: fragment.feed,
        page: fragment.page,
        lanes: fragment.lanes,
        purge: fragment.purge,
        hold: fragment.hold,
        history: fragment.history,
        metrics: fragment.metrics,
        policy: fragment.policy,
        profiles: fragment.profile.into_iter().map(|(name, given)| profile(name, given, &default)).collect(),
        default,
    }
}

fn socket(given: SocketFragment) -> SocketInput {
    let here = Header("socket".to_owned());
    let users = given.allowed_users.map_or_else(
        || vec![here.value("allowed_users", None, "gitlab-runner".to_owned())],
        |users| {
            let item = |(index, user)| here.value(&format!("allowed_users[{index}]"), Some(user), String::new());
            users.into_iter().enumerate().map(item).collect()
        },
    );
    SocketInput {
        path: here.optional("path", given.path),
        allowed_users: users,
        group: here.optional("group", given.group),
        max_connections: here.value("max_connections", given.max_connections, Whole(256)),
        daemon_wait: here.value("daemon_wait", given.daemon_wait, seconds(60)),
    }
}

fn podman(given: PodmanFragment) -> PodmanInput {
    let here = Header("podman".to_owned());
    let init = "/usr/libexec/windlass/windlass-init".to_owned();
    let variable = |(name, value): (Spanned<String>, Spanned<String>)| {
        let key = format!("environment.{}", show_key(name.get_ref()));
        (here.value(&key, Some(name), String::new()), here.value(&key, Some(value), String::new()))
    };
    PodmanInput {
        command: here.value("command", given.command, "podman".to_owned()),
        init: here.value("init", given.init, init),
        environment: given.environment.into_iter().map(variable).collect(),
        timeout: here.value("timeout", given.timeout, minutes(2)),
        pull_timeout: here.value("pull_timeout", given.pull_timeout, minutes(30)),
        user_namespace: here.value("user_namespace", given.user_namespace, Word(NamespaceMode::Separate)),
        user_namespace_first: here.value("user_namespace_first", given.user_namespace_first, Whole(1_000_000_000)),
        user_namespace_size: here.value("user_namespace_size", given.user_namespace_size, Whole(65_536)),
        user_namespace_ranges: here.value("user_namespace_ranges", given.user_namespace_ranges, Whole(1024)),
    }
}

fn default_job(given: JobKeys) -> JobInput {
    let here = Header("job".to_owned());
    JobInput {
        header: here.origin("", None),
        keys: Box::new(given.clone()),
        exec: here.value("exec", given.exec, Word(ExecMode::Init)),
        grace: here.value("grace", given.grace, seconds(10)),
        margin: here.value("margin", given.margin, seconds(20)),
        timeout_margin: here.value("timeout_margin", given.timeout_margin, minutes(10)),
        default_image: here.optional("default_image", given.default_image),
        pull_policy: here.value("pull_policy", given.pull_policy, OneOrMore(vec![Word(PullPolicy::IfNotPresent)])),
        memory: here.optional("memory", given.memory),
        cpus: here.optional("cpus", given.cpus),
        pids: here.optional("pids", given.pids),
        network: here.value("network", given.network, Word(Network::Private)),
    }
}

/// What a profile leaves out it has from the top level.
fn profile(name: Spanned<String>, given: ProfileFragment, default: &ProfileInput) -> ProfileInput {
    let here = Header(join("profile", &show_key(name.get_ref())));
    let job = Header(join(&here.0, "job"));
    let (own, base) = (given.job, &default.job);
    let mut keys = Box::new(own.clone());
    keys.inherit(&base.keys);
    ProfileInput {
        slots: here.or("slots", given.slots, &default.slots),
        slot_wait: here.or("slot_wait", given.slot_wait, &default.slot_wait),
        job: JobInput {
            header: job.origin("", None),
            keys,
            exec: job.or("exec", own.exec, &base.exec),
            grace: job.or("grace", own.grace, &base.grace),
            margin: job.or("margin", own.margin, &base.margin),
            timeout_margin: job.or("timeout_margin", own.timeout_margin, &base.timeout_margin),
            default_image: job.optional("default_image", own.default_image).or_else(|| base.default_image.clone()),
            pull_policy: job.or("pull_policy", own.pull_policy, &base.pull_policy),
            memory: job.optional("memory", own.memory).or_else(|| base.memory.clone()),
            cpus: job.optional("cpus", own.cpus).or_else(|| base.cpus.clone()),
            pids: job.optional("pids", own.pids).or_else(|| base.pids.clone()),
            network: job.or("network", own.network, &base.network),
        },
        name: Given { origin: Origin { key: here.0, span: Some(name.span()) }, value: name.into_inner() },
    }
}

/// The table that keys are read from, by its header.
struct Header(String);

impl Header {
    fn origin(&self, name: &str, span: Option<Range<usize>>) -> Origin {
        Origin { key: join(&self.0, name), span }
    }

    fn value<T>(&self, name: &str, field: Field<T>, default: T) -> Given<T> {
        self.optional(name, field).unwrap_or_else(|| Given { value: default, origin: self.origin(name, None) })
    }

    fn or<T: Clone>(&self, name: &str, field: Field<T>, base: &Given<T>) -> Given<T> {
        self.optional(name, field).unwrap_or_else(|| base.clone())
    }

    fn optional<T>(&self, name: &str, field: Field<T>) -> Option<Given<T>> {
        field.map(|field| Given { origin: self.origin(name, Some(field.span())), value: field.into_inner() })
    }
}

fn seconds(count: u64) -> TimeSpan {
    TimeSpan(Duration::from_secs(count))
}

fn minutes(count: u64) -> TimeSpan {
    seconds(count * 60)
}
