//! A link that is long, narrow or loses packets: two network namespaces, a TUN device in each, and threads here
//! that carry packets between them as `netem` would, which not every kernel has.

use rustix::fs::{Mode, OFlags};
use std::collections::VecDeque;
use std::ffi::c_int;
use std::fs::File;
use std::io::{Read, Write};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Bytes of a packet at most: few large ones, so that carrying them costs little.
const MTU: usize = 9000;
/// Packets wait for a narrow link as long as this; what does not fit is lost.
const QUEUE: Duration = Duration::from_millis(100);

/// How a link is, in each direction.
#[derive(Debug, Clone, Copy)]
pub struct LinkKind {
    /// How long a packet is under way.
    pub delay: Duration,
    /// Of so many packets one is lost; of 0 none.
    pub loss: u32,
    /// Bits per second; 0 is as much as this machine can carry.
    pub rate: u64,
}

/// The two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Where the owner is.
    Near,
    /// The other one.
    Far,
}

/// A link between two namespaces, which end with it.
#[derive(Debug)]
pub struct Link {
    state: Arc<State>,
    names: [String; 2],
}

#[derive(Debug)]
struct State {
    loss: AtomicU32,
    is_up: AtomicBool,
    ended: AtomicBool,
    carried: AtomicU64,
}

/// Packets on their way in one direction, and when each arrives.
#[derive(Debug, Default)]
struct Way {
    packets: Mutex<VecDeque<(Instant, Vec<u8>)>>,
    more: Condvar,
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{program} {arguments:?}: {said}")) }
}

/// Opens a new TUN device of this name.
fn open_tun(name: &str) -> Result<File, String> {
    const IFF_TUN_NO_PI: i16 = 0x1001;
    const SET_IFF: rustix::ioctl::Opcode = rustix::ioctl::opcode::write::<c_int>(b'T', 202);
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let tun = rustix::fs::open("/dev/net/tun", flags, Mode::empty())
        .map_err(|error| format!("/dev/net/tun: {error}"))?;
    let mut request = [0u8; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[16..18].copy_from_slice(&IFF_TUN_NO_PI.to_ne_bytes());
    // SAFETY: TUNSETIFF reads a `struct ifreq`, which is 40 bytes long, and keeps no pointer to it.
    #[allow(unsafe_code)]
    let set = unsafe {
        rustix::ioctl::ioctl(&tun, rustix::ioctl::Setter::<SET_IFF, [u8; 40]>::new(request))
    };
    set.map_err(|error| format!("TUNSETIFF: {error}"))?;
    Ok(tun.into())
}

impl Link {
    /// Sets a link up. Where that cannot be done, it says so and gives none: without root, `ip` or TUN devices.
    /// With `STREWN_REQUIRE_ALL`, root without them is a failure.
    ///
    /// # Panics
    /// When it is required and cannot be had.
    #[must_use]
    pub fn new(kind: LinkKind) -> Option<Self> {
        let made = Self::try_new(kind);
        if let Err(why) = &made {
            assert!(
                std::env::var_os("STREWN_REQUIRE_ALL").is_none(),
                "a link of one's own is required and cannot be had: {why}"
            );
            println!("skipped: no link of one's own can be had here: {why}");
        }
        made.ok()
    }

    fn try_new(kind: LinkKind) -> Result<Self, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        let pid = std::process::id();
        let names = ["n", "f"].map(|end| format!("st{pid}{end}{number}"));
        let state = State {
            loss: kind.loss.into(),
            is_up: true.into(),
            ended: false.into(),
            carried: 0.into(),
        };
        let link = Self { state: Arc::new(state), names };
        let mut tuns = Vec::new();
        for (name, (own, other)) in
            link.names.iter().zip([("10.99.0.1", "10.99.0.2"), ("10.99.0.2", "10.99.0.1")])
        {
            tuns.push(open_tun(name)?);
            run("ip", &["netns", "add", name])?;
            run("ip", &["link", "set", name, "netns", name])?;
            let inside = |arguments: &[&str]| run("ip", &[&["-n", name][..], arguments].concat());
            inside(&["link", "set", "lo", "up"])?;
            inside(&["addr", "add", own, "peer", other, "dev", name])?;
            let mtu = MTU.to_string();
            inside(&["link", "set", name, "mtu", &mtu, "txqueuelen", "10000", "up"])?;
        }
        let [near, far] = [Arc::new(tuns.remove(0)), Arc::new(tuns.remove(0))];
        link.carry(kind, &near, &far);
        link.carry(kind, &far, &near);
        Ok(link)
    }

    /// Carries packets in one direction, until the link ends.
    fn carry(&self, kind: LinkKind, from: &Arc<File>, to: &Arc<File>) {
        let way = Arc::new(Way::default());
        let (from, to, state, filled) =
            (Arc::clone(from), Arc::clone(to), Arc::clone(&self.state), Arc::clone(&way));
        let ended = Arc::clone(&self.state);
        std::thread::spawn(move || fill(kind, &from, &filled, &state));
        std::thread::spawn(move || empty(&to, &way, &ended));
    }

    /// The name of the namespace at an end, and its address.
    #[must_use]
    pub fn end(&self, end: End) -> (&str, &'static str) {
        match end {
            End::Near => (&self.names[0], "10.99.0.1"),
            End::Far => (&self.names[1], "10.99.0.2"),
        }
    }

    /// Cuts the link, without a word to either end, or joins it again.
    pub fn set_up(&self, is_up: bool) {
        self.state.is_up.store(is_up, Relaxed);
    }

    /// Bytes that arrived at either end so far.
    #[must_use]
    pub fn carried(&self) -> u64 {
        self.state.carried.load(Relaxed)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.state.ended.store(true, Relaxed);
        for name in &self.names {
            // What is in it goes with it; it may never have been made.
            let _ = run("ip", &["-n", name, "link", "delete", name]);
            let _ = run("ip", &["netns", "delete", name]);
        }
    }
}

/// Reads packets, and decides when each arrives, if it does.
fn fill(kind: LinkKind, from: &File, way: &Way, state: &State) {
    let mut packet = vec![0; MTU + 64];
    let (mut free, mut drawn) = (Instant::now(), 1u64);
    // The device goes when the link is dropped.
    while let Ok(len) = (&*from).read(&mut packet) {
        if state.ended.load(Relaxed) {
            break;
        }
        drawn ^= drawn << 13;
        drawn ^= drawn >> 7;
        drawn ^= drawn << 17;
        let loss = u64::from(state.loss.load(Relaxed));
        let is_lost = loss > 0 && drawn.is_multiple_of(loss);
        let now = Instant::now();
        let begins = free.max(now);
        if is_lost || !state.is_up.load(Relaxed) || begins - now > QUEUE {
            continue;
        }
        if let Some(nanos) = (len as u64 * 8 * 1_000_000_000).checked_div(kind.rate) {
            free = begins + Duration::from_nanos(nanos);
        }
        let arrives = begins + kind.delay;
        let mut packets = way.packets.lock().expect("no thread of this panics");
        packets.push_back((arrives, packet[..len].to_vec()));
        way.more.notify_one();
    }
}

/// Writes packets when they arrive.
fn empty(to: &File, way: &Way, state: &State) {
    while !state.ended.load(Relaxed) {
        let mut packets = way.packets.lock().expect("no thread of this panics");
        let Some((arrives, _)) = packets.front() else {
            let waited = way.more.wait_timeout(packets, Duration::from_millis(100));
            drop(waited.expect("no thread of this panics"));
            continue;
        };
        let left = arrives.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            drop(packets);
            std::thread::sleep(left);
            continue;
        }
        let Some((_, packet)) = packets.pop_front() else { continue };
        drop(packets);
        if state.is_up.load(Relaxed) && (&*to).write(&packet).is_ok() {
            state.carried.fetch_add(packet.len() as u64, Relaxed);
        }
    }
}
