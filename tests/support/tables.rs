//! TOML tables, one over another.

pub fn merge(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(there)), toml::Value::Table(more)) => merge(there, more),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}
