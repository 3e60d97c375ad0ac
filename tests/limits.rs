//! Limits: a job that meets one says so in its log, and the host stays well.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::Path;
use std::process::Command;

use support::storage::Storage;
use support::volume::{HeedingDisk, Volume};
use support::{Host, Image, Job, Outcome, Runner, State, storage};

/// Whether this host can limit what a container of ours uses; says so when it can't.
fn enforced(host: &Host, controller: &str) -> bool {
    let unified = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let legacy = Path::new("/sys/fs/cgroup").join(controller).is_dir();
    let enforced = host.account.is_root() && (legacy || unified.split_whitespace().any(|name| name == controller));
    if !enforced {
        eprintln!("SKIPPED: this host cannot limit {controller} here");
    }
    enforced && storage::on_path("podman")
}

#[test]
fn out_of_memory_is_in_the_job_log_with_limit_and_peak() {
    let host = Host::configured("[job]\nmemory = \"64 MiB\"");
    if !enforced(&host, "memory") {
        return;
    }
    let runner = Runner::new(&host);
    let job = Job::new(&host.image(&Image::busybox()));
    let outcome = runner.play(&job.clone().script(&["dd if=/dev/zero of=/dev/null bs=300M count=1"]));
    outcome
        .expect(State::script_failure(137))
        .expect_log("out of memory")
        .expect_log("limit 64.0 MiB")
        .expect_log("peak");
    // One that stays below the limit hears nothing of it.
    let outcome = runner.play(&job.script(&["dd if=/dev/zero of=/dev/null bs=8M count=1"]));
    outcome.expect(State::Success);
    assert!(!outcome.log().contains("out of memory"), "{}", outcome.log());
}

#[test]
fn memory_that_only_a_child_ran_out_of_is_in_the_job_log_too() {
    let host = Host::configured("[job]\nmemory = \"64 MiB\"");
    if !enforced(&host, "memory") {
        return;
    }
    let runner = Runner::new(&host);
    let job = Job::new(&host.image(&Image::busybox()))
        .script(&["dd if=/dev/zero of=/dev/null bs=300M count=1 || echo survived"]);
    runner.play(&job).expect(State::Success).expect_log("survived").expect_log("out of memory");
}

#[test]
fn a_fork_bomb_meets_the_pids_limit() {
    let host = Host::configured("[job]\npids = 40");
    if !enforced(&host, "pids") {
        return;
    }
    let runner = Runner::new(&host);
    let image = host.image(&Image::busybox());
    // The bomb goes out by itself once all of it has met the limit; the shell may or may not meet it too.
    let bomb = Job::new(&image).script(&[
        "bomb() { bomb | bomb & }",
        "bomb",
        "i=0; while [ $i -lt 1000 ]; do /bin/true || exit 9; i=$((i + 1)); done; exit 9",
    ]);
    let outcome = runner.play(&bomb);
    assert!(
        matches!(outcome.state, State::Failed { reason: "script_failure", .. }),
        "{:?}\n{}",
        outcome.state,
        outcome.log()
    );
    outcome.expect_log("40");
    outcome.expect_log("too many processes");
    runner.play(&Job::new(&image).script(&["echo well"])).expect(State::Success).expect_log("well");
}

#[test]
fn the_job_log_ends_with_what_the_job_used() {
    let host = Host::start();
    let runner = Runner::new(&host);
    let job = Job::new(&host.image(&Image::busybox())).script(&["i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done"]);
    let outcome = runner.play(&job);
    outcome.expect(State::Success);
    if enforced(&host, "memory") {
        outcome.expect_log("The job used ").expect_log("of memory at its peak").expect_log("s of CPU time");
    }
}

#[test]
fn in_the_hosts_network_what_the_host_uses_is_not_the_jobs() {
    what_the_host_uses_is_not_the_jobs(&Host::configured("[job]\nnetwork = 'host'"));
}

#[test]
fn without_a_cgroup_of_its_own_a_job_has_used_nothing_that_is_known() {
    let Some(host) = Host::rootless("") else { return };
    what_the_host_uses_is_not_the_jobs(&host);
}

fn what_the_host_uses_is_not_the_jobs(host: &Host) {
    let outcome = Runner::new(host).play(&Job::new(&host.image(&Image::busybox())));
    outcome.expect(State::Success);
    let log = outcome.log();
    let used = log.lines().find(|line| line.starts_with("The job used ")).unwrap_or_default();
    assert!(!used.contains("GiB") && (used.is_empty() || used.contains(", 0.")), "{used}");
}

#[test]
fn what_the_administrator_sets_is_what_a_container_has() {
    let host = Host::configured(
        "[job]\nnetwork = 'private'\nshm_size = '5 MiB'\ntmpfs = { '/scratch' = 'size=3m,mode=1777' }\nulimits = { nofile = '512:512', core = '0', nproc = '4096:4096' }\n\
         sysctls = { 'net.ipv4.ip_unprivileged_port_start' = '80' }\ngroup_add = ['4321']\nenvironment = { TZ = 'Europe/Berlin' }\n\
         extra_hosts = { 'gitlab.example.com' = '192.0.2.10' }\ncap_drop = ['NET_RAW']\ncap_add = ['SYS_PTRACE']\ndevices = ['/dev/loop-control']\n\
         volumes = ['/etc/hostname:/the-hosts-name:ro']",
    );
    let image = host.image(&Image::busybox());
    let job = Job::new(&image).script(&[
        "df -k /dev/shm | tail -n 1 | awk '{print \"shm\", $2}'",
        "df -k /scratch | tail -n 1 | awk '{print \"scratch\", $2}'",
        "echo files $(ulimit -n) core $(ulimit -c)",
        "echo port $(cat /proc/sys/net/ipv4/ip_unprivileged_port_start) zone $TZ",
        "grep -c '192.0.2.10.*gitlab.example.com' /etc/hosts | sed 's/^/hosts /'",
        "echo groups $(id -G)",
        "grep CapBnd /proc/self/status",
        "test -c /dev/loop-control && echo device",
        "test -s /the-hosts-name && ! touch /the-hosts-name 2>/dev/null && echo mounted",
    ]);
    let outcome = Runner::new(&host).play(&job);
    outcome.expect(State::Success);
    for text in
        ["shm 5120", "scratch 3072", "files 512 core 0", "port 80 zone Europe/Berlin", "hosts 1", "device", "mounted"]
    {
        outcome.expect_log(text);
    }
    let log = outcome.log();
    let groups = log.lines().find(|line| line.starts_with("groups ")).unwrap();
    assert!(groups.split(' ').any(|group| group == "4321"), "{groups}");
    let line = log.lines().find(|line| line.starts_with("CapBnd:")).unwrap();
    let bounding = u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap();
    // capabilities(7): CAP_NET_RAW is 13, CAP_SYS_PTRACE 19.
    assert!(bounding & (1 << 13) == 0 && bounding & (1 << 19) != 0, "{line}");
}

#[test]
fn a_ulimit_that_the_daemon_may_not_give_is_said_before_the_first_job() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("windlass.toml");
    std::fs::write(&file, "[job]\nulimits = { nofile = '1:1048576000' }\n").unwrap();
    // Without the capability to raise limits, and with few files.
    let mut few = std::process::Command::new("sh");
    if nix::unistd::geteuid().is_root() {
        few = std::process::Command::new("setpriv");
        few.args(["--bounding-set=-sys_resource", "--inh-caps=-sys_resource", "--", "sh"]);
    }
    let check = few
        .args(["-c", "ulimit -n 64 && exec \"$@\"", "sh"])
        .args([env!("CARGO_BIN_EXE_windlass"), "check"])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&check.stdout);
    assert!(check.status.success(), "{said}{}", String::from_utf8_lossy(&check.stderr));
    assert!(said.contains("# Warning: for a daemon of this user, the ulimit nofile"), "{said}");
}

#[test]
fn cpus_and_weights_are_in_the_containers_cgroup() {
    let host = Host::configured("[job]\ncpus = 0.5\ncpuset = '0'\ncpu_weight = 39");
    if !enforced(&host, "cpu") || !enforced(&host, "cpuset") {
        return;
    }
    let job = Job::new(&host.image(&Image::busybox())).script(&[
        "grep Cpus_allowed_list /proc/self/status",
        "cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null | sed 's/^/quota /' || true",
        "cat /sys/fs/cgroup/cpu.weight /sys/fs/cgroup/cpu/cpu.shares 2>/dev/null | sed 's/^/weight /' || true",
    ]);
    let outcome = Runner::new(&host).play(&job);
    outcome.expect(State::Success).expect_log("Cpus_allowed_list:\t0\n").expect_log("quota 50000");
    // 39 of cgroup v2 is 999 shares of v1.
    let log = outcome.log();
    assert!(log.contains("weight 39\n") || log.contains("weight 999\n"), "{log}");
}

/// Whether the kernel counts swap for cgroups of either version.
fn counts_swap() -> bool {
    let mut groups = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    let files = ["memory.swap.max", "memory.memsw.limit_in_bytes"];
    groups.any(|group| files.into_iter().any(|file| group.join(file).exists()))
}

/// Prints the limits of the container that it runs in, as `Seen` has them.
fn looks() -> String {
    let files = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        "memory.max memory.swap.max cpu.max cpu.weight pids.max"
    } else {
        "memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us \
         cpu/cpu.shares pids/pids.max"
    };
    format!("cd /sys/fs/cgroup; echo $(cat {files}) shm $(df -k /dev/shm | tail -n 1 | awk '{{print $2}}')")
}

/// Limits of a container. Memory in MiB, and swap together with it; CPUs in hundredths; the weight, and what runtimes make of it where
/// cgroups are of version 1.
struct Seen {
    memory: u64,
    swap: u64,
    cpus: u64,
    weight: u64,
    shares: u64,
    pids: u64,
    shm: u64,
}

impl Seen {
    /// What `looks` prints of it.
    fn line(&self) -> String {
        let Self { memory, swap, cpus, weight, shares, pids, shm } = self;
        let (cpus, memory, swap, shm) = (cpus * 1000, memory << 20, swap << 20, shm << 10);
        if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            // Version 2 bounds the swap alone.
            format!("{memory} {} {cpus} 100000 {weight} {pids} shm {shm}", swap - memory)
        } else {
            format!("{memory} {swap} {cpus} 100000 {shares} {pids} shm {shm}")
        }
    }
}

#[test]
fn what_a_job_asks_for_is_what_it_gets_up_to_the_administrators_maximum() {
    let host = Host::configured(
        "[job]\nmemory = '64 MiB'\nmemory_swap = '96 MiB'\ncpus = 0.5\ncpu_weight = 39\npids = 60\nshm_size = '4 MiB'\n\
         [job.maximum]\nmemory = '256 MiB'\nmemory_swap = '320 MiB'\ncpus = 0.9\ncpu_weight = 200\npids = 300\nshm_size = '16 MiB'",
    );
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let asking = |asked: [&str; 6]| {
        let names = ["MEMORY", "MEMORY_SWAP", "CPUS", "CPU_WEIGHT", "PIDS", "SHM_SIZE"];
        let job = Job::new(&image).script(&[&format!("echo limits $({})", looks())]);
        let asked = names.into_iter().zip(asked);
        runner.play(&asked.fold(job, |job, (name, value)| job.variable(&format!("WINDLASS_{name}"), value)))
    };
    let refused = asking(["a lot", "1GiB", "1", "100", "100", "1MiB"]);
    refused.expect_refused("the variable WINDLASS_MEMORY is \"a lot\"; it has to be a size of at least 6 MiB");
    let controllers = ["memory", "cpu", "pids"];
    if !controllers.into_iter().all(|name| enforced(&host, name)) || !counts_swap() {
        return eprintln!("SKIPPED: not all limits are enforced here");
    }
    // Above what it would have without asking, and below the maximum.
    let outcome = asking(["128MiB", "192MiB", "0.75", "100", "200", "8MiB"]);
    let seen = Seen { memory: 128, swap: 192, cpus: 75, weight: 100, shares: 2598, pids: 200, shm: 8 };
    outcome.expect(State::Success).expect_log(&format!("\nlimits {}\n", seen.line()));
    assert!(!outcome.log().contains("asks for"), "{}", outcome.log());
    let outcome = asking(["1GiB", "2GiB", "64", "1000", "4000", "32MiB"]);
    let seen = Seen { memory: 256, swap: 320, cpus: 90, weight: 200, shares: 5220, pids: 300, shm: 16 };
    outcome.expect(State::Success).expect_log(&format!("\nlimits {}\n", seen.line()));
    for (name, asked, most) in [
        ("MEMORY", "1.0 GiB", "256.0 MiB"),
        ("MEMORY_SWAP", "2.0 GiB", "320.0 MiB"),
        ("CPUS", "64", "0.9"),
        ("CPU_WEIGHT", "1000", "200"),
        ("PIDS", "4000", "300"),
        ("SHM_SIZE", "32.0 MiB", "16.0 MiB"),
    ] {
        let said = format!("WINDLASS_{name} asks for {asked}; {most} is the most that a job gets here");
        outcome.expect_log(&said);
    }
}

#[test]
fn limits_of_jobs_and_those_of_services_are_in_their_containers() {
    let host = Host::configured(
        "[job]\nnetwork = 'private'\nmemory = '64 MiB'\nmemory_swap = '96 MiB'\ncpus = 0.5\ncpu_weight = 39\npids = 200\nshm_size = '4 MiB'\n\
         [job.service]\nmemory = '32 MiB'\nmemory_swap = '40 MiB'\ncpus = 0.75\ncpu_weight = 200\npids = 60\nshm_size = '3 MiB'\n\
         cpuset = '0'\ntmpfs = { '/scratch' = 'size=2m,mode=1777' }\nulimits = { nofile = '512:512', core = '0', nproc = '4096:4096' }",
    );
    let controllers = ["memory", "cpu", "pids", "cpuset"];
    if !controllers.into_iter().all(|name| enforced(&host, name)) || !counts_swap() {
        return eprintln!("SKIPPED: not all limits are enforced here");
    }
    let looks = looks();
    let more = "df -k /scratch | tail -n 1 | awk '{print \"scratch\", $2}'; grep Cpus_allowed_list /proc/self/status; \
        echo files $(ulimit -n) $(ulimit -Hn) core $(ulimit -c)";
    let serves = format!("({looks}; {more}) >/tmp/limits; exec httpd -f -p 8080 -h /tmp");
    let service = host.image(&Image::busybox().expose(8080).cmd(&["sh", "-c", &serves]));
    let job = Job::new(&host.image(&Image::busybox()))
        .with("services", serde_json::json!([{"name": service, "alias": "web"}]))
        .script(&[
            "echo service; wget -q -O - http://web:8080/limits",
            &format!("echo own $({looks}) files $(ulimit -n)"),
        ]);
    let outcome = Runner::new(&host).play(&job);
    // The shares that runtimes make these weights of, and weights of these again where cgroups are of version 2.
    let own = Seen { memory: 64, swap: 96, cpus: 50, weight: 39, shares: 999, pids: 200, shm: 4 };
    let service = Seen { memory: 32, swap: 40, cpus: 75, weight: 200, shares: 5220, pids: 60, shm: 3 };
    outcome.expect(State::Success).expect_log(&format!("\nown {} files ", own.line()));
    let more = "scratch 2048\nCpus_allowed_list:\t0\nfiles 512 512 core 0\n";
    outcome.expect_log(&format!("\n{}\n{more}", service.line()));
    // The service's are not the job's.
    assert!(!outcome.log().contains(" files 512\n"), "{}", outcome.log());
}

#[test]
fn a_share_of_disk_time_is_in_the_containers_cgroup_or_it_is_said_that_it_is_not() {
    let _disk = match HeedingDisk::new() {
        Ok(disk) => disk,
        Err(reason) => return eprintln!("SKIPPED: no disk that heeds weights: {reason}"),
    };
    let host = Host::configured("[job]\nio_weight = 200");
    let job = Job::new(&host.image(&Image::busybox()))
        .script(&["cat /sys/fs/cgroup/io.bfq.weight 2>/dev/null | sed 's/^/weight /' || true"]);
    let outcome = Runner::new(&host).play(&job);
    outcome.expect(State::Success);
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        outcome.expect_log("\nweight default 200\n");
    } else {
        // podman discards a weight where cgroups are of version 1 without blkio.weight, which kernels had until 5.0, and says so to nobody.
        outcome.expect_log("the limit `io_weight` can't be enforced on this host and is left out");
    }
}

#[test]
fn a_storage_size_that_podmans_storage_can_not_bound_is_said_and_left_out() {
    let host = Host::configured("[job]\nstorage_size = '1 GiB'");
    let quota = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().contains("prjquota");
    if quota || !storage::on_path("podman") {
        eprintln!("SKIPPED: podman's storage may have project quotas here");
        return;
    }
    let said = "the limit `storage_size` can't be enforced on this host and is left out: podman's storage";
    let check = host.windlass(&["check", host.config().to_str().unwrap()]);
    let check = String::from_utf8(check.stdout).unwrap();
    assert!(check.contains(&format!("# Warning: for a daemon of this user, {said}")), "{check}");
    assert!(host.log().contains(said), "{}", host.log());
    let status = host.status();
    assert!(status["daemon"]["warnings"].to_string().contains(said), "{status}");
    let job = Job::new(&host.image(&Image::busybox())).script(&["echo it runs"]);
    Runner::new(&host).play(&job).expect(State::Success).expect_log(said).expect_log("it runs");
}

/// A job that writes 96 MiB, with `storage_size = "64 MiB"`, on podman's storage with this driver on a file system of its own; the
/// daemon's log too. None where this host can't mount that.
fn writes_on(driver: &str, make: &str, options: &str) -> Option<(Outcome, String)> {
    let dir = tempfile::Builder::new().prefix("wl-").tempdir().unwrap();
    let volume = match Volume::mount(make, options, &dir.path().join("graph")) {
        Ok(volume) => volume,
        Err(reason) => {
            eprintln!("SKIPPED: {make} mounted with {options}: {reason}");
            return None;
        }
    };
    let own = Storage::own(dir.path(), driver);
    let image = Image::busybox();
    image.make(own.command());
    let environment: String = own.environment().iter().map(|(name, value)| format!("{name} = '{value}'\n")).collect();
    let host = Host::configured(&format!("[job]\nstorage_size = '64 MiB'\n[podman.environment]\n{environment}"));
    let job = Job::new(&image.name()).script(&["dd if=/dev/zero of=/big bs=1M count=96", "echo all written"]);
    let outcome = Runner::new(&host).play(&job);
    let log = host.log();
    drop(host);
    let unmount = Command::new("podman").envs(own.environment()).args(["unmount", "--all"]).output().unwrap();
    assert!(unmount.status.success(), "{}", String::from_utf8_lossy(&unmount.stderr));
    drop(volume);
    Some((outcome, log))
}

#[test]
fn a_storage_size_is_kept_on_xfs_with_project_quotas() {
    let Some((outcome, log)) = writes_on("overlay", "mkfs.xfs", "pquota") else { return };
    outcome.expect(State::script_failure(1)).expect_log("No space left on device");
    assert!(!outcome.log().contains("all written") && !log.contains("`storage_size` can't be enforced"), "{log}");
}

#[test]
fn a_storage_driver_with_which_podman_takes_no_size_is_said_and_jobs_run() {
    let Some((outcome, log)) = writes_on("btrfs", "mkfs.btrfs", "noatime") else { return };
    let said = "is left out: podman has no such bound with its storage driver btrfs";
    outcome.expect(State::Success).expect_log(said).expect_log("all written");
    assert!(log.contains(said), "{log}");
}
