//! `windlass import`: what `[runners.docker]` of a gitlab-runner's config.toml says, as a windlass.toml.

mod keys;
mod values;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use toml::{Table, Value};

use crate::config;
use keys::{Fate, KEYS};

/// A configuration of gitlab-runner is smaller.
const FILE_MAX: u64 = 1 << 20;

/// Translates [runners.docker] of gitlab-runner's config.toml into a windlass.toml
///
/// Prints the configuration; what has no counterpart is listed on stderr, with the reason and what to do.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  windlass import /etc/gitlab-runner/config.toml >windlass.toml\n  windlass import --runner builder config.toml"
)]
pub struct ImportArgs {
    /// gitlab-runner's configuration
    #[arg(value_name = "CONFIG_TOML")]
    file: PathBuf,
    /// Only the [[runners]] entry with this name; without it all entries with a docker executor, each as a profile
    #[arg(long, value_name = "NAME")]
    runner: Option<String>,
}

/// Translates. The exit code is 0 also when something has no counterpart.
///
/// # Errors
/// When the file can't be read, or has no such runner.
pub fn run(arguments: &ImportArgs) -> Result<u8> {
    let text = read(&arguments.file)?;
    let imported =
        import(&text, arguments.runner.as_deref()).with_context(|| format!("read {}", arguments.file.display()))?;
    print!("{}", imported.toml);
    for remark in &imported.remarks {
        eprintln!("windlass: {remark}");
    }
    match config::parse(Path::new("what was translated"), &imported.toml) {
        Ok(_) => eprintln!(
            "windlass: now give the [[runners]] entry executor = \"custom\" and a [runners.custom] as in docs/first-job.md"
        ),
        Err(errors) => eprintln!("{errors}\nwindlass: these values have to be changed first"),
    }
    Ok(0)
}

fn read(file: &Path) -> Result<String> {
    let about = std::fs::metadata(file).with_context(|| format!("read {}", file.display()))?;
    if about.len() > FILE_MAX {
        bail!("{} has more than {FILE_MAX} bytes: that is no configuration of gitlab-runner", file.display());
    }
    std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))
}

/// What a file was translated to.
struct Imported {
    toml: String,
    /// What is lost or has to be known.
    remarks: Vec<String>,
}

fn import(text: &str, wanted: Option<&str>) -> Result<Imported> {
    // Nothing of the file is in the error: it has tokens.
    let file: Table = toml::from_str(text).map_err(|error: toml::de::Error| {
        let line = error.span().map_or(0, |span| text[..span.start.min(text.len())].lines().count());
        anyhow::anyhow!("it is no TOML: {} (near line {line})", error.message())
    })?;
    let empty = Vec::new();
    let runners = file.get("runners").and_then(Value::as_array).unwrap_or(&empty).iter().filter_map(Value::as_table);
    let name = |runner: &Table| runner.get("name").and_then(Value::as_str).unwrap_or("unnamed").to_owned();
    let all: Vec<&Table> = runners.collect();
    let chosen: Vec<&Table> = all
        .iter()
        .copied()
        .filter(|runner| runner.contains_key("docker") && wanted.is_none_or(|wanted| name(runner) == wanted))
        .collect();
    if chosen.is_empty() {
        let names: Vec<String> = all.iter().map(|runner| format!("{:?}", name(runner))).collect();
        let which = wanted.map_or_else(
            || "a [runners.docker]".to_owned(),
            |name| format!("the name {name:?} and a [runners.docker]"),
        );
        bail!(
            "it has no [[runners]] entry with {which}; its entries: {}",
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        );
    }
    let slots = |runner: &Table| {
        let limit = runner.get("limit").and_then(Value::as_integer).filter(|limit| *limit > 0);
        limit.or_else(|| file.get("concurrent").and_then(Value::as_integer)).filter(|slots| (1..=1024).contains(slots))
    };
    let mut remarks = Vec::new();
    let mut taken: BTreeMap<String, ()> = BTreeMap::new();
    let (mut result, mut profiles) = (Table::new(), Table::new());
    for runner in &chosen {
        let job = translate(&name(runner), runner, &mut remarks);
        let mut part = Table::new();
        part.extend(slots(runner).map(|slots| ("slots".to_owned(), Value::Integer(slots))));
        part.insert("job".to_owned(), job.into());
        if chosen.len() == 1 {
            result = part;
        } else {
            let profile = profile_name(&name(runner), &mut taken);
            remarks.push(format!(
                "runner {:?}: its config_args and prepare_args have to be [\"--profile\", {profile:?}]",
                name(runner)
            ));
            profiles.insert(profile, part.into());
        }
    }
    if !profiles.is_empty() {
        result.insert("profile".to_owned(), profiles.into());
    }
    let mut toml = String::new();
    let names: Vec<String> = chosen.iter().map(|runner| format!("{:?}", name(runner))).collect();
    let _ = writeln!(
        toml,
        "# Translated from [runners.docker] of {}. Keys that are not here have Windlass's defaults.\n",
        names.join(", ")
    );
    toml.push_str(&toml::to_string(&result).context("write what was translated")?);
    Ok(Imported { toml, remarks })
}

/// A name that a profile may have, and none other has.
fn profile_name(runner: &str, taken: &mut BTreeMap<String, ()>) -> String {
    let mut name: String =
        runner.to_ascii_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(28).collect();
    name = name.trim_matches('-').to_owned();
    if name.is_empty() || name == config::DEFAULT_PROFILE {
        "runner".clone_into(&mut name);
    }
    let mut unique = name.clone();
    for number in 2.. {
        if taken.insert(unique.clone(), ()).is_none() {
            break;
        }
        unique = format!("{name}-{number}");
    }
    unique
}

/// The `[job]` of one runner.
fn translate(name: &str, runner: &Table, remarks: &mut Vec<String>) -> Table {
    let mut job = Table::new();
    let empty = Table::new();
    let docker = runner.get("docker").and_then(Value::as_table).unwrap_or(&empty);
    // The Docker executor's default; Windlass's is another.
    job.insert("pull_policy".to_owned(), "always".into());
    for (key, value) in docker {
        let fate = KEYS.iter().find(|(known, _)| known == key).map(|(_, fate)| fate);
        match fate {
            Some(Fate::To(translate)) => {
                let pairs = translate(value, docker).unwrap_or_else(|lost| {
                    remarks.push(format!("runner {name:?}: docker.{key} is not translated: {}", lost.reason));
                    lost.kept
                });
                pairs.into_iter().for_each(|(path, value)| put(&mut job, path, value));
            }
            Some(Fate::Absent(reason)) => {
                remarks.push(format!("runner {name:?}: docker.{key} has no counterpart: {reason}"));
            }
            None => remarks.push(format!("runner {name:?}: docker.{key} is not known to this version of Windlass")),
        }
    }
    if let Some(file) = runner.get("tls-ca-file").and_then(Value::as_str) {
        put(&mut job, "ca_file", file.into());
    }
    job
}

/// Puts a value where a dotted key says. A list is added to one that is there already.
fn put(job: &mut Table, path: &str, value: Value) {
    match path.split_once('.') {
        Some((table, key)) => {
            let inner = job.entry(table).or_insert_with(|| Table::new().into());
            if let Value::Table(inner) = inner {
                put(inner, key, value);
            }
        }
        None => match (job.get_mut(path), value) {
            (Some(Value::Array(there)), Value::Array(more)) => there.extend(more),
            (_, value) => {
                job.insert(path.to_owned(), value);
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = r#"
concurrent = 8
[[runners]]
  name = "builder"
  token = "glrt-s3cret"
  limit = 3
  tls-ca-file = "/etc/ca.crt"
  executor = "docker"
  [runners.docker]
    image = "debian:12"
    privileged = true
    memory = "2g"
    cpus = "1.5"
    cpu_shares = 1024
    volumes = ["/cache", "/srv/x:/x:ro"]
    extra_hosts = ["gitlab.example.com:192.0.2.1"]
    network_mode = "bridge"
    security_opt = ["no-new-privileges:true", "seccomp:unconfined"]
    pid_mode = "host"
    helper_image = "r.example.com/helper:x86_64-v${CI_RUNNER_VERSION}"
    shm_size = 300000
    gpus = "all"
    devices = ["/dev/fuse"]
    service_memory = "512m"
    wait_for_services_timeout = 60
    new_key = 1
    [runners.docker.ulimit]
      nofile = "1024:2048"
    [runners.docker.tmpfs]
      "/x" = "rw,size=1m"
    [[runners.docker.services]]
      name = "redis:7"
      alias = "cache store"
      environment = ["A=b=c"]
"#;

    #[test]
    fn what_docker_was_told_is_valid_here() {
        let imported = import(EXAMPLE, None).expect("imported");
        let settings =
            config::parse(Path::new("x"), &imported.toml).map_err(|errors| format!("{errors}{}", imported.toml));
        let settings = settings.expect("valid");
        let profile = &settings.profiles["default"];
        let job = &profile.job;
        assert_eq!((profile.slots, job.resources.memory, job.resources.cpus), (3, Some(2 << 30), Some(1.5)));
        assert_eq!((job.resources.cpu_weight, job.resources.shm_size), (Some(39), Some(300_000)));
        assert_eq!(job.isolation.volumes, ["/srv/x:/x:ro"]);
        let mut devices = job.isolation.devices.clone();
        devices.sort();
        assert_eq!(devices, ["/dev/fuse", "nvidia.com/gpu=all"]);
        assert!(job.isolation.privileged && job.isolation.services_privileged && job.isolation.no_new_privileges);
        assert_eq!(job.isolation.seccomp.as_deref(), Some("unconfined"));
        let rule = job.policy.last().expect("[job] itself");
        assert_eq!(rule.allowed_privileged_images, ["**"], "as with Docker, where no list is no bound");
        assert_eq!(job.images.pull_policy, [config::PullPolicy::Always], "Docker's default");
        assert_eq!(job.helper.image.as_deref(), Some("r.example.com/helper:x86_64-v{runner_version}"));
        assert_eq!(job.services.always[0].aliases, ["cache", "store"]);
        assert_eq!(job.services.always[0].environment["A"], "b=c");
        assert_eq!(job.services.wait.as_secs(), 60);
        assert_eq!(job.ca_file.as_deref(), Some(Path::new("/etc/ca.crt")));
        let remarks = imported.remarks.join("\n");
        assert!(
            remarks.contains("docker.pid_mode has no counterpart") && remarks.contains("docker.new_key is not known")
        );
        assert_eq!(imported.remarks.len(), 2, "{remarks}");
        assert!(!imported.toml.contains("s3cret") && !remarks.contains("s3cret"));
    }

    #[test]
    fn several_runners_become_profiles_that_inherit_nothing_of_each_other() {
        let text = "[[runners]]\nname='A b'\n[runners.docker]\nimage='a'\nmemory='1g'\n[[runners]]\nname='a-b'\n[runners.docker]\nimage='b'\n[[runners]]\nname='shell'\n";
        let imported = import(text, None).expect("imported");
        let settings = config::parse(Path::new("x"), &imported.toml).expect("valid");
        let names: Vec<&str> = settings.profiles.keys().map(String::as_str).collect();
        assert_eq!(names, ["a-b", "a-b-2", "default"]);
        assert_eq!(settings.profiles["a-b-2"].job.resources.memory, None);
        let one = import(text, Some("A b")).expect("imported");
        assert!(one.toml.contains("[job]") && !one.toml.contains("profile"));
        let error = import(text, Some("shell")).err().expect("no docker").to_string();
        assert!(error.contains("\"shell\"") && error.contains("\"A b\""), "{error}");
    }

    #[test]
    fn a_damaged_file_is_told_without_its_content() {
        let error = import("[[runners]]\ntoken = \"glrt-s3cret\" x\n", None).err().expect("no TOML").to_string();
        assert!(!error.contains("s3cret"), "{error}");
    }

    #[test]
    fn the_documentation_says_what_becomes_of_each_key() {
        let page = include_str!("../../../docs/moving.md");
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
        for (key, fate) in KEYS {
            let row =
                rows.iter().find(|row| row.split('|').nth(1).is_some_and(|cell| cell.contains(&format!("`{key}`"))));
            let row = row.unwrap_or_else(|| panic!("docs/moving.md lacks a row for {key}"));
            if let Fate::Absent(_) = fate {
                assert!(row.contains("absent:"), "{row}");
            }
        }
    }
}
