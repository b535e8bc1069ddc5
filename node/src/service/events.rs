//! What happens on a node, in words: each event has a name, what it means and its details, for the log and for hooks.
//!
//! Who is told of it, and how, is not here.

use protocol::id::NodeId;
use protocol::notice::Cause;
use protocol::peer::Note;
use serde::Serialize;
use serde_json::Value;
use std::fmt;
use tracing::Level;

/// The name of an event, as hooks know it, and how grave it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    level: Level,
    message: &'static str,
}

macro_rules! kinds {
    ($($constant:ident $name:literal $level:ident $message:literal;)*) => {
        $(const $constant: Kind = Kind { name: $name, level: Level::$level, message: $message };)*
        /// All that there are.
        pub(super) const KINDS: &[Kind] = &[$($constant),*];
    };
}

kinds! {
    REFUSED "refused" WARN "refused";
    SHARD_DAMAGED "shard-damaged" ERROR "a shard is damaged: it is served to nobody until it is brought again";
    USAGE_WRONG "usage-wrong" ERROR "what was kept of how much of a vault is held was not what its shards come to: it is corrected, and should not happen";
    SHARD_DROPPED "shard-dropped" INFO "a shard was dropped";
    NODE_JOINED "node-joined" INFO "a node joined";
    NODE_MISLABELLED "node-mislabelled" WARN "a partner's node is not what was agreed: what it states counts as unknown";
    NODE_CONTRADICTED "node-contradicted" WARN "a node's labels are contradicted by where it was reached";
    PARTNERS_CHANGED "partners-changed" INFO "the operator's partners are others now";
    OPERATOR_KEY_CHANGED "operator-key-changed" WARN "another key speaks for an operator: what earlier ones sign ends with the grace that it left";
    OPERATOR_KEY_DISPUTED "operator-key-disputed" ERROR "somebody shows another successor of an operator's key than the one known here, which stays: compare with its people by voice";
    PARTNER_FROZEN "partner-frozen" ERROR "a partner breaks its part: nothing new is put with it, and what lies there is moved off after the notice";
    PARTNER_FREE "partner-free" INFO "a partner that broke its part is well again";
    PARTNER_LEAVES "partner-leaves" WARN "notice was given of an agreement: what lies with the other side is moved off";
    NODE_SUSPECTED "node-suspected" WARN "a node does not answer";
    NODE_LOST "node-lost" WARN "a node has been silent for too long: what it holds is rebuilt elsewhere";
    NODE_LEAVES "node-leaves" INFO "a node leaves: what it holds is to lie elsewhere";
    NODE_STAYS "node-stays" INFO "a node that was to leave stays";
    NODE_RETURNED "node-returned" INFO "a lost node has returned";
    STRIPES_AT_RISK "stripes-at-risk" ERROR "stripes break their policy: they bear less loss than it asks";
    STRIPES_SAFE "stripes-safe" INFO "no stripe breaks its policy any more";
    STRIPE_REPAIRED "stripe-repaired" INFO "lost shards were rebuilt";
    STRIPE_NOT_REPAIRED "stripe-not-repaired" WARN "a stripe was not repaired";
    HOLDER_FAULTY "holder-faulty" WARN "a holder does not have the shard that it promised";
    AUDIT_FAILED "audit-failed" WARN "a holder failed an audit: others ask it, too";
    HOLDER_UNPROVED "holder-unproved" WARN "a holder was shown not to have the shard that it promised: it counts as lost";
    HOLDER_TRUSTED "holder-trusted" INFO "a shard that a holder had not proved counts as held again";
    SET_BACK "set-back" ERROR "this node was set back to an older disk: nothing is dropped until `strewn node thaw`";
    HOLDER_SET_BACK "holder-set-back" ERROR "a node was set back to an older disk: it does not know what it promised";
    RECOVERY "recovery" WARN "a vault's cards were given to who knows its recipient";
    LOG_FORKED "log-forked" ERROR "a device's log has forked";
    RELEASE_COOLING "release-cooling" WARN "shards will be dropped unless a guardian stops it";
    RELEASE_REFUSED "release-refused" WARN "a release was asked for of what is locked, or without who must agree";
    RELEASE_VETOED "release-vetoed" WARN "a guardian stopped a release";
    VAULT_HELD "vault-held" WARN "a guardian holds a vault";
}

/// A detail: short in the log, and whole for machines.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Detail {
    name: &'static str,
    short: String,
    whole: Value,
}

fn named<T: fmt::Display>(name: &'static str, id: &T, short: String) -> Detail {
    Detail { name, short, whole: id.to_string().into() }
}

/// One that a person copies from the log into a command.
fn copied<T: fmt::Display>(name: &'static str, id: &T) -> Detail {
    named(name, id, id.to_string())
}

fn text(name: &'static str, text: &str) -> Detail {
    Detail { name, short: format!("{text:?}"), whole: text.into() }
}

fn number<T: Into<Value> + fmt::Display + Copy>(name: &'static str, number: T) -> Detail {
    Detail { name, short: number.to_string(), whole: number.into() }
}

/// Of an operator's line of keys.
fn number_of_step(step: usize) -> Detail {
    number("number", step as u64)
}

macro_rules! ids {
    ($($id:ident),*) => { vec![$(named(stringify!($id), $id, $id.short())),*] };
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) kind: Kind,
    details: Vec<Detail>,
}

impl Event {
    /// Tells it to the log.
    pub(super) fn log(&self) {
        match self.kind.level {
            Level::ERROR => tracing::error!("{self}"),
            Level::WARN => tracing::warn!("{self}"),
            _ => tracing::info!("{self}"),
        }
    }

    /// As a hook gets it.
    pub(super) fn to_json(&self, time: String) -> Value {
        #[derive(Serialize)]
        struct Shown<'a> {
            event: &'a str,
            severity: &'a str,
            time: String,
            message: &'a str,
            details: serde_json::Map<String, Value>,
        }
        let severity = match self.kind.level {
            Level::ERROR => "error",
            Level::WARN => "warning",
            _ => "info",
        };
        let details = self.details.iter().map(|d| (d.name.to_owned(), d.whole.clone()));
        let (event, message) = (self.kind.name, self.kind.message);
        let shown = Shown { event, severity, time, message, details: details.collect() };
        serde_json::to_value(shown).expect("it holds texts and numbers")
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.message)?;
        self.details.iter().try_for_each(|detail| write!(f, " {}={}", detail.name, detail.short))
    }
}

impl Event {
    /// What was observed of a node contradicts its labels.
    pub(super) fn contradicted(node: &NodeId, what: &str) -> Self {
        let mut details = ids![node];
        details.push(text("what", what));
        Self { kind: NODE_CONTRADICTED, details }
    }
}

impl From<&Note> for Event {
    fn from(note: &Note) -> Self {
        let (kind, details) = match note {
            Note::Refused { key, refusal } => {
                let mut details = ids![key];
                details
                    .extend([text("code", refusal.code.as_str()), text("reason", &refusal.text)]);
                (REFUSED, details)
            }
            Note::Partners { version, partners } => {
                (PARTNERS_CHANGED, vec![number("version", *version), number("partners", *partners)])
            }
            Note::Succeeded { operator, number } => {
                let mut details = ids![operator];
                details.push(number_of_step(*number));
                (OPERATOR_KEY_CHANGED, details)
            }
            Note::Disputed { operator, number } => {
                let mut details = ids![operator];
                details.push(number_of_step(*number));
                (OPERATOR_KEY_DISPUTED, details)
            }
            Note::PartnerFrozen { operator, cause } => {
                let mut details = ids![operator];
                let what = match cause {
                    Cause::Unproved => "it was shown not to have shards that it promised",
                    Cause::Absent => "all of its nodes are lost",
                };
                details.push(text("why", what));
                (PARTNER_FROZEN, details)
            }
            Note::PartnerFree(operator) => (PARTNER_FREE, ids![operator]),
            Note::Notice { leaver, other } => (PARTNER_LEAVES, ids![leaver, other]),
            Note::Damaged { vault, stripe, shard, what } => {
                let mut details = ids![vault, stripe, shard];
                details.push(text("what", what));
                (SHARD_DAMAGED, details)
            }
            Note::Miscounted { vault, kept, counted } => {
                let mut details = ids![vault];
                details.extend([
                    number("kept_bytes", kept.bytes),
                    number("kept_shards", kept.shards),
                    number("counted_bytes", counted.bytes),
                    number("counted_shards", counted.shards),
                ]);
                (USAGE_WRONG, details)
            }
            Note::Dropped { vault, shard, release } => {
                let mut details = ids![vault, shard];
                details.push(copied("release", release));
                (SHARD_DROPPED, details)
            }
            Note::Joined(site) => {
                let mut details = vec![named("node", &site.node, site.node.short())];
                details.push(text("labels", &site.labels.to_string()));
                (NODE_JOINED, details)
            }
            Note::Mislabelled { node, what } => {
                let mut details = ids![node];
                details.push(text("what", what));
                (NODE_MISLABELLED, details)
            }
            Note::Suspected(node) => (NODE_SUSPECTED, ids![node]),
            Note::AtRisk { stripes: 0 } => (STRIPES_SAFE, Vec::new()),
            Note::AtRisk { stripes } => (STRIPES_AT_RISK, vec![number("stripes", *stripes)]),
            Note::Lost(node) => (NODE_LOST, ids![node]),
            Note::Leaving(node) => (NODE_LEAVES, ids![node]),
            Note::Stays(node) => (NODE_STAYS, ids![node]),
            Note::Returned(node) => (NODE_RETURNED, ids![node]),
            Note::Repaired { vault, stripe, shards, .. } => {
                let mut details = ids![vault, stripe];
                details.push(number("shards", *shards));
                (STRIPE_REPAIRED, details)
            }
            Note::NotRepaired { vault, stripe, why } => {
                let mut details = ids![vault, stripe];
                details.push(text("why", why));
                (STRIPE_NOT_REPAIRED, details)
            }
            Note::Faulty { node, stripe } => (HOLDER_FAULTY, ids![node, stripe]),
            Note::AuditFailed { node, stripe, outcome } => {
                let mut details = ids![node, stripe];
                details.push(text("outcome", outcome.as_str()));
                (AUDIT_FAILED, details)
            }
            Note::Unproved { node, stripe } => (HOLDER_UNPROVED, ids![node, stripe]),
            Note::HeldAgain { node, stripe } => (HOLDER_TRUSTED, ids![node, stripe]),
            Note::SetBack { by, shown } => {
                let mut details = ids![by];
                details.push(number("shown", *shown));
                (SET_BACK, details)
            }
            Note::Contradicted { node, before, after } => {
                let mut details = ids![node];
                details.extend([number("before", *before), number("after", *after)]);
                (HOLDER_SET_BACK, details)
            }
            Note::Recovering { key } => (RECOVERY, ids![key]),
            Note::Forked { vault, device } => (LOG_FORKED, ids![vault, device]),
            Note::Cooling { vault, release, shards, remaining } => {
                let mut details = ids![vault];
                let remaining = text("remaining", &remaining.to_string());
                details.extend([copied("release", release), number("shards", *shards), remaining]);
                (RELEASE_COOLING, details)
            }
            Note::NotReleased { vault, release, locked, refused } => {
                let mut details = ids![vault];
                let (locked, refused) = (number("locked", *locked), number("refused", *refused));
                details.extend([copied("release", release), locked, refused]);
                (RELEASE_REFUSED, details)
            }
            Note::Vetoed { vault, guardian, release } => {
                let mut details = ids![vault, guardian];
                details.push(copied("release", release));
                (RELEASE_VETOED, details)
            }
            Note::Held { vault, guardian, period } => {
                let mut details = ids![vault, guardian];
                let period = period.map_or_else(|| "ended".into(), |period| period.to_string());
                details.push(text("period", &period));
                (VAULT_HELD, details)
            }
        };
        Self { kind, details }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn an_event_is_short_in_the_log_and_whole_for_machines() {
        let node = NodeId([7; 32]);
        let event = Event::from(&Note::Contradicted { node, before: 9, after: 3 });
        let line = event.to_string();
        assert!(line.contains("does not know what it promised node="), "{line}");
        assert!(line.ends_with(" before=9 after=3"), "{line}");
        assert!(!line.contains(&node.to_string()), "{line}");
        let json = event.to_json("2026-11-26T00:00:00Z".into());
        assert_eq!(
            (&json["event"], &json["severity"]),
            (&"holder-set-back".into(), &"error".into())
        );
        assert_eq!(json["details"]["node"], node.to_string());
        assert_eq!(json["details"]["before"], 9);
    }

    #[test]
    fn what_others_wrote_cannot_make_up_lines_of_the_log() {
        let (vault, stripe) = (protocol::id::VaultId([1; 32]), protocol::id::StripeId([2; 32]));
        let why = "x\n2026-11-26 ERROR made up".into();
        let line = Event::from(&Note::NotRepaired { vault, stripe, why }).to_string();
        assert!(!line.contains('\n'), "{line}");
    }

    #[test]
    fn names_are_distinct() {
        let names: BTreeSet<&str> = KINDS.iter().map(|kind| kind.name).collect();
        assert_eq!(names.len(), KINDS.len());
    }
}
