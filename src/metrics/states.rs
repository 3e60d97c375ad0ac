//! What is now, read when somebody asks.

use std::collections::BTreeMap;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};

/// What is now.
#[derive(Debug, Clone, Default)]
pub struct States {
    /// podman's version.
    pub podman_version: String,
    /// How many seconds ago each loop of the daemon took its last step.
    pub loops: BTreeMap<&'static str, i64>,
    /// Whether a job that comes now would be run.
    pub ready: bool,
    /// Whether no new jobs are taken.
    pub drained: bool,
    /// Whether podman answers; none: nobody needs it.
    pub podman_answers: Option<bool>,
    /// Whether GitLab answers; none: it was not asked.
    pub gitlab_answers: Option<bool>,
    /// How many errors doctor found, of each subject when it looked last; none: it has not looked.
    pub doctor_errors: Option<i64>,
    /// How many slots of each profile are `free`, `busy`, or `going` with their jobs.
    pub slots: BTreeMap<(String, &'static str), i64>,
    /// How many jobs wait for a slot of each profile.
    pub waiting: BTreeMap<String, i64>,
    /// The file systems that are watched.
    pub disks: Vec<DiskState>,
    /// Bytes of all lanes.
    pub lanes_bytes: i64,
    /// How many there are.
    pub lanes: i64,
    /// Bytes on their way to be free.
    pub trash_bytes: i64,
    /// How many projects of the chain are in each state; none: there is no chain.
    pub chain: Option<BTreeMap<&'static str, i64>>,
    /// How many images from elsewhere have each verdict of the audit.
    pub images: BTreeMap<&'static str, i64>,
    /// How many projects were built on a new, an old, or an unknown base.
    pub bases: BTreeMap<&'static str, i64>,
    /// How many projects were not built for too long.
    pub stale_projects: i64,
}

/// A file system.
#[derive(Debug, Clone, Copy)]
pub struct DiskState {
    /// `state` or `images`: what is on it.
    pub of: &'static str,
    /// All bytes.
    pub bytes: i64,
    /// Bytes free to jobs.
    pub free_bytes: i64,
    /// Bytes that should be.
    pub wanted_bytes: i64,
    /// All inodes.
    pub inodes: i64,
    /// Inodes free to jobs.
    pub free_inodes: i64,
}

type Labels = Vec<(&'static str, String)>;

impl States {
    /// As figures.
    pub(super) fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix(super::PREFIX);
        let mut one = |name: &str, help: &str, unit: Option<Unit>, values: Vec<(Labels, i64)>| {
            // A family would write braces around no labels.
            if let [(labels, value)] = values.as_slice()
                && labels.is_empty()
            {
                return match unit {
                    Some(unit) => registry.register_with_unit(name, help, unit, ConstGauge::new(*value)),
                    None => registry.register(name, help, ConstGauge::new(*value)),
                };
            }
            let family = Family::<Labels, Gauge>::default();
            for (labels, value) in values {
                family.get_or_create(&labels).set(value);
            }
            match unit {
                Some(unit) => registry.register_with_unit(name, help, unit, family),
                None => registry.register(name, help, family),
            }
        };
        let flag = |flag: bool| vec![(Vec::new(), i64::from(flag))];
        let number = |number: i64| vec![(Vec::new(), number)];
        let build = vec![("version", env!("CARGO_PKG_VERSION").to_owned()), ("podman", self.podman_version.clone())];
        one("build_info", "Versions of Windlass and podman", None, vec![(build, 1)]);
        let loops = self.loops.iter().map(|(name, age)| (vec![("loop", (*name).to_owned())], *age));
        let help = "How long ago each loop of the daemon took its last step; 0 while it rests";
        one("loop_age", help, Some(Unit::Seconds), loops.collect());
        one("ready", "Whether a job that comes now would be run", None, flag(self.ready));
        one("drained", "Whether no new jobs are taken (windlass drain)", None, flag(self.drained));
        if let Some(answers) = self.podman_answers {
            one("podman_up", "Whether podman answers", None, flag(answers));
        }
        if let Some(answers) = self.gitlab_answers {
            one("gitlab_up", "Whether GitLab answered when it was asked last", None, flag(answers));
        }
        if let Some(errors) = self.doctor_errors {
            one(
                "doctor_errors",
                "What windlassd calls an error of its host or of GitLab, as windlass doctor does, each subject when it was looked at last",
                None,
                number(errors),
            );
        }
        let slots = self.slots.iter().map(|((profile, state), count)| {
            (vec![("profile", profile.clone()), ("state", (*state).to_owned())], *count)
        });
        one("slots", "Slots of each profile", None, slots.collect());
        let waiting = self.waiting.iter().map(|(profile, count)| (vec![("profile", profile.clone())], *count));
        one("jobs_waiting", "Jobs that wait for a slot", None, waiting.collect());
        let disk = |value: fn(&DiskState) -> i64| {
            self.disks.iter().map(|disk| (vec![("of", disk.of.to_owned())], value(disk))).collect::<Vec<_>>()
        };
        let bytes = || Some(Unit::Bytes);
        one("filesystem_size", "File systems of state_dir and of podman's images", bytes(), disk(|disk| disk.bytes));
        one("filesystem_free", "What of them is free to jobs", bytes(), disk(|disk| disk.free_bytes));
        one("filesystem_wanted", "What of them is to be free (min_free)", bytes(), disk(|disk| disk.wanted_bytes));
        one("filesystem_inodes", "Inodes of these file systems", None, disk(|disk| disk.inodes));
        one("filesystem_free_inodes", "What of them is free to jobs", None, disk(|disk| disk.free_inodes));
        one("lanes", "Directories that projects keep", None, number(self.lanes));
        one("lanes", "Their sizes, where measured", bytes(), number(self.lanes_bytes));
        one("trash", "What is on its way to be free", bytes(), number(self.trash_bytes));
        if let Some(chain) = &self.chain {
            let states = chain.iter().map(|(state, count)| (vec![("state", (*state).to_owned())], *count));
            one("chain_projects", "Projects of the image chain, by state", None, states.collect());
            let images = self.images.iter().map(|(verdict, count)| (vec![("verdict", (*verdict).to_owned())], *count));
            one("chain_images", "Images from elsewhere, by the audit's verdict", None, images.collect());
            let bases = self.bases.iter().map(|(base, count)| (vec![("base", (*base).to_owned())], *count));
            one("chain_bases", "Projects by the base of their last success", None, bases.collect());
            one("chain_stale_projects", "Projects not built for too long", None, number(self.stale_projects));
        }
        registry
    }
}
