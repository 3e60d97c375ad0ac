//! What projects there are and what their files and pipelines are now: by GraphQL a hundred in a request, else one by one.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt as _};
use globset::GlobSet;
use tokio::time::Instant;

use super::Controller;
use super::look::Seen;
use super::patterns::Patterns;
use crate::chain::facts::{Pipeline, ProjectId, Status, Success};
use crate::chain::words;
use crate::gitlab::{
    GitlabError, ProjectRow, ScanQuery, Scanned, ScannedPipeline, is_refused, is_too_complex, parse_end, parse_time,
};

/// The files that say what a project builds on.
pub(super) const FILES: [&str; 3] = [".gitlab-deps", "Containerfile", "Dockerfile"];
/// Projects in a page, at first: GitLab's maximum.
const PAGE: usize = 100;
/// Branches whose pipelines a scan asks for; of projects with others, each is asked for by itself.
const REFERENCES: usize = 2;
/// Projects that are looked at by REST at once.
const AT_ONCE: usize = 4;
/// Further files of a project that are read.
const FURTHER_MAX: usize = 50;
/// Longest text of a file that is read, in bytes.
const TEXT_MAX: usize = 1 << 20;

/// A project that is in the chain.
#[derive(Debug)]
pub(super) struct Found {
    pub id: ProjectId,
    pub path: String,
    pub web_url: String,
    pub default_branch: Option<String>,
    pub head: Option<String>,
    /// Its files; none: as they are known.
    pub files: Option<BTreeMap<String, String>>,
    /// Its pipelines; none: somebody has to look.
    pub seen: Option<Seen>,
    /// When that was asked for.
    pub asked_at: Instant,
    pub problems: Vec<String>,
    /// What REST says beside that.
    pub row: Option<ProjectRow>,
}

/// The chain's projects.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub found: BTreeMap<ProjectId, Found>,
    /// What went wrong as a whole.
    pub problems: Vec<String>,
    /// Whether projects may be missing that are there.
    pub is_partial: bool,
    /// Why GraphQL is not to be had.
    pub rest_alone: Option<String>,
}

/// Does work for many projects, some at once.
pub(super) async fn some_at_once<T>(work: Vec<BoxFuture<'_, T>>) -> Vec<T> {
    stream::iter(work).buffer_unordered(AT_ONCE).collect().await
}

impl Controller {
    /// Lists the chain's projects. What can't be had of one of them stops no other.
    pub(super) async fn list(&self) -> Listing {
        let patterns = Patterns::of(&self.settings);
        match self.list_by_graphql(&patterns).await {
            Ok(listing) => listing,
            Err(error) => {
                let mut listing = self.list_by_rest(&patterns).await;
                listing.rest_alone = Some(error.to_string());
                listing
            }
        }
    }

    /// The branches that most projects have.
    fn references(&self) -> Vec<String> {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        {
            let state = self.state();
            for about in state.facts.projects.keys().filter_map(|id| state.about.get(id)) {
                if let Some(tracked) = self.tracked(about) {
                    *counts.entry(tracked.to_owned()).or_default() += 1;
                }
            }
        }
        let mut names: Vec<(usize, String)> = counts.into_iter().map(|(name, count)| (count, name)).collect();
        names.sort_by(|one, other| other.cmp(one));
        let mut names: Vec<String> = names.into_iter().take(REFERENCES).map(|(_, name)| name).collect();
        for usual in ["main", "master"] {
            if names.len() < REFERENCES && !names.iter().any(|name| name == usual) {
                names.push(usual.to_owned());
            }
        }
        names
    }

    /// Fails only where GraphQL is not to be had at all.
    async fn list_by_graphql(&self, patterns: &Patterns) -> Result<Listing, GitlabError> {
        let paths = FILES.iter().map(|path| (*path).to_owned()).chain(patterns.literal.iter().cloned()).collect();
        let query = ScanQuery { paths, references: self.references(), head: patterns.further.is_some() };
        let mut listing = Listing::default();
        let mut count = PAGE;
        for group in &self.settings.groups {
            let mut after: Option<String> = None;
            loop {
                let asked_at = Instant::now();
                match self.gitlab.scan_group(group, after.as_deref(), count, &query).await {
                    Ok(page) => {
                        self.add(&mut listing, page.projects, &query, patterns, asked_at);
                        match page.next {
                            Some(next) if after.as_ref() != Some(&next) => after = Some(next),
                            _ => break,
                        }
                    }
                    Err(error) if is_too_complex(&error) && count > 1 => count /= 2,
                    Err(error)
                        if is_refused(&error)
                            && error
                                .status()
                                .is_none_or(|status| status != 404 || !error.to_string().contains("no group")) =>
                    {
                        return Err(error);
                    }
                    Err(error) => {
                        listing.problems.push(format!("group {group}: {error}"));
                        listing.is_partial = true;
                        break;
                    }
                }
            }
        }
        let single: Vec<String> = self.settings.projects.clone();
        let asked_at = Instant::now();
        match self.gitlab.scan_projects(&single, &query).await {
            Ok(found) => {
                let known = |path: &String| found.iter().any(|found| found.path.eq_ignore_ascii_case(path));
                for missing in single.iter().filter(|path| !known(path)) {
                    listing.problems.push(format!("project {missing}: there is none, or the token may not see it"));
                }
                self.add(&mut listing, found, &query, patterns, asked_at);
            }
            Err(error) if is_refused(&error) => return Err(error),
            Err(error) => {
                listing.problems.push(format!("single projects: {error}"));
                listing.is_partial = true;
            }
        }
        if let Some(further) = &patterns.further {
            self.read_further(&mut listing, further).await;
        }
        Ok(listing)
    }

    fn add(
        &self,
        listing: &mut Listing,
        page: Vec<Scanned>,
        query: &ScanQuery,
        patterns: &Patterns,
        asked_at: Instant,
    ) {
        for scanned in page {
            if scanned.is_leaving || !patterns.has(&scanned.path) {
                continue;
            }
            let found = self.of_scan(scanned, query, asked_at);
            listing.found.insert(found.id, found);
        }
    }

    fn of_scan(&self, scanned: Scanned, query: &ScanQuery, asked_at: Instant) -> Found {
        let mut problems = Vec::new();
        let mut files = BTreeMap::new();
        for (path, text) in scanned.files {
            match text {
                Some(text) if text.len() <= TEXT_MAX => drop(files.insert(path, text)),
                Some(_) => problems.push(format!("{path} is larger than {TEXT_MAX} bytes")),
                None => problems.push(format!("{path} is no text")),
            }
        }
        let own = self.settings.overrides.get(&scanned.path.to_ascii_lowercase());
        let tracked = own.and_then(|own| own.reference.as_deref()).or(scanned.default_branch.as_deref());
        let at = tracked.and_then(|tracked| query.references.iter().position(|name| name == tracked));
        let seen = match (tracked, at.and_then(|at| scanned.pipelines.get(at))) {
            (None, _) => Some((None, None)),
            (Some(_), Some((latest, success))) => self.seen_by_scan(scanned.id, &scanned.path, latest, success),
            (Some(_), None) => None,
        };
        Found {
            id: scanned.id,
            path: scanned.path,
            web_url: scanned.web_url,
            default_branch: scanned.default_branch,
            head: scanned.head,
            files: Some(files),
            seen,
            asked_at,
            problems,
            row: None,
        }
    }

    /// What a scan says of the pipelines that count; none where it does not say enough.
    fn seen_by_scan(
        &self,
        id: ProjectId,
        path: &str,
        latest: &[ScannedPipeline],
        success: &[ScannedPipeline],
    ) -> Option<Seen> {
        let first = |rows: &[ScannedPipeline]| rows.iter().find(|row| words::counts(row.source.as_deref())).cloned();
        let (newest, succeeded) = (first(latest), first(success));
        if (newest.is_none() && !latest.is_empty()) || (succeeded.is_none() && !success.is_empty()) {
            return None;
        }
        let newest = match newest {
            None => None,
            Some(row) => Some(Pipeline {
                id: row.id,
                status: words::status(&row.status),
                created_at: parse_time(row.created_at.as_deref()?)?,
            }),
        };
        if self.done_when(path).is_some() {
            // Its jobs have to be asked for, unless it is over and known.
            let state = self.state();
            let known = state.facts.projects.get(&id)?;
            let settled =
                known.latest.is_some_and(|latest| latest.status == Status::Success) && known.success.is_some();
            let same = known.latest.map(|latest| latest.id) == newest.map(|newest| newest.id);
            return (settled && same).then_some((known.latest, known.success));
        }
        let success = match succeeded {
            None => None,
            Some(row) => {
                let at = [row.finished_at.as_deref(), row.created_at.as_deref()]
                    .into_iter()
                    .flatten()
                    .find_map(parse_end)?;
                Some(Success { id: row.id, at })
            }
        };
        Some((newest, success))
    }

    /// Reads the files that patterns name, of projects that have changed.
    async fn read_further(&self, listing: &mut Listing, further: &GlobSet) {
        let mut work: Vec<BoxFuture<'_, ()>> = Vec::new();
        for found in listing.found.values_mut() {
            work.push(Box::pin(self.read_further_of(found, further)));
        }
        some_at_once(work).await;
    }

    async fn read_further_of(&self, found: &mut Found, further: &GlobSet) {
        let Some(branch) = found.default_branch.clone() else { return };
        let known = self.state().about.get(&found.id).map(|about| (about.head.clone(), about.files.clone()));
        let files = found.files.get_or_insert_default();
        if let Some((head, known)) = known
            && head == found.head
            && head.is_some()
        {
            files.extend(known.into_iter().filter(|(path, _)| further.is_match(path)));
            return;
        }
        let read = async {
            let tree = self.gitlab.tree(found.id, &branch).await?;
            for path in tree.into_iter().filter(|path| further.is_match(path)).take(FURTHER_MAX) {
                if let Some(text) =
                    self.gitlab.file(found.id, &path, &branch).await?.filter(|text| text.len() <= TEXT_MAX)
                {
                    files.insert(path, text);
                }
            }
            Ok::<(), GitlabError>(())
        };
        if let Err(error) = read.await {
            found.problems.push(format!("further files: {error}"));
            // Not known by this commit: they are read again the next time.
            found.head = None;
        }
    }

    /// One request for each project, and some more for those that have changed.
    async fn list_by_rest(&self, patterns: &Patterns) -> Listing {
        let mut listing = Listing::default();
        let mut rows: BTreeMap<ProjectId, ProjectRow> = BTreeMap::new();
        for group in &self.settings.groups {
            match self.gitlab.group_projects(group).await {
                Ok(found) => rows.extend(found.into_iter().map(|row| (row.id, row))),
                Err(error) => {
                    listing.problems.push(format!("group {group}: {error}"));
                    listing.is_partial = true;
                }
            }
        }
        for path in &self.settings.projects {
            match self.gitlab.project(path).await {
                Ok(row) => drop(rows.insert(row.id, row)),
                Err(error) => {
                    listing.is_partial |= error.is_transient();
                    listing.problems.push(format!("project {path}: {error}"));
                }
            }
        }
        rows.retain(|_, row| {
            !row.archived && row.marked_for_deletion_on.is_none() && patterns.has(&row.path_with_namespace)
        });
        let mut work: Vec<BoxFuture<'_, Found>> = Vec::new();
        for row in rows.into_values() {
            work.push(Box::pin(self.of_row(row, patterns)));
        }
        let found = some_at_once(work).await;
        listing.found = found.into_iter().map(|found| (found.id, found)).collect();
        listing
    }

    async fn of_row(&self, row: ProjectRow, patterns: &Patterns) -> Found {
        let mut found = Found {
            id: row.id,
            path: row.path_with_namespace.clone(),
            web_url: row.web_url.clone(),
            default_branch: row.default_branch.clone(),
            head: None,
            files: None,
            seen: if row.default_branch.is_none() { Some((None, None)) } else { None },
            asked_at: Instant::now(),
            problems: Vec::new(),
            row: Some(row),
        };
        let Some(branch) = found.default_branch.clone() else {
            found.files = Some(BTreeMap::new());
            return found;
        };
        if let Err(error) = self.read_files(&mut found, &branch, patterns).await {
            found.problems.push(format!("its files: {error}"));
            (found.head, found.files) = (None, None);
        }
        found
    }

    async fn read_files(&self, found: &mut Found, branch: &str, patterns: &Patterns) -> Result<(), GitlabError> {
        found.head = self.gitlab.head(found.id, branch).await?;
        let known = self.state().about.get(&found.id).and_then(|about| about.head.clone());
        if found.head.is_some() && known == found.head {
            return Ok(());
        }
        let mut files = BTreeMap::new();
        let mut paths: BTreeSet<String> = FILES.iter().map(|path| (*path).to_owned()).collect();
        paths.extend(patterns.literal.iter().cloned());
        if let Some(further) = &patterns.further {
            let tree = self.gitlab.tree(found.id, branch).await?;
            paths.extend(tree.into_iter().filter(|path| further.is_match(path)).take(FURTHER_MAX));
        }
        for path in paths {
            if let Some(text) = self.gitlab.file(found.id, &path, branch).await?.filter(|text| text.len() <= TEXT_MAX) {
                files.insert(path, text);
            }
        }
        found.files = Some(files);
        Ok(())
    }
}
