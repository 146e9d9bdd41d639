//! `ipns dht`: for those who look inside.

use ipns_server::dht::{DhtReport, DhtRequest, PeerReport};
use ipns_server::{Failure, exit};

use crate::args::DhtCommand;
use crate::backend::Backend;
use crate::output;
use crate::settings::Settings;

pub(crate) async fn run(settings: &Settings, command: DhtCommand) -> Result<u8, Failure> {
    let sends = matches!(command, DhtCommand::Provide { .. });
    let request = match &command {
        DhtCommand::FindPeer { peer } => DhtRequest::FindPeer { peer: peer.clone() },
        DhtCommand::Closest { key } => DhtRequest::Closest { key: key.clone() },
        DhtCommand::Provide { cid } => DhtRequest::Provide { cid: cid.clone() },
        DhtCommand::FindProviders { cid, num_providers } => {
            DhtRequest::FindProviders { cid: cid.clone(), want: *num_providers }
        }
        DhtCommand::Ping { peer } => DhtRequest::Ping { peer: peer.clone() },
        DhtCommand::Table => DhtRequest::Table,
    };
    let backend = Backend::open(settings).await?;
    let result = backend.dht(&request).await;
    backend.close(sends).await;
    let reports = result?;
    check(&command, &reports)?;
    if settings.json {
        output::document(&reports)?;
    } else {
        for report in &reports {
            print(&command, report, reports.len() > 1)?;
        }
    }
    Ok(0)
}

fn print(command: &DhtCommand, report: &DhtReport, several: bool) -> Result<(), Failure> {
    if several {
        output::line(format!("# {}", report.dht))?;
    }
    let peers = report.peers.as_deref().unwrap_or_default();
    match command {
        DhtCommand::FindPeer { .. } => peers.iter().flat_map(|peer| &peer.addresses).try_for_each(output::line),
        DhtCommand::Closest { .. } => peers.iter().try_for_each(|peer| output::line(&peer.id)),
        DhtCommand::FindProviders { .. } => peers
            .iter()
            .try_for_each(|peer| output::line([&[peer.id.clone()][..], &peer.addresses].concat().join("  "))),
        DhtCommand::Provide { .. } => {
            let (acks, asked) = (report.acks.unwrap_or_default(), report.asked.unwrap_or_default());
            output::line(format!("announced to {acks} of {asked} peers"))
        }
        DhtCommand::Ping { .. } => match (report.ms, &report.error) {
            (Some(ms), _) => output::line(format!("answered in {ms} ms")),
            (None, error) => output::line(format!("no answer: {}", error.as_deref().unwrap_or("not asked"))),
        },
        DhtCommand::Table => table(report, peers),
    }
}

fn table(report: &DhtReport, peers: &[PeerReport]) -> Result<(), Failure> {
    let rows: Vec<Vec<String>> = peers
        .iter()
        .map(|peer| {
            let rtt = peer.rtt_ms.map_or("-".into(), |ms| ms.to_string());
            let address = peer.addresses.first().cloned().unwrap_or_else(|| "-".into());
            let number = |number: Option<u32>| number.unwrap_or_default().to_string();
            vec![number(peer.prefix), peer.id.clone(), rtt, number(peer.failures), address]
        })
        .collect();
    output::line(output::table(&["BUCKET", "PEER", "RTT MS", "FAILURES", "ADDRESS"], &rows))?;
    let Some(health) = &report.health else { return Ok(()) };
    output::line(format!(
        "{}: {} live peers of {} in the table, {} servers known, {} records and {} provider records kept",
        health.standing, health.live, health.table, health.known, health.records, health.providers
    ))
}

/// Nothing found is an error of its own, as it is for names.
fn check(command: &DhtCommand, reports: &[DhtReport]) -> Result<(), Failure> {
    let found = |report: &DhtReport| report.peers.iter().flatten().any(|peer| !peer.addresses.is_empty());
    let named = |report: &DhtReport| report.peers.as_ref().is_some_and(|peers| !peers.is_empty());
    let not_found = |message: String| Err(Failure::new(exit::NOT_FOUND, "not_found", message));
    let unreachable = |message: String| Err(Failure::new(exit::NETWORK, "unreachable", message));
    match command {
        DhtCommand::FindPeer { peer } if !reports.iter().any(found) => {
            not_found(format!("nobody knows where {peer} is"))
        }
        DhtCommand::FindProviders { cid, .. } if !reports.iter().any(named) => {
            not_found(format!("nobody knows a provider of {cid}"))
        }
        DhtCommand::Closest { .. } if !reports.iter().any(named) => unreachable("no peer answered".into()),
        DhtCommand::Ping { peer } if !reports.iter().any(|report| report.ms.is_some()) => {
            let why = |report: &DhtReport| Some(format!("{}: {}", report.dht, report.error.as_deref()?));
            let why: Vec<String> = reports.iter().filter_map(why).collect();
            unreachable(format!("{peer} does not answer ({})", why.join("; ")))
        }
        DhtCommand::Provide { .. } if !reports.iter().any(|report| report.acks > Some(0)) => {
            let asked: u32 = reports.iter().filter_map(|report| report.asked).sum();
            unreachable(format!("no peer took the announcement; {asked} were asked"))
        }
        _ => Ok(()),
    }
}
