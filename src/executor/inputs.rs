//! What the shim of prepare brings along. It is used to prepare the job and kept nowhere.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use crate::job::{Job, Secret, Secrets, Service};

/// What is known of a job only while it is prepared.
#[derive(Debug, Default)]
pub struct Inputs {
    /// The secrets of its job response.
    pub secrets: Secrets,
    /// Its services, with their variables.
    pub services: Vec<Service>,
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
            services: Job::parse(response)?.services,
            variables: serde_json::from_slice(variables).map_err(|error| {
                format!("the job's variables are unreadable (line {}, column {})", error.line(), error.column())
            })?,
            runner_program: program,
        })
    }

    /// The variables of the service with this number, if it is still the same.
    #[must_use]
    pub fn service_variables(&self, number: usize, image: &str) -> Vec<(String, String)> {
        let service = self.services.get(number).filter(|service| service.image == image);
        service.map(|service| service.variables.clone()).unwrap_or_default()
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
