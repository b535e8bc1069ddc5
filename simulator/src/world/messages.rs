//! Messages between ends: how connections come and go, what arrives on them, and to whom it is handed.

use super::{Event, World};
use crate::client::Action;
use crate::host::Raw;
use crate::network::{End, Exchange, Fate, Frame};
use protocol::codec::CodecError;
use protocol::id::{NodeId, PublicKey, ShardId};
use protocol::message::{
    Greeting, KIND_GREETING, KIND_REQUEST, KIND_RESPONSE, Refusal, RefusalCode, Request, Response,
};
use protocol::peer::{CallId, Input, LaneId, LinkId};

impl World {
    pub(super) fn fate(&mut self, ends: (End, End), bytes: usize) -> Fate {
        self.network.fate(&mut self.random, self.now, ends, bytes)
    }

    pub(crate) fn act(&mut self, client: usize) {
        while let Some(action) = self.clients[client].poll_action() {
            match action {
                Action::Dial(node) => {
                    let expected = self.hosts[node].site.node;
                    self.dial(End::Client(client), 0, node, expected);
                }
                Action::Send { link, frame } => self.ask(End::Client(client), link, None, frame),
                Action::WakeAt(at) => self.cause_at(at, Event::WakeClient(client)),
            }
        }
        self.owner_reports(client);
    }

    pub(super) fn dial(&mut self, from: End, start: u64, node: usize, expected: NodeId) {
        let (takes, lost) = match self.fate((from, End::Node(node)), 0) {
            Fate::Arrives(takes) => (takes, false),
            Fate::Lost => (self.network.config.give_up, true),
        };
        self.cause(takes, Event::Dialed { from, start, node, expected, lost });
    }

    pub(super) fn dialed(
        &mut self,
        from: End,
        start: u64,
        node: usize,
        expected: NodeId,
        lost: bool,
    ) {
        if let End::Node(dialer) = from {
            if !self.is_current(dialer, start) {
                return;
            }
            self.hosts[dialer].dialing.remove(&expected);
        }
        let there = self
            .hosts
            .get(node)
            .is_some_and(|host| host.peer.is_some() && host.site.node == expected);
        if lost || !there || from == End::Node(node) {
            self.dial_failed(from, expected);
            return;
        }
        let link = self.network.connect([from, End::Node(node)]);
        let key = self.key_of(from);
        self.tell(node, Input::Connected { link, key, outbound: false });
        match from {
            End::Node(dialer) => {
                let key = expected.key();
                self.tell(dialer, Input::Connected { link, key, outbound: true });
            }
            End::Client(client) => {
                self.clients[client].handle_connected(node, link);
                self.act(client);
            }
        }
    }

    pub(super) fn dial_failed(&mut self, from: End, expected: NodeId) {
        match from {
            End::Node(dialer) => {
                self.hosts[dialer].dialing.remove(&expected);
                self.tell(dialer, Input::DialFailed(expected));
            }
            End::Client(client) => {
                let node = self.node_of(expected);
                if let Some(node) = node {
                    self.clients[client].handle_dial_failed(self.now, node);
                    self.act(client);
                }
            }
        }
    }

    fn key_of(&self, end: End) -> PublicKey {
        match end {
            End::Node(node) => self.hosts[node].site.node.key(),
            End::Client(client) => self.clients[client].public(),
        }
    }

    /// Opens a stream and sends the first message on it.
    pub(super) fn ask(&mut self, asker: End, link: LinkId, call: Option<CallId>, frame: Frame) {
        let lane = self.network.open(Exchange { link, asker, call });
        self.ask_on(lane, link, asker, frame);
    }

    /// Sends the first message on a stream that was opened.
    pub(super) fn ask_on(&mut self, lane: LaneId, link: LinkId, asker: End, frame: Frame) {
        match self.network.other_end(link, asker) {
            Some(to) => self.send((asker, to), link, lane, frame),
            // The asker hears nothing until it gives the connection up.
            None if self.network.seems_alive(link) => {}
            None => self.unanswered(lane),
        }
    }

    fn unanswered(&mut self, lane: LaneId) {
        if let Some(exchange) = self.network.close(lane) {
            self.give_up(lane, exchange);
        }
    }

    /// Whoever asked on a stream learns that there will be no answer.
    fn give_up(&mut self, lane: LaneId, Exchange { asker, call, .. }: Exchange) {
        match (asker, call) {
            (End::Node(node), Some(call)) => {
                self.tell(node, Input::Answer { call, response: None });
            }
            (End::Node(_), None) => self.errand_answered(lane, None, Vec::new()),
            (End::Client(_), _) => {}
        }
    }

    /// Sends the answer of an exchange, if its connection still carries any.
    pub(super) fn answer(
        &mut self,
        end: End,
        lane: LaneId,
        response: &Response,
        raw: Vec<u8>,
        close: bool,
    ) {
        let Some(Exchange { link, .. }) = self.network.exchange(lane) else { return };
        if let End::Node(node) = end
            && self.hosts[node].is_honest()
        {
            self.checker.answered(self.now, (node, &self.hosts[node]), lane, response);
        }
        if let Some(to) = self.network.other_end(link, end) {
            let frame = Frame::new(response.encode()).followed_by(raw);
            self.send((end, to), link, lane, frame);
        }
        if close {
            self.cause(self.network.config.quality.latency_max, Event::Broken(link));
        }
    }

    fn send(&mut self, (from, to): (End, End), link: LinkId, lane: LaneId, frame: Frame) {
        match self.fate((from, to), frame.body.len() + frame.raw.len()) {
            Fate::Arrives(takes) => self.cause(takes, Event::Arrives { to, link, lane, frame }),
            Fate::Lost => self.lose(link),
        }
    }

    /// The connection is dead from now on; its ends notice when they give up.
    pub(crate) fn lose(&mut self, link: LinkId) {
        if self.network.kill(link) {
            self.cause(self.network.config.give_up, Event::Broken(link));
        }
    }

    pub(super) fn arrives(&mut self, to: End, link: LinkId, lane: LaneId, frame: Frame) {
        let Frame { kind, body, raw } = frame;
        let malformed = match (to, kind) {
            (End::Node(node), KIND_GREETING) => Greeting::decode(&body).map(|greeting| {
                if let Some(Exchange { asker, .. }) = self.network.exchange(lane)
                    && self.hosts[node].is_honest()
                {
                    self.checker.greeted(node, lane, asker);
                }
                let greeting = Box::new(greeting);
                self.tell(node, Input::Greeting { link, lane, greeting });
            }),
            (End::Node(node), KIND_REQUEST) => Request::decode(&body).map(|request| {
                if matches!(request, Request::Put { .. }) {
                    self.hosts[node].raw.insert(lane, Raw { link, bytes: raw });
                }
                if let Some(Exchange { asker, .. }) = self.network.exchange(lane)
                    && self.hosts[node].is_honest()
                {
                    let device = match asker {
                        End::Client(client) => Some(self.clients[client].device()),
                        End::Node(_) => None,
                    };
                    let at = (node, &self.hosts[node]);
                    self.checker.asked(self.now, at, lane, (asker, device), &request);
                }
                let request = Box::new(request);
                self.tell(node, Input::Request { link, lane, request });
            }),
            (_, KIND_RESPONSE) => Response::decode(&body).map(|response| {
                self.answered(to, link, lane, response, raw);
            }),
            (_, kind) => Err(CodecError::Malformed(format!("a frame of kind {kind}"))),
        };
        if let (End::Node(node), Err(error)) = (to, malformed) {
            self.tell(node, Input::Malformed { link, reason: error.to_string() });
        }
    }

    fn answered(&mut self, to: End, link: LinkId, lane: LaneId, response: Response, raw: Vec<u8>) {
        let Some(Exchange { call, .. }) = self.network.close(lane) else { return };
        match (to, call) {
            (End::Node(node), Some(call)) => {
                let response = Some(Box::new(response));
                self.tell(node, Input::Answer { call, response });
            }
            (End::Client(client), _) => {
                self.clients[client].handle_response(self.now, link, response, raw);
                self.act(client);
            }
            (End::Node(_), None) => self.errand_answered(lane, Some(response), raw),
        }
    }

    pub(super) fn received(&mut self, node: usize, lane: LaneId) {
        if let Some(Raw { bytes, .. }) = self.hosts[node].raw.remove(&lane) {
            let shard = ShardId(*blake3::hash(&bytes).as_bytes());
            self.hosts[node].disk.receive(lane, bytes);
            self.tell(node, Input::Received { lane, shard });
        }
    }

    pub(super) fn broken(&mut self, link: LinkId) {
        let Some((ends, lost)) = self.network.remove(link) else { return };
        for end in ends {
            match end {
                End::Node(node) => self.disconnect(node, link),
                End::Client(client) => {
                    self.clients[client].handle_disconnected(self.now, link);
                    self.act(client);
                }
            }
        }
        for (lane, exchange) in lost {
            self.give_up(lane, exchange);
        }
    }

    /// Tells a node that a connection is gone, and with it the bytes that were arriving.
    fn disconnect(&mut self, node: usize, link: LinkId) {
        let raw = &self.hosts[node].raw;
        let cut: Vec<LaneId> =
            raw.iter().filter(|(_, raw)| raw.link == link).map(|(&lane, _)| lane).collect();
        for lane in cut {
            self.hosts[node].raw.remove(&lane);
            let refusal =
                Refusal { code: RefusalCode::Internal, text: "the connection ended".into() };
            self.tell(node, Input::ReceiveFailed { lane, refusal });
        }
        self.tell(node, Input::Disconnected(link));
    }
}
