//! The arguments of `podman run` that separate a container from the host, or open it.

use crate::config::Isolation;

/// The arguments for this.
pub(super) fn arguments(isolation: &Isolation) -> Vec<String> {
    let mut line: Vec<String> = Vec::new();
    let mut add = |option: &str, value: &str| line.extend([option.to_owned(), value.to_owned()]);
    if let Some(runtime) = &isolation.runtime {
        add("--runtime", runtime);
    }
    for name in &isolation.cap_add {
        add("--cap-add", name);
    }
    for name in &isolation.cap_drop {
        add("--cap-drop", name);
    }
    if isolation.no_new_privileges {
        add("--security-opt", "no-new-privileges");
    }
    if let Some(profile) = &isolation.seccomp {
        add("--security-opt", &format!("seccomp={profile}"));
    }
    for option in &isolation.security_opt {
        add("--security-opt", option);
    }
    for device in &isolation.devices {
        add("--device", device);
    }
    for volume in &isolation.volumes {
        add("--volume", volume);
    }
    for (name, value) in &isolation.sysctls {
        add("--sysctl", &format!("{name}={value}"));
    }
    let mut flag = |set: bool, flag: &str| line.extend(set.then(|| flag.to_owned()));
    flag(isolation.privileged, "--privileged");
    // With it come writable /tmp, /var/tmp, /run and /dev/shm.
    flag(isolation.read_only, "--read-only");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_opened_or_closed_unless_it_is_asked_for() {
        assert!(arguments(&Isolation::default()).is_empty());
        let all = Isolation {
            no_new_privileges: true,
            read_only: true,
            privileged: true,
            cap_add: vec!["SYS_PTRACE".into()],
            cap_drop: vec!["NET_RAW".into()],
            seccomp: Some("/etc/s.json".into()),
            security_opt: vec!["label=type:x_t".into()],
            devices: vec!["/dev/fuse".into()],
            volumes: vec!["/srv:/srv:ro".into()],
            sysctls: [("net.core.somaxconn".to_owned(), "1024".to_owned())].into(),
            runtime: Some("crun".into()),
            ..Isolation::default()
        };
        let expected = "--runtime crun --cap-add SYS_PTRACE --cap-drop NET_RAW --security-opt no-new-privileges --security-opt seccomp=/etc/s.json --security-opt label=type:x_t --device /dev/fuse --volume /srv:/srv:ro --sysctl net.core.somaxconn=1024 --privileged --read-only";
        assert_eq!(arguments(&all).join(" "), expected);
    }
}
