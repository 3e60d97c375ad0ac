//! Limits that a job sets for itself with variables, up to what the administrator lets it have.

use bytesize::ByteSize;

use crate::config::Resources;

/// The smallest memory limit, in bytes: runtimes refuse less.
const MEMORY_MIN: u64 = 6 << 20;
/// The smallest pids limit: the init, a shell and its commands.
const PIDS_MIN: u32 = 16;
/// The smallest share of a CPU.
const CPUS_MIN: f64 = 0.01;

/// What podman gives where nothing is configured (podman-run(1), containers.conf(5)); a job does not raise these by itself.
const PODMANS_PIDS: u32 = 2048;
/// In bytes.
const PODMANS_SHM_SIZE: u64 = 64 << 20;
/// The kernel's (cgroup v2's `cpu.weight`).
const KERNELS_CPU_WEIGHT: u32 = 100;

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
        // Without a limit of its own podman gives twice the memory.
        let swap = maximum.memory_swap.or(found.memory_swap).or(found.memory.map(|memory| memory.saturating_mul(2)));
        set.limit("WINDLASS_MEMORY_SWAP", &mut found.memory_swap, swap, size, shown, memory)?;
        let any = |text: &str| text.parse::<ByteSize>().ok().map(|size| size.as_u64()).filter(|size| *size > 0);
        let shm = maximum.shm_size.or(found.shm_size).or(Some(PODMANS_SHM_SIZE));
        set.limit("WINDLASS_SHM_SIZE", &mut found.shm_size, shm, any, shown, "a size such as 256MiB")?;
        let cpus = |text: &str| text.parse::<f64>().ok().filter(|cpus| (CPUS_MIN..4096.0).contains(cpus));
        set.limit("WINDLASS_CPUS", &mut found.cpus, maximum.cpus, cpus, f64::to_string, "a number such as 2 or 0.5")?;
        let pids = |text: &str| text.parse::<u32>().ok().filter(|pids| *pids >= PIDS_MIN);
        let most = maximum.pids.or(found.pids).or(Some(PODMANS_PIDS));
        set.limit("WINDLASS_PIDS", &mut found.pids, most, pids, u32::to_string, "a whole number of at least 16")?;
        let weight = |text: &str| text.parse::<u32>().ok().filter(|weight| (1..=10_000).contains(weight));
        let most = maximum.cpu_weight.or(found.cpu_weight).or(Some(KERNELS_CPU_WEIGHT));
        set.limit(
            "WINDLASS_CPU_WEIGHT",
            &mut found.cpu_weight,
            most,
            weight,
            u32::to_string,
            "a whole number from 1 to 10000",
        )?;
    }
    match (found.memory, found.memory_swap) {
        // Memory and swap together can't be less than the memory.
        (Some(memory), Some(swap)) if swap < memory => found.memory_swap = Some(memory),
        // podman refuses it.
        (None, Some(_)) => {
            return Err("the variable WINDLASS_MEMORY_SWAP is memory and swap together, and needs a limit of memory: \
                        set WINDLASS_MEMORY too"
                .to_owned());
        }
        _ => {}
    }
    Ok((found, remarks))
}

struct Setter<'s, F> {
    variable: &'s F,
    remarks: &'s mut Vec<String>,
}

impl<'a, F: Fn(&str) -> Option<&'a str>> Setter<'_, F> {
    /// Lowers a limit, or raises it as far as the maximum; a limit without a maximum can only be lowered, and what has neither is the
    /// job's to choose.
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
        let (found, _) = of(Resources::default(), Resources::default(), "WINDLASS_CPUS", "100").expect("valid");
        assert_eq!(found.cpus, Some(100.0), "no limit: any");
    }

    #[test]
    fn what_is_limited_without_being_configured_is_not_raised_either() {
        let asked = |name, value| of(Resources::default(), Resources::default(), name, value).expect("valid");
        let pids = |value| asked("WINDLASS_PIDS", value).0.pids;
        assert_eq!((pids("100"), pids("1000000")), (Some(100), Some(2048)));
        let shm = |value| asked("WINDLASS_SHM_SIZE", value).0.shm_size;
        assert_eq!((shm("32MiB"), shm("100GiB")), (Some(32 << 20), Some(64 << 20)));
        let weight = |value| asked("WINDLASS_CPU_WEIGHT", value).0.cpu_weight;
        assert_eq!((weight("20"), weight("10000")), (Some(20), Some(100)));
        assert_eq!(
            asked("WINDLASS_PIDS", "1000000").1,
            ["WINDLASS_PIDS asks for 1000000; 2048 is the most that a job gets here"]
        );
        let maximum =
            Resources { pids: Some(5000), shm_size: Some(1 << 30), cpu_weight: Some(300), ..Resources::default() };
        let raised = |name, value| of(Resources::default(), maximum.clone(), name, value).expect("valid").0;
        assert_eq!(raised("WINDLASS_PIDS", "4000").pids, Some(4000));
        assert_eq!(raised("WINDLASS_SHM_SIZE", "256MiB").shm_size, Some(256 << 20));
        assert_eq!(raised("WINDLASS_CPU_WEIGHT", "1000").cpu_weight, Some(300));
    }

    #[test]
    fn swap_goes_with_memory() {
        let limits = || Resources { memory: Some(1 << 30), ..Resources::default() };
        let swap = |limits, value| of(limits, Resources::default(), "WINDLASS_MEMORY_SWAP", value);
        assert_eq!(swap(limits(), "1500MiB").expect("valid").0.memory_swap, Some(1500 << 20));
        assert_eq!(swap(limits(), "100GiB").expect("valid").0.memory_swap, Some(2 << 30), "as podman has it");
        assert_eq!(swap(limits(), "512MiB").expect("valid").0.memory_swap, Some(1 << 30), "never less than the memory");
        let error = swap(Resources::default(), "1GiB").expect_err("no limit of memory");
        assert!(error.contains("WINDLASS_MEMORY_SWAP") && error.contains("set WINDLASS_MEMORY too"), "{error}");
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
