//! A lane: one stream, used by one task, strictly alternating. Frames and raw bytes under a watchdog.

use super::rate::{Rate, Turn, turn};
use super::{Counters, LinkId};
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::Stream;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Version of frames.
const VERSION: u8 = 1;
/// Length of a frame's head.
const HEAD_LEN: usize = 6;
/// Raw bytes written at once at least: smaller writes cost two to three times the time.
const PIECE_MIN: usize = 64 << 10;
/// And at most: a frame of yamux. Only where a link is quick: on a slow one that many lanes share, such a piece could take
/// longer than the watchdog waits.
const PIECE_MAX: usize = 256 << 10;
/// A piece that took no longer than this may be followed by one twice as long.
const QUICK: Duration = Duration::from_millis(100);

/// Why a lane ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaneError {
    /// The other side ended it.
    #[error("the other side ended the stream")]
    Closed,
    /// Nothing moved for too long; the link was closed.
    #[error("nothing moved for {0:?}")]
    Stalled(Duration),
    /// The link is gone.
    #[error("the connection was lost")]
    Gone,
    /// The stream failed.
    #[error("the stream failed: {0}")]
    Io(#[from] io::Error),
    /// A frame of another version.
    #[error("a frame of version {0}, this software knows {VERSION}")]
    Version(u8),
    /// A frame of a kind that is not expected here.
    #[error("a frame of unexpected kind {0}")]
    Kind(u8),
    /// A frame that is too long.
    #[error("a frame of {len} bytes, at most {max} allowed")]
    TooLong {
        /// Its length.
        len: usize,
        /// What is allowed.
        max: usize,
    },
}

impl LaneError {
    /// Whether the connection was lost, rather than what came over it wrong or too slow.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Closed | Self::Gone | Self::Io(_))
    }

    /// Whether the other side sent what is no frame, rather than nothing.
    #[must_use]
    pub fn is_malformed(&self) -> bool {
        matches!(self, Self::Version(_) | Self::Kind(_) | Self::TooLong { .. })
    }
}

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its kind.
    pub kind: u8,
    /// Its body.
    pub body: Vec<u8>,
}

/// Counts the lanes of a link while they live.
#[derive(Debug)]
pub(super) struct LaneCount(Arc<AtomicUsize>);

impl LaneCount {
    /// One lane more, unless there are `max` already.
    pub(super) fn take(count: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        if count.fetch_add(1, Ordering::Relaxed) >= max {
            count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Self(Arc::clone(count)))
    }
}

impl Drop for LaneCount {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a lane needs to know of its link.
#[derive(Debug, Clone)]
pub(super) struct LinkHandle {
    pub(super) link: LinkId,
    /// Turns true when the link is gone: readers are not always woken then (rust-yamux issue 216).
    pub(super) gone: watch::Receiver<bool>,
    /// Weak: a lane does not keep the network up.
    pub(super) close: tokio::sync::mpsc::WeakUnboundedSender<super::driver::Command>,
    pub(super) stall: Duration,
    pub(super) upload: Option<Rate>,
    pub(super) download: Option<Rate>,
    pub(super) counters: Arc<Counters>,
}

/// One stream. Never split in halves.
#[derive(Debug)]
pub struct Lane {
    stream: Stream,
    link: LinkHandle,
    _count: Option<LaneCount>,
}

impl Lane {
    pub(super) fn new(stream: Stream, link: LinkHandle, count: Option<LaneCount>) -> Self {
        Self { stream, link, _count: count }
    }

    /// The link that it runs on.
    #[must_use]
    pub fn link(&self) -> LinkId {
        self.link.link
    }

    /// Waits until a transfer from this side may begin: at a low rate only some go on at once.
    pub fn upload_turn(&self) -> impl Future<Output = Turn> + Send + use<> {
        turn(self.link.upload.clone())
    }

    /// Waits until a transfer to this side may begin.
    pub fn download_turn(&self) -> impl Future<Output = Turn> + Send + use<> {
        turn(self.link.download.clone())
    }

    /// Sends a frame and flushes it.
    pub async fn send_frame(&mut self, kind: u8, body: &[u8]) -> Result<(), LaneError> {
        let len = u32::try_from(body.len())
            .map_err(|_| LaneError::TooLong { len: body.len(), max: u32::MAX as usize })?;
        let mut head = [0; HEAD_LEN];
        head[0] = VERSION;
        head[1] = kind;
        head[2..].copy_from_slice(&len.to_le_bytes());
        // Small frames leave in one write.
        if body.len() <= PIECE_MIN {
            let mut frame = Vec::with_capacity(HEAD_LEN + body.len());
            frame.extend_from_slice(&head);
            frame.extend_from_slice(body);
            self.send_bytes(&frame).await?;
        } else {
            self.send_bytes(&head).await?;
            self.send_bytes(body).await?;
        }
        self.flush().await
    }

    /// Receives a frame. `len_max` says how long a body of a kind may be, or that there is no such
    /// kind here; it is asked before anything is allocated.
    pub async fn recv_frame(
        &mut self,
        len_max: impl Fn(u8) -> Option<usize>,
    ) -> Result<Frame, LaneError> {
        let mut head = [0; HEAD_LEN];
        self.recv_exact(&mut head).await?;
        self.recv_body(head, len_max).await
    }

    /// As [`Lane::recv_frame`], and waits for the frame to begin for as long as the link is up (`None`),
    /// or for a time.
    pub async fn recv_frame_idle(
        &mut self,
        idle: Option<Duration>,
        len_max: impl Fn(u8) -> Option<usize>,
    ) -> Result<Frame, LaneError> {
        let mut head = [0; HEAD_LEN];
        let first = {
            let mut gone = self.link.gone.clone();
            let read = self.stream.read(&mut head[..1]);
            let wait = async {
                match idle {
                    Some(idle) => {
                        tokio::time::timeout(idle, read).await.map_err(|_| LaneError::Closed)?
                    }
                    None => read.await,
                }
                .map_err(LaneError::from)
            };
            tokio::select! {
                first = wait => first?,
                () = until_gone(&mut gone) => return Err(LaneError::Gone),
            }
        };
        if first == 0 {
            return Err(LaneError::Closed);
        }
        self.recv_exact(&mut head[1..]).await?;
        self.recv_body(head, len_max).await
    }

    async fn recv_body(
        &mut self,
        head: [u8; HEAD_LEN],
        len_max: impl Fn(u8) -> Option<usize>,
    ) -> Result<Frame, LaneError> {
        let [version, kind, len @ ..] = head;
        if version != VERSION {
            return Err(LaneError::Version(version));
        }
        let max = len_max(kind).ok_or(LaneError::Kind(kind))?;
        let len = u32::from_le_bytes(len) as usize;
        if len > max {
            return Err(LaneError::TooLong { len, max });
        }
        let mut body = vec![0; len];
        self.recv_exact(&mut body).await?;
        Ok(Frame { kind, body })
    }

    /// Sends raw bytes.
    pub async fn send_bytes(&mut self, mut bytes: &[u8]) -> Result<(), LaneError> {
        let mut len = PIECE_MIN;
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(len.min(bytes.len()));
            if let Some(rate) = &self.link.upload {
                rate.pass(piece.len()).await;
            }
            let begin = Instant::now();
            let write = self.stream.write_all(piece);
            watched(&self.link, write).await?;
            let is_quick = self.link.upload.is_none() && begin.elapsed() <= QUICK;
            len = if is_quick { (2 * len).min(PIECE_MAX) } else { PIECE_MIN };
            bytes = rest;
        }
        Ok(())
    }

    /// Receives as many raw bytes as `buffer` is long.
    pub async fn recv_exact(&mut self, buffer: &mut [u8]) -> Result<(), LaneError> {
        for piece in buffer.chunks_mut(PIECE_MIN) {
            if let Some(rate) = &self.link.download {
                rate.pass(piece.len()).await;
            }
            let read = self.stream.read_exact(piece);
            watched(&self.link, read).await?;
        }
        Ok(())
    }

    /// Sends what is buffered on its way.
    pub async fn flush(&mut self) -> Result<(), LaneError> {
        let flush = self.stream.flush();
        watched(&self.link, flush).await
    }

    /// Ends the lane in order. Dropping it right after writing would lose what was written.
    pub async fn close(mut self) -> Result<(), LaneError> {
        let close = self.stream.close();
        watched(&self.link, close).await
    }
}

async fn until_gone(gone: &mut watch::Receiver<bool>) {
    // The sender goes with the driver: then the link is gone as well.
    let _ = gone.wait_for(|gone| *gone).await;
}

/// One step of a transfer: it ends in time, or the link does.
async fn watched<T>(
    link: &LinkHandle,
    step: impl Future<Output = io::Result<T>>,
) -> Result<T, LaneError> {
    let mut gone = link.gone.clone();
    tokio::select! {
        biased;
        done = tokio::time::timeout(link.stall, step) => match done {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Err(LaneError::Closed),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => {
                Counters::count(&link.counters.stalls);
                if let Some(close) = link.close.upgrade() {
                    // When the driver has ended, the link has too.
                    let _ = close.send(super::driver::Command::Close(link.link));
                }
                Err(LaneError::Stalled(link.stall))
            }
        },
        () = until_gone(&mut gone) => Err(LaneError::Gone),
    }
}
