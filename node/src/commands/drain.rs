//! `node drain`: this host's node leaves. A file says so, which the node looks for; nobody can say it over the network. Then the
//! command follows what the node says of itself.

use crate::cli::Exit;
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::client::mesh::{Caller, Mesh, first_addresses};
use crate::client::status;
use crate::config::Config;
use crate::home::{Home, read_key, write_file};
use crate::service::{LEAVES, wall};
use crate::size::{counted, format_duration};
use indicatif::{ProgressBar, ProgressStyle};
use protocol::id::NodeId;
use protocol::leave::paper::{MAGIC, Verifier};
use protocol::message::{LeaveStatus, NodeStatus, Request, Response};
use serde::Serialize;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often the node is asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// A node that says nothing for so long does not run, or was not told yet that it leaves.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Where nothing that is left could be moved for so long, nobody waits for it.
const STUCK_MAX: Duration = Duration::from_secs(30);
/// Where nobody else signed for so long, neither.
const UNSIGNED_MAX: Duration = Duration::from_secs(600);
/// The paper by which a node may leave, in the home: what the node has may be deleted, and that is kept.
const PAPER: &str = "may-leave.proof";

/// What is told of leaving.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Told<'a> {
    /// Whether the node leaves.
    leaving: bool,
    /// Whether nobody would miss it.
    may_leave: bool,
    #[serde(flatten)]
    status: Option<&'a LeaveStatus>,
    /// In about so many seconds all is moved, at the rate since this command began; `None` while that is not known.
    seconds_remaining: Option<u64>,
    /// Where the paper lies that says so, for anybody to check.
    paper: Option<&'a Path>,
}

/// Has the node leave, and follows it; or has it stay.
pub async fn drain(home: &Home, cancel: bool, output: &Output) -> Result<Exit, CliError> {
    let key = read_key(&home.path("node.key"))?.ok_or_else(super::node::no_node)?;
    let mark = home.path(LEAVES);
    if cancel {
        match fs::remove_file(&mark) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let told = Told {
            leaving: false,
            may_leave: false,
            status: None,
            seconds_remaining: None,
            paper: None,
        };
        output.json("summary", &told);
        output.good("this node stays: what it holds counts again in a few seconds");
        return Ok(Exit::Done);
    }
    if !mark.exists() {
        let text = format!(
            "This node leaves, said at {} ms since 1970. `strewn node drain --cancel` has it stay.\n",
            wall().0
        );
        write_file(&mark, text.as_bytes(), 0o644)?;
    }
    follow(home, key.public().into(), output).await
}

/// The node of this host, as it is asked.
struct Asked<'a> {
    home: &'a Home,
    node: NodeId,
    mesh: Option<Mesh>,
}

impl Asked<'_> {
    /// How it is; `None` when it does not answer now.
    async fn status(&mut self) -> Result<Option<Box<NodeStatus>>, CliError> {
        if self.mesh.is_none() {
            let config = Config::load(self.home)?;
            let addresses = first_addresses(self.home, &config)?;
            let mesh = Mesh::connect_at(self.home, Caller::console(self.home)?, &addresses).await;
            self.mesh = mesh.ok();
        }
        let node = self.mesh.as_ref().and_then(|mesh| mesh.nodes.get(&self.node));
        if let Some(node) = node
            && let Ok(Response::Status(status)) = node.request(&Request::Status).await
        {
            return Ok(Some(status));
        }
        // It may have started again, at another address.
        self.mesh = None;
        Ok(None)
    }

    /// Fetches the paper by which it may leave, and checks it; `None` when that does not come to an end now.
    async fn paper(&self) -> Option<Vec<u8>> {
        let node = self.mesh.as_ref()?.nodes.get(&self.node)?;
        let (mut bytes, mut verifier) = (MAGIC.to_vec(), Verifier::new(wall(), None));
        for part in 0.. {
            match node.request(&Request::LeavePaper { part }).await.ok()? {
                Response::LeavePaper(Some(part)) => {
                    let frame = part.encode();
                    verifier.handle_part(&frame[4..]).ok()?;
                    bytes.extend(frame);
                }
                Response::LeavePaper(None) => break,
                _ => return None,
            }
        }
        verifier.finish().ok()?;
        Some(bytes)
    }
}

async fn follow(home: &Home, node: NodeId, output: &Output) -> Result<Exit, CliError> {
    output.line(format!(
        "node {} leaves: what it holds is moved to other nodes, and nothing is dropped here",
        node.short()
    ));
    let bar = output.style().bars.then(|| output.bars().add(new_bar()));
    let mut asked = Asked { home, node, mesh: None };
    let (mut heard, mut moved_at, mut pace) = (Instant::now(), Instant::now(), Pace::default());
    let mut last: Option<LeaveStatus> = None;
    loop {
        let said = asked.status().await?.and_then(|status| status.leaving);
        let now = Instant::now();
        let Some(said) = said else {
            if now.duration_since(heard) > ANSWER_MAX {
                return Err(CliError::new("the node of this host does not answer")
                    .next("start it with `strewn node run`: it goes on leaving then"));
            }
            tokio::time::sleep(INTERVAL).await;
            continue;
        };
        heard = now;
        let seconds_remaining = pace.remaining(&said, now);
        // What changed while the paper was read has it read again.
        let paper = if said.may_leave() { asked.paper().await } else { None };
        let is_over = said.may_leave() && paper.is_some();
        let path = home.path(PAPER);
        if let Some(paper) = &paper {
            write_file(&path, paper, 0o644)?;
        }
        let told = Told {
            leaving: true,
            may_leave: is_over,
            status: Some(&said),
            seconds_remaining,
            paper: is_over.then_some(&path),
        };
        let is_stuck =
            said.is_counted && said.stuck.iter().map(|(_, n)| n).sum::<u64>() >= said.left;
        let how_far = |said: &LeaveStatus| (said.left, said.unsigned);
        if !is_stuck || last.as_ref().is_none_or(|last| how_far(last) != how_far(&said)) {
            moved_at = now;
        }
        let patience = if said.left > 0 { STUCK_MAX } else { UNSIGNED_MAX };
        let is_hopeless = is_stuck && now.duration_since(moved_at) > patience;
        if is_over || is_hopeless {
            if let Some(bar) = bar {
                bar.finish_and_clear();
                output.bars().remove(&bar);
            }
            output.json("summary", &told);
            return Ok(show(&said, is_over.then_some(&path), output));
        }
        if last.as_ref() != Some(&said) {
            output.json("status", &told);
        }
        if let Some(bar) = &bar {
            draw(bar, &said, seconds_remaining);
        }
        last = Some(said);
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Says how it ended.
fn show(said: &LeaveStatus, paper: Option<&PathBuf>, output: &Output) -> Exit {
    let all = counted(said.stripes as usize, "stripe");
    if let Some(paper) = paper {
        output.good(format!(
            "this node may leave: of {all} that it holds none would be worse off without it{}",
            status::signed_by(said)
        ));
        for signer in &said.signers {
            let stripes = counted(signer.stripes as usize, "stripe");
            let (node, operator) = (signer.node.short(), signer.operator.short());
            output.line(format!("  node {node} of operator {operator} vouches for {stripes}"));
        }
        output.line(format!("anybody can check that: strewn verify-proof {}", paper.display()));
        output.line("Next: stop it, and delete what it has; keep that file");
        return Exit::Done;
    }
    output.bad(format!("{}; it may not go yet", status::leaving(said)));
    for (why, count) in &said.stuck {
        let stripes = counted(*count as usize, "stripe");
        output.bad(format!("{stripes} cannot be moved now: {why}"));
    }
    output.bad(format!(
        "an abrupt exit now would leave {} below their policy",
        counted(said.below as usize, "stripe")
    ));
    output.line("Next: start nodes where they are missing. This node goes on leaving; the same command follows it again");
    Exit::Failed
}

/// How fast stripes are moved.
#[derive(Debug, Default)]
struct Pace {
    /// When it was first known how many are left, and how many these were.
    first: Option<(Instant, u64)>,
}

impl Pace {
    /// In about so many seconds none is left, if that can be told.
    fn remaining(&mut self, said: &LeaveStatus, now: Instant) -> Option<u64> {
        if !said.is_counted {
            return None;
        }
        let (since, left) = *self.first.get_or_insert((now, said.left));
        if said.left > left {
            self.first = Some((now, said.left));
            return None;
        }
        let done = left - said.left;
        let millis = u64::try_from(now.duration_since(since).as_millis()).unwrap_or(u64::MAX);
        let millis = u128::from(millis) * u128::from(said.left);
        millis.checked_div(u128::from(done)).map(|millis| (millis / 1000) as u64)
    }
}

fn new_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("leaving  {bar:24}  {msg}")
        .expect("the template is a constant that a test reads");
    ProgressBar::new(1).with_style(style.progress_chars("━╸─"))
}

fn draw(bar: &ProgressBar, said: &LeaveStatus, seconds_remaining: Option<u64>) {
    if !said.is_counted {
        bar.set_message("counting what it holds");
        return;
    }
    bar.set_length(said.stripes.max(1));
    bar.set_position(said.stripes.saturating_sub(said.left));
    let mut text = format!(
        "{} of {}",
        said.stripes.saturating_sub(said.left),
        counted(said.stripes as usize, "stripe")
    );
    // Writing to a string cannot fail.
    if let Some(seconds) = seconds_remaining.filter(|seconds| *seconds > 0) {
        let _ = write!(text, ", {} left", format_duration(Duration::from_secs(seconds)));
    }
    if said.unsigned > 0 {
        let _ = write!(text, ", others have yet to sign for {}", said.unsigned);
    }
    let stuck: u64 = said.stuck.iter().map(|(_, count)| count).sum();
    if let Some((why, _)) = said.stuck.first() {
        let _ = write!(text, ", {stuck} cannot be moved now: {why}");
    }
    bar.set_message(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(left: u64) -> LeaveStatus {
        LeaveStatus { is_counted: true, stripes: 40, left, ..LeaveStatus::default() }
    }

    #[test]
    fn the_time_that_is_left_goes_by_what_was_moved_since_it_began() {
        let (start, mut pace) = (Instant::now(), Pace::default());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(pace.remaining(&LeaveStatus::default(), start), None, "not counted yet");
        assert_eq!(pace.remaining(&said(40), after(5)), None);
        assert_eq!(pace.remaining(&said(30), after(15)), Some(30));
        assert_eq!(pace.remaining(&said(35), after(15)), Some(70));
        // More than at first: it begins anew.
        assert_eq!(pace.remaining(&said(41), after(20)), None);
        assert_eq!(pace.remaining(&said(31), after(30)), Some(31));
        assert_eq!(pace.remaining(&said(0), after(40)), Some(0));
    }

    #[test]
    fn the_bar_can_be_drawn() {
        let bar = new_bar();
        draw(&bar, &LeaveStatus::default(), None);
        let stuck = vec![("no room".to_owned(), 3)];
        draw(&bar, &LeaveStatus { stuck, ..said(12) }, Some(60));
        assert_eq!((bar.length(), bar.position()), (Some(40), 28));
        assert_eq!(bar.message(), "28 of 40 stripes, 1 min left, 3 cannot be moved now: no room");
    }
}
