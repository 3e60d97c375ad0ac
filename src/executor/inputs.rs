//! What the shim of prepare brings along. It is used to prepare the job and kept nowhere.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use crate::job::{Secret, Secrets};

/// What is known of a job only while it is prepared.
#[derive(Debug, Default)]
pub struct Inputs {
    /// The secrets of its job response.
    pub secrets: Secrets,
    /// Its variables, expanded. The pipeline's author has a say in them: they decide nothing about others.
    pub variables: BTreeMap<String, Secret>,
    /// The program that gitlab-runner is.
    pub runner_program: Option<OwnedFd>,
}

impl Inputs {
    /// Reads the frames behind the request.
    ///
    /// # Errors
    /// What is wrong with them, without their content.
    pub fn parse(job: i64, response: &[u8], variables: &[u8], program: Option<OwnedFd>) -> Result<Self, String> {
        Ok(Self {
            secrets: Secrets::parse(response, job)?,
            variables: serde_json::from_slice(variables).map_err(|error| {
                format!("the job's variables are unreadable (line {}, column {})", error.line(), error.column())
            })?,
            runner_program: program,
        })
    }

    /// A variable's value.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(Secret::expose).filter(|value| !value.is_empty())
    }

    /// Whether a variable is set to `true` or `1`.
    #[must_use]
    pub fn is_set(&self, name: &str) -> bool {
        matches!(self.variable(name), Some("true" | "1"))
    }
}
