//! Hooks: what happens on a node is brought to a command and to a webhook of its operator.
//!
//! Events queue up for each target and are brought in order, several in one call, by a thread of its own: a target that hangs holds up
//! nobody. The first is brought at once, and calls are `every` apart. One that fails is made again, with the same
//! events, more and more slowly, for as long as the node runs. What does not fit into the queue meanwhile is counted by name. What was
//! not brought when the node stops is lost; the log has it.

use super::events::{Event, KINDS};
use protocol::id::NodeId;
use protocol::time::Period;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use ureq::tls::{TlsConfig, TlsProvider};

/// Most events that are brought in one call, and that wait for one.
const BATCH_MAX: usize = 100;
/// How long a target may take for a call.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time between two tries.
const RETRY_MAX: Duration = Duration::from_secs(900);
/// Events of which there are many, and which nobody needs to be woken for.
const QUIET: [&str; 4] = ["refused", "node-joined", "shard-dropped", "stripe-repaired"];
/// What is written about hooks into a new settings file.
pub(crate) const EXAMPLE: &str = "
# Who is told what happens on this node: a program that gets it on its standard input, and an HTTP(S) address to which it
# is posted, both as JSON. Both are tried again until they take it.
# [hooks]
# command = [\"/usr/local/bin/page-me\"]
# webhook = \"https://example.com/strewn\"
# A file with a word that goes along as `Authorization: Bearer …`.
# webhook-token-file = \"/etc/strewn/webhook-token\"
# At most one call in so long, for all events in between.
# every = \"10s\"
# Which events; without this all but refused, node-joined, shard-dropped and stripe-repaired.
# events = [\"node-lost\", \"node-returned\", \"shard-damaged\"]
";

/// The settings of hooks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct HookConfig {
    /// A program and its arguments: it gets the events on its standard input.
    pub command: Vec<String>,
    /// Where they are posted to.
    pub webhook: Option<String>,
    /// A file with a word that goes along with what is posted.
    pub webhook_token_file: Option<PathBuf>,
    /// Shortest time between two calls.
    pub every: Period,
    /// Names of the events that are brought; without it all but the frequent ones.
    pub events: Option<BTreeSet<String>>,
}

impl Default for HookConfig {
    fn default() -> Self {
        let every = Period::seconds(10);
        Self { command: Vec::new(), webhook: None, webhook_token_file: None, every, events: None }
    }
}

impl HookConfig {
    /// Checks what can be checked before anything happens.
    ///
    /// # Errors
    /// What is wrong, and what to write.
    pub(crate) fn check(&self) -> Result<(), String> {
        if let Some(url) = &self.webhook
            && !["http://", "https://"].iter().any(|scheme| url.starts_with(scheme))
        {
            return Err(format!("[hooks] webhook {url:?} is no address: begin it with https://"));
        }
        if self.webhook_token_file.is_some() && self.webhook.is_none() {
            return Err(
                "[hooks] webhook-token-file without a webhook: add webhook = \"https://…\"".into(),
            );
        }
        let known = |name: &&String| KINDS.iter().any(|kind| kind.name == name.as_str());
        match self.events.iter().flatten().find(|name| !known(name)) {
            Some(name) => {
                let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
                Err(format!("[hooks] no event is named {name:?}; there are {}", names.join(", ")))
            }
            None => Ok(()),
        }
    }

    fn brings(&self, name: &str) -> bool {
        match &self.events {
            Some(names) => names.contains(name),
            None => !QUIET.contains(&name),
        }
    }
}

/// Where events are brought to.
enum Target {
    Command(Vec<String>),
    Webhook { agent: ureq::Agent, url: String, token: Option<String> },
}

impl Target {
    /// What goes wrong is said without the URL, which may hold a secret.
    fn bring(&self, body: &[u8]) -> Result<(), String> {
        match self {
            Self::Command(command) => run(command, body),
            Self::Webhook { agent, url, token } => {
                let mut request = agent.post(url).header("Content-Type", "application/json");
                if let Some(token) = token {
                    request = request.header("Authorization", format!("Bearer {token}"));
                }
                request.send(body).map(drop).map_err(|error| match error {
                    ureq::Error::BadUri(_) => "the webhook's address cannot be used".into(),
                    other => other.to_string(),
                })
            }
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Command(_) => "command",
            Self::Webhook { .. } => "webhook",
        }
    }
}

/// Runs a program that gets these bytes on its standard input, and ends it when it takes too long.
fn run(command: &[String], body: &[u8]) -> Result<(), String> {
    let (program, arguments) = command.split_first().ok_or("the command is empty")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    // A thread of its own, or a program that does not read would hang it. One that closes its input early has read enough.
    let (input, body) = (child.stdin.take(), body.to_vec());
    let writer = std::thread::spawn(move || input.map(|mut input| input.write_all(&body)));
    let until = Instant::now() + TIMEOUT;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Ok(status),
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(20)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                break Err(format!("{program} was ended after {} s", TIMEOUT.as_secs()));
            }
            Err(error) => break Err(error.to_string()),
        }
    };
    // What it started itself may still hold the input open.
    drop(writer);
    match status? {
        status if status.success() => Ok(()),
        status => Err(format!("{program}: {status}")),
    }
}

#[derive(Default)]
struct Waiting {
    events: Vec<Value>,
    omitted: BTreeMap<&'static str, u64>,
    is_over: bool,
}

/// What waits for a target.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

impl Queue {
    fn push(&self, name: &'static str, event: &Value) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.events.len() < BATCH_MAX {
            waiting.events.push(event.clone());
        } else {
            *waiting.omitted.entry(name).or_default() += 1;
        }
        self.changed.notify_one();
    }

    fn end(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_over = true;
        self.changed.notify_one();
    }

    /// Waits until so much time has passed; `false` when it is over before.
    fn pause(&self, time: Duration) -> bool {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(waiting, time, |waiting| !waiting.is_over);
        !waited.unwrap_or_else(PoisonError::into_inner).0.is_over
    }

    /// What waits, once there is anything; nothing when it is over.
    fn take(&self) -> Option<(Vec<Value>, BTreeMap<&'static str, u64>)> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_idle = |waiting: &mut Waiting| waiting.events.is_empty() && !waiting.is_over;
        let waited = self.changed.wait_while(waiting, is_idle);
        let mut waiting = waited.unwrap_or_else(PoisonError::into_inner);
        if waiting.is_over {
            return None;
        }
        Some((std::mem::take(&mut waiting.events), std::mem::take(&mut waiting.omitted)))
    }

    /// Brings what comes, until it is over. Calls are so far apart at least.
    fn serve(
        &self,
        node: NodeId,
        every: Duration,
        what: &'static str,
        bring: impl Fn(&[u8]) -> Result<(), String>,
    ) {
        while let Some((events, omitted)) = self.take() {
            let body = json!({ "node": node.to_string(), "events": events, "omitted": omitted });
            let body = body.to_string().into_bytes();
            let mut pause = every;
            while let Err(error) = bring(&body) {
                tracing::warn!(
                    error,
                    hook = what,
                    "events could not be brought, and are kept to be tried again"
                );
                if !self.pause(pause) {
                    return;
                }
                pause = (pause * 2).min(RETRY_MAX).max(every);
            }
            if !self.pause(every) {
                return;
            }
        }
    }
}

/// The hooks of a running node. They end with it.
#[derive(Default)]
pub(super) struct Hooks {
    config: HookConfig,
    queues: Vec<Arc<Queue>>,
}

impl Hooks {
    /// Starts a thread for each target.
    pub(super) fn start(config: HookConfig, node: NodeId) -> Result<Self, String> {
        let mut targets = Vec::new();
        if !config.command.is_empty() {
            targets.push(Target::Command(config.command.clone()));
        }
        if let Some(url) = config.webhook.clone() {
            let token = match &config.webhook_token_file {
                Some(path) => Some(read_token(path)?),
                None => None,
            };
            targets.push(Target::Webhook { agent: agent(), url, token });
        }
        let mut queues = Vec::new();
        let every = Duration::from_millis(config.every.0);
        for target in targets {
            let queue = Arc::new(Queue::default());
            queues.push(Arc::clone(&queue));
            let thread = std::thread::Builder::new().name(format!("strewn-{}", target.name()));
            let serve = move || queue.serve(node, every, target.name(), |body| target.bring(body));
            thread.spawn(serve).map_err(|error| format!("no thread: {error}"))?;
        }
        Ok(Self { config, queues })
    }

    /// Has an event brought that happened now.
    pub(super) fn tell(&self, event: &Event) {
        if self.queues.is_empty() || !self.config.brings(event.kind.name) {
            return;
        }
        let shown = event.to_json(jiff::Timestamp::now().to_string());
        self.queues.iter().for_each(|queue| queue.push(event.kind.name, &shown));
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        self.queues.iter().for_each(|queue| queue.end());
    }
}

fn read_token(path: &Path) -> Result<String, String> {
    let named =
        |what: &dyn std::fmt::Display| format!("webhook-token-file {}: {what}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| named(&error))?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(named(&"one word is expected"));
    }
    Ok(token.to_owned())
}

fn agent() -> ureq::Agent {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(provider)
        .build();
    ureq::Agent::config_builder()
        .tls_config(tls)
        .timeout_global(Some(TIMEOUT))
        // A redirect would carry the word elsewhere.
        .max_redirects(0)
        .user_agent(concat!("strewn/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    const NODE: NodeId = NodeId([7; 32]);

    fn event(number: u64) -> Value {
        json!({ "number": number })
    }

    fn numbers(body: &[u8]) -> (Vec<u64>, Value) {
        let body: Value = serde_json::from_slice(body).unwrap();
        let events = body["events"].as_array().unwrap();
        (
            events.iter().map(|event| event["number"].as_u64().unwrap()).collect(),
            body["omitted"].clone(),
        )
    }

    #[test]
    fn a_call_that_fails_is_made_again_with_the_same_events_and_what_came_meanwhile_follows() {
        let queue = Arc::new(Queue::default());
        let (calls, called) = channel();
        let (answers, answer) = channel::<Result<(), String>>();
        let serving = Arc::clone(&queue);
        let thread = std::thread::spawn(move || {
            serving.serve(NODE, Duration::from_millis(1), "test", |body| {
                calls.send(body.to_vec()).unwrap();
                answer.recv().unwrap()
            });
        });
        queue.push("a", &event(0));
        for answer in [Err("down".into()), Err("down".into()), Ok(())] {
            assert_eq!(numbers(&called.recv().unwrap()), (vec![0], json!({})));
            // The call has not been answered: these wait.
            queue.push("a", &event(1));
            answers.send(answer).unwrap();
        }
        assert_eq!(numbers(&called.recv().unwrap()), (vec![1, 1, 1], json!({})));
        for number in 0..BATCH_MAX as u64 + 7 {
            queue.push(if number % 2 == 0 { "even" } else { "odd" }, &event(number));
        }
        answers.send(Ok(())).unwrap();
        let (brought, omitted) = numbers(&called.recv().unwrap());
        assert_eq!(brought, (0..BATCH_MAX as u64).collect::<Vec<u64>>());
        assert_eq!(omitted, json!({ "even": 4, "odd": 3 }));
        queue.end();
        answers.send(Err("down".into())).unwrap();
        thread.join().unwrap();
        assert!(called.try_recv().is_err(), "nothing is tried again once it is over");
    }

    #[test]
    fn a_program_gets_the_events_and_must_end_well() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("got");
        let shell =
            |script: &str| ["sh", "-c", script, "sh", path.to_str().unwrap()].map(String::from);
        // More than a pipe holds.
        let body = vec![b'x'; 1 << 20];
        run(&shell("cat > $1"), &body).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), body);
        run(&shell("exit 0"), &body).unwrap();
        assert!(run(&shell("exit 3"), &body).unwrap_err().contains('3'));
        assert!(run(&["/nowhere/at/all".into()], &body).unwrap_err().contains("/nowhere/at/all"));
    }

    #[test]
    fn settings_that_cannot_be_meant_are_refused() {
        let check = |text: &str| {
            toml::from_str::<HookConfig>(text)
                .map_err(|e| e.to_string())
                .and_then(|hooks| hooks.check())
        };
        assert!(check("webhook = 'ftp://x'").unwrap_err().contains("https://"));
        assert!(check("webhook-token-file = '/x'").unwrap_err().contains("without a webhook"));
        let unknown = check("events = ['node-lots']").unwrap_err();
        assert!(unknown.contains("node-lots") && unknown.contains("node-lost"), "{unknown}");
        assert!(check("comand = ['x']").unwrap_err().contains("comand"));
        assert_eq!(check("webhook = 'https://x'\nevents = ['refused']\nevery = '1s'"), Ok(()));
        let quiet = HookConfig::default();
        assert!(quiet.brings("node-lost") && !quiet.brings("refused"));
        assert!(QUIET.iter().all(|name| KINDS.iter().any(|kind| kind.name == *name)));
    }

    #[test]
    fn the_example_can_be_used() {
        let lines = EXAMPLE.lines().filter_map(|line| line.strip_prefix("# "));
        let settings: Vec<&str> = lines.filter(|line| line.contains(" = ")).collect();
        let hooks: HookConfig = toml::from_str(&settings.join("\n")).unwrap();
        assert_eq!(hooks.check(), Ok(()));
        assert_eq!(settings.len(), 5);
    }
}
