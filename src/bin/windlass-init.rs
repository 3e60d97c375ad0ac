//! PID 1 of every job container; see `windlass::init`.

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match windlass::init::main(&arguments) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("windlass-init: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
