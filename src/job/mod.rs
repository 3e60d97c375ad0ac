//! The job, as far as it can be decided without asking anybody: pure functions over the job response.

pub mod image;
pub mod policy;
pub mod registry_auth;
pub mod resources;
pub mod response;
pub mod secrets;
pub mod services;

pub use image::ImageRef;
pub use response::{ImageOptions, Job, Service};
pub use secrets::{Secret, Secrets};
