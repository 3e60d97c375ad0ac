//! The driver's command line, as `scripts/bench.sh` writes it.

use std::path::PathBuf;

use super::Result;

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// One stage in a running container.
    Stage,
    /// A whole job.
    Job,
    /// A stage's output.
    Log,
    /// Making the job's container.
    Prepare,
    /// The same with an image that no container was ever made of: what a user namespace of its own costs then.
    First,
    /// A pass over a large chain.
    Reconcile,
    /// What a job's start and end take where so many lanes are kept.
    Lanes(u32),
}

impl Row {
    /// All of them, in the table's order.
    pub const ALL: [Self; 8] = [
        Self::Stage,
        Self::Job,
        Self::Log,
        Self::Prepare,
        Self::First,
        Self::Lanes(100),
        Self::Lanes(10_000),
        Self::Reconcile,
    ];

    /// Its name in options and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stage => "stage",
            Self::Job => "job",
            Self::Log => "log",
            Self::Prepare => "prepare",
            Self::First => "first",
            Self::Reconcile => "reconcile",
            Self::Lanes(100) => "lanes100",
            Self::Lanes(_) => "lanes10k",
        }
    }

    /// How often it is measured when `rounds` were asked for: milliseconds scatter more than seconds.
    pub fn rounds(self, rounds: usize) -> usize {
        match self {
            Self::Stage | Self::Reconcile => rounds * 5,
            Self::Prepare | Self::Lanes(_) => rounds * 2,
            Self::Job | Self::Log | Self::First => rounds,
        }
    }
}

/// What to measure, and where everything is.
#[derive(Debug, Default, Clone)]
pub struct Options {
    /// The rows to measure.
    pub rows: Vec<Row>,
    /// Measurements of each side.
    pub rounds: usize,
    /// One JSON object a line instead of a table.
    pub json: bool,
    /// The directory of the shims.
    pub libexec: PathBuf,
    /// The `windlass` command.
    pub windlass: PathBuf,
    /// The daemon's socket.
    pub socket: PathBuf,
    /// The directory of the peer's scripts.
    pub peer: PathBuf,
    /// Where temporary directories are made.
    pub work: PathBuf,
    /// The image of every container.
    pub image: String,
}

impl Options {
    /// Reads the command line.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self::default();
        while let Some(word) = words.next() {
            if word == "--json" {
                options.json = true;
                continue;
            }
            let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
            match word.as_str() {
                "--rounds" => {
                    options.rounds = value.parse().map_err(|_| format!("--rounds {value}: a number from 1 on"))?;
                }
                "--rows" => options.rows = value.split(',').map(row).collect::<Result<_>>()?,
                "--libexec" => options.libexec = value.into(),
                "--windlass" => options.windlass = value.into(),
                "--socket" => options.socket = value.into(),
                "--peer" => options.peer = value.into(),
                "--work" => options.work = value.into(),
                "--image" => options.image = value,
                _ => return Err(format!("unknown option {word}")),
            }
        }
        if options.rounds == 0 || options.rows.is_empty() || options.image.is_empty() {
            return Err("--rounds, --rows and --image are needed; scripts/bench.sh gives them".to_owned());
        }
        Ok(options)
    }
}

fn row(name: &str) -> Result<Row> {
    Row::ALL.into_iter().find(|row| row.name() == name).ok_or_else(|| {
        format!(
            "no row is called {name:?}; there are stage, job, log, prepare, first, lanes100, lanes10k and reconcile"
        )
    })
}
