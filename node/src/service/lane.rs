//! One inbound lane: reads requests, hands them to the core, does what it orders.

use super::core::{Event, Shared, refusal_of};
use crate::net::{Lane, LaneError};
use crate::store::{ShardBytes, StoreError};
use protocol::id::ShardId;
use protocol::message::{Greeting, KIND_GREETING, KIND_REQUEST, Request, Response, frame_len_max};
use protocol::peer::{Input, LaneId, LinkId};
use protocol::time::Period;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::block_in_place;

/// Bytes that are read and forgotten at once.
const PIECE: usize = 256 << 10;
/// At a limited rate a read waits so long for its turn; then it is told to come again.
const TURN: Duration = Duration::from_secs(5);
/// What was sent on a connection that is about to be closed gets so long to arrive.
const LINGER: Duration = Duration::from_millis(300);

/// What the core orders.
#[derive(Debug)]
pub(super) enum Order {
    Reply { response: Box<Response>, close: bool },
    Receive { len: u32, wait: Period },
    Discard { len: u32, response: Box<Response> },
    Transmit { shard: ShardId, offset: u32, len: u32, wait: Period },
}

pub(super) async fn serve(shared: Arc<Shared>, link: LinkId, id: LaneId, lane: Lane) {
    let (orders, inbox) = unbounded_channel();
    shared.tell(Event::LaneOpened(id, orders));
    let mut serving = Serving { shared: Arc::clone(&shared), link, id, lane, inbox };
    let ended = serving.run().await;
    shared.tell(Event::LaneClosed(id));
    if let Err(error) = ended
        && error.is_malformed()
    {
        shared.tell(Event::Input(Input::Malformed { link, reason: error.to_string() }));
    }
}

/// Bytes of partners keep to a pace: the peer says for how long each lot waits.
async fn pause(wait: Period) {
    if wait > Period(0) {
        tokio::time::sleep(Duration::from_millis(wait.0)).await;
    }
}

struct Serving {
    shared: Arc<Shared>,
    link: LinkId,
    id: LaneId,
    lane: Lane,
    inbox: UnboundedReceiver<Order>,
}

impl Serving {
    async fn run(&mut self) -> Result<(), LaneError> {
        loop {
            let (shared, link) = (Arc::clone(&self.shared), self.link);
            let frame = self
                .lane
                .recv_frame_idle(None, |kind| match kind {
                    KIND_REQUEST if shared.is_vouched(link) => frame_len_max(kind),
                    // A request among them is refused by the peer, for want of a greeting.
                    KIND_GREETING | KIND_REQUEST => frame_len_max(KIND_GREETING),
                    _ => None,
                })
                .await;
            let frame = match frame {
                Ok(frame) => frame,
                Err(LaneError::Closed | LaneError::Gone) => return Ok(()),
                Err(error) => return Err(error),
            };
            let (link, lane) = (self.link, self.id);
            let input = if frame.kind == KIND_GREETING {
                let greeting = Greeting::decode(&frame.body);
                greeting.map(|greeting| Input::Greeting {
                    link,
                    lane,
                    greeting: Box::new(greeting),
                })
            } else {
                let request = Request::decode(&frame.body);
                request.map(|request| Input::Request { link, lane, request: Box::new(request) })
            };
            drop(frame);
            match input {
                Ok(input) => self.shared.tell(Event::Input(input)),
                Err(error) => {
                    self.shared
                        .tell(Event::Input(Input::Malformed { link, reason: error.to_string() }));
                    return Ok(());
                }
            }
            if !self.obey().await? {
                return Ok(());
            }
        }
    }

    /// Does what is ordered until the request is answered. False when the connection ends with it.
    async fn obey(&mut self) -> Result<bool, LaneError> {
        loop {
            // The core lets go of a lane only when the connection is closed.
            let Some(order) = self.inbox.recv().await else { return Ok(false) };
            match order {
                Order::Reply { response, close } => {
                    if matches!(*response, Response::Welcome { .. }) {
                        self.shared.vouch(self.link);
                    }
                    self.respond(*response).await?;
                    if close {
                        tokio::time::sleep(LINGER).await;
                        self.shared.net.close(self.link);
                    }
                    return Ok(!close);
                }
                Order::Receive { len, wait } => {
                    pause(wait).await;
                    self.receive(len).await?;
                }
                Order::Discard { len, response } => {
                    drop(self.shared.take_arrived(self.id));
                    self.drain(len).await?;
                    self.respond(*response).await?;
                    return Ok(true);
                }
                Order::Transmit { shard, offset, len, wait } => {
                    pause(wait).await;
                    self.transmit(shard, offset, len).await?;
                    return Ok(true);
                }
            }
        }
    }

    async fn respond(&mut self, response: Response) -> Result<(), LaneError> {
        let (kind, body) = response.encode();
        // Whoever does not read it lets it lie here, once and not twice.
        drop(response);
        self.lane.send_frame(kind, &body).await
    }

    async fn drain(&mut self, len: u32) -> Result<(), LaneError> {
        let mut left = len as usize;
        let mut buffer = vec![0; PIECE.min(left)];
        while left > 0 {
            let piece = PIECE.min(left);
            self.lane.recv_exact(&mut buffer[..piece]).await?;
            left -= piece;
        }
        Ok(())
    }

    async fn receive(&mut self, len: u32) -> Result<(), LaneError> {
        // A disk that is slow holds up this lane and no other.
        let mut incoming = block_in_place(|| self.shared.store.begin(len));
        let mut left = len;
        while left > 0
            && let Ok(file) = &mut incoming
        {
            let room = file.room();
            let count = room.len();
            self.lane.recv_exact(room).await?;
            left -= count as u32;
            if let Err(error) = block_in_place(|| file.take(count)) {
                incoming = Err(error);
            }
        }
        // After a failure the rest is read and forgotten, so that the answer is heard.
        self.drain(left).await?;
        let named = incoming.and_then(|file| Ok((file.name()?, file)));
        let input = match named {
            Ok((shard, file)) => {
                self.shared
                    .arrived
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(self.id, file);
                Input::Received { lane: self.id, shard }
            }
            Err(error) => {
                tracing::warn!(%error, "a shard could not be taken");
                Input::ReceiveFailed { lane: self.id, refusal: refusal_of(&error) }
            }
        };
        self.shared.tell(Event::Input(input));
        Ok(())
    }

    async fn transmit(&mut self, shard: ShardId, offset: u32, len: u32) -> Result<(), LaneError> {
        let Ok(_turn) = tokio::time::timeout(TURN, self.lane.upload_turn()).await else {
            return self.respond(Response::Busy { retry_after: Period::seconds(2) }).await;
        };
        let store = &self.shared.store;
        let opened = block_in_place(|| store.shard(shard)?.bytes(offset, len));
        let first = match opened {
            Ok(bytes) => advance(bytes).await,
            Err(error) => Err(error),
        };
        let mut bytes = match first {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::error!(%error, "a shard cannot be read");
                return self.respond(Response::Refused(refusal_of(&error))).await;
            }
        };
        let (kind, body) = Response::Bytes { len }.encode();
        self.lane.send_frame(kind, &body).await?;
        while !bytes.piece().is_empty() {
            self.lane.send_bytes(bytes.piece()).await?;
            bytes = match advance(bytes).await {
                Ok(bytes) => bytes,
                Err(error) => {
                    // The bytes were promised: ending the stream is all that can be said now.
                    tracing::error!(%error, "a shard cannot be read");
                    return Err(LaneError::Closed);
                }
            };
        }
        self.lane.flush().await
    }
}

/// Reads the next piece where a slow disk holds up nobody else.
async fn advance(mut bytes: ShardBytes) -> Result<ShardBytes, StoreError> {
    let read = tokio::task::spawn_blocking(move || bytes.advance().map(|()| bytes));
    read.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}
