//! The page and the metrics.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::BASE64;
use ipns_server::KeyRequest;
use ipns_server::api::PublishRequest;
use sha2::{Digest, Sha256};

use crate::raw::{ask, get};
use crate::world::{VALUE, World, publish_request, record};

#[tokio::test]
async fn the_page_runs_nothing_but_its_own() {
    let world = World::start(|builder| builder).await;
    let page = get(world.addr, "/").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.text().contains("<title>IPNS node</title>"));
    assert!(page.text().contains("href=\"/metrics\"") && page.text().contains("href=\"/healthz\""));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("connect-src 'self'"));
    assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"));
    for element in ["script", "style"] {
        let (_, rest) = page.text().split_once(&format!("<{element}>")).unwrap();
        let (inside, _) = rest.split_once(&format!("</{element}>")).unwrap();
        let hash = BASE64.encode(&Sha256::digest(inside));
        assert!(policy.contains(&format!("{element}-src 'sha256-{hash}'")), "{policy}");
    }
    let head = ask(world.addr, "HEAD", "/", &[], b"").await;
    assert_eq!((head.status, head.header("content-length")), (200, page.header("content-length")));
    assert_eq!(get(world.addr, "/nothing").await.code(), "unknown_path");
    assert_eq!(ask(world.addr, "POST", "/", &[], b"").await.status, 405);
}

/// The samples by name and labels; fails on what is not OpenMetrics text.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let body = text.strip_suffix("# EOF\n").expect("it ends with # EOF");
    let (mut families, mut samples) = (BTreeSet::new(), BTreeMap::new());
    for line in body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.split(' ');
            let (kind, family) = (words.next().unwrap(), words.next().unwrap());
            assert!(["HELP", "TYPE", "UNIT"].contains(&kind), "{line}");
            if kind == "TYPE" {
                assert!(families.insert(family.to_owned()), "{line} twice");
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        let family = ["", "_total", "_sum", "_count", "_bucket", "_info"]
            .iter()
            .filter_map(|suffix| name.strip_suffix(suffix))
            .find(|family| families.contains(*family));
        assert!(family.is_some(), "{line} has no TYPE");
        assert!(samples.insert(series.to_owned(), value.parse().unwrap()).is_none(), "{line} twice");
    }
    samples
}

#[tokio::test]
async fn the_metrics_move() {
    let world = World::start(|builder| builder).await;
    let metrics = get(world.addr, "/metrics").await;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!((metrics.status, metrics.header("content-type")), (200, Some(kind)));
    let before = parse(metrics.text());
    assert_eq!(before[&format!("ipns_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"))], 1.0);
    assert_eq!(before["ipns_publishes_total{result=\"ok\"}"], 0.0);
    assert!(before["ipns_start_time_seconds"] > 1.7e9);

    let client = world.client();
    client.generate_key(&KeyRequest { key: "k".into(), ..KeyRequest::default() }).await.unwrap();
    client.publish(&PublishRequest { allow_offline: true, ..publish_request(VALUE) }).await.unwrap();
    world.node.follow(record(1).0).await.unwrap();
    get(world.addr, "/routing/v1/ipns/nonsense").await;
    get(world.addr, "/some/path").await;

    let after = parse(get(world.addr, "/metrics").await.text());
    for (series, value) in [
        ("ipns_publishes_total{result=\"ok\"}", 1.0),
        ("ipns_publishes_total{result=\"failed\"}", 0.0),
        ("ipns_publish_seconds_count", 1.0),
        ("ipns_publish_seconds_bucket{le=\"+Inf\"}", 1.0),
        ("ipns_own_names", 1.0),
        ("ipns_followed_names", 1.0),
        ("ipns_kept_total{result=\"ok\"}", 0.0),
        ("ipns_not_renewed_total", 0.0),
        ("ipns_expiring_total", 0.0),
        ("ipns_http_requests_total{route=\"metrics\",status=\"200\"}", 1.0),
        ("ipns_http_requests_total{route=\"routing\",status=\"400\"}", 1.0),
        ("ipns_http_requests_total{route=\"other\",status=\"404\"}", 1.0),
        ("ipns_http_requests_total{route=\"admin\",status=\"200\"}", 2.0),
        ("ipns_http_request_seconds_count{route=\"admin\"}", 2.0),
    ] {
        assert_eq!(after.get(series), Some(&value), "{series}");
    }
    assert!(after["ipns_store_commits_total"] >= 1.0 && after["ipns_routing_served_total"] >= 1.0);
}
