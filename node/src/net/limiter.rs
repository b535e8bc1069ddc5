//! How many handshakes an address may begin: a token bucket for each, before any cryptography.

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Addresses remembered; beyond it the fullest buckets, which limit nobody, are forgotten.
const ADDRESSES_MAX: usize = 4096;

#[derive(Debug)]
pub(super) struct Limiter {
    per_minute: u32,
    buckets: BTreeMap<IpAddr, (f64, Instant)>,
}

impl Limiter {
    pub(super) fn new(per_minute: u32) -> Self {
        Self { per_minute, buckets: BTreeMap::new() }
    }

    /// Whether this address may begin another handshake now. IPv6 counts by /64: that is what one
    /// customer has.
    pub(super) fn allows(&mut self, address: &Multiaddr, now: Instant) -> bool {
        let Some(ip) = ip_of(address) else { return true };
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

    #[test]
    fn one_address_cannot_use_up_the_handshakes_of_others() {
        let mut limiter = Limiter::new(60);
        let now = Instant::now();
        let one: Multiaddr = "/ip4/192.0.2.1/tcp/1".parse().unwrap();
        let other: Multiaddr = "/ip4/192.0.2.2/tcp/1".parse().unwrap();
        assert_eq!((0..100).filter(|_| limiter.allows(&one, now)).count(), 60);
        assert!(limiter.allows(&other, now));
        assert!(limiter.allows(&one, now + Duration::from_secs(2)));
    }

    #[test]
    fn a_flood_of_addresses_is_bounded() {
        let mut limiter = Limiter::new(60);
        let now = Instant::now();
        for i in 0..10_000u32 {
            let ip = std::net::Ipv4Addr::from(i);
            limiter.allows(&Multiaddr::from(ip), now);
        }
        assert!(limiter.buckets.len() <= ADDRESSES_MAX);
    }
}
