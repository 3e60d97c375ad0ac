//! How facts are written in columns.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::chain::facts::{Attempt, Baseline, Inputs, Outcome, Success, Upstream};

/// One input of a pipeline.
#[derive(Serialize, Deserialize)]
struct Input {
    upstream: Upstream,
    id: i64,
    at: i64,
}

pub(super) fn upstream_to_text(upstream: &Upstream) -> Result<String> {
    Ok(serde_json::to_string(upstream)?)
}

pub(super) fn upstream_of(text: &str) -> Result<Upstream> {
    serde_json::from_str(text).with_context(|| format!("{text:?} is no upstream"))
}

pub(super) fn inputs_to_text(inputs: &Inputs) -> Result<String> {
    let inputs =
        inputs.iter().map(|(upstream, success)| Input { upstream: upstream.clone(), id: success.id, at: success.at });
    Ok(serde_json::to_string(&inputs.collect::<Vec<_>>())?)
}

pub(super) fn inputs_of(text: &str) -> Result<Inputs> {
    let inputs: Vec<Input> = serde_json::from_str(text).context("these are no inputs of a pipeline")?;
    Ok(inputs.into_iter().map(|input| (input.upstream, Success { id: input.id, at: input.at })).collect())
}

pub(super) fn success_of(id: Option<i64>, at: Option<i64>) -> Option<Success> {
    Some(Success { id: id?, at: at? })
}

pub(super) fn baseline_to_columns(baseline: Baseline) -> (&'static str, Option<Success>) {
    match baseline {
        Baseline::Unseen => ("unseen", None),
        Baseline::Nothing => ("nothing", None),
        Baseline::Success(success) => ("success", Some(success)),
    }
}

pub(super) fn baseline_of(word: &str, success: Option<Success>) -> Result<Baseline> {
    match (word, success) {
        ("unseen", _) => Ok(Baseline::Unseen),
        ("nothing", _) => Ok(Baseline::Nothing),
        ("success", Some(success)) => Ok(Baseline::Success(success)),
        _ => bail!("{word:?} is no baseline"),
    }
}

/// An attempt's outcome: a word, its detail, and its pipeline.
pub(super) fn outcome_to_columns(attempt: &Attempt) -> (&'static str, Option<String>) {
    match &attempt.outcome {
        Outcome::Pending => ("pending", None),
        Outcome::Created(pipeline) => ("created", Some(pipeline.to_string())),
        Outcome::Refused(reason) => ("refused", Some(reason.clone())),
        Outcome::Failed(reason) => ("failed", Some(reason.clone())),
    }
}

pub(super) fn outcome_of(word: &str, detail: Option<String>) -> Result<Outcome> {
    let detail = detail.unwrap_or_default();
    Ok(match word {
        "pending" => Outcome::Pending,
        "created" => Outcome::Created(detail.parse().context("a pipeline's id")?),
        "refused" => Outcome::Refused(detail),
        "failed" => Outcome::Failed(detail),
        _ => bail!("{word:?} is no outcome of an attempt"),
    })
}
