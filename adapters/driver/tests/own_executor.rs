//! The example of an executor of one's own, over both kinds of routers that it knows.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

#[path = "../examples/own_executor.rs"]
#[allow(dead_code, reason = "its main is for cargo run")]
mod example;
#[path = "../../../core/tests/shelf/mod.rs"]
mod shelf;

const VALUE: &str = "/ipfs/bafkqaddimvwgy3zao5xxe3debi";

#[test]
fn over_a_router_in_memory() {
    assert_eq!(example::run(None).unwrap(), VALUE);
}

#[test]
fn over_http() {
    let url = shelf::serve(Default::default());
    assert_eq!(example::run(Some(&url)).unwrap(), VALUE);
}
