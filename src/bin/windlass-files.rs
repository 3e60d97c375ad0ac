//! Measures, tidies and removes what jobs left, for the daemon; see `windlass::files`.

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match windlass::files::main(&arguments) {
        Ok(reply) => {
            println!("{}", serde_json::json!(reply));
            // A failure too is an answer.
            std::process::ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("windlass-files: {message}");
            // EX_USAGE of sysexits.h.
            std::process::ExitCode::from(64)
        }
    }
}
