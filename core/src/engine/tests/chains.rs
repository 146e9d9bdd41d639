//! Names that point to names.

use super::super::event::ResolveError;
use super::script::Script;
use super::world::World;
use super::*;

#[test]
fn names_are_followed_with_their_paths() {
    let (mut world, node) = World::one(
        Script::new()
            .holding(name(1), link(1, &format!("/ipns/{}/one", name(2))))
            .holding(name(2), link(2, &format!("/ipns/{}/two/", name(3))))
            .holding(name(3), link(3, "/ipfs/bafkqaaa/three")),
    );
    let how = Resolve { below: "/zero".into(), ..Resolve::default() };
    let resolved = world.resolve(node, name(1), how.clone()).unwrap();
    assert_eq!(resolved.value.as_str(), "/ipfs/bafkqaaa/three/two/one/zero");
    assert_eq!(resolved.path, [name(1), name(2), name(3)]);
    assert_eq!((resolved.record.name(), resolved.receipts.len()), (&name(3), 3));
    let once = world.resolve(node, name(1), Resolve { recursive: false, ..how }).unwrap();
    assert_eq!(once.value.as_str(), format!("/ipns/{}/one/zero", name(2)));
    assert_eq!(once.path, [name(1)]);
}

#[test]
fn loops_and_long_chains_end() {
    let mut script = Script::new();
    for seed in 1..60 {
        script.held.insert(name(seed), link(seed, &format!("/ipns/{}", name(seed + 1))));
    }
    script.held.insert(name(60), link(60, "/ipfs/bafkqaaa"));
    script.held.insert(name(90), link(90, &format!("/ipns/{}", name(91))));
    script.held.insert(name(91), link(91, &format!("/ipns/{}", name(90))));
    script.held.insert(name(92), link(92, &format!("/ipns/{}/x", name(92))));
    let (mut world, node) = World::one(script);
    let how = Resolve { stream: true, ..Resolve::default() };
    assert_eq!(world.resolve(node, name(90), how.clone()), Err(ResolveError::Loop { name: name(90) }));
    assert_eq!(world.resolve(node, name(92), how.clone()), Err(ResolveError::Loop { name: name(92) }));
    assert_eq!(world.resolve(node, name(1), how.clone()), Err(ResolveError::TooDeep { limit: 32 }));
    assert_eq!(world.resolve(node, name(60 - 33), how.clone()), Err(ResolveError::TooDeep { limit: 32 }));
    assert_eq!(world.improvements(node).len(), 0, "none of them leads anywhere");
    let deepest = world.resolve(node, name(60 - 32), how).unwrap();
    assert_eq!((deepest.path.len(), deepest.value.as_str()), (33, "/ipfs/bafkqaaa"));
    world.settle();
    assert_eq!(world.nodes[node].engine.leftovers(), [""; 0]);
}

#[test]
fn a_loop_that_opens_in_time_is_none() {
    let mut world = World::new(2);
    world.host("a", Script::new().holding(name(1), link(1, &format!("/ipns/{}", name(1)))));
    world.host("b", Script::new().holding(name(1), bytes(1, 2)).slow(seconds(1)));
    let node = world.node(config(&["a", "b"]));
    let how = Resolve { stream: true, ..Resolve::default() };
    assert_eq!(world.resolve(node, name(1), how).unwrap().value, path(2));
    assert_eq!(world.improvements(node).len(), 0);
}

#[test]
fn a_chain_begins_anew_when_an_early_name_improves() {
    let mut world = World::new(2);
    let old = record(1, 1, &format!("/ipns/{}", name(2)).parse().unwrap());
    let new = record(1, 2, &format!("/ipns/{}", name(3)).parse().unwrap());
    let far = Script::new().holding(name(1), old.as_bytes().clone());
    world.host("a", far.holding(name(2), bytes(2, 1)).holding(name(3), bytes(3, 3)));
    world.host("b", Script::new().holding(name(1), new.as_bytes().clone()).slow(seconds(1)));
    let node = world.node(config(&["a", "b"]));
    let how = Resolve { stream: true, ..Resolve::default() };
    let resolved = world.resolve(node, name(1), how).unwrap();
    assert_eq!((resolved.value, resolved.path), (path(3), vec![name(1), name(3)]));
    let values: Vec<Value> = world.improvements(node).into_iter().map(|i| i.value).collect();
    assert_eq!(values, [path(1), path(3)]);
}

#[test]
fn dnslink_is_not_looked_up_here() {
    let (mut world, node) = World::one(Script::new().holding(name(1), link(1, "/ipns/example.org/x")));
    let domain = "example.org".to_owned();
    assert_eq!(world.resolve(node, name(1), Resolve::default()), Err(ResolveError::DnsLink { domain }));
    let once = Resolve { recursive: false, ..Resolve::default() };
    assert_eq!(world.resolve(node, name(1), once).unwrap().value.as_str(), "/ipns/example.org/x");
}

#[test]
fn a_broken_link_tells_which_name_it_is() {
    let (mut world, node) = World::one(Script::new().holding(name(1), link(1, &format!("/ipns/{}", name(2)))));
    let Err(ResolveError::NotFound { name: missing, .. }) = world.resolve(node, name(1), Resolve::default()) else {
        panic!()
    };
    assert_eq!(missing, name(2));
}

#[test]
fn a_newer_record_that_points_nowhere_hides_the_older() {
    let mut world = World::new(2);
    world.host("a", Script::new().holding(name(1), bytes(1, 1)));
    world.host("b", Script::new().holding(name(1), pointless(1, 2)).slow(seconds(1)));
    let node = world.node(config(&["a", "b"]));
    for how in [Resolve::default(), uncached()] {
        assert!(matches!(world.resolve(node, name(1), how), Err(ResolveError::Value { .. })));
    }
}
