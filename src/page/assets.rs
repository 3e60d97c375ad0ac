//! Style sheet, script and icon: a few small files that are part of the program. Each is called by a digest of what is in it, so browsers
//! keep them for as long as they like.

use std::sync::LazyLock;

use sha2::{Digest, Sha256};

/// A file.
#[derive(Debug)]
pub struct Asset {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: &'static str,
    /// What is in it.
    pub content: &'static str,
    /// A digest of that.
    pub version: String,
}

/// The style sheet.
pub const STYLE: &str = "style.css";
/// The script.
pub const SCRIPT: &str = "page.js";
/// The icon.
pub const ICON: &str = "icon.svg";

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    let of = |name, kind, content: &'static str| {
        let version = Sha256::digest(content).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Asset { name, kind, content, version }
    };
    vec![
        of(STYLE, "text/css; charset=utf-8", include_str!("assets/style.css")),
        of(SCRIPT, "text/javascript; charset=utf-8", include_str!("assets/page.js")),
        of(ICON, "image/svg+xml", include_str!("assets/icon.svg")),
    ]
});

/// The file of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

/// Its address below the page's own.
#[must_use]
pub fn address(name: &str) -> String {
    let version = find(name).map_or("", |asset| asset.version.as_str());
    format!("/assets/{name}?v={version}")
}

/// All of them in one word: a page that another release has made is loaded again.
#[must_use]
pub fn release() -> String {
    let versions: Vec<&str> = ASSETS.iter().map(|asset| asset.version.as_str()).collect();
    format!("{}-{}", env!("CARGO_PKG_VERSION"), versions.join("-"))
}
