//! A real browser: Chromium or Chrome without a window, driven over the DevTools protocol.
//!
//! A test launches a browser of its own, which has a profile of its own and takes both along when it is dropped.

use std::{
    cell::RefCell,
    env,
    fs::{self, File},
    io,
    net::TcpStream,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket, protocol::WebSocketConfig};

use crate::wait::PATIENCE;

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);
/// Programs in `PATH`, and where macOS keeps them.
const PROGRAMS: [&str; 6] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
];
/// Without a window, without calls to its maker, and with timers that run as fast in a tab that nobody looks at.
const FLAGS: [&str; 15] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-breakpad",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--remote-debugging-port=0",
];

/// A running browser.
pub struct Browser {
    devtools: DevTools,
    _process: Process,
}

/// A tab.
pub struct Page {
    devtools: DevTools,
}

/// The browser's processes, which are a group of their own, and where they write.
struct Process {
    child: Child,
    profile: TempDir,
}

/// A connection to what DevTools calls a target: the browser, or a page.
struct DevTools {
    /// `127.0.0.1:port`.
    address: String,
    /// And the number of the last command.
    socket: RefCell<(WebSocket<TcpStream>, u64)>,
}

// === impl Browser ===

impl Browser {
    /// Starts a browser.
    #[track_caller]
    pub fn launch() -> Self {
        let profile = tempfile::Builder::new()
            .prefix("fanfare-")
            .tempdir()
            .expect("a folder for the browser's profile");
        let log = profile.path().join("stderr.log");
        let child = Command::new(program())
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .envs(
                ["TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"].map(|name| (name, profile.path())),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a file for the browser's log"))
            .process_group(0)
            .spawn()
            .expect("the browser starts");
        let mut process = Process { child, profile };
        let (address, path) = process.devtools(&log);
        Self {
            devtools: DevTools::connect(&address, &path),
            _process: process,
        }
    }

    /// Opens a tab and waits until the page has been loaded.
    #[track_caller]
    pub fn open(&self, url: &str) -> Page {
        let target = self
            .devtools
            .call("Target.createTarget", json!({ "url": "about:blank" }));
        let id = target["targetId"]
            .as_str()
            .expect("a tab has an id")
            .to_owned();
        let page = Page {
            devtools: DevTools::connect(&self.devtools.address, &format!("/devtools/page/{id}")),
        };
        page.navigate(url);
        page
    }
}

/// Where the browser is.
fn program() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = env::split_paths(&path).collect();
    // A path that is absolute replaces what it is joined to.
    let candidates = PROGRAMS
        .iter()
        .flat_map(|program| folders.iter().map(move |folder| folder.join(program)));
    candidates
        .into_iter()
        .find(|candidate| candidate.is_file())
        .expect("there is no Chromium or Chrome here; `scripts/setup` installs one")
}

// === impl Page ===

impl Page {
    /// Goes to another page and waits until it has been loaded.
    #[track_caller]
    pub fn navigate(&self, url: &str) {
        let gone = self.devtools.call("Page.navigate", json!({ "url": url }));
        assert_eq!(gone.get("errorText"), None, "the browser cannot open {url}");
        self.wait_for("document.readyState === 'complete'");
    }

    /// The value of an expression, which has to be JSON; `undefined` is null. A promise has to be `await`ed, and
    /// declarations may stand before it.
    #[track_caller]
    pub fn evaluate(&self, expression: &str) -> Value {
        self.try_evaluate(expression)
            .unwrap_or_else(|error| panic!("{error}\nin the page: {expression}"))
    }

    /// Waits until an expression is true, in the sense of JavaScript, and returns its value.
    #[track_caller]
    pub fn wait_for(&self, condition: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // A page that is just being left or entered answers with an error.
            let last = self.try_evaluate(condition);
            match &last {
                Ok(value) if is_true(value) => return value.clone(),
                _ if Instant::now() < deadline => thread::sleep(POLL),
                _ => panic!(
                    "in vain for {PATIENCE:?}: {condition}\nlast: {last:?}\npage: {}",
                    self.try_evaluate("document.documentElement.innerText")
                        .unwrap_or_default()
                ),
            }
        }
    }

    /// Closes the tab.
    pub fn close(self) {
        self.devtools.call("Page.close", json!({}));
    }

    fn try_evaluate(&self, expression: &str) -> Result<Value, String> {
        let parameters = json!({
            "expression": expression,
            "awaitPromise": true,
            "returnByValue": true,
            "replMode": true,
            "userGesture": true,
        });
        let mut answer = self.devtools.try_call("Runtime.evaluate", parameters)?;
        if let Some(thrown) = answer.get("exceptionDetails") {
            let text = thrown["exception"]["description"].as_str();
            return Err(text.map_or_else(|| thrown.to_string(), str::to_owned));
        }
        Ok(answer["result"]["value"].take())
    }
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

// === impl Process ===

impl Process {
    /// Waits for the browser to say where it listens: address and path.
    fn devtools(&mut self, log: &Path) -> (String, String) {
        let told = self.profile.path().join("DevToolsActivePort");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = fs::read_to_string(&told).unwrap_or_default();
            if let Some((port, path)) = text.split_once('\n')
                && !path.is_empty()
            {
                return (format!("127.0.0.1:{port}"), path.trim_end().to_owned());
            }
            let ended = self.child.try_wait().expect("the browser can be asked");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "the browser did not start ({ended:?}); it says:\n{}",
                fs::read_to_string(log).unwrap_or_default()
            );
            thread::sleep(POLL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.child.wait();
        // The others of the group may take a moment to die, and write to the profile until then.
        let deadline = Instant::now() + PATIENCE;
        let profile = self.profile.path();
        while profile.exists() && Instant::now() < deadline {
            if fs::remove_dir_all(profile).is_err() {
                thread::sleep(POLL);
            }
        }
    }
}

// === impl DevTools ===

impl DevTools {
    fn connect(address: &str, path: &str) -> Self {
        let stream = TcpStream::connect(address).expect("the browser listens");
        stream
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| stream.set_nodelay(true))
            .expect("a socket takes its options");
        let url = format!("ws://{address}{path}");
        let config = WebSocketConfig::default()
            .max_message_size(None)
            .max_frame_size(None);
        let (socket, _) = tungstenite::client::client_with_config(url, stream, Some(config))
            .unwrap_or_else(|error| panic!("DevTools at {path}: {error}"));
        Self {
            address: address.to_owned(),
            socket: RefCell::new((socket, 0)),
        }
    }

    fn call(&self, method: &str, parameters: Value) -> Value {
        self.try_call(method, parameters)
            .unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Sends a command and waits for its answer.
    fn try_call(&self, method: &str, parameters: Value) -> Result<Value, String> {
        let mut locked = self.socket.borrow_mut();
        let (socket, id) = &mut *locked;
        *id += 1;
        let command = json!({ "id": *id, "method": method, "params": parameters });
        socket
            .send(Message::text(command.to_string()))
            .map_err(|error| format!("the browser is gone: {error}"))?;
        loop {
            let message = match socket.read() {
                Ok(message) => message,
                Err(tungstenite::Error::Io(error)) if is_timeout(&error) => {
                    return Err(format!("no answer within {PATIENCE:?}"));
                }
                Err(error) => return Err(format!("the browser is gone: {error}")),
            };
            let Message::Text(text) = message else {
                continue;
            };
            let mut answer: Value =
                serde_json::from_str(&text).map_err(|error| error.to_string())?;
            if answer["id"] != *id {
                continue; // An event, or the answer to a command that took too long.
            }
            return match answer.get("error") {
                Some(error) => Err(error.to_string()),
                None => Ok(answer["result"].take()),
            };
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}
