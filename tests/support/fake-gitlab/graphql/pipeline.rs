//! Pipelines.

use async_graphql::{Error, ID, Object, Result};

use super::scalars::{Status, Time};
use crate::state;

/// A pipeline as it was when it was asked for.
pub struct Pipeline(pub state::Pipeline);

#[Object]
impl Pipeline {
    async fn id(&self) -> ID {
        format!("gid://gitlab/Ci::Pipeline/{}", self.0.id).into()
    }

    async fn iid(&self) -> String {
        self.0.iid.to_string()
    }

    async fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    async fn status(&self) -> Result<Status> {
        let unknown = || Error::new(format!("{:?} is no value of PipelineStatusEnum", self.0.status));
        Status::read(&self.0.status).ok_or_else(unknown)
    }

    async fn r#ref(&self) -> Option<&str> {
        Some(&self.0.branch)
    }

    async fn sha(&self) -> Option<&str> {
        Some(&self.0.sha)
    }

    async fn before_sha(&self) -> Option<&str> {
        Some(&self.0.before_sha)
    }

    async fn source(&self) -> Option<&str> {
        Some(&self.0.source)
    }

    async fn child(&self) -> bool {
        self.0.is_child()
    }

    async fn duration(&self) -> Option<i64> {
        self.0.duration()
    }

    async fn created_at(&self) -> Time {
        Time(self.0.created_at)
    }

    async fn updated_at(&self) -> Time {
        Time(self.0.updated_at)
    }

    async fn started_at(&self) -> Option<Time> {
        self.0.started_at.map(Time)
    }

    async fn finished_at(&self) -> Option<Time> {
        self.0.finished_at.map(Time)
    }
}
