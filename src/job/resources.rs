//! Limits that a job sets for itself with variables, up to what the administrator lets it have.

use bytesize::ByteSize;

use crate::config::Resources;

/// The smallest memory limit, in bytes: runtimes refuse less.
const MEMORY_MIN: u64 = 6 << 20;
/// The smallest pids limit: the init, a shell and its commands.
const PIDS_MIN: u32 = 16;
/// The smallest share of a CPU.
const CPUS_MIN: f64 = 0.01;

/// The job's limits, and what its log should say about them.
///
/// # Errors
/// A variable that can't be read, with what would be valid.
pub fn wanted<'a>(
    limits: &Resources,
    maximum: &Resources,
    variable: impl Fn(&str) -> Option<&'a str>,
) -> Result<(Resources, Vec<String>), String> {
    let mut found = limits.clone();
    let mut remarks = Vec::new();
    {
        let mut set = Setter { variable: &variable, remarks: &mut remarks };
        let size =
            |text: &str| text.parse::<ByteSize>().ok().map(|size| size.as_u64()).filter(|size| *size >= MEMORY_MIN);
        let shown = |size: &u64| ByteSize(*size).to_string();
        let memory = "a size of at least 6 MiB, such as 512MiB or 2G";
        set.limit("WINDLASS_MEMORY", &mut found.memory, maximum.memory, size, shown, memory)?;
        set.limit("WINDLASS_MEMORY_SWAP", &mut found.memory_swap, maximum.memory_swap, size, shown, memory)?;
        let any = |text: &str| text.parse::<ByteSize>().ok().map(|size| size.as_u64()).filter(|size| *size > 0);
        set.limit("WINDLASS_SHM_SIZE", &mut found.shm_size, maximum.shm_size, any, shown, "a size such as 256MiB")?;
        let cpus = |text: &str| text.parse::<f64>().ok().filter(|cpus| (CPUS_MIN..4096.0).contains(cpus));
        set.limit("WINDLASS_CPUS", &mut found.cpus, maximum.cpus, cpus, f64::to_string, "a number such as 2 or 0.5")?;
        let pids = |text: &str| text.parse::<u32>().ok().filter(|pids| *pids >= PIDS_MIN);
        set.limit(
            "WINDLASS_PIDS",
            &mut found.pids,
            maximum.pids,
            pids,
            u32::to_string,
            "a whole number of at least 16",
        )?;
        let weight = |text: &str| text.parse::<u32>().ok().filter(|weight| (1..=10_000).contains(weight));
        set.limit(
            "WINDLASS_CPU_WEIGHT",
            &mut found.cpu_weight,
            maximum.cpu_weight,
            weight,
            u32::to_string,
            "a whole number from 1 to 10000",
        )?;
    }
    if let (Some(memory), Some(swap)) = (found.memory, found.memory_swap)
        && swap < memory
    {
        // Memory and swap together can't be less than the memory.
        found.memory_swap = Some(memory);
    }
    Ok((found, remarks))
}

struct Setter<'s, F> {
    variable: &'s F,
    remarks: &'s mut Vec<String>,
}

impl<'a, F: Fn(&str) -> Option<&'a str>> Setter<'_, F> {
    /// Lowers a limit, or raises it as far as the maximum; a limit without a maximum can only be lowered.
    fn limit<T: PartialOrd + Copy>(
        &mut self,
        name: &str,
        limit: &mut Option<T>,
        maximum: Option<T>,
        read: impl Fn(&str) -> Option<T>,
        show: impl Fn(&T) -> String,
        valid: &str,
    ) -> Result<(), String> {
        let Some(text) = (self.variable)(name) else { return Ok(()) };
        let asked = read(text.trim()).ok_or_else(|| {
            let shown: String = text.chars().filter(|c| !c.is_control()).take(40).collect();
            format!("the variable {name} is {shown:?}; it has to be {valid}")
        })?;
        let given = match maximum.or(*limit) {
            Some(most) if asked > most => most,
            _ => asked,
        };
        if given < asked {
            self.remarks.push(format!(
                "{name} asks for {}; {} is the most that a job gets here",
                show(&asked),
                show(&given)
            ));
        }
        *limit = Some(given);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(limits: Resources, maximum: Resources, name: &str, value: &str) -> Result<(Resources, Vec<String>), String> {
        wanted(&limits, &maximum, |asked| (asked == name).then_some(value))
    }

    #[test]
    fn a_job_lowers_its_limits_and_raises_them_to_the_maximum() {
        let limits = || Resources { memory: Some(1 << 30), cpus: Some(2.0), ..Resources::default() };
        let maximum = || Resources { memory: Some(4 << 30), ..Resources::default() };
        let memory =
            |value| of(limits(), maximum(), "WINDLASS_MEMORY", value).map(|(found, lines)| (found.memory, lines.len()));
        assert_eq!(memory("512MiB"), Ok((Some(512 << 20), 0)));
        assert_eq!(memory("2GiB"), Ok((Some(2 << 30), 0)));
        assert_eq!(memory("8GiB"), Ok((Some(4 << 30), 1)));
        let (found, lines) = of(limits(), maximum(), "WINDLASS_CPUS", "3").expect("valid");
        assert_eq!((found.cpus, lines.len()), (Some(2.0), 1), "no maximum: only lower");
        let (found, _) = of(Resources::default(), Resources::default(), "WINDLASS_PIDS", "100").expect("valid");
        assert_eq!(found.pids, Some(100), "no limit: any");
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_what_would_be_valid() {
        for (name, value) in [
            ("WINDLASS_MEMORY", "lots"),
            ("WINDLASS_MEMORY", "1KiB"),
            ("WINDLASS_CPUS", "-1"),
            ("WINDLASS_CPUS", "NaN"),
            ("WINDLASS_PIDS", "3"),
        ] {
            let error = of(Resources::default(), Resources::default(), name, value).expect_err(value);
            assert!(error.contains(name) && error.contains(value) && error.contains("has to be"), "{error}");
        }
    }
}
