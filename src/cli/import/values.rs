//! Values of `[runners.docker]` as values of `[job]`.

use toml::{Table, Value};

/// Dotted keys of `[job]` and their values.
pub(super) type Pairs = Result<Vec<(&'static str, Value)>, Lost>;

/// What of a value could not be translated, and what could.
#[derive(Debug)]
pub(super) struct Lost {
    pub reason: String,
    pub kept: Vec<(&'static str, Value)>,
}

impl<T: Into<String>> From<T> for Lost {
    fn from(reason: T) -> Self {
        Self { reason: reason.into(), kept: Vec::new() }
    }
}

/// `512m`, or a number of bytes, as Docker has them: units are powers of 1024.
pub(super) fn size(value: &Value) -> Result<Value, String> {
    let text = match value {
        Value::Integer(bytes) => bytes.to_string(),
        Value::String(text) => text.trim().to_ascii_lowercase(),
        _ => return Err("is no size".to_owned()),
    };
    if text.starts_with('-') {
        return Err("is left out, which is podman's own limit: -1 has no counterpart".to_owned());
    }
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit = match unit.trim_end_matches("ib").trim_end_matches('b') {
        "" => "B",
        "k" => "KiB",
        "m" => "MiB",
        "g" => "GiB",
        "t" => "TiB",
        _ => return Err(format!("{text:?} is no size that Docker knows")),
    };
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is no size that Docker knows"))?;
    Ok(format!("{number} {unit}").into())
}

/// `"1.5"`
pub(super) fn cpus(value: &Value) -> Result<Value, String> {
    let number = match value {
        Value::String(text) => text.trim().parse().ok(),
        Value::Float(number) => Some(*number),
        Value::Integer(number) => i32::try_from(*number).ok().map(f64::from),
        _ => None,
    };
    number.map(Value::Float).ok_or_else(|| "is no number of CPUs".to_owned())
}

/// Shares, of which 1024 are usual, as the weight that runtimes make of them on cgroup v2.
pub(super) fn weight(value: &Value) -> Result<Value, String> {
    let shares = value.as_integer().filter(|shares| *shares >= 2).ok_or("is no number of shares, 2 or more")?;
    Ok(Value::Integer(1 + (shares.min(262_144) - 2) * 9999 / 262_142))
}

fn flag(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| "is neither true nor false".to_owned())
}

fn texts(value: &Value) -> Result<Vec<&str>, String> {
    let words = value.as_array().and_then(|words| words.iter().map(Value::as_str).collect());
    words.ok_or_else(|| "is no list of texts".to_owned())
}

/// With Docker every image is privileged that no list keeps from it; here none, unless a list names it.
fn everything(docker: &Table, list: &str) -> Option<Value> {
    (!docker.contains_key(list)).then(|| Value::Array(vec!["**".into()]))
}

/// `privileged`, which is for services too unless they have a key of their own.
pub(super) fn privileged(value: &Value, docker: &Table) -> Pairs {
    let mut pairs = vec![("privileged", Value::Boolean(flag(value)?))];
    if flag(value)? {
        pairs.extend(everything(docker, "allowed_privileged_images").map(|all| ("allowed_privileged_images", all)));
        if !docker.contains_key("services_privileged") {
            pairs.extend(services_privileged(value, docker)?);
        }
    }
    Ok(pairs)
}

/// `services_privileged`
pub(super) fn services_privileged(value: &Value, docker: &Table) -> Pairs {
    let mut pairs = vec![("services_privileged", Value::Boolean(flag(value)?))];
    if flag(value)? {
        pairs.extend(everything(docker, "allowed_privileged_services").map(|all| ("allowed_privileged_services", all)));
    }
    Ok(pairs)
}

/// `net_admin`, `CAP_NET_ADMIN`
pub(super) fn capabilities(value: &Value) -> Result<Value, String> {
    Ok(texts(value)?.into_iter().map(|name| Value::from(name.to_ascii_uppercase())).collect::<Vec<_>>().into())
}

/// `no-new-privileges:true`, `seccomp:unconfined`, `apparmor=...`, `label:...`
pub(super) fn security_options(value: &Value, _: &Table) -> Pairs {
    let mut pairs = Vec::new();
    let (mut others, mut lost) = (Vec::new(), Vec::new());
    for option in texts(value)? {
        let (name, given) = option.split_once(['=', ':']).unwrap_or((option, ""));
        match name {
            "no-new-privileges" => pairs.push(("no_new_privileges", Value::Boolean(given != "false"))),
            "seccomp" => pairs.push(("seccomp", given.into())),
            "apparmor" | "label" => others.push(Value::from(format!("{name}={given}"))),
            _ => lost.push(format!("{option:?} has no counterpart")),
        }
    }
    if !others.is_empty() {
        pairs.push(("security_opt", others.into()));
    }
    kept_or_lost(pairs, &lost)
}

/// `all`, `2`, `device=0,1`
pub(super) fn gpus(value: &Value) -> Result<Value, String> {
    let text = value.as_str().unwrap_or_default();
    let device = |name: &str| Value::from(format!("nvidia.com/gpu={name}"));
    let quoted = text.trim_matches('"');
    match quoted.strip_prefix("device=") {
        Some(names) => Ok(names.split(',').map(device).collect::<Vec<_>>().into()),
        None if text == "all" => Ok(vec![device("all")].into()),
        None => Err("name CDI devices in `devices`, such as \"nvidia.com/gpu=0\"".to_owned()),
    }
}

/// Volumes with a path of the host. One without was kept by Docker for the job's successors.
pub(super) fn volumes(value: &Value, _: &Table) -> Pairs {
    let (mut kept, mut lost) = (Vec::new(), Vec::new());
    for volume in texts(value)? {
        match volume.split(':').next() {
            _ if volume == "/cache" || volume == "/builds" => {}
            Some(source) if volume.contains("docker.sock") || source.ends_with("podman.sock") => lost
                .push(format!("{volume:?}: a socket gives jobs the whole host; build images with buildah in the job")),
            Some(source) if source.starts_with('/') && volume.contains(':') => kept.push(Value::from(volume)),
            _ => lost.push(format!("{volume:?}: there are no kept volumes; name a directory of the host")),
        }
    }
    let pairs = if kept.is_empty() { Vec::new() } else { vec![("volumes", kept.into())] };
    kept_or_lost(pairs, &lost)
}

fn kept_or_lost(kept: Vec<(&'static str, Value)>, lost: &[String]) -> Pairs {
    if lost.is_empty() { Ok(kept) } else { Err(Lost { reason: lost.join("; "), kept }) }
}

/// `name:address`
pub(super) fn hosts(value: &Value) -> Result<Value, String> {
    let mut hosts = Table::new();
    for line in texts(value)? {
        let (name, address) = line.split_once([':', '=']).ok_or_else(|| format!("{line:?} is no name:address"))?;
        hosts.insert(name.to_owned(), address.trim_matches(['[', ']']).into());
    }
    Ok(hosts.into())
}

/// `host`, `none`, `bridge`
pub(super) fn network(value: &Value) -> Result<Value, String> {
    match value.as_str().unwrap_or_default() {
        "host" => Ok("host".into()),
        "none" => Ok("none".into()),
        "" | "bridge" | "default" => Ok("private".into()),
        other => {
            Err(format!("there are no shared networks such as {other:?}; jobs with services get one of their own"))
        }
    }
}

/// `[[runners.docker.services]]`
pub(super) fn services(value: &Value) -> Result<Value, String> {
    let all = value.as_array().ok_or("is no list of tables")?;
    let mut services = Vec::new();
    for given in all.iter().filter_map(Value::as_table) {
        let mut service = Table::new();
        let name = given.get("name").and_then(Value::as_str).ok_or("a service has no name")?;
        service.insert("image".to_owned(), name.into());
        if let Some(alias) = given.get("alias").and_then(Value::as_str) {
            let aliases = alias.split([',', ' ']).filter(|alias| !alias.is_empty()).map(Value::from);
            service.insert("aliases".to_owned(), aliases.collect::<Vec<_>>().into());
        }
        for key in ["command", "entrypoint"] {
            service.extend(given.get(key).map(|words| (key.to_owned(), words.clone())));
        }
        if let Some(pairs) = given.get("environment") {
            let mut environment = Table::new();
            for pair in texts(pairs)? {
                let (key, value) = pair.split_once('=').ok_or_else(|| format!("{pair:?} is no NAME=value"))?;
                environment.insert(key.to_owned(), value.into());
            }
            service.insert("environment".to_owned(), environment.into());
        }
        services.push(Value::Table(service));
    }
    Ok(services.into())
}

/// -1 is no limit.
pub(super) fn services_limit(value: &Value, _: &Table) -> Pairs {
    let limit = value.as_integer().ok_or("is no number")?;
    Ok(if limit < 0 { Vec::new() } else { vec![("services_limit", Value::Integer(limit))] })
}

/// Seconds; 0 is the default, below is no wait.
pub(super) fn wait(value: &Value, _: &Table) -> Pairs {
    let seconds = value.as_integer().ok_or("is no number of seconds")?;
    Ok(match seconds {
        0 => Vec::new(),
        _ => vec![("wait_for_services", format!("{}s", seconds.max(0)).into())],
    })
}

/// The image, with the runner's own placeholders filled in by Windlass's.
pub(super) fn helper_image(value: &Value, _: &Table) -> Pairs {
    let text = value.as_str().ok_or("is no text")?;
    let filled =
        text.replace("${CI_RUNNER_VERSION}", "{runner_version}").replace("$CI_RUNNER_VERSION", "{runner_version}");
    if filled.contains('$') {
        return Err(
            "name it in [job.helper] image with {runner_version} and {arch}: no other variables are filled in".into()
        );
    }
    Ok(vec![("helper.image", filled.into()), ("helper.mode", "image".into())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_dockers() {
        let text = |value: Value| size(&value).map(|value| value.as_str().unwrap_or_default().to_owned());
        assert_eq!(text("512m".into()).as_deref(), Ok("512 MiB"));
        assert_eq!(text("4GB".into()).as_deref(), Ok("4 GiB"));
        assert_eq!(text(Value::Integer(300_000)).as_deref(), Ok("300000 B"));
        assert!(text("-1".into()).is_err() && text("4 x".into()).is_err() && text("".into()).is_err());
    }

    #[test]
    fn a_socket_is_not_carried_over() {
        let volumes = |words: &[&str]| {
            volumes(&words.iter().map(|word| Value::from(*word)).collect::<Vec<_>>().into(), &Table::new())
        };
        assert_eq!(volumes(&["/cache"]).expect("taken"), []);
        assert_eq!(volumes(&["/cache", "/srv:/srv:ro"]).expect("taken").len(), 1);
        assert!(volumes(&["/var/run/docker.sock:/var/run/docker.sock"]).expect_err("lost").reason.contains("buildah"));
        let both = volumes(&["/data", "/srv:/srv"]).expect_err("lost");
        assert!(both.reason.contains("no kept volumes") && both.kept.len() == 1);
    }

    #[test]
    fn gpus_become_cdi_devices() {
        assert_eq!(gpus(&"device=0,1".into()).expect("taken").as_array().map(Vec::len), Some(2));
        assert_eq!(gpus(&"all".into()).expect("taken").to_string(), "[\"nvidia.com/gpu=all\"]");
        assert!(gpus(&"2".into()).is_err());
    }
}
