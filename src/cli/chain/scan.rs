//! `windlass chain scan`: which images Containerfiles build on.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;

use crate::chain::containerfile::{Containerfile, Kind, Ref, SIZE_MAX, Where};
use crate::cli::ask::columns;

/// What to read.
#[derive(Debug, Args)]
pub struct ScanArgs {
    /// The files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A value that the build gets (`--build-arg`); any number
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    arg: Vec<(String, String)>,
    /// Print JSON, one line for each file
    #[arg(long)]
    json: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it takes NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[derive(Serialize)]
struct Line<'a> {
    file: String,
    #[serde(flatten)]
    found: &'a Containerfile,
}

/// Runs it.
pub(super) fn run(arguments: &ScanArgs) -> Result<u8> {
    let args: BTreeMap<String, String> = arguments.arg.iter().cloned().collect();
    let mut failed = false;
    for path in &arguments.files {
        // One that can't be read does not keep the others from it.
        let found = match read(path) {
            Ok(text) => Containerfile::read(&text, &args),
            Err(error) => {
                failed = true;
                eprintln!("windlass: {error:#}");
                continue;
            }
        };
        if arguments.json {
            println!("{}", serde_json::to_string(&Line { file: path.display().to_string(), found: &found })?);
        } else {
            print!("{}", table(path, &found));
        }
    }
    Ok(u8::from(failed))
}

fn read(path: &Path) -> Result<String> {
    let file = std::fs::File::open(path).with_context(|| format!("read {}", path.display()))?;
    let mut bytes = Vec::new();
    let most = u64::try_from(SIZE_MAX).unwrap_or(u64::MAX);
    file.take(most + 1).read_to_end(&mut bytes).with_context(|| format!("read {}", path.display()))?;
    if bytes.len() > SIZE_MAX {
        bail!("{} is larger than {SIZE_MAX} bytes, which no Containerfile is", path.display());
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn table(path: &Path, found: &Containerfile) -> String {
    let mut text = format!("{}\n", path.display());
    let rows: Vec<[String; 3]> = found.refs.iter().map(row).collect();
    for line in columns(&rows).lines() {
        text.push_str(&format!("  {line}\n"));
    }
    if let Some(error) = &found.error {
        text.push_str(&format!("  {error}\n"));
    }
    text
}

fn row(reference: &Ref) -> [String; 3] {
    let place = match reference.place {
        Where::From => "FROM",
        Where::Copy => "COPY --from",
        Where::Mount => "RUN --mount",
        Where::Syntax => "# syntax",
    };
    let meaning = match reference.kind {
        Kind::Image => String::new(),
        Kind::Stage => "a stage of this file".to_owned(),
        Kind::Scratch => "nothing".to_owned(),
        Kind::Unresolved => format!("not known here: {}", why(reference)),
        Kind::Invalid => format!("no image: {}", why(reference)),
    };
    [place.to_owned(), reference.image.clone().unwrap_or_else(|| reference.raw.clone()), meaning]
}

fn why(reference: &Ref) -> String {
    if reference.unset.is_empty() {
        return reference.error.clone().unwrap_or_else(|| "its variables are not expanded there".to_owned());
    }
    format!("{} has no value; --arg gives it one", reference.unset.join(", "))
}
