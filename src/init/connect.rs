//! `windlass-init connect`: can something be reached from in here? The daemon asks for a job's services; of rootless ones only the
//! job's own network knows a way to them.

use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// How long one connection may take: everything is on one host.
const WITHIN: Duration = Duration::from_millis(500);

/// Tries each list of addresses (`ADDRESS:PORT,...`) once and prints the numbers, from 0, of those where one answers.
pub fn run(lists: &[String]) -> Result<()> {
    let lists: Vec<Vec<SocketAddr>> = lists.iter().map(|list| parse(list)).collect::<Result<_>>()?;
    let tries: Vec<_> = lists
        .into_iter()
        .map(|list| {
            thread::spawn(move || list.iter().any(|address| TcpStream::connect_timeout(address, WITHIN).is_ok()))
        })
        .collect();
    for (number, reached) in tries.into_iter().enumerate() {
        if reached.join().unwrap_or(false) {
            println!("{number}");
        }
    }
    Ok(())
}

fn parse(list: &str) -> Result<Vec<SocketAddr>> {
    list.split(',').map(|text| text.parse().with_context(|| format!("{text:?} is no address with a port"))).collect()
}
