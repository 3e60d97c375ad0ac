//! A real browser: Chromium without a window, led through WebDriver.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::actions::{InputSource, KeyAction, KeyActions};
use fantoccini::key::Key;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::registry::free_port;
use super::storage::on_path;
use super::wait::{seconds, until, value};

/// How long a page may take to become what it should be.
pub const SOON: Duration = seconds(20);

/// How the browser is set up.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Whether pages may run scripts.
    pub scripts: bool,
    /// Width and height of the page, in pixels.
    pub size: (u32, u32),
}

impl Default for Setup {
    fn default() -> Self {
        Self { scripts: true, size: (1280, 900) }
    }
}

/// A browser; it ends when this is dropped.
pub struct Browser {
    runtime: Runtime,
    client: Option<Client>,
    driver: Child,
    dir: TempDir,
}

/// A command of Chromium's own protocol.
#[derive(Debug)]
struct Devtools(&'static str, Value);

impl WebDriverCompatibleCommand for Devtools {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/goog/cdp/execute", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(json!({"cmd": self.0, "params": self.1}).to_string()))
    }
}

/// What pages have written to the console, and what the browser has refused them, since it was asked last.
#[derive(Debug)]
struct Console;

impl WebDriverCompatibleCommand for Console {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/se/log", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(json!({"type": "browser"}).to_string()))
    }
}

impl Browser {
    /// Starts one; panics where there is none: what the page looks like can't be known without.
    pub fn start() -> Self {
        Self::with(Setup::default())
    }

    /// Starts one that is set up like this.
    pub fn with(setup: Setup) -> Self {
        for program in ["chromedriver", "chromium"] {
            assert!(on_path(program), "{program} is not installed: run scripts/prepare.sh --for test");
        }
        let dir = tempfile::Builder::new().prefix("browser-").tempdir().unwrap();
        let port = free_port();
        let log = File::create(dir.path().join("log")).unwrap();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .env("HOME", dir.path())
            .env("TMPDIR", dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let connector = hyper_util::client::legacy::connect::HttpConnector::new();
        let mut builder = ClientBuilder::new(connector);
        let Value::Object(capabilities) = capabilities(&setup, dir.path()) else { unreachable!("it is one") };
        builder.capabilities(capabilities);
        let address = format!("http://127.0.0.1:{port}");
        let client = value("the browser starts", seconds(60), || runtime.block_on(builder.connect(&address)).ok());
        let browser = Self { runtime, client: Some(client), driver, dir };
        browser.size(setup.size);
        browser
    }

    fn client(&self) -> &Client {
        self.client.as_ref().expect("it runs")
    }

    /// Sets width and height of the page itself, in pixels.
    pub fn size(&self, (width, height): (u32, u32)) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics);
    }

    /// For a picture: a page of this size, sharp on good screens, without bars to scroll with.
    pub fn size_of_picture(&self, (width, height): (u32, u32)) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 2, "mobile": width < 600});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics);
        self.devtools("Emulation.setScrollbarsHidden", json!({"hidden": true}));
    }

    /// Has the browser prefer dark pages or light ones.
    pub fn dark(&self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": value}]);
        self.devtools("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    /// Has the page that is open believe that nobody sees it, or that somebody does.
    pub fn hide(&self, hidden: bool) {
        self.run(&format!(
            "Object.defineProperty(document, 'hidden', {{configurable: true, get: () => {hidden}}});\
             document.dispatchEvent(new Event('visibilitychange'))"
        ));
    }

    /// Runs a script in each page that is opened from now on, before its own.
    pub fn before_pages(&self, script: &str) {
        self.devtools("Page.addScriptToEvaluateOnNewDocument", json!({"source": script}));
    }

    /// Opens another tab and goes there; the others stay open.
    pub fn tab(&self) {
        self.runtime.block_on(async {
            let tab = self.client().new_window(true).await.unwrap();
            self.client().switch_to_window(tab.handle).await.unwrap();
        });
    }

    fn devtools(&self, command: &'static str, parameters: Value) {
        self.runtime.block_on(self.client().issue_cmd(Devtools(command, parameters))).unwrap();
    }

    /// What pages have tried that their Content-Security-Policy forbids, since this was asked last.
    pub fn violations(&self) -> Vec<String> {
        let lines = self.runtime.block_on(self.client().issue_cmd(Console)).unwrap();
        let lines = lines.as_array().unwrap().iter().map(|line| line["message"].as_str().unwrap().to_owned());
        lines.filter(|line| line.contains("Content Security Policy")).collect()
    }

    /// Opens a page.
    pub fn open(&self, url: &str) {
        self.runtime.block_on(self.client().goto(url)).unwrap();
    }

    /// Where it is.
    pub fn url(&self) -> String {
        self.runtime.block_on(self.client().current_url()).unwrap().to_string()
    }

    /// Runs a script in the page; what it returns.
    pub fn run(&self, script: &str) -> Value {
        self.runtime.block_on(self.client().execute(script, vec![])).unwrap()
    }

    /// What an element says, as it is seen; empty where there is none. Works without scripts in the page too.
    pub fn text(&self, css: &str) -> String {
        self.runtime.block_on(async {
            match self.client().find(Locator::Css(css)).await {
                Ok(element) => element.text().await.unwrap_or_default(),
                Err(_) => String::new(),
            }
        })
    }

    /// How many elements there are.
    pub fn count(&self, css: &str) -> usize {
        self.runtime.block_on(self.client().find_all(Locator::Css(css))).map_or(0, |found| found.len())
    }

    /// Waits until an element says something.
    pub fn until_text(&self, css: &str, wanted: &str) {
        let began = Instant::now();
        while !self.text(css).contains(wanted) {
            assert!(
                began.elapsed() < SOON,
                "{css} does not say {wanted:?} but {:?}; the page: {}",
                self.text(css),
                self.text("main")
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the page is told of changes.
    pub fn until_live(&self) {
        self.until_text("#live", "live");
    }

    /// Clicks on an element.
    pub fn click(&self, css: &str) {
        self.runtime.block_on(async {
            self.client().find(Locator::Css(css)).await.unwrap().click().await.unwrap();
        });
    }

    /// Types into an element.
    pub fn fill(&self, css: &str, text: &str) {
        self.runtime.block_on(async {
            self.client().find(Locator::Css(css)).await.unwrap().send_keys(text).await.unwrap();
        });
    }

    /// Presses a key.
    pub fn press(&self, key: Key) {
        self.press_letter(char::from(key));
    }

    /// Presses the keys of a text.
    pub fn press_all(&self, text: &str) {
        text.chars().for_each(|letter| self.press_letter(letter));
    }

    fn press_letter(&self, key: char) {
        let action = |action| KeyActions::new("keys".into()).then(action);
        let actions = action(KeyAction::Down { value: key }).then(KeyAction::Up { value: key });
        self.runtime.block_on(self.client().perform_actions(actions)).unwrap();
    }

    /// Presses Tab until what has the focus fits; panics where nothing does.
    pub fn tab_to(&self, css: &str) {
        for _ in 0..60 {
            if self.run(&format!("return document.activeElement.matches({css:?})")) == true {
                return;
            }
            self.press(Key::Tab);
        }
        panic!("Tab leads to no {css}");
    }

    /// Puts a picture of what is seen into a file.
    pub fn picture(&self, path: &Path) {
        let bytes = self.runtime.block_on(self.client().screenshot()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// What the driver and the browser have said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

fn capabilities(setup: &Setup, dir: &Path) -> Value {
    let profile: PathBuf = dir.join("profile");
    let mut arguments = vec![
        "--headless=new".to_owned(),
        "--disable-gpu".to_owned(),
        "--disable-dev-shm-usage".to_owned(),
        "--no-first-run".to_owned(),
        "--disable-background-networking".to_owned(),
        "--disable-component-update".to_owned(),
        format!("--user-data-dir={}", profile.display()),
    ];
    if nix::unistd::geteuid().is_root() {
        // Chromium's sandbox refuses root; what it opens here is this project's own page.
        arguments.push("--no-sandbox".to_owned());
    }
    let mut options = json!({"args": arguments});
    if !setup.scripts {
        options["prefs"] = json!({"profile.managed_default_content_settings.javascript": 2});
    }
    json!({"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}})
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            let _ = self.runtime.block_on(client.close());
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
        // Its processes may still write for a moment.
        let dir = self.dir.path().to_owned();
        if !std::thread::panicking() {
            until("the browser is gone", seconds(20), || std::fs::remove_dir_all(&dir).is_ok() || !dir.exists());
        }
    }
}
