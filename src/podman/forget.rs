//! The images of doctor's containers, where whoever made one ended before it could remove it.

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::probe::REPOSITORY;
use super::{Podman, strings};

impl Podman {
    /// Removes the images of processes that are gone, and of this one, which makes none while it calls this; a container of one goes with it. They
    /// are a few bytes: what hinders that is tried again next time.
    pub async fn forget_probes(&self) {
        let images = self.images().await.unwrap_or_default();
        let names: Vec<String> = images.into_iter().flat_map(|image| image.names).collect();
        let lives = |pid: u32| pid != std::process::id() && lives(pid);
        for name in names.into_iter().filter(|name| is_left(name, lives)) {
            if let Err(error) = self.call(&[strings(["image", "rm", "--force"]), vec![name]].concat()).await {
                tracing::debug!("{error}");
            }
        }
    }
}

/// Whether there is such a process, somebody else's too: /proc may not show those.
fn lives(pid: u32) -> bool {
    i32::try_from(pid).is_ok_and(|pid| kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH))
}

fn is_left(name: &str, lives: impl Fn(u32) -> bool) -> bool {
    let pid = name.strip_prefix(REPOSITORY).and_then(|rest| rest.strip_prefix(':')).and_then(|tag| tag.parse().ok());
    pid.is_some_and(|pid| !lives(pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_lives_whoever_it_belongs_to() {
        assert!(lives(1) && lives(std::process::id()));
        let mut child = std::process::Command::new("true").spawn().expect("a process");
        child.wait().expect("it ends");
        assert!(!lives(child.id()));
    }

    #[test]
    fn only_images_of_processes_that_are_gone_are_left_over() {
        let lives = |pid| pid == 7;
        assert!(is_left("localhost/windlass/doctor:8", lives));
        for other in
            ["localhost/windlass/doctor:7", "localhost/windlass/doctor:x", "localhost/windlass/doctors:8", "r/a:8"]
        {
            assert!(!is_left(other, lives), "{other}");
        }
    }
}
