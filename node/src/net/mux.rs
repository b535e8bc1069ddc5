//! yamux, set as libp2p's own binding does not let it be set: large frames, and a bound on what a connection
//! may hold in memory.
//!
//! Streams are those of <https://github.com/hashicorp/yamux/blob/master/spec.md>; with frames of 16 KiB, the
//! default, cutting and scheduling them costs as much as encrypting them.

use futures::future::{Ready, ready};
use futures::{AsyncRead, AsyncWrite, ready};
use libp2p::core::UpgradeInfo;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use yamux::{Connection, ConnectionError, Mode, Stream};

/// Bytes of a frame at most; the other side takes up to 1 MiB.
const FRAME: usize = 256 << 10;
/// Streams of a connection: lanes of both sides, 16 each at most, libp2p's own, and what was just refused. Each lets the
/// other side, a stranger too, leave 256 KiB here that nobody reads.
const STREAMS: usize = 96;
/// Bytes that the other side may send before they are read, of all streams together: what yamux gives each
/// stream to begin with, and what it adds to those that are read quickly. 1 Gbit/s at 80 ms needs 10 to 20 MiB.
const WINDOW: usize = STREAMS * (256 << 10) + (32 << 20);
/// Streams that wait to be taken; more are closed at once.
const WAITING: usize = 24;

/// The upgrade of a connection to many streams.
#[derive(Debug, Clone)]
pub(super) struct Yamux(yamux::Config);

impl Yamux {
    pub(super) fn new() -> Self {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(STREAMS);
        config.set_max_connection_receive_window(Some(WINDOW));
        config.set_split_send_size(FRAME);
        Self(config)
    }
}

/// A connection of many streams.
pub(super) struct Muxer<C> {
    connection: Connection<C>,
    /// Streams that came while something else was wanted: yamux moves on only by taking them.
    inbound: VecDeque<Stream>,
    waker: Option<Waker>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Muxer<C> {
    fn new(socket: C, config: yamux::Config, mode: Mode) -> Self {
        let connection = Connection::new(socket, config, mode);
        Self { connection, inbound: VecDeque::new(), waker: None }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stream, ConnectionError>> {
        let next = ready!(self.connection.poll_next_inbound(cx));
        Poll::Ready(next.unwrap_or(Err(ConnectionError::Closed)))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Muxer<C> {
    type Substream = Stream;
    type Error = ConnectionError;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Stream, ConnectionError>> {
        if let Some(stream) = self.inbound.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        if let Poll::Ready(next) = self.poll_next(cx) {
            return Poll::Ready(next);
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Stream, ConnectionError>> {
        self.connection.poll_new_outbound(cx)
    }

    fn poll_close(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ConnectionError>> {
        self.connection.poll_close(cx)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, ConnectionError>> {
        let stream = ready!(self.poll_next(cx))?;
        if self.inbound.len() < WAITING {
            self.inbound.push_back(stream);
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
        // There may be more: others get their turn first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl UpgradeInfo for Yamux {
    type Info = &'static str;
    type InfoIter = std::iter::Once<Self::Info>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once("/yamux/1.0.0")
    }
}

impl<C> InboundConnectionUpgrade<C> for Yamux
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = Muxer<C>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, socket: C, _: Self::Info) -> Self::Future {
        ready(Ok(Muxer::new(socket, self.0, Mode::Server)))
    }
}

impl<C> OutboundConnectionUpgrade<C> for Yamux
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = Muxer<C>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Self::Error>>;

    fn upgrade_outbound(self, socket: C, _: Self::Info) -> Self::Future {
        ready(Ok(Muxer::new(socket, self.0, Mode::Client)))
    }
}
