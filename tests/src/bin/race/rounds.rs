//! The race itself: one operation at a time, in turn, and what each cost.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ipns_core::key::{KeyType, SecretKey, Signer};

use crate::contestant::{Contestant, Published, Resolved};
use crate::dice::Dice;
use crate::failure::Failure;
use crate::network::Network;

/// How many peers are to keep a record.
const K: usize = 20;

/// What an operation cost the network, until all that it began had ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// Requests that servers were asked, if they say so.
    pub(crate) requests: Option<u64>,
    /// Connections dialled to the living and to the dead.
    pub(crate) dials: u64,
    pub(crate) dead_dials: u64,
}

impl Cost {
    /// What all have cost so far.
    fn so_far(network: &Network) -> Self {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let roads = &network.roads;
        Self { requests: network.asked(), dials: read(&roads.dials), dead_dials: read(&roads.dead_dials) }
    }

    fn since(self, before: Self) -> Self {
        Self {
            requests: self.requests.zip(before.requests).map(|(now, before)| now - before),
            dials: self.dials - before.dials,
            dead_dials: self.dead_dials - before.dead_dials,
        }
    }
}

/// A publish, and who holds the record when all of it has ended.
pub(crate) struct Publishing {
    pub(crate) published: Published,
    pub(crate) cost: Cost,
    /// Living servers that hold it, and how many of the nearest do.
    pub(crate) holders: usize,
    pub(crate) nearest: usize,
}

/// A resolve, and whether it found what was published.
pub(crate) struct Resolving {
    pub(crate) resolved: Resolved,
    pub(crate) cost: Cost,
    pub(crate) right: bool,
}

/// What one contestant did in one round.
pub(crate) struct Lap {
    /// The first record of a name.
    pub(crate) publish: Publishing,
    /// The second one, if there is one.
    pub(crate) update: Option<Publishing>,
    pub(crate) resolve: Resolving,
}

/// How the rounds are run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rounds {
    pub(crate) count: usize,
    /// Whether every operation begins without connections.
    pub(crate) cold: bool,
    /// Whether each name is published once more before it is resolved.
    pub(crate) updates: bool,
}

/// All rounds; the laps are in the order of the contestants.
pub(crate) async fn race(
    network: &Network,
    contestants: &[Contestant],
    rounds: Rounds,
    dice: &mut Dice,
) -> Result<Vec<Vec<Lap>>, Failure> {
    let mut laps: Vec<Vec<Lap>> = contestants.iter().map(|_| Vec::new()).collect();
    let Rounds { count, cold, updates } = rounds;
    for round in 0..count {
        // Who comes first takes turns, in case the others find the network busier.
        let mut order: Vec<usize> = (0..contestants.len()).collect();
        order.rotate_left(round % contestants.len().max(1));
        let mut publishes = Vec::new();
        for &who in &order {
            let key = dice.bytes();
            let mut value = format!("/ipfs/bafkqaaa/{round}/{who}");
            let first = publish(network, contestants, who, key, &value, cold).await?;
            let mut update = None;
            if updates {
                value.push_str("/again");
                update = Some(publish(network, contestants, who, key, &value, cold).await?);
            }
            let name = SecretKey::generate(KeyType::Ed25519, key, 0)?.public_key().to_name();
            publishes.push((who, name, value, first, update));
        }
        for (who, name, value, publish, update) in publishes {
            let before = quiet(network, contestants, cold).await?;
            let resolved = contestants[who].resolve(name).await;
            let cost = quiet(network, contestants, false).await?.since(before);
            let right = resolved.value.as_ref() == Ok(&value);
            let lap = Lap { publish, update, resolve: Resolving { resolved, cost, right } };
            tell(round, &contestants[who], &lap);
            laps[who].push(lap);
        }
    }
    Ok(laps)
}

/// Publishes a value under a key, and looks who holds it when all of that has ended.
async fn publish(
    network: &Network,
    contestants: &[Contestant],
    who: usize,
    key: [u8; 32],
    value: &str,
    cold: bool,
) -> Result<Publishing, Failure> {
    let key = SecretKey::generate(KeyType::Ed25519, key, 0)?;
    let name = key.public_key().to_name();
    let before = quiet(network, contestants, cold).await?;
    let published = contestants[who].publish(key, value.parse()?).await;
    let cost = quiet(network, contestants, false).await?.since(before);
    let (holders, nearest) = match &published.record {
        Some(record) => network.holders(&name, record, K).await?,
        None => (0, 0),
    };
    Ok(Publishing { published, cost, holders, nearest })
}

/// Waits until nobody has anything under way, and says what all has cost so far.
async fn quiet(network: &Network, contestants: &[Contestant], cut: bool) -> Result<Cost, Failure> {
    for contestant in contestants {
        contestant.until_idle().await?;
    }
    if cut {
        network.cut().await;
        // What the end of the connections brought about is no part of what comes.
        for contestant in contestants {
            contestant.until_idle().await?;
        }
    }
    Ok(Cost::so_far(network))
}

fn tell(round: usize, contestant: &Contestant, lap: &Lap) {
    let seconds = |duration: Duration| format!("{:.2} s", duration.as_secs_f64());
    let cost = |cost: Cost| {
        let requests = cost.requests.map(|requests| format!("{requests} requests, ")).unwrap_or_default();
        format!("{requests}{} dials, {} of the dead", cost.dials, cost.dead_dials)
    };
    let resolve = &lap.resolve;
    let publishes = [("published", Some(&lap.publish)), ("updated", lap.update.as_ref())];
    for (done, publish) in publishes.into_iter().filter_map(|(done, publish)| Some((done, publish?))) {
        eprintln!(
            "{round:>3} {:<16} {done} in {} ({} acks, {} holders; {})",
            contestant.kind.label(),
            seconds(publish.published.took),
            publish.published.acks.map_or("-".into(), |acks| acks.to_string()),
            publish.holders,
            cost(publish.cost),
        );
        if let Some(error) = &publish.published.error {
            eprintln!("    it failed: {error}");
        }
    }
    eprintln!(
        "{round:>3} {:<16} resolved in {} ({})",
        contestant.kind.label(),
        seconds(resolve.resolved.took),
        cost(resolve.cost),
    );
    match &resolve.resolved.value {
        Err(error) => eprintln!("    the resolve failed: {error}"),
        Ok(value) if !resolve.right => eprintln!("    the resolve found {value}"),
        Ok(_) => {}
    }
}
