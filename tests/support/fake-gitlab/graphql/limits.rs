//! What a query costs, and the most that it may cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_graphql::extensions::{Extension, ExtensionContext, ExtensionFactory, NextValidation};
use async_graphql::{ServerError, ValidationResult};

/// The most that a page of a connection has.
pub const PAGE_MAX: usize = 100;

/// The bounds of one query, and what it costs.
#[derive(Debug)]
pub struct Bounds {
    /// The most that it may cost.
    pub limit: usize,
    /// What it costs; known once it was found valid.
    pub score: AtomicUsize,
    depth: usize,
}

impl Bounds {
    /// Those of a query that has not been looked at.
    pub const fn new(limit: usize, depth: usize) -> Self {
        Self { limit, score: AtomicUsize::new(0), depth }
    }
}

/// What a page of something costs: what is asked of it, and one percent more for each that it may have.
pub fn page_cost(cost: usize, first: Option<i32>) -> usize {
    cost + cost * page_size(first) / 100
}

/// How many a page has at most.
pub fn page_size(first: Option<i32>) -> usize {
    first.and_then(|first| usize::try_from(first).ok()).unwrap_or(PAGE_MAX).min(PAGE_MAX)
}

/// Refuses what costs too much, in GitLab's words.
pub struct Limits;

impl ExtensionFactory for Limits {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(Self)
    }
}

#[async_graphql::async_trait::async_trait]
impl Extension for Limits {
    async fn validation(
        &self,
        context: &ExtensionContext<'_>,
        next: NextValidation<'_>,
    ) -> Result<ValidationResult, Vec<ServerError>> {
        let result = next.run(context).await?;
        let Some(bounds) = context.data_opt::<Bounds>() else { return Ok(result) };
        bounds.score.store(result.complexity, Ordering::Relaxed);
        let refused = |what: &str, is: usize, most: usize| {
            let text = format!("Query has {what} of {is}, which exceeds max {what} of {most}");
            Err(vec![ServerError::new(text, None)])
        };
        if result.complexity > bounds.limit {
            return refused("complexity", result.complexity, bounds.limit);
        }
        if result.depth > bounds.depth {
            return refused("depth", result.depth, bounds.depth);
        }
        Ok(result)
    }
}
