//! The image chain: which project builds on which, and what has to be rebuilt when.
//!
//! What is here knows nothing of sockets, clocks or databases.

pub mod containerfile;
