//! Names to addresses, by a container's /etc/hosts and its name servers.
//!
//! The C library can't be asked: in a static program it would load parts of itself from the image, which may be another one.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

/// How long one name server may take for one question.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How often each is asked.
const ATTEMPTS: u32 = 2;
/// Most name servers that are asked, as the C library has it (resolv.h, MAXNS).
const SERVERS_MAX: usize = 3;
/// Largest answer that is read, in bytes; a longer one would come over TCP.
const ANSWER_MAX: usize = 4096;
/// Where name servers listen.
const PORT: u16 = 53;
/// Types of records (RFC 1035, RFC 3596).
const A: u16 = 1;
const AAAA: u16 = 28;

/// What a container knows of names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolver {
    servers: Vec<IpAddr>,
    search: Vec<String>,
    hosts: Vec<(String, IpAddr)>,
}

impl Resolver {
    /// What is in these two files.
    pub fn read(resolv_conf: &str, hosts: &str) -> Self {
        let mut found = Self::default();
        for line in resolv_conf.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                // An address of the link has its interface behind it.
                Some("nameserver") => {
                    found.servers.extend(words.next().and_then(|word| word.split('%').next()?.parse::<IpAddr>().ok()))
                }
                Some("search" | "domain") => found.search = words.map(str::to_owned).collect(),
                _ => {}
            }
        }
        found.servers.truncate(SERVERS_MAX);
        for line in hosts.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let Some(address) = words.next().and_then(|word| word.parse().ok()) else { continue };
            found.hosts.extend(words.map(|name| (name.to_lowercase(), address)));
        }
        found
    }

    /// The name servers.
    pub fn servers(&self) -> &[IpAddr] {
        &self.servers
    }

    /// The addresses of a name, or why there are none.
    pub fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        if let Ok(address) = name.trim_matches(['[', ']']).parse() {
            return Ok(vec![address]);
        }
        let lower = name.to_lowercase();
        let known: Vec<IpAddr> =
            self.hosts.iter().filter(|(known, _)| *known == lower).map(|(_, address)| *address).collect();
        if !known.is_empty() {
            return Ok(known);
        }
        if self.servers.is_empty() {
            return Err("the container has no name server (/etc/resolv.conf)".to_owned());
        }
        let mut last = String::new();
        for name in self.candidates(&lower) {
            match self.ask_all(&name) {
                Ok(found) if !found.is_empty() => return Ok(found),
                Ok(_) => last = format!("the name servers know no {name}"),
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// The full names that a name may stand for: with a dot it is one already.
    fn candidates(&self, name: &str) -> Vec<String> {
        let longer = self.search.iter().map(|domain| format!("{name}.{domain}"));
        match name.contains('.') {
            true => [name.to_owned()].into_iter().chain(longer).collect(),
            false => longer.chain([name.to_owned()]).collect(),
        }
    }

    /// What the first server that answers says.
    fn ask_all(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        let mut problems = Vec::new();
        for server in &self.servers {
            match ask(*server, name, A).and_then(|four| Ok([four, ask(*server, name, AAAA)?].concat())) {
                Ok(found) => return Ok(found),
                Err(error) => problems.push(format!("{server}: {error}")),
            }
        }
        Err(format!("no name server answers ({})", problems.join("; ")))
    }
}

/// Asks one server for the records of one type.
fn ask(server: IpAddr, name: &str, kind: u16) -> Result<Vec<IpAddr>, String> {
    let words = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("no answer within {}", humantime::format_duration(ANSWER_WITHIN))
        }
        _ => error.to_string(),
    };
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).and_then(|socket| {
        socket.connect((server, PORT))?;
        socket.set_read_timeout(Some(ANSWER_WITHIN))?;
        Ok(socket)
    });
    let socket = socket.map_err(words)?;
    let id = u16::try_from(std::process::id() & 0xffff).unwrap_or(0) ^ kind;
    let question = question(id, name, kind).ok_or_else(|| format!("{name:?} is no name"))?;
    let mut buffer = [0; ANSWER_MAX];
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        let answer = socket.send(&question).and_then(|_| socket.recv(&mut buffer));
        match answer {
            Ok(length) => match answers(id, &buffer[..length]) {
                Some(found) => return found,
                None => last = "its answer can't be read".to_owned(),
            },
            Err(error) => last = words(error),
        }
    }
    Err(last)
}

/// A question (RFC 1035, section 4).
fn question(id: u16, name: &str, kind: u16) -> Option<Vec<u8>> {
    let mut bytes = id.to_be_bytes().to_vec();
    // Recursion is wished for; one question.
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length))?;
        bytes.push(length);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    Some(bytes)
}

/// The addresses in an answer, or what the server says instead; none where it is no answer to this question.
fn answers(id: u16, bytes: &[u8]) -> Option<Result<Vec<IpAddr>, String>> {
    let number = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    if number(0)? != id || bytes.get(2)? & 0x80 == 0 {
        return None;
    }
    match bytes.get(3)? & 0x0f {
        0 => {}
        // There is no such name.
        3 => return Some(Ok(Vec::new())),
        code => return Some(Err(format!("it refuses (code {code})"))),
    }
    let (questions, count) = (number(4)?, number(6)?);
    let mut at = 12;
    for _ in 0..questions {
        at = after_name(bytes, at)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..count {
        at = after_name(bytes, at)?;
        let (kind, length) = (number(at)?, usize::from(number(at + 8)?));
        let data = bytes.get(at + 10..at + 10 + length)?;
        match kind {
            A => found.push(IpAddr::from(<[u8; 4]>::try_from(data).ok()?)),
            AAAA => found.push(IpAddr::from(<[u8; 16]>::try_from(data).ok()?)),
            // An alias; what it stands for follows.
            _ => {}
        }
        at += 10 + length;
    }
    Some(Ok(found))
}

/// Where a name ends: at its zero, or behind a pointer.
fn after_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_container_are_read() {
        let resolver = Resolver::read(
            "# x\nsearch a.example b.example\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver x\n",
            "127.0.0.1 localhost\n10.0.0.7 GitLab.example gl # the address\n",
        );
        assert_eq!(resolver.servers().len(), 2);
        assert_eq!(resolver.addresses("gl"), Ok(vec![IpAddr::from([10, 0, 0, 7])]));
        assert_eq!(resolver.addresses("gitlab.EXAMPLE"), Ok(vec![IpAddr::from([10, 0, 0, 7])]));
        assert_eq!(resolver.addresses("[::1]").expect("an address").len(), 1);
        assert_eq!(resolver.candidates("x.y")[..2], ["x.y", "x.y.a.example"]);
        assert_eq!(resolver.candidates("x")[..2], ["x.a.example", "x.b.example"]);
        assert!(Resolver::default().addresses("gl").expect_err("nobody knows").contains("no name server"));
    }

    #[test]
    fn an_answer_with_an_alias_gives_its_addresses() {
        let mut answer = question(7, "gl.example", A).expect("a name");
        answer[2] |= 0x80;
        answer[7] = 2;
        // An alias for the same name, then its address; both names point to the question's.
        answer.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 2, 0xc0, 12]);
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 7]);
        assert_eq!(answers(7, &answer), Some(Ok(vec![IpAddr::from([192, 0, 2, 7])])));
        assert_eq!(answers(8, &answer), None, "an answer to somebody else");
        for end in 0..answer.len() {
            assert_eq!(answers(7, &answer[..end]), None, "cut at {end}");
        }
        let mut unknown = answer.clone();
        unknown[3] = 3;
        assert_eq!(answers(7, &unknown), Some(Ok(vec![])));
        unknown[3] = 5;
        assert!(answers(7, &unknown).expect("an answer").is_err());
        assert_eq!(question(1, &"x".repeat(64), A), None);
    }
}
