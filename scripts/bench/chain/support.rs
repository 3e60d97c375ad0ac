//! What the tests have for the fake GitLab.

#[path = "../../../tests/support/client.rs"]
pub mod client;
#[path = "../../../tests/support/gitlab.rs"]
pub mod gitlab;
#[path = "../../../tests/support/http.rs"]
pub mod http;
#[path = "../../../tests/support/tables.rs"]
pub mod tables;
#[path = "../../../tests/support/wait.rs"]
pub mod wait;

pub mod programs {
    /// The fake GitLab: beside this program.
    pub fn fake_gitlab() -> std::path::PathBuf {
        std::env::current_exe().unwrap().with_file_name("fake-gitlab")
    }
}
