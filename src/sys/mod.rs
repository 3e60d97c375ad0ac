//! What the operating system offers and std does not wrap. The only places with `unsafe` are `fds` (descriptors that cross a
//! socket), `process` (processes made or watched by hand) and `terminal`.

pub mod fds;
pub mod files;
pub mod process;
pub mod secrets;
pub mod selinux;
pub mod terminal;
