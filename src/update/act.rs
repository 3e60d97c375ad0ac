//! What is done in each step of a unit's update. What comes after which is decided in `journey`, what is good in `judge`.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use jiff::Timestamp;

use super::Context;
use super::clean::{self, Kept};
use super::journey::{Came, Change, Journey, Step};
use super::judge::{self, Expected, Health, Sight, Start, fallen, started, unchanged};
use super::podman::LocalImage;
use super::record::Record;
use super::units::{Policy, UnitName};

/// How long a unit that systemd calls started may take until its containers are there: those of simple services come later.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long podman or systemd may not say what runs until a run leaves the judging to the next.
const TROUBLE_LIMIT: Duration = Duration::from_secs(30);
/// As often it is tried at least, however long a call hangs.
const LOOKS_IN_TROUBLE: u32 = 3;
/// How often what was restarted is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Notes what a step leaves behind, before it is on record as begun: a run that is killed in it loses nothing.
pub fn note(record: &mut Record, journey: &Journey) {
    match journey.step {
        Step::Checked => {
            for pinned in journey.changes.iter().filter(|change| change.to.is_none()).map(Change::pinned) {
                if !record.pulled.contains(&pinned) {
                    record.pulled.push(pinned);
                }
            }
        }
        Step::Restarting => {
            for change in &journey.changes {
                let kept = Kept {
                    container: change.container.clone(),
                    name: clean::name_for(&change.container, &change.from),
                    image: change.from.clone(),
                    since: Timestamp::now(),
                };
                clean::keep(&mut record.kept, kept);
            }
        }
        _ => {}
    }
}

/// Pulls the new images, each by its digest: no tag moves, and nothing that is restarted meanwhile gets one.
pub async fn pull(context: &Context, record: &mut Record, journey: &mut Journey) -> Came {
    for change in &mut journey.changes {
        if change.to.is_none() {
            match pull_one(context, record, change).await {
                Ok(image) => {
                    change.to = Some(image.id);
                    // podman may know better which platform this host is.
                    change.platform.take_if(|platform| !image.digests.contains(platform));
                }
                Err(error) => {
                    return Came::Wrong(format!("image {} could not be pulled: {error:#}", change.image));
                }
            }
        }
    }
    Came::Good
}

async fn pull_one(context: &Context, record: &mut Record, change: &Change) -> Result<LocalImage> {
    let pinned = change.pinned();
    let there = context.podman.image(&pinned).await?;
    let image = match there {
        Some(image) => image,
        None => {
            tracing::info!(image = change.image, digest = change.digest, "pulling");
            let id = context.podman.pull(&pinned, change.auth_file.as_deref()).await?;
            let image = context.podman.image(&id).await?;
            image.with_context(|| format!("podman has pulled {pinned} and has no image {id}"))?
        }
    };
    record.know(&change.digest, &image.id);
    Ok(image)
}

/// Moves the tags to the new images and restarts the unit. The images from before keep a name.
pub async fn restart(context: &Context, unit: &UnitName, record: &mut Record, journey: &Journey) -> Came {
    if let Err(error) = move_tags(context, record, journey).await {
        let needed = journey.changes.iter().flat_map(|change| change.to.iter().chain([&change.from])).collect();
        return came_of(context, needed, error).await;
    }
    tracing::info!("restarting");
    context.systemd.forget_failures(unit).await;
    match context.systemd.restart(unit).await {
        Ok(()) => Came::Good,
        Err(error) => {
            let reason = format!("{unit} did not start: {}", error.message);
            match look(context, unit, journey).await {
                Ok(_) => Came::Wrong(reason),
                Err(trouble) => {
                    Came::Trouble(format!("{reason}; and whose fault that is nobody can tell: {trouble:#}"))
                }
            }
        }
    }
}

/// What it means that podman could not move a tag to one of these images: one that somebody has removed will not come back, all else is
/// podman's own trouble.
async fn came_of(context: &Context, images: Vec<&String>, error: anyhow::Error) -> Came {
    for image in images {
        if let Ok(None) = context.podman.image(image).await {
            return Came::Wrong(format!("{error:#}"));
        }
    }
    Came::Trouble(format!("{error:#}"))
}

async fn move_tags(context: &Context, record: &mut Record, journey: &Journey) -> Result<()> {
    for change in &journey.changes {
        let to = change.to.as_deref().with_context(|| format!("image {} was never pulled", change.image))?;
        let name = clean::name_for(&change.container, &change.from);
        context.podman.tag(&change.from, &name).await.context("keep the image from before")?;
        context.podman.tag(to, &change.image).await.context("give the new image its tag")?;
        if change.policy == Policy::Registry {
            let pinned = change.pinned();
            // It has a tag now. That it keeps the other name too would be no harm.
            let _ = context.podman.untag(to, &pinned).await;
            record.pulled.retain(|name| *name != pinned && name != to);
        }
    }
    Ok(())
}

/// Waits until what was restarted has proved itself, or has not.
pub async fn judge(context: &Context, unit: &UnitName, journey: &Journey) -> Came {
    match judged(context, unit, journey).await {
        Ok(came) => came,
        Err(error) => Came::Trouble(format!("nobody can tell whether it runs: {error:#}")),
    }
}

async fn judged(context: &Context, unit: &UnitName, journey: &Journey) -> Result<Came> {
    let expected = expected(journey, |change| change.to.clone());
    let first = match comes_up(context, unit, journey, &expected).await? {
        Ok(sight) => sight,
        Err(reason) => return Ok(Came::Wrong(reason)),
    };
    let stuck = unchanged(&expected, &first);
    if !stuck.is_empty() {
        return Ok(Came::Wrong(format!(
            "{} still has the image from before: the unit starts a container that is there instead of making a new one \
             (podman run --replace, as `podman generate systemd --new` writes it)",
            stuck.join(", ")
        )));
    }
    let mut since = Instant::now();
    let mut last = Checks::of(&first);
    let mut healthy = None;
    loop {
        let (sight, lost) = look_patiently(context, unit, journey).await?;
        since += lost;
        if let Some(reason) = fallen(&first, &sight) {
            return Ok(Came::Wrong(reason));
        }
        match judge::health(&sight, since.elapsed(), context.settings.health_timeout) {
            Health::Bad(reason) => return Ok(Came::Wrong(reason)),
            Health::Good => {
                let from = *healthy.get_or_insert_with(Instant::now);
                if from.elapsed() >= context.settings.settle {
                    return Ok(Came::Good);
                }
            }
            Health::Unknown => healthy = None,
        }
        last.drive(context, &sight).await;
        tokio::time::sleep(LOOK.min(context.settings.settle)).await;
    }
}

/// When each container's healthcheck was last run.
struct Checks(Vec<(String, String, Instant)>);

impl Checks {
    fn of(sight: &Sight) -> Self {
        let now = Instant::now();
        let with_check = sight.containers.values().filter(|container| container.health.is_some());
        let last = |state: &Option<(String, String)>| state.as_ref().map_or(String::new(), |(_, last)| last.clone());
        Self(with_check.map(|container| (container.name.clone(), last(&container.health_state), now)).collect())
    }

    /// Runs those that nobody else does.
    async fn drive(&mut self, context: &Context, sight: &Sight) {
        for (name, last, when) in &mut self.0 {
            let Some(container) = sight.containers.get(name) else { continue };
            let (Some(spec), state) = (container.health, container.health_state.as_ref()) else { continue };
            let now = state.map_or("", |(_, last)| last.as_str());
            if now != last {
                (*last, *when) = (now.to_owned(), Instant::now());
            } else if super::health::is_due(spec, when.elapsed()) {
                context.podman.check_health(name).await;
                *when = Instant::now();
            }
        }
    }
}

/// Moves the tags back and has the images from before run.
pub async fn roll_back(context: &Context, unit: &UnitName, journey: &Journey) -> Came {
    match rolled_back(context, unit, journey).await {
        Ok(came) => came,
        Err(error) => Came::Trouble(format!("nobody can tell whether the image from before runs: {error:#}")),
    }
}

async fn rolled_back(context: &Context, unit: &UnitName, journey: &Journey) -> Result<Came> {
    if let Err(error) = take_back(context, journey).await {
        return Ok(came_of(context, journey.changes.iter().map(|change| &change.from).collect(), error).await);
    }
    let expected = expected(journey, |change| Some(change.from.clone()));
    let (sight, _) = look_patiently(context, unit, journey).await?;
    // A run that was killed may have come so far, and a unit that makes no new container has never left it.
    if started(unit, &expected, &sight, &sight) == Start::Up && unchanged(&expected, &sight).is_empty() {
        return Ok(Came::Good);
    }
    context.systemd.forget_failures(unit).await;
    if let Err(error) = context.systemd.restart(unit).await {
        let reason = format!("start {unit} with the image from before: {error}");
        return look(context, unit, journey).await.map(|_| Came::Wrong(reason.clone())).context(reason);
    }
    Ok(match comes_up(context, unit, journey, &expected).await? {
        Ok(sight) if unchanged(&expected, &sight).is_empty() => Came::Good,
        Ok(sight) => {
            Came::Wrong(format!("{} does not run the image from before", unchanged(&expected, &sight).join(", ")))
        }
        Err(reason) => Came::Wrong(format!("with the image from before: {reason}")),
    })
}

/// Gives the images from before their tags back.
///
/// # Errors
/// podman's words.
pub async fn take_back(context: &Context, journey: &Journey) -> Result<()> {
    for change in &journey.changes {
        let back = context.podman.tag(&change.from, &change.image).await;
        back.with_context(|| format!("give {} back to the image from before, {}", change.image, change.from))?;
    }
    Ok(())
}

/// Waits until all that is expected runs; a reason where it will not.
async fn comes_up(
    context: &Context,
    unit: &UnitName,
    journey: &Journey,
    expected: &Expected,
) -> Result<Result<Sight, String>> {
    let mut since = Instant::now();
    let mut first: Option<Sight> = None;
    loop {
        let (sight, lost) = look_patiently(context, unit, journey).await?;
        since += lost;
        match started(unit, expected, first.get_or_insert_with(|| sight.clone()), &sight) {
            Start::Up => return Ok(Ok(sight)),
            Start::Failed(reason) => return Ok(Err(reason)),
            Start::Coming if since.elapsed() >= START_LIMIT => {
                let missing: Vec<&str> = expected
                    .keys()
                    .filter(|name| !sight.containers.get(*name).is_some_and(|container| container.running))
                    .map(String::as_str)
                    .collect();
                let limit = humantime::format_duration(START_LIMIT);
                return Ok(Err(match missing.as_slice() {
                    [] => format!("{unit} was not active within {limit}"),
                    names => format!("container {} did not run within {limit}", names.join(", ")),
                }));
            }
            Start::Coming => tokio::time::sleep(LOOK).await,
        }
    }
}

fn expected(journey: &Journey, image: impl Fn(&Change) -> Option<String>) -> Expected {
    let changed = journey.changes.iter().map(|change| (change.container.clone(), image(change)));
    changed.chain(journey.beside.iter().map(|name| (name.clone(), None))).collect()
}

/// Which images run of those that are changed: all the new ones, all from before.
///
/// # Errors
/// When podman or systemd does not say.
pub async fn runs(context: &Context, unit: &UnitName, journey: &Journey) -> Result<(bool, bool)> {
    let (sight, _) = look_patiently(context, unit, journey).await?;
    let all = |image: &dyn Fn(&Change) -> Option<String>| {
        let expected = expected(journey, image);
        started(unit, &expected, &sight, &sight) == Start::Up && unchanged(&expected, &sight).is_empty()
    };
    Ok((all(&|change| change.to.clone()), all(&|change| Some(change.from.clone()))))
}

/// Looks, and again where podman or systemd do not say; how long they did not, which is nobody's fault who is judged.
async fn look_patiently(context: &Context, unit: &UnitName, journey: &Journey) -> Result<(Sight, Duration)> {
    let (since, mut lost, mut looks) = (Instant::now(), Duration::ZERO, 1);
    loop {
        match look(context, unit, journey).await {
            Ok(sight) => return Ok((sight, lost)),
            Err(error) if looks >= LOOKS_IN_TROUBLE && since.elapsed() >= TROUBLE_LIMIT => return Err(error),
            Err(error) => tracing::debug!("{error:#}"),
        }
        looks += 1;
        tokio::time::sleep(LOOK).await;
        lost = since.elapsed();
    }
}

async fn look(context: &Context, unit: &UnitName, journey: &Journey) -> Result<Sight> {
    let mut sight = Sight::default();
    for name in std::iter::once(unit).chain(&journey.units) {
        sight.units.insert(name.clone(), context.systemd.state(name).await?);
    }
    let names = journey.changes.iter().map(|change| &change.container).chain(&journey.beside);
    sight.containers = context.podman.named(names).await?;
    Ok(sight)
}

/// Removes images that nobody needs any more: what ran before the images that are kept, what was pulled and never ran. What can't be
/// removed stays on record for the next time.
pub async fn tidy(context: &Context, record: &mut Record, wanted: &[Change]) {
    let surplus = clean::surplus(&record.kept, context.settings.keep_previous);
    for kept in surplus {
        if remove(context, &kept.name).await {
            record.kept.retain(|other| other.name != kept.name);
        }
    }
    let wanted: Vec<String> =
        wanted.iter().flat_map(|change| change.to.clone().into_iter().chain([change.pinned()])).collect();
    for name in record.pulled.clone() {
        if !wanted.contains(&name) && forget_pulled(context, &name).await {
            record.pulled.retain(|other| *other != name);
        }
    }
}

/// Removes an image that was pulled, by digest or id, and never got a tag. One that has a tag loses the name only: podman also finds it by
/// its digest, and would remove it for that.
async fn forget_pulled(context: &Context, name: &str) -> bool {
    match context.podman.image(name).await {
        Ok(Some(image)) if image.tags.is_empty() => remove(context, name).await,
        Ok(Some(image)) => {
            if name.contains('@') {
                // It may have lost it already.
                let _ = context.podman.untag(&image.id, name).await;
            }
            true
        }
        Ok(None) => true,
        Err(_) => false,
    }
}

/// Removes what a failed update has left: its images, if nothing else names them, and the second name of those from before.
pub async fn tidy_failed(context: &Context, record: &mut Record, journey: &Journey) {
    for change in &journey.changes {
        let name = clean::name_for(&change.container, &change.from);
        if remove(context, &name).await {
            record.kept.retain(|other| other.name != name);
        }
        let Some(to) = change.to.as_deref().filter(|_| change.policy == Policy::Registry) else { continue };
        if let Ok(Some(image)) = context.podman.image(to).await
            && image.tags.is_empty()
        {
            remove(context, to).await;
        }
    }
}

async fn remove(context: &Context, name: &str) -> bool {
    match context.podman.remove_image(name).await {
        Ok(()) => true,
        Err(error) => {
            tracing::debug!("{name} stays for now: {error}");
            false
        }
    }
}
