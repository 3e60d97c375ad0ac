//! `prepare_exec` of gitlab-runner's custom executor; see `windlass::shim`.

fn main() -> std::process::ExitCode {
    windlass::shim::main(windlass::shim::Shim::Prepare)
}
