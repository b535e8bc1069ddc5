//! Where a node is, as people write it: a multiaddr, or a host with or without a port.

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use std::net::IpAddr;
use std::str::FromStr;

/// The port that nodes listen on when nothing else is said.
const PORT: u16 = 7440;

/// An address of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(pub Multiaddr);

impl FromStr for Address {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no address: write /ip4/192.0.2.10/tcp/7440, 192.0.2.10:7440 or node.example.org"
            )
        };
        if text.starts_with('/') {
            let address: Multiaddr = text.parse().map_err(|_| wrong())?;
            return if address.is_empty() { Err(wrong()) } else { Ok(Self(address)) };
        }
        let (host, port) = split(text).ok_or_else(wrong)?;
        let address = match host.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => format!("/ip4/{ip}/tcp/{port}"),
            Ok(IpAddr::V6(ip)) => format!("/ip6/{ip}/tcp/{port}"),
            Err(_) if is_name(host) => format!("/dns/{host}/tcp/{port}"),
            Err(_) => return Err(wrong()),
        };
        address.parse().map(Self).map_err(|_| wrong())
    }
}

/// Host and port; an IPv6 address with a port stands in brackets.
fn split(text: &str) -> Option<(&str, u16)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        return match port.strip_prefix(':') {
            Some(port) => Some((host, port.parse().ok()?)),
            None => port.is_empty().then_some((host, PORT)),
        };
    }
    match text.split_once(':') {
        Some((host, port)) if !port.contains(':') => Some((host, port.parse().ok()?)),
        _ => Some((text, PORT)),
    }
}

/// The IP address that one begins with.
pub(crate) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(address) => Some(address.into()),
        Protocol::Ip6(address) => Some(address.into()),
        _ => None,
    }
}

fn is_name(host: &str) -> bool {
    let fits = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'.';
    (1..=253).contains(&host.len()) && host.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, expected) in [
            ("/ip4/192.0.2.1/udp/7440/quic-v1", "/ip4/192.0.2.1/udp/7440/quic-v1"),
            ("192.0.2.1:99", "/ip4/192.0.2.1/tcp/99"),
            ("192.0.2.1", "/ip4/192.0.2.1/tcp/7440"),
            ("node.example.org", "/dns/node.example.org/tcp/7440"),
            ("node:1", "/dns/node/tcp/1"),
            ("::1", "/ip6/::1/tcp/7440"),
            ("[2001:db8::1]:99", "/ip6/2001:db8::1/tcp/99"),
            ("[2001:db8::1]", "/ip6/2001:db8::1/tcp/7440"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().0.to_string(), expected);
        }
        for wrong in
            ["", "/", "/ip4/x", "a b", "node:", "node:x", "[::1", "[::1]x", "http://x/", "x_y"]
        {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }
}
