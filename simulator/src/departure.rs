//! Nodes that their operators take away, and nodes that come to lie elsewhere. A node that leaves says so to the others, and whoever
//! runs it looks now and then whether it may, as `strewn node drain` does. It is gone only then. What that must not do is
//! in `check`.

use crate::world::{Event, World};
use protocol::label::Labels;
use protocol::message::LeaveStatus;
use protocol::peer::Input;
use protocol::time::Period;

/// How often somebody looks whether a node may leave.
const LOOKS: Period = Period::seconds(60);

impl World {
    /// A node's operator takes it away.
    pub(crate) fn leave(&mut self, node: usize) {
        let host = &mut self.hosts[node];
        if host.vanished || std::mem::replace(&mut host.leaves, true) {
            return;
        }
        host.has_left = true;
        self.tell(node, Input::Leaving(true));
        let now = self.now();
        self.cause_at(now.after(LOOKS), Event::Leaving(node));
    }

    /// A node's operator leaves it where it is after all.
    pub(crate) fn stay(&mut self, node: usize) {
        if std::mem::replace(&mut self.hosts[node].leaves, false) {
            self.tell(node, Input::Leaving(false));
        }
    }

    /// Takes a node away that leaves, if it may.
    pub(crate) fn look_at_leaving(&mut self, node: usize) {
        let host = &self.hosts[node];
        if !host.leaves || host.vanished {
            return;
        }
        let now = self.now();
        let status = host.peer.as_ref().and_then(protocol::Peer::leave_status);
        let Some(status) = status.filter(LeaveStatus::may_leave) else {
            self.cause_at(now.after(LOOKS), Event::Leaving(node));
            return;
        };
        self.note(format_args!("node {node} may leave, with {} stripes", status.stripes));
        self.check_leave(node, &status.signers);
        self.note_presence();
        self.vanish_node(node);
        self.departed = (now, self.departed.1 + 1);
    }

    /// A node lies elsewhere from now on, and is started anew.
    pub(crate) fn relabel(&mut self, node: usize, labels: &Labels) {
        if self.hosts[node].vanished {
            return;
        }
        let was_up = self.is_up(node);
        self.crash(node);
        self.hosts[node].relabel(labels.clone());
        let site = self.hosts[node].site.clone();
        self.checker().sites.insert(node, site);
        self.relabelled = Some(self.now());
        if was_up {
            self.start(node);
        }
    }
}
