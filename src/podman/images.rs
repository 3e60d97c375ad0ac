//! `podman images` and `podman image rm`: which images there are, and removing one that nothing uses.

use serde::Deserialize;

use super::{Podman, PodmanError, strings};

/// An image in podman's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedImage {
    /// Its id.
    pub id: String,
    /// Its names with tags.
    pub names: Vec<String>,
    /// Under which names and digests registries have it.
    pub repo_digests: Vec<String>,
    /// Bytes; layers that other images share count for each.
    pub bytes: u64,
    /// How many containers use it, whoever made them.
    pub containers: u64,
}

impl ListedImage {
    /// The repositories that it is known by: names without tags and digests.
    pub fn repositories(&self) -> impl Iterator<Item = &str> {
        let tagged = self.names.iter().map(|name| {
            // A port has a colon too.
            name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(name.as_str(), |(name, _)| name)
        });
        tagged.chain(self.repo_digests.iter().filter_map(|digest| Some(digest.split_once('@')?.0)))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    repo_digests: Option<Vec<String>>,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    containers: i64,
}

fn parse(text: &str) -> Result<Vec<ListedImage>, String> {
    let entries: Option<Vec<Entry>> =
        serde_json::from_str(text).map_err(|error| format!("unreadable answer: {error}"))?;
    let mut images: Vec<ListedImage> = Vec::new();
    for entry in entries.unwrap_or_default() {
        // podman 4 has an entry for each name of an image.
        let names = entry.names.unwrap_or_default();
        match images.iter_mut().find(|image| image.id == entry.id) {
            Some(image) => image.names.extend(names),
            None => images.push(ListedImage {
                id: entry.id,
                names,
                repo_digests: entry.repo_digests.unwrap_or_default(),
                bytes: entry.size,
                containers: u64::try_from(entry.containers).unwrap_or(0),
            }),
        }
    }
    for image in &mut images {
        image.names.sort();
        image.names.dedup();
    }
    Ok(images)
}

impl Podman {
    /// All images, each once.
    ///
    /// # Errors
    /// podman's words.
    pub async fn images(&self) -> Result<Vec<ListedImage>, PodmanError> {
        let text = self.call(&strings(["images", "--no-trunc", "--format", "json"])).await?;
        parse(&text).map_err(|message| PodmanError { operation: "images".to_owned(), message, code: None })
    }

    /// Removes an image by all the names that it has, or by its id when it has none. podman refuses while a container uses it.
    ///
    /// # Errors
    /// podman's words.
    pub async fn remove_image(&self, image: &ListedImage) -> Result<(), PodmanError> {
        let names = if image.names.is_empty() { std::slice::from_ref(&image.id) } else { &image.names };
        self.call(&[&strings(["image", "rm", "--"])[..], names].concat()).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_with_two_names_is_one() {
        let images = parse(
            r#"[{"Id":"a","Names":["r:5000/x:1"],"RepoDigests":["r:5000/x@sha256:1"],"Size":7,"Containers":2,"RepoTags":null},
                {"Id":"a","Names":["y:2"],"Size":7},{"Id":"b","Names":null,"Size":1}]"#,
        )
        .expect("valid");
        assert_eq!(images.len(), 2);
        assert_eq!(
            (images[0].names.as_slice(), images[0].bytes, images[0].containers),
            (&["r:5000/x:1".to_owned(), "y:2".to_owned()][..], 7, 2)
        );
        assert_eq!(images[0].repositories().collect::<Vec<_>>(), ["r:5000/x", "y", "r:5000/x"]);
        assert!(parse("null").expect("none").is_empty());
    }
}
