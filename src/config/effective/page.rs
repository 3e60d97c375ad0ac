//! `[page]` as keys.

use crate::config::keys::PageKeys;
use crate::config::settings::PageSettings;
use crate::config::texts::Text;
use crate::config::values::TimeSpan;

pub(super) fn page(settings: &PageSettings) -> PageKeys {
    PageKeys {
        listen: Some(Text::of(settings.listen.as_ref().map_or_else(|| "off".to_owned(), ToString::to_string))),
        token_file: settings.token_file.as_ref().map(|path| Text::of(path.display().to_string())),
        base_path: Some(Text::of(&settings.base_path)),
        hosts: Some(settings.hosts.iter().map(Text::of).collect()),
        doctor_interval: Some(TimeSpan(settings.doctor_interval)),
        doctor_wide_interval: Some(TimeSpan(settings.doctor_wide_interval)),
        doctor_build_interval: Some(TimeSpan(settings.doctor_build_interval)),
    }
}
