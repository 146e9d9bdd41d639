//! What the names in an address stand for.

use std::io;
use std::net::IpAddr;

use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::RData;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use thiserror::Error;

use super::Names;

/// Names that are looked up for one address: names may stand for names, and for themselves.
const MAX_LOOKUPS: usize = 32;
/// Addresses that one name may stand for.
const MAX_RECORDS: usize = 16;

/// Why an address leads nowhere.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error("{name}: {error}")]
    Lookup { name: String, error: NetError },
    #[error("too many names to look up")]
    TooManyNames,
    #[error("too many addresses")]
    TooManyAddresses,
    #[error("no transport for {0}")]
    NoTransport(Multiaddr),
    #[error("{0}: {1}")]
    Dial(Multiaddr, io::Error),
}

pub(crate) fn has_name(address: &Multiaddr) -> bool {
    address.iter().any(|part| is_name(&part))
}

fn is_name(part: &Protocol<'_>) -> bool {
    matches!(part, Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_))
}

/// Looks up the names of an address, as far as somebody asks for more.
#[derive(Debug)]
pub(crate) struct Search {
    names: Names,
    /// What is next comes last; never more than `MAX_LOOKUPS` times `MAX_RECORDS`.
    pending: Vec<Multiaddr>,
    lookups: usize,
}

impl Search {
    pub(crate) fn new(names: Names, address: Multiaddr) -> Self {
        Self { names, pending: vec![address], lookups: 0 }
    }

    /// The next address without names, or why there is one fewer.
    pub(crate) async fn next(&mut self) -> Option<Result<Multiaddr, Failure>> {
        loop {
            let address = self.pending.pop()?;
            let Some(at) = address.iter().position(|part| is_name(&part)) else { return Some(Ok(address)) };
            if self.lookups == MAX_LOOKUPS {
                return Some(Err(Failure::TooManyNames));
            }
            self.lookups += 1;
            match self.resolve(&address, at).await {
                Ok(mut found) => {
                    found.truncate(MAX_RECORDS);
                    self.pending.extend(found.into_iter().rev());
                }
                Err((name, error)) => return Some(Err(Failure::Lookup { name, error })),
            }
        }
    }

    /// What an address stands for when its part `at` is a name.
    async fn resolve(&self, address: &Multiaddr, at: usize) -> Result<Vec<Multiaddr>, (String, NetError)> {
        let ips = match address.iter().nth(at) {
            Some(Protocol::Dns(name)) => match self.names.lookup_ip(&*name).await {
                Ok(ips) => ips.iter().collect(),
                Err(error) => return Err((name.into_owned(), error)),
            },
            Some(Protocol::Dns4(name)) => match self.names.ipv4_lookup(&*name).await {
                Ok(answer) => ips(&answer),
                Err(error) => return Err((name.into_owned(), error)),
            },
            Some(Protocol::Dns6(name)) => match self.names.ipv6_lookup(&*name).await {
                Ok(answer) => ips(&answer),
                Err(error) => return Err((name.into_owned(), error)),
            },
            Some(Protocol::Dnsaddr(name)) => {
                let name = format!("_dnsaddr.{name}");
                return match self.names.txt_lookup(&*name).await {
                    Ok(answer) => Ok(addresses(address, at, &texts(&answer))),
                    Err(error) => Err((name, error)),
                };
            }
            _ => Vec::new(),
        };
        Ok(ips.into_iter().filter_map(|ip| address.replace(at, |_| Some(ip.into()))).collect())
    }
}

fn ips(answer: &Lookup) -> Vec<IpAddr> {
    let ip = |data: &RData| match data {
        RData::A(ip) => Some(IpAddr::from(ip.0)),
        RData::AAAA(ip) => Some(IpAddr::from(ip.0)),
        _ => None,
    };
    answer.answers().iter().filter_map(|record| ip(&record.data)).collect()
}

/// The texts of an answer; one may be told in pieces.
fn texts(answer: &Lookup) -> Vec<Vec<u8>> {
    let text = |data: &RData| match data {
        RData::TXT(text) => Some(text.txt_data.concat()),
        _ => None,
    };
    answer.answers().iter().filter_map(|record| text(&record.data)).collect()
}

/// The addresses in texts that end as `address` does behind its name, with what stands in front of the name.
fn addresses(address: &Multiaddr, at: usize, texts: &[Vec<u8>]) -> Vec<Multiaddr> {
    let suffix: Multiaddr = address.iter().skip(at + 1).collect();
    let parsed = texts.iter().filter_map(|text| {
        let told: Multiaddr = str::from_utf8(text).ok()?.strip_prefix("dnsaddr=")?.parse().ok()?;
        told.ends_with(&suffix).then_some(told)
    });
    parsed.map(|told| address.iter().take(at).chain(told.iter()).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5";
    const OTHER: &str = "QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ";

    #[test]
    fn texts_are_filtered_by_what_follows_the_name() {
        let texts = [
            format!("dnsaddr=/ip4/192.0.2.1/tcp/4001/p2p/{PEER}"),
            format!("dnsaddr=/ip4/192.0.2.2/tcp/4001/p2p/{OTHER}"),
            format!("/ip4/192.0.2.3/tcp/4001/p2p/{PEER}"),
            "dnsaddr=nonsense".into(),
            "v=spf1 -all".into(),
        ];
        let mut texts: Vec<_> = texts.into_iter().map(String::into_bytes).collect();
        texts.push(vec![0xff, 0xfe]);
        let told = |address: &str| addresses(&address.parse().unwrap(), 0, &texts);
        let first = format!("/ip4/192.0.2.1/tcp/4001/p2p/{PEER}").parse::<Multiaddr>().unwrap();
        let second = format!("/ip4/192.0.2.2/tcp/4001/p2p/{OTHER}").parse::<Multiaddr>().unwrap();
        assert_eq!(told(&format!("/dnsaddr/example.org/p2p/{PEER}")), std::slice::from_ref(&first));
        assert_eq!(told(&format!("/dnsaddr/example.org/tcp/4001/p2p/{OTHER}")), std::slice::from_ref(&second));
        assert_eq!(told("/dnsaddr/example.org"), [first, second]);
    }
}
