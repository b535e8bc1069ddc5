//! How many handshakes an address may begin and have under way, before any cryptography.
//!
//! A token bucket for each address bounds what it costs; the bound on those under way keeps one address from
//! taking all the places that there are for handshakes.

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::ConnectionId;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Addresses remembered; beyond it the fullest buckets, which limit nobody, are forgotten.
const ADDRESSES_MAX: usize = 4096;

#[derive(Debug)]
pub(super) struct Limiter {
    per_minute: u32,
    at_once: usize,
    buckets: BTreeMap<IpAddr, (f64, Instant)>,
    under_way: BTreeMap<ConnectionId, IpAddr>,
}

impl Limiter {
    pub(super) fn new(per_minute: u32, at_once: usize) -> Self {
        Self { per_minute, at_once, buckets: BTreeMap::new(), under_way: BTreeMap::new() }
    }

    /// Whether this address may begin another handshake now; it is under way then until
    /// [`Limiter::end`]. IPv6 counts by /64: that is what one customer has.
    pub(super) fn begin(
        &mut self,
        connection: ConnectionId,
        address: &Multiaddr,
        now: Instant,
    ) -> bool {
        let Some(ip) = ip_of(address) else { return true };
        if !self.take_token(ip, now) {
            return false;
        }
        if self.under_way.values().filter(|&&other| other == ip).count() >= self.at_once {
            return false;
        }
        self.under_way.insert(connection, ip);
        true
    }

    /// A handshake is done, or has failed.
    pub(super) fn end(&mut self, connection: ConnectionId) {
        self.under_way.remove(&connection);
    }

    fn take_token(&mut self, ip: IpAddr, now: Instant) -> bool {
        let full = f64::from(self.per_minute);
        if self.buckets.len() >= ADDRESSES_MAX {
            let minute = Duration::from_secs(60);
            self.buckets.retain(|_, (_, at)| now.duration_since(*at) < minute);
            if self.buckets.len() >= ADDRESSES_MAX && !self.buckets.contains_key(&ip) {
                return false;
            }
        }
        let (tokens, at) = self.buckets.entry(ip).or_insert((full, now));
        let earned = now.duration_since(*at).as_secs_f64() * full / 60.0;
        *tokens = (*tokens + earned).min(full);
        *at = now;
        if *tokens < 1.0 {
            return false;
        }
        *tokens -= 1.0;
        true
    }
}

fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    address.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(IpAddr::V6((u128::from(ip) & !u128::from(u64::MAX)).into())),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    #[test]
    fn one_address_cannot_use_up_the_handshakes_of_others() {
        let mut limiter = Limiter::new(60, 1000);
        let now = Instant::now();
        let one: Multiaddr = "/ip4/192.0.2.1/tcp/1".parse().unwrap();
        let other: Multiaddr = "/ip4/192.0.2.2/tcp/1".parse().unwrap();
        assert_eq!((0..100).filter(|&c| limiter.begin(connection(c), &one, now)).count(), 60);
        assert!(limiter.begin(connection(100), &other, now));
        assert!(limiter.begin(connection(101), &one, now + Duration::from_secs(2)));
    }

    #[test]
    fn one_address_has_few_handshakes_under_way() {
        let mut limiter = Limiter::new(60, 4);
        let now = Instant::now();
        let one: Multiaddr = "/ip4/192.0.2.1/tcp/1".parse().unwrap();
        let other: Multiaddr = "/ip4/192.0.2.2/tcp/1".parse().unwrap();
        assert_eq!((0..10).filter(|&c| limiter.begin(connection(c), &one, now)).count(), 4);
        assert!(limiter.begin(connection(10), &other, now));
        limiter.end(connection(2));
        // What was refused ends as well, and frees nothing.
        limiter.end(connection(7));
        assert_eq!((11..20).filter(|&c| limiter.begin(connection(c), &one, now)).count(), 1);
    }

    #[test]
    fn a_flood_of_addresses_is_bounded() {
        let mut limiter = Limiter::new(60, 4);
        let now = Instant::now();
        for i in 0..10_000u32 {
            let ip = std::net::Ipv4Addr::from(i);
            limiter.begin(connection(i as usize), &Multiaddr::from(ip), now);
        }
        assert!(limiter.buckets.len() <= ADDRESSES_MAX);
    }
}
