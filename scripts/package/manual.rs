//! Writes the manual pages and the shells' completions of the programs that people call.
//!
//!     manual DIRECTORY     usr/share/man and usr/share/…/completions below it

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_complete::Shell;

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1) else {
        eprintln!("manual: name the directory to write to");
        return ExitCode::from(64);
    };
    match write(Path::new(&directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("manual: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(root: &Path) -> std::io::Result<()> {
    let windlass = windlass::cli::Arguments::command();
    page(windlass.clone(), "windlass", "1", &root.join("usr/share/man/man1"))?;
    page(windlass::service::Arguments::command(), "windlassd", "8", &root.join("usr/share/man/man8"))?;
    let completions = [
        (Shell::Bash, "usr/share/bash-completion/completions", "windlass"),
        (Shell::Zsh, "usr/share/zsh/vendor-completions", "_windlass"),
        (Shell::Fish, "usr/share/fish/vendor_completions.d", "windlass.fish"),
    ];
    for (shell, directory, name) in completions {
        let directory = root.join(directory);
        fs::create_dir_all(&directory)?;
        let mut file = fs::File::create(directory.join(name))?;
        clap_complete::generate(shell, &mut windlass.clone(), "windlass", &mut file);
    }
    Ok(())
}

/// A command's page, and one for each command below it.
fn page(command: Command, name: &str, section: &str, directory: &Path) -> std::io::Result<()> {
    fs::create_dir_all(directory)?;
    for below in command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help") {
        page(below.clone(), &format!("{name}-{}", below.get_name()), section, directory)?;
    }
    let said = name.replace('-', " ");
    let command = command.bin_name(said).display_name(name.to_owned()).disable_help_subcommand(true);
    let page = clap_mangen::Man::new(command).section(section.to_owned()).manual("Windlass".to_owned());
    let mut text = Vec::new();
    page.render(&mut text)?;
    fs::write(directory.join(format!("{name}.{section}")), text)
}
