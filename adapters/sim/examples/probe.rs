use std::time::{Duration, Instant};
use ipns_core::dht::{self, Key, Mode, PeerInfo};
use ipns_core::engine::*;
use ipns_core::key::{KeyType, SecretKey, Signer};
use ipns_core::routing::Router;
use ipns_sim::{Links, NodeId, Servers, World};

fn main() {
    let args: Vec<f64> = std::env::args().skip(1).map(|a| a.parse().unwrap()).collect();
    let (count, dead, seeds) = (args[0] as u32, args[1], args[2] as u64);
    let (mut pub_t, mut res_t, mut first_t, mut rp, mut rr, mut acks, mut hold) = (vec![], vec![], vec![], vec![], vec![], vec![], vec![]);
    let begin = Instant::now();
    let mut events = 0;
    for seed in 0..seeds {
        let mut world = World::with_servers(seed, Links::default(), &Servers::new(count).dead(dead));
        let mut clients = vec![];
        for c in 0..3 {
            let n = world.nodes();
            let boot: Vec<PeerInfo> = (0..4).map(|i| { let s = world.some_server(seed*100+c*10+i); PeerInfo { id: World::peer_id(s), addresses: vec![World::address(s)] } }).collect();
            let cfg = dht::Config { seeds: boot, mode: Mode::Client, ..dht::Config::public(World::peer_id(NodeId(n))) };
            clients.push(world.add(false, Config { routers: vec![Router::dht("dht", cfg)], ..Config::default() }));
        }
        world.run_for(Duration::from_secs(1200));
        for round in 0..4u64 {
            world.take_told();
            let key = SecretKey::generate(KeyType::Ed25519, [(seed * 10 + round) as u8; 32], 0).unwrap();
            let what = Publish::new(key.public_key(), "/ipfs/bafkqaaa".parse().unwrap());
            let name = key.public_key().to_name();
            let (a, b) = (clients[(round % 3) as usize], clients[((round + 1) % 3) as usize]);
            world.give_key(a, key);
            let before = world.asked();
            let t0 = world.now();
            world.call(a, |e, now| e.publish(now, what));
            let p = world.until(Duration::from_secs(60), |t| match &t.event { Event::Published { result, .. } => Some((result.clone(), t.at)), _ => None }).unwrap();
            let publication = p.0.unwrap();
            pub_t.push((p.1 - t0).as_secs_f64());
            acks.push(publication.receipts[0].outcome.clone().unwrap().acks as f64);
            rp.push((world.asked() - before) as f64);
            world.run_for(Duration::from_secs(100));
            hold.push(world.holders(&publication.record) as f64);
            world.take_told();
            let before = world.asked();
            let t0 = world.now();
            world.call(b, |e, now| e.resolve(now, name, Resolve { stream: true, ..Resolve::default() }));
            let first = world.until(Duration::from_secs(60), |t| match &t.event { Event::Improved { .. } | Event::Resolved { .. } => Some(t.at), _ => None }).unwrap();
            let done = world.until(Duration::from_secs(60), |t| match &t.event { Event::Resolved { result, .. } => Some((t.at, result.clone().is_ok())), _ => None }).unwrap();
            assert!(done.1);
            first_t.push((first - t0).as_secs_f64());
            res_t.push((done.0 - t0).as_secs_f64());
            rr.push((world.asked() - before) as f64);
            world.run_for(Duration::from_secs(100));
            let _ = Key::of(b"x");
        }
        events += world.events();
    }
    let q = |v: &mut Vec<f64>| { v.sort_by(f64::total_cmp); format!("p50 {:.2} p90 {:.2} max {:.2}", v[v.len() / 2], v[v.len() * 9 / 10], v[v.len()-1]) };
    println!("publish {}   rpcs {}   acks {}  holders {}", q(&mut pub_t), q(&mut rp), q(&mut acks), q(&mut hold));
    println!("resolve {}   rpcs {}   first {}", q(&mut res_t), q(&mut rr), q(&mut first_t));
    println!("{events} events in {:?}", begin.elapsed());
}
