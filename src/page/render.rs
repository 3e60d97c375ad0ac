//! From what there is to the parts of a page. What many have open is rendered once; layouts of graphs are kept.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, DefaultHasher, Hash, Hasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::body::Bytes;

use super::graph::Graph;
use super::html::chain::{DRAWN_MAX, Show};
use super::html::project::AROUND_MAX;
use super::html::{Clock, Part, chain, disk, gone, images, jobs, now, project};
use super::layout::Layout;
use super::moment::{Moment, Sources, project_of};
use super::svg;
use super::view::past::DAY;

/// Pages that are kept as they were rendered last.
const KEPT_MAX: usize = 64;
/// Layouts that are kept.
const LAYOUTS_MAX: usize = 32;
/// For how long what nobody tells the changes of stays as it was rendered, in seconds.
const UNTOLD: i64 = 5;

/// A page that somebody has open.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Topic {
    /// What goes on now.
    Now,
    /// The chain, or a part of it.
    Chain(Show),
    /// A project of it.
    Project(i64),
    /// The disks.
    Disk,
    /// The jobs of the past days.
    Jobs,
    /// Images from elsewhere.
    Images,
}

impl Topic {
    /// Whether somebody says when it has changed.
    #[must_use]
    pub fn is_told(&self) -> bool {
        !matches!(self, Self::Disk | Self::Jobs | Self::Images)
    }
}

/// What a page was rendered from: the version of what goes on or of the chain, and of what is on record of its project.
type Version = (u64, u64);
/// What was rendered last of each page.
type Kept = HashMap<Topic, (Version, Arc<Vec<Told>>)>;

/// A part as pages that are open are told it: one event, which all of them share.
#[derive(Debug, Clone)]
pub struct Told {
    /// Its name in the page.
    pub id: &'static str,
    /// Of what is in it. So nobody has to keep that to know whether it has changed.
    pub digest: u64,
    /// The event.
    pub event: Bytes,
}

/// Renders pages.
#[derive(Debug)]
pub struct Rendering {
    /// Where everything comes from.
    pub sources: Sources,
    base: String,
    kept: tokio::sync::Mutex<Kept>,
    layouts: Arc<Layouts>,
    digests: RandomState,
}

impl Rendering {
    /// Of these sources, for a page below `base`.
    #[must_use]
    pub fn new(sources: Sources, base: &str) -> Self {
        Self {
            sources,
            base: base.to_owned(),
            kept: tokio::sync::Mutex::default(),
            layouts: Arc::default(),
            digests: RandomState::new(),
        }
    }

    /// The parts of a page that is open. Of what is not there any more, only that.
    pub async fn live(&self, topic: &Topic) -> Arc<Vec<Told>> {
        let moment = self.sources.moment().await;
        let version = match topic {
            Topic::Now => (moment.now_version, 0),
            Topic::Chain(_) => (moment.chain_version, 0),
            // An event may change nothing of the chain, and is shown all the same.
            Topic::Project(id) => (moment.chain_version, self.sources.noted(Some(*id))),
            Topic::Disk | Topic::Jobs | Topic::Images => {
                self.ask(topic).await;
                (u64::try_from(unix_time() / UNTOLD).unwrap_or(0), 0)
            }
        };
        let mut kept = self.kept.lock().await;
        if let Some((of, parts)) = kept.get(topic)
            && *of == version
        {
            return Arc::clone(parts);
        }
        let parts = match self.parts(&moment, topic, Clock::Bare).await {
            Some(mut parts) => {
                parts.push(gone(false));
                parts
            }
            None => vec![gone(true)],
        };
        let told = Arc::new(parts.iter().map(|part| told(part, &self.digests)).collect::<Vec<_>>());
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(topic.clone(), (version, Arc::clone(&told)));
        told
    }

    /// Has the sources ask what may take its time, podman for example, before anything is locked; they keep it for a while.
    async fn ask(&self, topic: &Topic) {
        match topic {
            Topic::Disk => drop(self.sources.disk().await),
            Topic::Jobs => drop(self.sources.jobs().await),
            Topic::Images => drop(self.sources.findings().await),
            Topic::Now | Topic::Chain(_) | Topic::Project(_) => {}
        }
    }

    /// The parts of a page for somebody who opens it.
    pub async fn fresh(&self, topic: &Topic) -> Option<Vec<Part>> {
        let moment = self.sources.moment().await;
        self.parts(&moment, topic, Clock::At(unix_time())).await
    }

    async fn parts(&self, moment: &Moment, topic: &Topic, clock: Clock) -> Option<Vec<Part>> {
        match topic {
            Topic::Now => Some(now::parts(&moment.now, clock)),
            Topic::Disk => {
                let (disk, past) = self.sources.disk().await;
                Some(disk::parts(&disk, &past, clock))
            }
            Topic::Images => Some(images::parts(&*self.sources.findings().await?, clock)),
            Topic::Jobs => {
                let today = unix_time() * 1000 / DAY * DAY;
                Some(jobs::parts(&*self.sources.jobs().await, today))
            }
            Topic::Chain(show) => {
                let (whole, show) = (Arc::clone(moment.chain.as_ref()?), show.clone());
                let (layouts, base) = (Arc::clone(&self.layouts), self.base.clone());
                // Laying out a graph takes its time.
                let rendering = move || {
                    let part = show.part(&whole.status);
                    let layout = (part.nodes.len() <= DRAWN_MAX).then(|| layouts.of(&part));
                    chain::parts(&base, &whole, &show, layout.as_deref(), clock)
                };
                tokio::task::spawn_blocking(rendering).await.ok()
            }
            Topic::Project(id) => {
                let (whole, id) = (Arc::clone(moment.chain.as_ref()?), *id);
                project_of(&whole.status, id)?;
                let past = self.sources.project(id).await;
                let (layouts, base) = (Arc::clone(&self.layouts), self.base.clone());
                let rendering = move || {
                    let graph = Graph::of(&whole.status);
                    let found = project_of(&whole.status, id)?;
                    let around =
                        graph.around(id, AROUND_MAX, project::blocker(&graph, found).map(|project| project.id));
                    let layout = layouts.of(&around);
                    Some(project::parts(&base, found, &graph, (&around, &layout), &past, clock))
                };
                tokio::task::spawn_blocking(rendering).await.ok().flatten()
            }
        }
    }
}

/// A part as an event.
fn told(part: &Part, digests: &RandomState) -> Told {
    // Texts and names alone: writing them as JSON can't fail.
    let data = serde_json::to_string(part).unwrap_or_default();
    let event = Bytes::from(format!("event: part\ndata: {data}\n\n"));
    Told { id: part.id, digest: digests.hash_one(&part.html), event }
}

/// Layouts of graphs, by what is in them.
#[derive(Debug, Default)]
struct Layouts(Mutex<HashMap<u64, Arc<Layout>>>);

impl Layouts {
    fn of(&self, graph: &Graph<'_>) -> Arc<Layout> {
        let mut hasher = DefaultHasher::new();
        graph.nodes.keys().for_each(|id| id.hash(&mut hasher));
        graph.edges.hash(&mut hasher);
        let key = hasher.finish();
        if let Some(layout) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Arc::clone(layout);
        }
        let layout = Arc::new(svg::place(graph));
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= LAYOUTS_MAX {
            kept.clear();
        }
        kept.insert(key, Arc::clone(&layout));
        layout
    }
}

/// Seconds since 1970.
#[must_use]
pub fn unix_time() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_one_event_and_its_digest_says_whether_it_has_changed() {
        let digests = RandomState::new();
        let of = |html: &str| told(&Part { id: "slots", html: html.into() }, &digests);
        let one = of("<p>a\n\nb</p>");
        assert_eq!(one.event, "event: part\ndata: {\"id\":\"slots\",\"html\":\"<p>a\\n\\nb</p>\"}\n\n");
        assert!(one.digest == of("<p>a\n\nb</p>").digest && one.digest != of("<p>a</p>").digest);
    }
}
