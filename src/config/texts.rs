//! Values that are texts of some form: each says what would be valid when it is not. A value that reads is valid.

use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::path::{Component, Path};

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

/// A form that a text must have.
pub(super) trait Form {
    /// What is wrong with the text, and what would be valid.
    fn check(text: &str) -> Result<(), String>;
}

/// A text of a form.
pub(super) struct Text<F>(pub String, PhantomData<F>);

impl<F> Text<F> {
    /// A text that is known to have the form.
    pub(super) fn of(text: impl AsRef<str>) -> Self {
        Self(text.as_ref().to_owned(), PhantomData)
    }
}

impl<F> PartialEq for Text<F> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<F> Eq for Text<F> {}

impl<F> PartialOrd for Text<F> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<F> Ord for Text<F> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl<F> Clone for Text<F> {
    fn clone(&self) -> Self {
        Self::of(&self.0)
    }
}

impl<F> fmt::Debug for Text<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<F> Serialize for Text<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de, F: Form> Deserialize<'de> for Text<F> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        F::check(&text).map_err(|reason| D::Error::custom(format!("{text:?} {reason}")))?;
        Ok(Self::of(&text))
    }
}

macro_rules! forms {
    ($($(#[$doc:meta])* $name:ident: |$text:ident| $valid:expr, $message:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub(super) struct $name;

        impl Form for $name {
            fn check($text: &str) -> Result<(), String> {
                if $valid { Ok(()) } else { Err($message.to_owned()) }
            }
        }
    )*};
}

forms! {
    /// A pattern of image names or project paths.
    Pattern: |text| !text.trim().is_empty() && globset::GlobBuilder::new(text).literal_separator(true).build().is_ok(),
        "is no pattern; write one such as \"registry.example.com/group/**\"";
    /// A list of CPUs.
    Cpuset: |text| !text.is_empty() && text.split(',').all(is_cpus), "is no list of CPUs; write one such as \"0-3,6\"";
    /// A ulimit's value.
    Ulimit: |text| is_ulimit(text), "is no limit; write \"SOFT:HARD\" or one number for both, -1 for none, SOFT not above HARD";
    /// A ulimit's name.
    UlimitName: |text| ULIMITS.contains(&text), format!("is no limit of a process; there are {}", ULIMITS.join(", "));
    /// A capability.
    Capability: |text| is_capability(text), "is no capability; write one such as \"NET_ADMIN\", or \"ALL\"";
    /// A seccomp profile.
    Seccomp: |text| text == "unconfined" || is_absolute(text), "must be the absolute path of a profile, or \"unconfined\"";
    /// A `--security-opt`.
    SecurityOption: |text| text.split_once('=').is_some_and(|(key, value)| matches!(key, "apparmor" | "label" | "mask" | "unmask" | "proc-opts") && !value.is_empty()),
        "is no security option; there are apparmor=, label=, mask=, unmask= and proc-opts= (no_new_privileges and seccomp are keys of their own)";
    /// A device.
    Device: |text| text.starts_with("/dev/") || text.split_once('=').is_some_and(|(kind, name)| kind.contains('/') && !name.is_empty()),
        "is no device; write a path such as \"/dev/fuse\" (with \":/target:rwm\" behind it if needed) or a CDI name such as \"nvidia.com/gpu=all\"";
    /// A volume.
    Volume: |text| is_volume(text), "is no volume; write \"/host/path:/container/path\" or with \":ro\" behind it; /builds, /cache and what begins with /.windlass are taken";
    /// A directory in a container.
    Directory: |text| is_free_directory(text), "must be an absolute path in the container, not /, /builds, /cache or what begins with /.windlass";
    /// A file of the host.
    File: |text| is_absolute(text) && !text.contains([':', ',']), "must be an absolute path without \":\" and \",\"";
    /// A directory of the host.
    HostDirectory: |text| is_absolute(text), "must be an absolute path without \"..\"";
    /// A kernel parameter.
    Sysctl: |text| ["net.", "kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."].iter().any(|start| text.starts_with(start)) && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c)),
        "is no parameter of a container's own; there are net.*, kernel.shm*, kernel.msg*, kernel.sem and fs.mqueue.*";
    /// A group.
    Group: |text| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) && !text.starts_with('-'),
        "is no group; write its number, or its name in the image";
    /// A group of this host.
    GroupName: |text| !text.is_empty() && !text.starts_with('-') && !text.contains(|c: char| c.is_whitespace() || c.is_control()),
        "is no group; write the name of one of this host";
    /// Where something is on the web.
    WebAddress: |text| is_web_address(text), "is no address on the web; one looks like \"https://gitlab.example.com\", without a user and a query";
    /// A project's or group's path.
    ProjectPath: |text| is_project_path(text), "is no path of a project or group; one looks like \"group/subgroup/project\", without the host and slashes around it";
    /// A pattern of files in a repository.
    FilePattern: |text| !text.starts_with('/') && Pattern::check(text).is_ok(), "is no pattern of files; write one such as \"Containerfile.*\" or \"images/*/Containerfile\"";
    /// A build argument's name.
    Argument: |text| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "is no name of a build argument: letters, digits and _";
    /// A job's name.
    JobName: |text| !text.trim().is_empty() && text.len() <= 255, "is no name of a job";
    /// A branch.
    Reference: |text| !text.is_empty() && !text.starts_with(['-', '/']) && !text.contains(char::is_whitespace) && !text.contains(".."), "is no branch; write its name, such as \"main\"";
    /// Where to listen.
    Listen: |text| text == "off" || text.parse::<std::net::SocketAddr>().is_ok(), "is no address to listen at; write one such as \"127.0.0.1:9252\" or \"[::1]:9252\", or \"off\"";
    /// A platform of images.
    PlatformName: |text| crate::registry::Platform::try_from(text.to_owned()).is_ok(), "is no platform; write one such as \"linux/amd64\" or \"linux/arm/v7\"";
    /// Where the page listens.
    PageListen: |text| is_page_listen(text), "is no place to listen at; write \"unix:/run/windlass/page.sock\", an address such as \"127.0.0.1:9253\", or \"off\"";
    /// A path that a reverse proxy puts before the page's own.
    BasePath: |text| is_base_path(text), "is no path before the page's own; write one such as \"/windlass\", without a slash at its end, or \"\" for none";
    /// An OCI runtime.
    Runtime: |text| is_absolute(text) || (!text.is_empty() && !text.starts_with('-') && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))),
        "is no runtime; write a name of containers.conf such as \"crun\", or an absolute path";
    /// An address.
    Address: |text| text.parse::<IpAddr>().is_ok(), "is no IP address";
    /// A host's name.
    HostName: |text| crate::job::services::is_host_name(text), "is no host name";
    /// A variable's name.
    Variable: |text| is_variable(text), "is no name of a variable: letters, digits and _, no digit first; WINDLASS_* and PATH are taken";
    /// A user of an image.
    User: |text| !text.is_empty() && !text.starts_with('-') && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-:".contains(c)),
        "is no user of an image; write a name or number, with :group behind it if needed";
    /// An image.
    Image: |text| crate::job::ImageRef::try_from(text.to_owned()).is_ok(), "is no image; one looks like registry.example.com/group/name:tag";
    /// A helper's image, with places to be filled in.
    HelperImage: |text| crate::job::ImageRef::try_from(text.replace("{runner_version}", "1").replace("{arch}", "x")).is_ok(),
        "is no image; one looks like registry.example.com/helper:{arch}-v{runner_version}, and these two are all that is filled in";
    /// A word of a file's name.
    Flavor: |text| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)), "is no flavor; there are alpine, alpine-latest, ubuntu and others";
    /// Anything.
    Any: |text| !text.contains('\0'), "must not contain NUL";
}

const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

fn is_web_address(text: &str) -> bool {
    reqwest::Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    })
}

fn is_project_path(text: &str) -> bool {
    let word = |word: &str| {
        !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "._-".contains(c)) && !word.starts_with('.')
    };
    text.split('/').all(word)
}

fn is_cpus(text: &str) -> bool {
    let number = |text: &str| text.parse::<u16>().ok();
    match text.split_once('-') {
        Some((first, last)) => matches!((number(first), number(last)), (Some(first), Some(last)) if first <= last),
        None => number(text).is_some(),
    }
}

fn is_ulimit(text: &str) -> bool {
    let number = |text: &str| text.parse::<i64>().ok().filter(|number| *number >= -1);
    let above = |number: i64| if number == -1 { i64::MAX } else { number };
    match text.split_once(':') {
        Some((soft, hard)) => {
            matches!((number(soft), number(hard)), (Some(soft), Some(hard)) if above(soft) <= above(hard))
        }
        None => number(text).is_some(),
    }
}

fn is_capability(text: &str) -> bool {
    let name = text.strip_prefix("CAP_").unwrap_or(text);
    !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
}

fn is_absolute(text: &str) -> bool {
    let path = Path::new(text);
    path.is_absolute()
        && !text.chars().any(char::is_control)
        && !path.components().any(|part| part == Component::ParentDir)
}

fn is_free_directory(text: &str) -> bool {
    let taken = |name: &str| Path::new(text).starts_with(name);
    is_absolute(text)
        && !text.contains([':', ','])
        && Path::new(text).parent().is_some()
        && !taken("/builds")
        && !taken("/cache")
        && !text.starts_with("/.windlass")
}

fn is_volume(text: &str) -> bool {
    let mut parts = text.splitn(3, ':');
    let (source, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let options = parts.next().is_none_or(|options| {
        options.split(',').all(|option| {
            [
                "ro", "rw", "z", "Z", "U", "O", "rslave", "rshared", "rprivate", "slave", "shared", "private",
                "noexec", "nosuid", "nodev",
            ]
            .contains(&option)
        })
    });
    is_absolute(source) && is_free_directory(target) && options
}

fn is_page_listen(text: &str) -> bool {
    match text.strip_prefix("unix:") {
        // The daemon makes it under a longer name first (`checks::OWN_SOCKET_PATH_MAX`).
        Some(path) => is_absolute(path) && path.len() <= super::checks::OWN_SOCKET_PATH_MAX,
        None => text == "off" || text.parse::<std::net::SocketAddr>().is_ok(),
    }
}

fn is_base_path(text: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "._~-".contains(c))
    };
    text.is_empty() || text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_part))
}

fn is_variable(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !text.starts_with("WINDLASS_")
        && text != "PATH"
}

/// A whole number within bounds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounded<const LOW: u32, const HIGH: u32>(pub u32);

impl<const LOW: u32, const HIGH: u32> Serialize for Bounded<LOW, HIGH> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

impl<'de, const LOW: u32, const HIGH: u32> Deserialize<'de> for Bounded<LOW, HIGH> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let super::values::Whole(number) = super::values::Whole::deserialize(deserializer)?;
        match u32::try_from(number) {
            Ok(value) if (LOW..=HIGH).contains(&value) => Ok(Self(value)),
            _ => Err(D::Error::custom(format!("must be between {LOW} and {HIGH}, not {number}"))),
        }
    }
}

/// A list, of which a single item may stand alone.
#[derive(Debug, Clone)]
pub(super) struct OneOrMore<T>(pub Vec<T>);

impl<T: Serialize> Serialize for OneOrMore<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0[..] {
            [one] => one.serialize(serializer),
            all => all.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMore<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
            type Value = OneOrMore<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one word, or a list of them")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<OneOrMore<T>, E> {
                T::deserialize(serde::de::value::StrDeserializer::new(text)).map(|one| OneOrMore(vec![one]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<OneOrMore<T>, A::Error> {
                let mut all = Vec::new();
                while let Some(item) = items.next_element()? {
                    all.push(item);
                }
                if all.is_empty() {
                    return Err(A::Error::custom("must not be empty"));
                }
                Ok(OneOrMore(all))
            }
        }
        deserializer.deserialize_any(Reader(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok<F: Form>(valid: &[&str], invalid: &[&str]) {
        valid.iter().for_each(|text| assert!(F::check(text).is_ok(), "{text:?}"));
        invalid.iter().for_each(|text| assert!(F::check(text).is_err(), "{text:?}"));
    }

    #[test]
    fn each_form_takes_what_podman_takes_and_nothing_that_breaks_a_container() {
        ok::<Cpuset>(&["0", "0-3,6"], &["", "3-1", "a", "0,", "-1"]);
        ok::<Ulimit>(&["1024", "1024:2048", "-1", "5:-1"], &["", "2:1", "-1:5", "x", "-2"]);
        ok::<Capability>(&["ALL", "CAP_NET_ADMIN", "SYS_PTRACE"], &["", "net_admin", "CAP_", "A B"]);
        ok::<Volume>(
            &["/a:/b", "/a:/b:ro,z"],
            &["a:/b", "/a", "/a:b", "/a:/builds", "/a:/", "/a:/b:evil", "/a/../x:/b"],
        );
        ok::<Directory>(&["/tmp", "/var/x"], &["/", "tmp", "/cache/x", "/.windlass-bin"]);
        ok::<Device>(&["/dev/fuse", "/dev/kvm:/dev/kvm:rw", "nvidia.com/gpu=all"], &["", "fuse", "/etc"]);
        ok::<Sysctl>(&["net.ipv4.ip_forward", "kernel.shmmax"], &["vm.swappiness", "net. x", "kernel.panic"]);
        ok::<Variable>(&["TZ", "HTTP_PROXY", "_x"], &["", "1A", "A-B", "PATH", "WINDLASS_CPUS"]);
        ok::<HelperImage>(&["r.example.com/h:{arch}-v{runner_version}", "h"], &["h:{other}", ""]);
        ok::<Pattern>(&["alpine", "r/**"], &["", " ", "a[b"]);
        ok::<ProjectPath>(&["group", "group/sub-group/project.x"], &["", "/group", "group/", "https://x/y", "a//b"]);
        ok::<Reference>(&["main", "release/1.2"], &["", "-x", "a b", "a..b"]);
        ok::<Listen>(&["off", "127.0.0.1:0", "[::1]:9252"], &["", "9252", "localhost:9252"]);
        ok::<PageListen>(
            &["off", "127.0.0.1:9253", "unix:/run/x.sock"],
            &["", "unix:x", "unix:/a/../b", "localhost:1"],
        );
        ok::<BasePath>(&["", "/windlass", "/ci/windlass-1"], &["/", "windlass", "/a/", "/a//b", "/a b", "/..", "/\"x"]);
        ok::<FilePattern>(&["Containerfile.*", "images/*/Containerfile"], &["", "/Containerfile"]);
        ok::<Seccomp>(&["unconfined", "/etc/s.json"], &["s.json", "/a/../b"]);
    }
}
