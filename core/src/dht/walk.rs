//! A lookup with a goal: what its answers mean for that, and what is done about a crowd around its target.

use std::collections::{BTreeMap, BTreeSet};

use libp2p_identity::PeerId;

use super::action::{Action, Answer, Context, Role};
use super::bootstrap::Upkeep;
use super::get::Get;
use super::lookup::Lookup;
use super::message::{PeerInfo, Request, Response, ValueRecord};
use super::output::{Event, QueryId};
use super::peers::Lead;
use super::rpc::RpcError;
use super::sweep::AreaId;

/// Providers that one search tells of at most, whatever it was asked for.
const MAX_PROVIDERS: usize = 1000;
/// A walk connects to no more peers than this before it needs them.
const MAX_EXPECTED: usize = 40;

#[derive(Debug)]
pub(crate) enum Goal {
    Closest,
    Upkeep(Upkeep),
    /// Somebody of a region that is about to be swept.
    Explore(AreaId),
    FindPeer(PeerInfo),
    Get(Box<Get>),
    /// The nearest peers, for what is sent to them.
    Send,
    FindProviders {
        want: usize,
        found: BTreeSet<PeerId>,
    },
}

/// What was done about a crowd around the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crowd {
    Unseen,
    /// All that are around the target are looked for.
    Exploring,
    Seen,
}

#[derive(Debug)]
pub(super) struct Walk {
    pub(super) lookup: Lookup,
    pub(super) request: Request,
    pub(super) goal: Goal,
    /// Whether a goal was reached before the walk's own end.
    reached: bool,
    crowd: Crowd,
    /// Those that something will be sent to, as it seems: they are connected to beforehand.
    expected: BTreeSet<PeerId>,
}

impl Walk {
    pub(super) fn new(lookup: Lookup, request: Request, goal: Goal) -> Self {
        Self { lookup, request, goal, reached: false, crowd: Crowd::Unseen, expected: BTreeSet::new() }
    }

    /// Takes a peer's answer to the request of the walk. Once the result was `told` it corrects whom the answer calls for;
    /// returns how many.
    pub(super) fn on_answer(
        &mut self,
        context: &Context,
        query: QueryId,
        told: bool,
        answer: Answer<'_>,
        actions: &mut Vec<Action>,
    ) -> usize {
        let Answer { peer, result, leads, groups, .. } = answer;
        match result {
            Ok(_) => {
                self.lookup.answered(peer, leads);
                self.lookup.answered_from(peer, groups.clone());
            }
            Err(_) => self.lookup.failed(peer),
        }
        match (&mut self.goal, result) {
            (Goal::Get(get), Ok(Response::GetValue { record, .. })) => {
                if get.on_answer(context.checks, *peer, record.as_ref())
                    && let Some(best) = get.best()
                {
                    let record = Box::new(best.clone());
                    actions.push(Action::Tell(Event::Found { query, record, from: *peer }));
                }
                let near = self.lookup.answers_near();
                if get.is_deceived() || (get.is_strict(near) && near >= get.wanted(context.k, context.holders)) {
                    self.lookup.widen();
                }
                if told {
                    return self.correct(context, actions);
                }
            }
            // A peer that speaks another protocol answers too, by saying so: it was reached.
            (Goal::FindPeer(wanted), Ok(_) | Err(RpcError::Unsupported)) => {
                if *peer == wanted.id {
                    self.reached = true;
                }
                let id = wanted.id;
                for lead in leads.iter().filter(|lead| lead.info.id == id) {
                    wanted.add_addresses(&lead.info.addresses);
                }
            }
            (Goal::FindProviders { want, found }, Ok(Response::GetProviders { providers, .. })) => {
                for provider in providers {
                    if found.len() < *want && found.insert(provider.id) {
                        let provider = provider.clone();
                        actions.push(Action::Tell(Event::Provider { query, provider, from: *peer }));
                    }
                }
                self.reached = found.len() >= *want;
            }
            _ => {}
        }
        0
    }

    /// All that are around the target are known, as far as they were found.
    pub(super) fn on_explored(&mut self, around: Vec<Lead>) {
        self.crowd = Crowd::Seen;
        self.lookup.look_beyond(around);
        if let Goal::Get(get) = &mut self.goal {
            get.crowded = true;
        }
    }

    /// Whether all that are around the target are being looked for.
    pub(super) fn explores(&self) -> bool {
        self.crowd == Crowd::Exploring
    }

    /// What is told of the goal when the walk is over; `complete` if it ran to its own end. Nothing of what nobody outside
    /// asked for.
    pub(super) fn end(&self, context: &Context, query: QueryId, complete: bool) -> Option<Event> {
        let (asked, closest) = (self.lookup.asked(), self.lookup.closest());
        tracing::debug!(query = query.0, asked, answered = closest.len(), complete, "walk done");
        match &self.goal {
            Goal::Closest => Some(Event::ClosestDone { query, closest }),
            Goal::Upkeep(_) | Goal::Explore(_) | Goal::Send => None,
            Goal::FindPeer(peer) => Some(Event::FindPeerDone { query, peer: peer.clone(), reached: self.reached }),
            Goal::FindProviders { found, .. } => Some(Event::ProvidersDone { query, found: found.len() }),
            Goal::Get(get) => {
                let near = self.lookup.answers_near();
                let freshness = get.freshness(context.k, context.holders, near, complete);
                let best = get.best().cloned().map(Box::new);
                Some(Event::GetDone { query, best, freshness, asked, closest })
            }
        }
    }

    pub(super) fn is_satisfied(&self, context: &Context) -> bool {
        match &self.goal {
            Goal::Get(get) => get.is_satisfied(context.k, context.holders, self.lookup.answers_near()),
            _ => self.reached,
        }
    }

    /// Whether peers crowd about what is read or sent here, and nothing was done about it: then all around is to be found.
    pub(super) fn sees_crowd(&mut self, actions: &mut Vec<Action>) -> bool {
        let matters = matches!(self.goal, Goal::Get(_) | Goal::FindProviders { .. } | Goal::Send);
        let sees = matters && self.crowd == Crowd::Unseen && self.lookup.is_crowded();
        if sees {
            self.crowd = Crowd::Exploring;
            actions.push(Action::Explore);
        }
        sees
    }

    /// Connects to those that something will be sent to when this walk is over, while it still goes on.
    pub(super) fn expect(&mut self, actions: &mut Vec<Action>) {
        for peer in self.lookup.unasked_targets() {
            if self.expected.len() < MAX_EXPECTED && self.expected.insert(peer.id) {
                actions.push(Action::Connect(peer.clone()));
            }
        }
    }

    /// The PUT_VALUE that brings a peer up to date.
    fn correction(&self, context: &Context) -> Option<Request> {
        let Goal::Get(get) = &self.goal else {
            return None;
        };
        let best = get.best().filter(|_| get.corrects)?;
        let key = best.name().routing_key().into();
        let (value, received) = (best.as_bytes().clone(), Some(context.checks.at));
        Some(Request::PutValue { record: ValueRecord { key, value, received } })
    }

    /// Sends the best record to those that answered with an older one, and to those of the k nearest that have none
    /// (IPNS over the DHT: entry correction). Returns to how many.
    pub(super) fn correct(&mut self, context: &Context, actions: &mut Vec<Action>) -> usize {
        let Some(request) = self.correction(context) else {
            return 0;
        };
        let converged = self.lookup.has_converged();
        let near: BTreeMap<PeerId, PeerInfo> = self.lookup.closest().into_iter().map(|peer| (peer.id, peer)).collect();
        let Goal::Get(get) = &mut self.goal else {
            return 0;
        };
        let stale = |peer: &&PeerId| get.should_correct(peer, converged && near.contains_key(peer));
        let stale: Vec<PeerId> = get.answered().filter(stale).copied().collect();
        let count = stale.len();
        for id in stale {
            get.corrected(&id);
            let addresses = near.get(&id).map(|peer| peer.addresses.clone()).unwrap_or_default();
            actions.push(Action::Ask(PeerInfo { id, addresses }, request.clone(), Role::Correct));
        }
        count
    }
}

impl Goal {
    /// How many of the nearest peers are enough, if not all of them are to be heard.
    pub(crate) fn wanted(&self, k: usize, holders: usize) -> Option<usize> {
        let Self::Get(get) = self else { return None };
        get.wanted(k, holders)
    }

    /// A search for at most `want` providers.
    pub(crate) fn find_providers(want: usize) -> Self {
        Self::FindProviders { want: want.min(MAX_PROVIDERS), found: BTreeSet::new() }
    }
}
