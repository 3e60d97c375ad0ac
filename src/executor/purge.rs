//! The purge: what there is, what has to go (`lanes::decide`), and the going.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytesize::ByteSize;

use super::observe::disk;
use super::space::Short;
use super::{Executor, Failure, JobLog, image_use};
use crate::job::{ImageRef, policy};
use crate::lanes::decide::{Disk, Item, Rule, Rules, Stays, decide};
use crate::lanes::store::Listed;
use crate::loops;
use crate::podman::{ListedImage, PodmanError};
use crate::protocol::admin::{ImageRow, LaneRow, PurgeRequest, RemovedRow, is_project};

/// How often free space is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// Pause after a pass that free space asked for and that found nothing to remove.
const NOTHING_LEFT: Duration = Duration::from_secs(60);
/// How long a job waits for space that is being freed.
const ROOM_WAIT: Duration = Duration::from_secs(60);
/// Between two looks at whether it is free.
const ROOM_LOOK: Duration = Duration::from_millis(50);

/// A file system that can't be asked: nothing goes for its sake.
const UNKNOWN: Disk = Disk { bytes: 0, free_bytes: u64::MAX, inodes: 0, free_inodes: u64::MAX };

/// Something that may go.
#[derive(Debug)]
enum Thing {
    Lane(Box<Listed>),
    Image(ListedImage),
}

/// What there is.
#[derive(Debug)]
struct Listing {
    things: Vec<Thing>,
    items: Vec<Item>,
    disks: Vec<Disk>,
    /// Why images are not among them, though they were asked for.
    images: Result<(), PodmanError>,
}

impl Executor {
    /// Purges now and then, and when space runs short, until the daemon ends.
    pub async fn purge_forever(self: Arc<Self>) {
        let mut last: Option<Instant> = None;
        let mut not_before = Instant::now();
        let mut said: Vec<Short> = Vec::new();
        loop {
            let due = async {
                tokio::select! {
                    () = self.housekeeping.purge.notified() => true,
                    () = tokio::time::sleep(LOOK) => false,
                }
            };
            let grown = tokio::select! {
                () = self.shutdown.cancelled() => return,
                grown = loops::rest(due) => grown,
            };
            if let Err(error) = self.lanes.save_clock() {
                tracing::debug!("write the lanes' clock down: {error}");
            }
            let now = Instant::now();
            let short = self.short_of();
            if short.is_empty() {
                said.clear();
            }
            let (rules, interval) = (self.rules(), self.settings().purge.interval);
            let sized = rules.max_size.is_some() || rules.project_max_size.is_some();
            let pressed = !short.is_empty() && (grown || now >= not_before);
            let due = last.is_none_or(|last| now >= last + interval);
            if !(due || pressed || grown && sized) {
                continue;
            }
            if due {
                last = Some(now);
            }
            let removed = self.purge(&PurgeRequest::default()).await;
            // What is on its way to be free has to be waited for.
            if removed.is_empty() && !short.is_empty() && self.lanes.in_trash().bytes == 0 {
                not_before = now + NOTHING_LEFT;
                for short in short.iter().filter(|short| !said.iter().any(|before| before.path == short.path)) {
                    tracing::warn!(
                        "{} are free on {}, {} should be, and nothing is left that may be removed",
                        short.free,
                        short.path.display(),
                        short.wanted
                    );
                }
                said = short;
            }
        }
    }

    /// Removes what a request chooses; returns what went, or would go.
    pub async fn purge(self: &Arc<Self>, request: &PurgeRequest) -> Vec<RemovedRow> {
        // One at a time: two that count the same space would remove twice as much.
        // An administrator's may have many images to remove, each with its own end.
        let _turn = loops::rest(self.purging.lock()).await;
        let listing = self.listing(!request.chooses()).await;
        let chosen = match request.chooses() {
            false => decide(&listing.items, &listing.disks, &self.rules()),
            true => asked_for(&listing, request),
        };
        let mut removed = Vec::new();
        for (index, rule) in chosen {
            let (thing, item) = (&listing.things[index], &listing.items[index]);
            let row = row(thing, item, rule);
            let gone = request.dry_run || self.remove(thing).await;
            if gone {
                if !request.dry_run {
                    self.note_purge(&row, item.lane, rule);
                    tracing::info!(
                        what = row.name,
                        project = row.project_path,
                        size = %row.bytes.map_or_else(|| "unknown".to_owned(), |bytes| ByteSize(bytes).to_string()),
                        age = %humantime::format_duration(Duration::from_secs(row.age_s)),
                        rule = row.rule,
                        "purged"
                    );
                }
                removed.push(row);
            }
        }
        if !removed.is_empty() {
            self.housekeeping.trash.notify_one();
        }
        removed
    }

    /// Whether it is gone; it may have come into use since the decision.
    async fn remove(&self, thing: &Thing) -> bool {
        match thing {
            Thing::Lane(lane) => match self.lanes.discard(&lane.id) {
                Ok(gone) => gone.is_some(),
                Err(error) => {
                    tracing::warn!(lane = %lane.id, "it can't be removed: {error:#}");
                    false
                }
            },
            Thing::Image(image) => {
                let Some(_removal) = self.image_gate.remove(image.repositories()) else { return false };
                // As it is now, and not when it was listed: its names may be another image's.
                let listed = self.podman.images().await.unwrap_or_default();
                let same = listed.iter().any(|listed| listed == image);
                if !same || self.images_of_leases().any(|id| id == image.id) {
                    return false;
                }
                match self.podman.remove_image(image).await {
                    Ok(()) => true,
                    // A container that somebody just made of it, for one.
                    Err(error) => {
                        tracing::info!(image = image.id, "it can't be removed: {}", error.message);
                        false
                    }
                }
            }
        }
    }

    /// The images that jobs run in now.
    fn images_of_leases(&self) -> impl Iterator<Item = String> {
        self.all_leases().into_iter().flat_map(|lease| lease.record().images)
    }

    fn rules(&self) -> Rules {
        let settings = self.settings().purge.clone();
        Rules {
            max_age: Some(settings.max_age.as_secs()),
            image_max_age: Some(settings.image_max_age.as_secs()),
            max_size: settings.max_size,
            project_max_size: settings.project_max_size,
            min_free: Some(settings.min_free),
            min_free_inodes: Some(settings.min_free_inodes),
        }
    }

    /// The directories whose file systems are watched: of lanes, and of images where that is another.
    pub(super) fn watched(&self) -> Vec<PathBuf> {
        let device = |path: &Path| std::fs::metadata(path).ok().map(|about| about.dev());
        let lanes = self.settings().state_dir.clone();
        let images = self.podman.storage_root().filter(|images| device(images) != device(&lanes));
        [Some(lanes), images].into_iter().flatten().collect()
    }

    /// What is free, with what is on its way to be.
    fn disks(&self) -> Vec<Disk> {
        let mut disks: Vec<Disk> = self.watched().iter().map(|path| disk(path).unwrap_or(UNKNOWN)).collect();
        let trash = self.lanes.in_trash();
        if let Some(lanes) = disks.first_mut() {
            lanes.free_bytes = lanes.free_bytes.saturating_add(trash.bytes);
            lanes.free_inodes = lanes.free_inodes.saturating_add(trash.inodes);
        }
        disks
    }

    async fn listing(&self, images: bool) -> Listing {
        let (mut things, mut items) = (Vec::new(), Vec::new());
        let now = self.lanes.now();
        for lane in self.lanes.list() {
            let size = lane.record.size.unwrap_or_default();
            items.push(Item {
                project: Some(format!("{} {}", lane.home.instance, lane.home.project)),
                lane: true,
                disk: 0,
                bytes: size.bytes,
                inodes: size.inodes,
                age: now.saturating_sub(lane.record.last_use),
                stays: (!lane.holders.is_empty()).then_some(Stays::InUse),
            });
            things.push(Thing::Lane(Box::new(lane)));
        }
        let disks = self.disks();
        let mut listed = Ok(());
        if images {
            match self.podman.images().await {
                Ok(images) => {
                    self.image_uses.retain(&images, now);
                    for image in images {
                        items.push(self.image_item(&image, now, disks.len() - 1));
                        things.push(Thing::Image(image));
                    }
                }
                Err(error) => {
                    tracing::warn!("images are left alone for now: {error}");
                    listed = Err(error);
                }
            }
        }
        Listing { things, items, disks, images: listed }
    }

    fn image_item(&self, image: &ListedImage, now: u64, disk: usize) -> Item {
        let known = self.image_uses.get(&image.id);
        let used =
            self.image_gate.is_reserved(image.repositories()) || self.images_of_leases().any(|id| id == image.id);
        let mut names = image.names.iter().filter_map(|name| ImageRef::try_from(name.clone()).ok());
        let pinned = names.any(|name| policy::matches(&self.settings().purge.pinned_images, &name));
        Item {
            project: None,
            lane: false,
            disk,
            bytes: image.bytes,
            inodes: 0,
            age: known.as_ref().map_or(0, |known| now.saturating_sub(known.last_use)),
            stays: image_use::stays(image, known.as_ref(), pinned, used),
        }
    }

    /// Sees to it before a job begins that there is room for it, as far as something may be removed for it.
    ///
    /// # Errors
    /// When no room is left at all: what a job needs to begin would fail, in words that name neither disk nor remedy.
    pub(super) async fn make_room(self: &Arc<Self>, log: &JobLog) -> Result<(), Failure> {
        let mut released = false;
        for short in self.short_of() {
            let since = Instant::now();
            let _step = log.step(format!("making room on {}", short.path.display()));
            let removed = self.purge(&PurgeRequest::default()).await;
            let sum: u64 = removed.iter().filter_map(|row| row.bytes).sum();
            // What went is freed in the background; at the end of that there is room, or there is none to be had.
            let until = since + ROOM_WAIT;
            while self.lanes.in_trash().bytes > 0 && !self.short_of().is_empty() && Instant::now() < until {
                tokio::time::sleep(ROOM_LOOK).await;
            }
            let still_short = self.short_of().iter().any(|still| still.path == short.path);
            let releases = still_short && self.release_for_room(log);
            released |= releases;
            if still_short && !releases {
                log.line(format!(
                    "Warning: only {} are free on {} ({} should be), and nothing is left that may be removed",
                    short.free,
                    short.path.display(),
                    short.wanted
                ));
            } else if !removed.is_empty() {
                log.line(format!(
                    "Removed {} of what older jobs kept, in {:.1?}, to have room",
                    ByteSize(sum),
                    since.elapsed()
                ));
            }
        }
        let until = Instant::now() + ROOM_WAIT;
        let _step = released.then(|| log.step("waiting until what held jobs had is removed"));
        loop {
            let Some(full) = self.short_of().into_iter().find(|short| short.is_full) else { return Ok(()) };
            // What was released goes in the background, too.
            if !released || Instant::now() >= until {
                return Err(Failure::system(full.refusal()));
            }
            tokio::time::sleep(ROOM_LOOK).await;
        }
    }

    /// All lanes, and why each would go.
    pub async fn cache_list(&self) -> Vec<LaneRow> {
        let listing = self.listing(true).await;
        let rules = decide(&listing.items, &listing.disks, &self.rules());
        let mut rows = Vec::new();
        for (index, (thing, item)) in listing.things.iter().zip(&listing.items).enumerate() {
            let Thing::Lane(lane) = thing else { continue };
            rows.push(LaneRow {
                instance: lane.home.instance.clone(),
                project_id: lane.home.project,
                project_path: lane.home.project_path.clone(),
                protected: lane.home.protected,
                pipeline: lane.home.pipeline,
                lane: lane.id.part.to_string(),
                bytes: lane.record.size.map(|size| size.bytes),
                inodes: lane.record.size.map(|size| size.inodes),
                last_use: ago(item.age),
                age_s: item.age,
                uses: lane.record.uses,
                jobs: lane.holders.iter().filter_map(|id| Some(self.by_short_id(id)?.record().job.id)).collect(),
                goes_by: rule_of(&rules, index),
            });
        }
        rows
    }

    /// All images, and why each would go.
    ///
    /// # Errors
    /// podman's words, where it does not say which there are.
    pub async fn images_list(&self) -> Result<Vec<ImageRow>, PodmanError> {
        let listing = self.listing(true).await;
        listing.images?;
        let rules = decide(&listing.items, &listing.disks, &self.rules());
        let mut rows = Vec::new();
        for (index, (thing, item)) in listing.things.iter().zip(&listing.items).enumerate() {
            let Thing::Image(image) = thing else { continue };
            rows.push(ImageRow {
                id: image.id.clone(),
                names: image.names.clone(),
                bytes: image.bytes,
                last_use: self.image_uses.get(&image.id).map(|_| ago(item.age)),
                stays: item.stays.map(|stays| stays.to_string()),
                goes_by: rule_of(&rules, index),
            });
        }
        Ok(rows)
    }
}

fn rule_of(rules: &[(usize, Rule)], index: usize) -> Option<String> {
    rules.iter().find(|(chosen, _)| *chosen == index).map(|(_, rule)| rule.to_string())
}

/// What an administrator chose; least recently used first, as by the rules.
fn asked_for(listing: &Listing, request: &PurgeRequest) -> Vec<(usize, Rule)> {
    let fits = |index: &usize| {
        let (Thing::Lane(lane), item) = (&listing.things[*index], &listing.items[*index]) else { return false };
        let of_project = request
            .project
            .as_ref()
            .is_none_or(|name| is_project(name, &lane.home.instance, lane.home.project, &lane.home.project_path));
        item.stays.is_none() && of_project && request.older_than_s.is_none_or(|least| item.age >= least)
    };
    let mut chosen: Vec<usize> = (0..listing.items.len()).filter(fits).collect();
    chosen.sort_by_key(|index| (std::cmp::Reverse(listing.items[*index].age), *index));
    chosen.into_iter().map(|index| (index, Rule::Asked)).collect()
}

fn row(thing: &Thing, item: &Item, rule: Rule) -> RemovedRow {
    let (name, project_path, bytes) = match thing {
        Thing::Lane(lane) => {
            (lane.id.to_string(), Some(lane.home.project_path.clone()), lane.record.size.map(|size| size.bytes))
        }
        Thing::Image(image) if image.names.is_empty() => (image.id.clone(), None, Some(image.bytes)),
        Thing::Image(image) => (image.names.join(" "), None, Some(image.bytes)),
    };
    RemovedRow { name, project_path, bytes, age_s: item.age, rule: rule.to_string() }
}

/// That many seconds ago, as RFC 3339.
fn ago(age: u64) -> String {
    let then = SystemTime::now().checked_sub(Duration::from_secs(age)).unwrap_or(SystemTime::UNIX_EPOCH);
    humantime::format_rfc3339_seconds(then).to_string()
}
