//! What an administrator gives to containers, as it is in them: networks of jobs' own, name servers, what separates containers from the
//! host, and the program that makes them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use support::host::SharedHost;
use support::storage::on_path;
use support::{Host, Image, Job, Runner, State};

/// With the tests' defaults: no network.
static HOST: SharedHost = SharedHost::new("");

/// Shows what of the host a process can reach, by the kernel.
const BOUNDS: &str = "grep -E '^(Cap...|NoNewPrivs|Seccomp):' /proc/self/status";
/// Shows the ways out: default routes of IPv4 and IPv6, and what trying one comes to.
const WAYS_OUT: &str = "awk '$2 == \"00000000\" { print \"IPv4\" }' /proc/net/route; \
    awk '$1 ~ /^0+$/ && $2 == \"00\" && $10 != \"lo\" { print \"IPv6\" }' /proc/net/ipv6_route 2>/dev/null; \
    nc -w 1 192.0.2.1 80 2>&1 | grep -o unreachable || true";

/// A web server on port 8080 that tells what its network looks like.
fn server() -> Image {
    let looks = "mkdir /tmp/www && cat /sys/class/net/eth0/mtu >/tmp/www/mtu && grep -c fd /proc/net/if_inet6 >/tmp/www/ipv6; exec httpd -f -p 8080 -h /tmp/www";
    Image::busybox().expose(8080).cmd(&["sh", "-c", looks])
}

/// Plays a job with a web server as a service; returns its log.
fn beside_a_server(settings: &str, script: &[&str]) -> String {
    let host = Host::configured(settings);
    let services = json!([{"name": host.image(&server()), "alias": "web"}]);
    let job = Job::new(&host.image(&Image::busybox())).with("services", services).script(script);
    let outcome = Runner::new(&host).play(&job);
    outcome.expect(State::Success);
    outcome.log()
}

/// What these commands print in a job and in its service.
fn in_both(host: &Host, looks: &str) -> [String; 2] {
    beside_one_another(host, looks, looks, "")
}

/// What a job's commands print and what its service's do, which does `more` then.
fn beside_one_another(host: &Host, asks: &str, looks: &str, more: &str) -> [String; 2] {
    let serves = format!("({looks}) >/tmp/looks 2>&1; httpd -p 8080 -h /tmp; {more} exec sleep 1000");
    let service = host.image(&Image::busybox().expose(8080).cmd(&["sh", "-c", &serves]));
    let services = json!([{"name": service, "alias": "web"}]);
    let runner = Runner::new(host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())).with("services", services));
    attempt.make_ready();
    let [own, service] = [asks, "wget -q -O - http://web:8080/looks"].map(|lines| {
        let stage = attempt.run_lines("build_script", &format!("({lines}) 2>&1\n")).wait();
        stage.expect_code(0);
        stage.text()
    });
    attempt.finish();
    [own, service]
}

#[test]
fn a_container_is_bounded_as_podman_does_it_by_itself_unless_the_administrator_says_otherwise() {
    let host = HOST.get();
    let image = host.image(&Image::busybox());
    let podmans = host.podman(&["run", "--rm", "--network", "none", &image, "sh", "-c", BOUNDS]);
    let podmans = String::from_utf8(podmans.stdout).unwrap();
    assert!(podmans.contains("\nNoNewPrivs:\t0\n") && podmans.contains("\nCapBnd:\t"), "{podmans}");
    assert_eq!(in_both(&host, BOUNDS), [podmans.as_str(), &podmans]);
}

#[test]
fn name_servers_and_what_bounds_a_container_are_as_the_administrator_says_for_job_and_services() {
    let host = Host::configured(
        "[job]\nnetwork = 'private'\ndns = ['192.0.2.53', '192.0.2.54']\ndns_search = ['example.com', 'example.net']\n\
         seccomp = 'unconfined'\nsecurity_opt = ['mask=/proc/uptime']\ncap_drop = ['SETFCAP']\nno_new_privileges = true",
    );
    // capabilities(7): CAP_SETFCAP is 31.
    let looks = "grep -E '^(nameserver|search) ' /etc/resolv.conf | sort; \
        grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status; \
        echo setfcap $((0x$(awk '/^CapBnd/ { print $2 }' /proc/self/status) >> 31 & 1)) uptime $(wc -c </proc/uptime); \
        awk '$2 == \"00000000\" { print \"a way out\" }' /proc/net/route";
    let expected = "nameserver 192.0.2.53\nnameserver 192.0.2.54\nsearch example.com example.net\n\
        NoNewPrivs:\t1\nSeccomp:\t0\nsetfcap 0 uptime 0\na way out\n";
    assert_eq!(in_both(&host, looks), [expected; 2]);
}

#[test]
fn a_profile_of_the_administrators_decides_what_processes_of_job_and_services_may_call() {
    let dir = tempfile::tempdir().unwrap();
    let profile = dir.path().join("seccomp.json");
    // No other profile answers like this.
    let rule = json!({"names": ["symlink", "symlinkat"], "action": "SCMP_ACT_ERRNO", "errnoRet": nix::libc::EDOM});
    let rules = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
    std::fs::write(&profile, rules.to_string()).unwrap();
    let host = Host::configured(&format!("[job]\nseccomp = '{}'", profile.display()));
    let looks = "ln -s here /tmp/there || true; touch /tmp/one && ln /tmp/one /tmp/two && echo a link";
    assert_eq!(in_both(&host, looks), ["ln: /tmp/there: Numerical argument out of domain\na link\n"; 2]);
}

#[test]
fn without_a_network_a_job_has_loopback_and_no_way_out() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.make_ready();
    let interfaces = "for one in /sys/class/net/*; do test $(($(cat $one/flags) & 1)) = 0 || basename $one; done";
    let stage = attempt.run_lines("build_script", &format!("{interfaces}; {WAYS_OUT}\n")).wait();
    stage.expect_code(0);
    assert_eq!(stage.text(), "lo\nunreachable\n");
    attempt.finish();
}

#[test]
fn without_a_network_a_job_and_its_services_reach_each_other_and_have_no_way_out() {
    let host = HOST.get();
    let waits = |url: &str| {
        format!("i=0; until wget -q -O - {url} 2>/dev/null; do i=$((i + 1)); test $i -lt 100; sleep 0.1; done")
    };
    let word = "mkdir /tmp/www && hostname >/tmp/www/word && httpd -p 8081 -h /tmp/www";
    // The service passes on what it has got from the job.
    let passes = format!("({}) >/tmp/new && mv /tmp/new /tmp/got;", waits("http://build:8081/word"));
    let asks = format!("{WAYS_OUT}; {word}; {}", waits("http://web:8080/got"));
    let [own, service] = beside_one_another(&host, &asks, WAYS_OUT, &passes);
    assert_eq!(service, "unreachable\n");
    let name = own.strip_prefix("unreachable\n").unwrap_or_else(|| panic!("{own}"));
    assert!(name.starts_with("windlass-job-"), "{own}");
}

#[test]
fn packets_in_a_network_of_a_jobs_own_are_as_large_as_the_administrator_says_for_job_and_services() {
    let looks = ["echo job $(cat /sys/class/net/eth0/mtu)", "echo service $(wget -q -O - http://web:8080/mtu)"];
    for (settings, mtu) in [("network_mtu = 1399", 1399), ("", 1500)] {
        let log = beside_a_server(&format!("[job]\nnetwork = 'private'\n{settings}"), &looks);
        let has = |who: &str| log.contains(&format!("\n{who} {mtu}\n"));
        assert!(has("job") && has("service"), "{log}");
    }
}

#[test]
fn a_network_of_a_jobs_own_has_ipv6_where_the_administrator_says_so() {
    if !std::path::Path::new("/proc/net/if_inet6").exists() {
        return eprintln!("SKIPPED: this kernel has no IPv6");
    }
    let looks = [
        "address=$(awk '$2 == \"web\" && $1 ~ /:/ { print $1 }' /etc/hosts)",
        "echo \"job $(grep -c '^fd' /proc/net/if_inet6) <${address%%:*}\"",
        "test -z \"$address\" || echo service $(wget -q -O - \"http://[$address]:8080/ipv6\")",
    ];
    let log = beside_a_server("[job]\nnetwork = 'private'\nipv6 = true", &looks);
    assert!(log.contains("\njob 1 <fd") && log.contains("\nservice 1\n"), "{log}");
    let log = beside_a_server("[job]\nnetwork = 'private'", &looks);
    assert!(log.contains("\njob 0 <\n"), "{log}");
}

#[test]
fn the_runtime_that_the_administrator_names_makes_the_containers_of_jobs_and_services() {
    let dir = tempfile::tempdir().unwrap();
    let (runtime, trace) = (dir.path().join("runtime"), dir.path().join("trace"));
    let real = if on_path("runc") { "runc" } else { "crun" };
    std::fs::write(&runtime, format!("#!/bin/sh\necho \"$@\" >>{}\nexec {real} \"$@\"\n", trace.display())).unwrap();
    for path in [dir.path(), &runtime] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let made = || {
        let calls = std::fs::read_to_string(&trace).unwrap_or_default();
        calls.lines().filter(|call| call.split(' ').any(|word| word == "create")).count()
    };
    beside_a_server("", &["true"]);
    assert_eq!(made(), 0);
    beside_a_server(&format!("[job]\nruntime = '{}'", runtime.display()), &["true"]);
    assert_eq!(made(), 2, "{:?}", std::fs::read_to_string(&trace));
}

#[test]
fn a_container_that_takes_long_to_make_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let slow = dir.path().join("podman");
    std::fs::write(&slow, "#!/bin/sh\ncase \" $* \" in *' run --detach '*) sleep 4 ;; esac\nexec podman \"$@\"\n")
        .unwrap();
    std::fs::set_permissions(&slow, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let host = Host::configured(&format!("[podman]\ncommand = '{}'", slow.display()));
    let image = host.image(&Image::busybox());
    let outcome = Runner::new(&host).play(&Job::new(&image));
    outcome.expect(State::Success).expect_log(&format!("Still making the container for image {image}"));
}
