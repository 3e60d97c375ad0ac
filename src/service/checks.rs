//! What has to be right on the host before the first job comes.

use std::path::Path;

use anyhow::{Context, Result, bail};

/// Type of the program header that names a dynamic linker (elf(5)).
const PT_INTERP: u32 = 3;

/// Checks that the init is there and statically linked: it runs in images that have no libraries, or others.
pub fn init_program(path: &Path) -> Result<()> {
    let bytes = std::fs::read(path)
        .with_context(|| format!("read {}, which [podman] init says is windlass-init", path.display()))?;
    match needs_a_linker(&bytes) {
        None => bail!("{}, which [podman] init names, is no 64-bit ELF program", path.display()),
        Some(true) => bail!(
            "{}, which [podman] init names, is dynamically linked and would run in few images; scripts/build.sh makes a static one",
            path.display()
        ),
        Some(false) => Ok(()),
    }
}

/// Checks that the program for what jobs leave is there: without it nothing would ever be measured or removed.
pub fn files_program(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let about = std::fs::metadata(path)
        .with_context(|| format!("look at {}, which has to be beside [podman] init", path.display()))?;
    if !about.is_file() || about.permissions().mode() & 0o111 == 0 {
        bail!("{}, which has to be beside [podman] init, is no program", path.display());
    }
    Ok(())
}

/// Whether an ELF program names a dynamic linker; none if it is no 64-bit little-endian ELF program.
fn needs_a_linker(bytes: &[u8]) -> Option<bool> {
    let number = |at: usize, length: usize| -> Option<usize> {
        let field = bytes.get(at..at + length)?;
        Some(field.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    };
    if bytes.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for index in 0..count {
        let kind = number(table.checked_add(index * size)?, 4)?;
        if kind == PT_INTERP as usize {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_is_told_from_others() {
        let shell = std::fs::read("/bin/sh").expect("/bin/sh");
        assert_eq!(needs_a_linker(&shell), Some(true));
        let mut without = shell.clone();
        without[56..58].copy_from_slice(&[0, 0]);
        assert_eq!(needs_a_linker(&without), Some(false));
        assert_eq!(needs_a_linker(b"#!/bin/sh\n"), None);
        assert_eq!(needs_a_linker(&shell[..40]), None);
    }
}
