//! What the disks are used for: file systems, lanes by project, images.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::protocol::admin::{FileSystem, ImageRow, LaneRow};

/// The disks.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Disk {
    /// The file systems that lanes and images are on.
    pub file_systems: Vec<FileSystem>,
    /// Bytes of all lanes that were measured.
    pub lane_bytes: u64,
    /// Bytes of all images; shared layers count for each. None: they can't be read.
    pub image_bytes: Option<u64>,
    /// What each project keeps, the largest first.
    pub projects: Vec<ProjectLanes>,
    /// All images, the largest first.
    pub images: Vec<ImageRow>,
    /// Why images can't be read; none: they were.
    pub images_unread: Option<String>,
}

/// The lanes of a project.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProjectLanes {
    /// The GitLab instance.
    pub instance: String,
    /// The project's path.
    pub project: String,
    /// Bytes of those that were measured.
    pub bytes: u64,
    /// The lanes, the largest first.
    pub lanes: Vec<LaneRow>,
}

/// The disks, from what the executor lists.
#[must_use]
pub fn disk(file_systems: Vec<FileSystem>, lanes: Vec<LaneRow>, images: Result<Vec<ImageRow>, String>) -> Disk {
    let mut projects: BTreeMap<(String, i64), ProjectLanes> = BTreeMap::new();
    for lane in lanes {
        let project = projects.entry((lane.instance.clone(), lane.project_id)).or_insert_with(|| ProjectLanes {
            instance: lane.instance.clone(),
            project: lane.project_path.clone(),
            bytes: 0,
            lanes: Vec::new(),
        });
        project.bytes += lane.bytes.unwrap_or(0);
        project.lanes.push(lane);
    }
    let mut projects: Vec<ProjectLanes> = projects.into_values().collect();
    projects.sort_by(|one, other| other.bytes.cmp(&one.bytes).then(one.project.cmp(&other.project)));
    for project in &mut projects {
        project.lanes.sort_by(|one, other| other.bytes.cmp(&one.bytes).then(one.lane.cmp(&other.lane)));
    }
    let (mut images, images_unread) = match images {
        Ok(images) => (images, None),
        Err(why) => (Vec::new(), Some(why)),
    };
    images.sort_by(|one, other| other.bytes.cmp(&one.bytes).then(one.names.cmp(&other.names)));
    Disk {
        lane_bytes: projects.iter().map(|project| project.bytes).sum(),
        image_bytes: images_unread.is_none().then(|| images.iter().map(|image| image.bytes).sum()),
        file_systems,
        projects,
        images,
        images_unread,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_project_comes_first_with_all_its_lanes() {
        let lane = |project: i64, name: &str, bytes: Option<u64>| LaneRow {
            instance: "h".into(),
            project_id: project,
            project_path: format!("g/{project}"),
            protected: false,
            pipeline: None,
            lane: name.into(),
            bytes,
            inodes: None,
            last_use: "2026-01-01T00:00:00Z".into(),
            age_s: 0,
            uses: 1,
            jobs: vec![],
            goes_by: None,
        };
        let lanes = vec![lane(1, "cache", Some(5)), lane(2, "builds-0", Some(9)), lane(1, "builds-0", Some(7))];
        let found = disk(vec![], [lanes, vec![lane(2, "cache", None)]].concat(), Ok(vec![]));
        let paths: Vec<(&str, u64)> =
            found.projects.iter().map(|project| (project.project.as_str(), project.bytes)).collect();
        assert_eq!((paths, found.lane_bytes), (vec![("g/1", 12), ("g/2", 9)], 21));
        assert_eq!(found.projects[0].lanes[0].lane, "builds-0");
        assert_eq!((found.image_bytes, found.images_unread), (Some(0), None));
        let found = disk(vec![], vec![], Err("podman is broken".into()));
        assert_eq!((found.image_bytes, found.images_unread.as_deref()), (None, Some("podman is broken")));
    }
}
