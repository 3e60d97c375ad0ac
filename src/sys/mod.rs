//! What the operating system offers and std does not wrap. The only places with `unsafe` are `fds` (descriptors that cross a
//! socket) and `process` (processes made or watched by hand).

pub mod fds;
pub mod files;
pub mod process;
pub mod secrets;
