//! `podman image inspect`: what an image says about itself.

use serde::Deserialize;

use super::{Podman, PodmanError, strings};
use crate::job::ImageRef;

/// What is needed of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its id, by which it is run.
    pub id: String,
    /// Its digest in the registry, when it came from one.
    pub digest: Option<String>,
    /// ENTRYPOINT.
    pub entrypoint: Vec<String>,
    /// USER.
    pub user: String,
    /// ENV.
    pub environment: Vec<(String, String)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    #[serde(default)]
    digest: Option<String>,
    #[serde(default)]
    config: Option<Config>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    entrypoint: Option<Vec<String>>,
    user: Option<String>,
    env: Option<Vec<String>>,
}

fn parse(text: &str) -> Result<Image, String> {
    let list: Vec<Inspected> = serde_json::from_str(text).map_err(|error| format!("unreadable answer: {error}"))?;
    let image = list.into_iter().next().ok_or("an empty answer")?;
    let config = image.config.unwrap_or_default();
    let pairs = config.env.unwrap_or_default();
    Ok(Image {
        id: image.id,
        digest: image.digest.filter(|digest| !digest.is_empty()),
        entrypoint: config.entrypoint.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
        environment: pairs
            .iter()
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
    })
}

impl Podman {
    /// The image under this name, if the host has it.
    ///
    /// # Errors
    /// podman's words, unless they are that there is no such image.
    pub async fn image(&self, name: &ImageRef) -> Result<Option<Image>, PodmanError> {
        let arguments = [&strings(["image", "inspect", "--format", "json", "--"])[..], &[name.to_string()]].concat();
        match self.call(&arguments).await {
            Ok(text) => parse(&text).map(Some).map_err(|message| PodmanError {
                operation: "image inspect".to_owned(),
                message,
                code: None,
            }),
            Err(error) if error.message.contains("no such image") || error.message.contains("image not known") => {
                Ok(None)
            }
            // podman looks a bare name up among the registries to search before it says that there is none.
            Err(error) if error.message.contains("short-name") => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn podmans_answer_is_read() {
        let image = parse(r#"[{"Id":"abc","Digest":"sha256:1","Config":{"Env":["PATH=/bin","A=b=c"],"Entrypoint":["/e"],"User":"app","Cmd":["x"]},"Other":1}]"#).expect("valid");
        assert_eq!(image.environment, [("PATH".to_owned(), "/bin".to_owned()), ("A".to_owned(), "b=c".to_owned())]);
        assert_eq!(
            (image.id.as_str(), image.user.as_str(), image.entrypoint.as_slice()),
            ("abc", "app", &["/e".to_owned()][..])
        );
    }

    #[test]
    fn an_image_without_configuration_is_one() {
        let image = parse(r#"[{"Id":"abc","Config":{"Env":null}}]"#).expect("valid");
        assert_eq!(
            image,
            Image { id: "abc".into(), digest: None, entrypoint: vec![], user: String::new(), environment: vec![] }
        );
        assert!(parse("[]").is_err());
    }
}
