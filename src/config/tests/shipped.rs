//! The defaults, the shipped file that documents them, and what profiles inherit.

use std::path::Path;
use std::time::Duration;

use super::settings;
use crate::config::{UserNamespace, schema};

/// The file that packages install.
pub(super) const SHIPPED: &str = include_str!("../../../config/windlass.toml");

/// The shipped file with each commented key and header made a real one; prose has a space behind its `#`.
pub(in crate::config) fn uncommented() -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(key) if !key.starts_with(' ') => format!("{key}\n"),
        _ => format!("{line}\n"),
    };
    SHIPPED.lines().map(line).collect()
}

#[test]
fn an_empty_file_gives_the_defaults() {
    let found = settings("");
    assert_eq!(found.run_dir, Path::new("/run/windlass"));
    assert_eq!(found.socket.path, Path::new("/run/windlass/windlass.sock"));
    assert_eq!(found.socket.allowed_users, ["gitlab-runner"]);
    assert_eq!(found.profiles.keys().collect::<Vec<_>>(), ["default"]);
    let profile = &found.profiles["default"];
    assert_eq!((profile.slots, profile.slot_wait), (2, Duration::from_secs(600)));
    assert_eq!(
        (profile.job.resources.memory, profile.job.resources.cpus, profile.job.resources.pids),
        (None, None, None)
    );
    let separate = UserNamespace::Separate { first: 1_000_000_000, size: 65_536, ranges: 1024 };
    assert_eq!(found.podman.user_namespace, separate);
}

#[test]
fn the_shipped_file_gives_exactly_the_defaults() {
    assert_eq!(settings(SHIPPED), settings(""));
}

#[test]
fn the_shipped_file_documents_every_key_and_stays_valid_with_all_of_them() {
    let text = uncommented();
    settings(&text);
    let document: toml::Table = text.parse().unwrap();
    for (header, keys) in schema::tables() {
        // The same as [job], which documents it.
        if header.starts_with("profile.NAME.job") {
            continue;
        }
        let mut table = &document;
        for name in header.split('.').filter(|name| !name.is_empty() && *name != "0") {
            let name = if name == "NAME" { "big" } else { name };
            let value = table.get(name).unwrap_or_else(|| panic!("no [{header}]"));
            let value = value.as_array().map_or(value, |items| &items[0]);
            table = value.as_table().unwrap_or_else(|| panic!("no [{header}]"));
        }
        for key in keys {
            assert!(table.contains_key(*key), "{key} is not in [{header}]");
        }
    }
}

#[test]
fn the_values_that_the_shipped_file_calls_defaults_are_the_defaults() {
    let mut found = settings(&uncommented());
    found.profiles.remove("big").unwrap();
    found.podman.environment.clear();
    found.socket.group = None;
    found.metrics.group = None;
    assert!(!found.gitlab.verify_jobs);
    assert_eq!(found.chain.args["CI_REGISTRY"], "registry.example.com");
    (found.gitlab, found.chain.args, found.chain.overrides) = Default::default();
    (found.chain.groups, found.chain.projects, found.chain.include, found.chain.exclude) = Default::default();
    (found.chain.files, found.chain.kickoff, found.chain.notify.command) = Default::default();
    (found.chain.quiet_hours, found.chain.done_when) = Default::default();
    (found.chain.watch.include, found.chain.watch.exclude, found.chain.watch.auth_file) = Default::default();
    assert_eq!(found.chain.watch.platform.to_string(), "linux/amd64");
    found.chain.watch.platform = crate::registry::Platform::of_host();
    (found.webhook.url, found.webhook.secret_file, found.webhook.signing_secret_file) = Default::default();
    assert_eq!(found.feed.listen.map(|address| address.port()), Some(9254));
    found.feed = crate::config::FeedSettings::default();
    assert_eq!(found.page.base_path, "/windlass");
    (found.page.token_file, found.page.base_path, found.page.hosts) = Default::default();
    (found.purge.max_size, found.purge.project_max_size) = Default::default();
    let job = &mut found.profiles.get_mut("default").unwrap().job;
    (job.user, job.images.default_image, job.images.auth_file, job.ca_file) = Default::default();
    (job.resources, job.maximum, job.services.resources) = Default::default();
    let never = (job.isolation.privileged, job.isolation.services_privileged, job.isolation.read_only);
    assert_eq!(never, (false, false, false));
    (job.isolation, job.network, job.environment) = Default::default();
    (job.services.limit, job.services.always, job.helper.image) = Default::default();
    assert_eq!(job.policy.len(), 2);
    job.policy = settings("").profiles["default"].job.policy.clone();
    assert_eq!(found, settings(""));
}

#[test]
fn a_profile_takes_what_it_leaves_out_from_the_top_level() {
    let text = r#"
        slots = 3
        [job]
        memory = "1 GiB"
        grace = "5s"
        [profile.big]
        slot_wait = "1h"
        job.memory = "8 GiB"
    "#;
    let big = &settings(text).profiles["big"];
    assert_eq!((big.slots, big.slot_wait), (3, Duration::from_secs(3600)));
    assert_eq!((big.job.resources.memory, big.job.grace), (Some(8 << 30), Duration::from_secs(5)));
}

#[test]
fn paths_are_taken_in_their_plain_form() {
    let found = settings("run_dir = '/run//x/./y/'");
    assert_eq!(found.run_dir.as_os_str(), "/run/x/y");
    assert_eq!(found.socket.path, Path::new("/run/x/y/windlass.sock"));
}

#[test]
fn all_keys_read_back_as_they_are_printed() {
    let text = uncommented().replace("[profile.big.job]", "[profile.big.job]\nallowed_images = []\nservices = []");
    let found = settings(&text);
    let printed = crate::config::to_toml(&found).unwrap();
    assert_eq!(settings(&printed), found, "{printed}");
    let big = &found.profiles["big"].job;
    assert!(big.services.always.is_empty() && big.isolation.devices == ["/dev/fuse"], "{big:?}");
    let rules: Vec<_> = big.policy.iter().map(|rule| (rule.name.as_str(), rule.allowed_images.clone())).collect();
    assert_eq!(rules, [("[[policy]] number 1", Some(vec!["**".to_owned()])), ("[job]", Some(vec![]))]);
}

#[test]
fn values_that_a_container_could_not_have_are_refused_with_their_place() {
    for (text, key, said) in [
        ("[job]\ncpuset = '3-1'", "job.cpuset", "list of CPUs"),
        ("[job]\nulimits = { nofiles = '1' }", "job.ulimits.nofiles", "nofile"),
        ("[job]\nvolumes = ['/srv:/builds']", "job.volumes", "taken"),
        ("[job]\npull_policy = ['always', 'often']", "job.pull_policy", "\"often\""),
        ("[job]\nmemory = '1 GiB'\n[job.maximum]\nmemory = '512 MiB'", "job.maximum.memory", "below"),
        ("[job]\nmemory_swap = '1 GiB'", "job.memory_swap", "needs a limit of memory"),
        ("[job.helper]\nmode = 'image'", "job.helper.image", "needed"),
        ("[[policy]]\nproject = ['x']", "policy[0].project", "projects"),
        ("[policy]\nprojects = ['x']", "policy", "[[policy]]"),
        ("[[policy]]\nallowed_images = ['x']", "policy[0].projects", "is missing"),
        ("[[job.services]]\naliases = ['x']", "job.services", "image"),
        ("[job]\nenvironment = { PATH = '/x' }", "job.environment.PATH", "taken"),
        ("[lanes]\nscope = 'projects'", "lanes.scope", "did you mean \"project\"?"),
        ("[lanes]\nscope = 'none'\n[job]\nbuild_storage = 'project'", "lanes.scope", "build_storage"),
        ("[chain]\ngroups = ['x']", "chain.groups", "[gitlab]"),
        ("[chain]\ngroups = ['https://x/y']", "chain.groups", "without the host"),
        ("[chain]\nquiet_hours = '22-6'", "chain.quiet_hours", "22:00-06:00"),
        ("[chain]\nkickoff = ['Sunday 3']", "chain.kickoff", "Sun 03:00"),
        ("[chain]\ninterval = '2days'", "chain.interval", "\"1day\""),
        ("[chain.notify]\nafter = '0s'", "chain.notify.after", "\"1s\""),
        ("[chain.watch]\nevery = '0s'", "chain.watch.every", "\"1s\""),
        ("[chain.watch]\nplatform = 'amd64'", "chain.watch.platform", "linux/amd64"),
        ("[chain.watch]\nconcurrency = 0", "chain.watch.concurrency", "between 1 and 32"),
        ("[chain.audit]\nmax_age = '90'", "chain.audit.max_age", "no unit"),
        ("[[chain.project]]\nref = 'x'", "chain.project", "path"),
        ("[[chain.project]]\npath = 'a'\n[[chain.project]]\npath = 'A'", "chain.project[1].path", "more than one"),
        ("[webhook]\nlisten = '9252'", "webhook.listen", "127.0.0.1:9252"),
        ("[webhook]\nurl = 'chain.example.com'", "webhook.url", "https://"),
        ("[feed]\nlisten = '127.0.0.1:9254'", "feed.listen", "there is no chain"),
        ("[page]\nlisten = '9253'", "page.listen", "unix:/run/windlass/page.sock"),
        ("[page]\nlisten = '0.0.0.0:9253'", "page.listen", "token_file"),
        ("[page]\nlisten = '192.0.2.1:9253'", "page.listen", "token_file"),
        ("[page]\nbase_path = 'windlass/'", "page.base_path", "/windlass"),
        ("[page]\nhosts = ['http://x']", "page.hosts", "http://x"),
        ("[page]\ndoctor_interval = '0s'", "page.doctor_interval", "between"),
        ("[purge]\nmin_free = '110%'", "purge.min_free", "\"100%\""),
        ("[purge]\nmin_free = '10'", "purge.min_free", "\"10%\""),
        ("[purge]\nmin_free_inodes = '10 GiB'", "purge.min_free_inodes", "\"5%\""),
        ("[purge]\nmax_age = '30'", "purge.max_age", "no unit"),
        ("[purge]\nmax_size = '200 GB of'", "purge.max_size", "not a size"),
        ("[purge]\ninterval = '2days'", "purge.interval", "between"),
    ] {
        let errors = crate::config::parse(Path::new("w.toml"), text).expect_err(text).to_string();
        assert!(errors.contains(key) && errors.contains(said), "{text}: {errors}");
    }
}

#[test]
fn sizes_and_ages_are_read_as_people_write_them() {
    use crate::config::Share;
    let found = settings(
        "[purge]\nmax_age = '30d'\nimage_max_age = '12h'\nmax_size = '200 GiB'\nmin_free = '2.5%'\nmin_free_inodes = 100000",
    )
    .purge;
    assert_eq!((found.max_age, found.image_max_age), (Duration::from_secs(30 * 86_400), Duration::from_secs(43_200)));
    assert_eq!((found.max_size, found.min_free), (Some(200 << 30), Share::PerMyriad(250)));
    assert_eq!(found.min_free_inodes, Share::Amount(100_000));
    assert_eq!(settings("[purge]\nmin_free = '20 GiB'").purge.min_free, Share::Amount(20 << 30));
    let text = crate::config::to_toml(&settings("[purge]\nmin_free = '2.5%'\nmin_free_inodes = 7")).unwrap();
    assert!(text.contains("min_free = \"2.50%\"") && text.contains("min_free_inodes = 7"), "{text}");
}
