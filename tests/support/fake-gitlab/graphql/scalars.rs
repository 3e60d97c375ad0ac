//! Scalars and enumerations of GitLab's schema.

use async_graphql::{Enum, InputValueError, InputValueResult, Scalar, ScalarType, Value};

use crate::clock;

/// A time; GitLab writes it to the second.
#[derive(Debug, Clone, Copy)]
pub struct Time(pub clock::Time);

#[Scalar]
impl ScalarType for Time {
    fn parse(value: Value) -> InputValueResult<Self> {
        match &value {
            Value::String(text) => clock::read(text).map(Self).ok_or_else(|| InputValueError::custom("no time")),
            _ => Err(InputValueError::expected_type(value)),
        }
    }

    fn to_value(&self) -> Value {
        Value::String(clock::graphql(self.0))
    }
}

/// A number that GitLab writes as text, since it may be larger than JavaScript's.
#[derive(Debug, Clone, Copy)]
pub struct BigInt(pub usize);

#[Scalar]
impl ScalarType for BigInt {
    fn parse(value: Value) -> InputValueResult<Self> {
        match &value {
            Value::String(text) => text.parse().map(Self).map_err(InputValueError::custom),
            _ => Err(InputValueError::expected_type(value)),
        }
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}

/// The status of a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(name = "PipelineStatusEnum")]
pub enum Status {
    Created,
    WaitingForResource,
    Preparing,
    WaitingForCallback,
    Pending,
    Running,
    Success,
    Failed,
    Canceling,
    Canceled,
    Skipped,
    Manual,
    Scheduled,
}

/// All of them, in the order of [`crate::rest::STATUSES`].
const STATUSES: [Status; 13] = [
    Status::Created,
    Status::WaitingForResource,
    Status::Preparing,
    Status::WaitingForCallback,
    Status::Pending,
    Status::Running,
    Status::Success,
    Status::Failed,
    Status::Canceling,
    Status::Canceled,
    Status::Skipped,
    Status::Manual,
    Status::Scheduled,
];

impl Status {
    /// The one of this name; none for one that this schema is too old for.
    pub fn read(name: &str) -> Option<Self> {
        let at = crate::rest::STATUSES.iter().position(|known| *known == name)?;
        STATUSES.get(at).copied()
    }

    /// Its name elsewhere.
    pub fn word(self) -> &'static str {
        let at = STATUSES.iter().position(|status| *status == self).unwrap_or_default();
        crate::rest::STATUSES[at]
    }
}

/// Whether a ref is a branch or a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum RefType {
    Heads,
    Tags,
}
