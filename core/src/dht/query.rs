//! One operation from its start to its end: a walk with a goal, and, for some, something sent to whom it found.
//!
//! A query never sends anything itself: it leaves [`Action`]s for the node to carry out.

use core::time::Duration;
use libp2p_identity::PeerId;

use super::action::{Action, Answer, Context, Role};
use super::bootstrap::Upkeep;
use super::get::Until;
use super::key::Key;
use super::lookup::Lookup;
use super::message::{PeerInfo, Request};
use super::output::{Event, QueryId};
use super::peers::Lead;
use super::put::{Fanout, Outcome, outcome};
use super::sweep::AreaId;
use super::walk::{Goal, Walk};
use crate::name::Name;

/// How long a walk that a put may follow is kept.
const HOLD: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Towards the goal.
    Walking,
    /// What a put must know first is known; it waits for the put.
    Holding,
    /// Sending, and looking for more of the nearest while they are not all known.
    Sending,
    /// The result was told.
    Done,
}

#[derive(Debug)]
pub(crate) struct Query {
    id: QueryId,
    /// When it ends with what it has, on the monotonic clock.
    deadline: Duration,
    walk: Option<Walk>,
    send: Option<Fanout>,
    /// Whether a put may follow to a walk.
    followed: bool,
    stage: Stage,
    /// Questions that are out.
    out: usize,
}

impl Query {
    /// A walk with a goal.
    pub(crate) fn walk(id: QueryId, deadline: Duration, lookup: Lookup, request: Request, goal: Goal) -> Self {
        let walk = Walk::new(lookup, request, goal);
        let followed = matches!(&walk.goal, Goal::Get(get) if !get.corrects);
        Self { id, deadline, walk: Some(walk), send: None, followed, stage: Stage::Walking, out: 0 }
    }

    /// Something sent to given peers.
    pub(crate) fn send(id: QueryId, deadline: Duration, fanout: Fanout) -> Self {
        Self { id, deadline, walk: None, send: Some(fanout), followed: false, stage: Stage::Sending, out: 0 }
    }

    /// Something sent to the nearest peers while a walk finds them.
    pub(crate) fn spread(id: QueryId, deadline: Duration, lookup: Lookup, request: Request, fanout: Fanout) -> Self {
        let walk = Walk::new(lookup, request, Goal::Send);
        Self { id, deadline, walk: Some(walk), send: Some(fanout), followed: false, stage: Stage::Sending, out: 0 }
    }

    /// Goes on with something for the nearest peers: at once if it holds, and beside the walk if that goes on.
    pub(crate) fn attach(&mut self, deadline: Duration, fanout: Fanout) {
        self.deadline = deadline;
        self.send = Some(fanout);
        self.walk.iter_mut().for_each(|walk| walk.lookup.beside_a_put());
        if self.stage == Stage::Holding {
            self.stage = Stage::Sending;
        }
    }

    /// Nothing more is sent, and no put follows; the walk goes on to its own end.
    pub(crate) fn detach(&mut self) {
        self.send = None;
        self.followed = false;
    }

    /// The upkeep lookup that this is, if it is one.
    pub(crate) fn upkeep(&self) -> Option<Upkeep> {
        match self.walk.as_ref()?.goal {
            Goal::Upkeep(upkeep) => Some(upkeep),
            _ => None,
        }
    }

    /// The exploration that this is a lookup of, with those that answered it, if it is one.
    pub(crate) fn explored(&self) -> Option<(AreaId, Vec<PeerInfo>)> {
        let walk = self.walk.as_ref()?;
        match walk.goal {
            Goal::Explore(area) => Some((area, walk.lookup.closest())),
            _ => None,
        }
    }

    /// Whether nobody outside is told of it.
    pub(crate) fn is_private(&self) -> bool {
        matches!(self.walk.as_ref().map(|walk| &walk.goal), Some(Goal::Upkeep(_) | Goal::Explore(_)))
    }

    /// Whether its walk is still on its way to its goal.
    pub(crate) fn is_walking(&self) -> bool {
        self.stage == Stage::Walking
    }

    pub(crate) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// The name that a walk has ended at and that a put may follow to.
    pub(crate) fn holds(&self) -> Option<&Name> {
        match &self.walk.as_ref().filter(|_| self.stage == Stage::Holding)?.goal {
            Goal::Get(get) => Some(get.name()),
            _ => None,
        }
    }

    /// When [`on_time`](Self::on_time) is to be called; never once it is done.
    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        let lingers = self.send.as_ref().and_then(Fanout::lingers_until);
        (!self.is_done()).then(|| lingers.unwrap_or(self.deadline).min(self.deadline))
    }

    /// What is looked for.
    pub(crate) fn target(&self) -> Option<Key> {
        self.walk.as_ref().map(|walk| Key::of(walk.request.key()))
    }

    /// The lookup, once it has run to its end and tells how dense the network is. At a place that somebody chose it does
    /// not where peers crowd; at a random one they do not, and if they seem to, the network has grown.
    pub(crate) fn ended_lookup(&self) -> Option<&Lookup> {
        let tells = |lookup: &&Lookup| {
            lookup.is_done() && !lookup.is_exhausted() && (self.is_private() || !lookup.is_crowded())
        };
        self.walk.as_ref().map(|walk| &walk.lookup).filter(tells)
    }

    /// Whether nothing more can come of it.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_done() && self.out == 0
    }

    /// A question that was asked has been answered, or never will be.
    pub(crate) fn on_answer(&mut self, context: &Context, answer: Answer<'_>, actions: &mut Vec<Action>) {
        let Answer { role, peer, request, result, .. } = answer;
        let query = self.id;
        self.out = self.out.saturating_sub(1);
        match role {
            Role::Walk => self.on_step(context, answer, actions),
            Role::Send => {
                if let Some(send) = &mut self.send
                    && let Some(outcome) = send.on_answer(peer, result)
                {
                    actions.push(Action::Tell(Event::Receipt { query, peer: *peer, outcome }));
                    if let (Outcome::Failed(_), Some(walk)) = (outcome, &mut self.walk) {
                        if walk.lookup.awaits(peer) {
                            send.note_absent(peer);
                        }
                        walk.lookup.unreached(peer, false);
                    }
                }
            }
            Role::Correct => {
                let outcome = outcome(request, result);
                actions.push(Action::Tell(Event::Corrected { query, peer: *peer, outcome }));
            }
        }
        self.advance(context, actions);
    }

    /// All that are around the target are known, as far as they were found.
    pub(crate) fn on_explored(&mut self, context: &Context, around: Vec<Lead>, actions: &mut Vec<Action>) {
        self.out = self.out.saturating_sub(1);
        if let Some(walk) = &mut self.walk {
            walk.on_explored(around);
        }
        self.advance(context, actions);
    }

    fn on_step(&mut self, context: &Context, answer: Answer<'_>, actions: &mut Vec<Action>) {
        let Some(walk) = &mut self.walk else {
            return;
        };
        if let (Some(send), Err(_)) = (&mut self.send, answer.result) {
            send.note_absent(answer.peer);
        }
        self.out += walk.on_answer(context, self.id, self.stage == Stage::Done, answer, actions);
    }

    /// A peer that was asked is slow: others are asked, or sent to, beside it.
    pub(crate) fn on_slow(&mut self, context: &Context, role: Role, peer: &PeerId, actions: &mut Vec<Action>) {
        if let Some(walk) = &mut self.walk {
            match role {
                Role::Walk => {
                    walk.lookup.slow(peer);
                    self.send.iter_mut().for_each(|send| send.note_absent(peer));
                }
                // Enough have taken it, and all that should have it were sent it: who takes long is waited for.
                Role::Send if self.stage == Stage::Done && self.send.as_ref().is_some_and(Fanout::is_closed) => return,
                Role::Send => walk.lookup.unreached(peer, true),
                Role::Correct => return,
            }
            self.advance(context, actions);
        }
    }

    /// Its time has come: what is past its deadline ends with what it has.
    pub(crate) fn on_time(&mut self, context: &Context, actions: &mut Vec<Action>) {
        if self.deadline <= context.now {
            match self.stage {
                Stage::Walking => self.finish_walk(context, false, actions),
                Stage::Holding => self.stage = Stage::Done,
                Stage::Sending => {
                    if let Some(send) = &mut self.send {
                        send.abandon();
                    }
                }
                Stage::Done => {}
            }
        }
        self.advance(context, actions);
    }

    /// Goes on as far as possible without another answer.
    pub(crate) fn advance(&mut self, context: &Context, actions: &mut Vec<Action>) {
        if self.stage == Stage::Walking {
            self.advance_walk(context, actions);
        }
        self.send_on(context, actions);
        let explores = self.walk.as_ref().is_some_and(Walk::explores);
        if let (Stage::Sending, Some(send)) = (self.stage, &mut self.send)
            && (!explores || self.deadline <= context.now)
            && let Some(success) = send.decide(context.now)
        {
            self.stage = Stage::Done;
            let done = Event::PutDone { query: self.id, success, tally: send.tally() };
            actions.push(Action::Tell(done));
        }
    }

    /// Sends to those who should have it and have not been sent it, and looks for more of them. It goes on when the result
    /// was told, for as long as answers come before the deadline.
    fn send_on(&mut self, context: &Context, actions: &mut Vec<Action>) {
        let Some(send) = &mut self.send else { return };
        if let Some(walk) = &mut self.walk
            && context.now < self.deadline
        {
            loop {
                walk.lookup.targets().for_each(|peer| send.add(peer));
                let knows_nearest = walk.lookup.knows_nearest();
                self.out += usize::from(knows_nearest && walk.sees_crowd(actions));
                if walk.lookup.looks_beyond() {
                    send.needs(walk.lookup.targets().count().div_ceil(2));
                }
                match knows_nearest && !walk.explores() {
                    true => send.close(),
                    false => send.reopen(),
                }
                if send.is_closed() && !walk.lookup.has_only_doubtful() {
                    break;
                }
                while let Some(peer) = walk.lookup.next() {
                    self.out += 1;
                    actions.push(Action::Ask(peer, walk.request.clone(), Role::Walk));
                }
                if send.is_closed() || !walk.lookup.is_done() || walk.explores() {
                    break;
                }
            }
        }
        for peer in send.take_targets() {
            self.out += 1;
            actions.push(Action::Ask(peer, send.request().clone(), Role::Send));
        }
    }

    fn advance_walk(&mut self, context: &Context, actions: &mut Vec<Action>) {
        loop {
            let Some(walk) = &mut self.walk else {
                return;
            };
            let (satisfied, done) = (walk.is_satisfied(context), walk.lookup.is_done());
            if satisfied || done {
                // What was looked for and found is found, whoever told of it; that nothing newer is there is what a crowd hides.
                let found = satisfied && !matches!(&walk.goal, Goal::Get(get) if get.until != Until::First);
                self.out += usize::from(!found && walk.sees_crowd(actions));
                if found || !walk.explores() {
                    let complete = !satisfied && !walk.lookup.is_exhausted();
                    return self.finish_walk(context, complete, actions);
                }
                if done {
                    return;
                }
            }
            let Some(peer) = walk.lookup.next() else {
                if self.followed && self.send.is_none() {
                    walk.expect(actions);
                }
                return;
            };
            self.out += 1;
            actions.push(Action::Ask(peer, walk.request.clone(), Role::Walk));
        }
    }

    fn finish_walk(&mut self, context: &Context, complete: bool, actions: &mut Vec<Action>) {
        let Some(walk) = &mut self.walk else {
            return;
        };
        actions.extend(walk.end(context, self.id, complete).map(Action::Tell));
        if self.send.is_some() {
            self.stage = Stage::Sending;
        } else if self.followed {
            (self.stage, self.deadline) = (Stage::Holding, context.now + HOLD);
        } else {
            self.stage = Stage::Done;
        }
        self.out += walk.correct(context, actions);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::dht::get::Get;
    use crate::dht::lookup::Params;
    use crate::dht::message::{Response, ValueRecord};
    use crate::dht::rpc::RpcError;
    use crate::dht::testing::{Publisher, START, address, peer};
    use crate::record::Checks;

    const CONTEXT: Context = Context {
        now: START.monotonic,
        checks: Checks { at: START.wall, tolerance: Duration::ZERO },
        k: 20,
        holders: 15,
    };

    fn info(n: u32) -> PeerInfo {
        PeerInfo { id: peer(n), addresses: vec![address(n)] }
    }

    fn lead(n: u32) -> Lead {
        info(n).into()
    }

    fn query(request: Request, goal: Goal, starts: core::ops::Range<u32>) -> Query {
        let params = Params { k: 20, alpha: 10, beta: 3 };
        let lookup = Lookup::new(peer(0), Key::of(request.key()), params, None, starts.map(lead));
        Query::walk(QueryId(0), Duration::from_secs(2000), lookup, request, goal)
    }

    /// Lets the query act; returns whom it asks, and what it tells.
    fn act(query: &mut Query, step: impl FnOnce(&mut Query, &mut Vec<Action>)) -> (Vec<PeerId>, Vec<Event>) {
        let (mut actions, mut asked, mut told) = (Vec::new(), Vec::new(), Vec::new());
        step(query, &mut actions);
        for action in actions {
            match action {
                Action::Ask(peer, ..) => asked.push(peer.id),
                Action::Connect(_) | Action::Explore => {}
                Action::Tell(event) => told.push(event),
            }
        }
        (asked, told)
    }

    fn answer(
        query: &mut Query,
        role: Role,
        from: u32,
        result: Result<&Response, RpcError>,
        leads: &[Lead],
    ) -> (Vec<PeerId>, Vec<Event>) {
        let (peer, request) = (&peer(from), &Request::Ping);
        let groups = &BTreeSet::new();
        let answer = Answer { role, peer, request, result, groups, leads };
        act(query, |query, actions| query.on_answer(&CONTEXT, answer, actions))
    }

    #[test]
    fn a_peer_of_another_protocol_is_found_all_the_same() {
        let request = Request::FindNode { key: peer(5).to_bytes().into() };
        let mut query = query(request, Goal::FindPeer(PeerInfo { id: peer(5), addresses: Vec::new() }), 1..3);
        assert_eq!(act(&mut query, |query, actions| query.advance(&CONTEXT, actions)).0.len(), 2);
        let named = Response::FindNode { closer: vec![info(5)] };
        assert_eq!(answer(&mut query, Role::Walk, 1, Ok(&named), &[lead(5)]), (vec![peer(5)], vec![]));
        let (asked, told) = answer(&mut query, Role::Walk, 5, Err(RpcError::Unsupported), &[]);
        let found = Event::FindPeerDone { query: QueryId(0), peer: info(5), reached: true };
        assert_eq!((asked, told), (vec![], vec![found]));
        // One question is still out: the query is done, and closes with its answer.
        assert!(query.is_done() && !query.is_closed());
        answer(&mut query, Role::Walk, 2, Err(RpcError::Timeout), &[]);
        assert!(query.is_closed());
    }

    #[test]
    fn who_answers_late_is_heard_and_corrected() {
        let publisher = Publisher::new(1);
        let key: bytes::Bytes = publisher.name().routing_key().into();
        let holds = |sequence| {
            let value = publisher.record(sequence, 100).as_bytes().clone();
            let record = Some(ValueRecord { key: key.clone(), value, received: None });
            Response::GetValue { record, closer: Vec::new() }
        };
        let goal = Goal::Get(Box::new(Get::new(publisher.name(), Until::First, true, None)));
        let mut query = query(Request::GetValue { key: key.clone() }, goal, 1..6);
        act(&mut query, |query, actions| query.advance(&CONTEXT, actions));
        let (asked, told) = answer(&mut query, Role::Walk, 1, Ok(&holds(2)), &[]);
        assert!(asked.is_empty());
        assert!(matches!(&told[..], [Event::Found { .. }, Event::GetDone { .. }]), "{told:?}");
        // An older record earns a correction; a newer one is told, and earns one to those before.
        assert_eq!(answer(&mut query, Role::Walk, 2, Ok(&holds(1)), &[]), (vec![peer(2)], vec![]));
        let (asked, told) = answer(&mut query, Role::Walk, 3, Ok(&holds(3)), &[]);
        assert!(matches!(&told[..], [Event::Found { record, .. }] if record.sequence() == 3));
        assert_eq!(asked.len(), 2);
    }

    #[test]
    fn a_crowd_at_a_chosen_place_says_nothing_about_the_network() {
        // 2,000 peers, where 400 were known of.
        let mut order: Vec<u32> = (1..2001).collect();
        order.sort_by_key(|n| Key::of_peer(&peer(*n)).distance(&Key::of(b"key")));
        let tells = |goal: Goal| {
            let params = Params { k: 20, alpha: 10, beta: 3 };
            let starts = order[..30].iter().map(|n| lead(*n));
            let lookup = Lookup::new(peer(0), Key::of(b"key"), params, Some(400.0), starts);
            let request = Request::FindNode { key: "key".into() };
            let mut query = Query::walk(QueryId(0), Duration::from_secs(2000), lookup, request, goal);
            act(&mut query, |query, actions| query.advance(&CONTEXT, actions));
            let nobody = Response::FindNode { closer: Vec::new() };
            for n in &order[..30] {
                answer(&mut query, Role::Walk, *n, Ok(&nobody), &[]);
            }
            assert!(query.is_done());
            query.ended_lookup().is_some()
        };
        assert_eq!((tells(Goal::Closest), tells(Goal::Upkeep(Upkeep::Own))), (false, true));
    }

    #[test]
    fn a_put_beside_a_walk_that_is_over_waits_for_what_is_around_a_crowd() {
        // 2,000 peers, where 400 were known of: the nearest crowd, as it seems, and all of them answer.
        let publisher = Publisher::new(1);
        let key: bytes::Bytes = publisher.name().routing_key().into();
        let mut order: Vec<u32> = (1..2001).collect();
        order.sort_by_key(|n| Key::of_peer(&peer(*n)).distance(&Key::of(&key)));
        let params = Params { k: 20, alpha: 10, beta: 3 };
        let lookup = Lookup::new(peer(0), Key::of(&key), params, Some(400.0), order[..20].iter().map(|n| lead(*n)));
        let goal = Goal::Get(Box::new(Get::new(publisher.name(), Until::Complete, false, None)));
        let read = Request::GetValue { key: key.clone() };
        let mut query = Query::walk(QueryId(0), Duration::from_secs(2000), lookup, read, goal);
        let value = publisher.record(2, 100).as_bytes().clone();
        let put = Request::PutValue { record: ValueRecord { key, value, received: None } };
        let nobody = Response::GetValue { record: None, closer: Vec::new() };
        act(&mut query, |query, actions| query.advance(&CONTEXT, actions));
        for n in &order[..20] {
            answer(&mut query, Role::Walk, *n, Ok(&nobody), &[]);
        }
        query.attach(Duration::from_secs(2000), Fanout::open(put, 10));
        let (sent, told) = act(&mut query, |query, actions| query.advance(&CONTEXT, actions));
        assert_eq!((sent.len(), told), (20, vec![]), "the walk has not told its result either");
        let (sent, told) =
            act(&mut query, |query, actions| query.on_explored(&CONTEXT, vec![lead(order[300])], actions));
        assert_eq!(
            (sent, told),
            (vec![peer(order[300]); 2], vec![]),
            "one who is not of the crowd is asked and sent it"
        );
    }

    #[test]
    fn the_deadline_ends_a_walk_with_what_it_has() {
        let mut query = query(Request::FindNode { key: "key".into() }, Goal::Closest, 1..30);
        act(&mut query, |query, actions| query.advance(&CONTEXT, actions));
        let late = Context { now: Duration::from_secs(2000), ..CONTEXT };
        assert_eq!(query.next_timeout(), Some(late.now));
        let (asked, told) = act(&mut query, |query, actions| query.on_time(&CONTEXT, actions));
        assert_eq!((asked, told), (vec![], vec![]));
        let (asked, told) = act(&mut query, |query, actions| query.on_time(&late, actions));
        assert_eq!((asked, told), (vec![], vec![Event::ClosestDone { query: QueryId(0), closest: vec![] }]));
        assert!(query.is_done() && !query.is_closed());
    }

    #[test]
    fn what_is_provided_goes_to_those_that_answered() {
        let lookup =
            Lookup::new(peer(0), Key::of(b"key"), Params { k: 20, alpha: 10, beta: 3 }, None, (1..3).map(lead));
        let request = Request::AddProvider { key: "key".into(), providers: vec![info(0)] };
        let fanout = Fanout::open(request, 10);
        let find = Request::FindNode { key: "key".into() };
        let mut query = Query::spread(QueryId(0), Duration::from_secs(2000), lookup, find, fanout);
        act(&mut query, |query, actions| query.advance(&CONTEXT, actions));
        let nobody = Response::FindNode { closer: Vec::new() };
        assert_eq!(answer(&mut query, Role::Walk, 1, Err(RpcError::Reset), &[]), (vec![], vec![]));
        assert_eq!(answer(&mut query, Role::Walk, 2, Ok(&nobody), &[]), (vec![peer(2)], vec![]));
        let (_, told) = answer(&mut query, Role::Send, 2, Ok(&Response::AddProvider), &[]);
        assert!(matches!(&told[..], [Event::Receipt { .. }, Event::PutDone { success: true, .. }]), "{told:?}");
        assert!(query.is_closed());
    }

    #[test]
    fn the_walk_of_a_publish_connects_to_those_that_will_be_sent_to() {
        let publisher = Publisher::new(1);
        let key: bytes::Bytes = publisher.name().routing_key().into();
        let mut order: Vec<u32> = (1..2001).collect();
        order.sort_by_key(|n| Key::of_peer(&peer(*n)).distance(&Key::of(&key)));
        let walk = |corrects| {
            let params = Params { k: 20, alpha: 10, beta: 3 };
            let starts = order[..30].iter().map(|n| lead(*n));
            let goal = Goal::Get(Box::new(Get::new(publisher.name(), Until::Probable(1e-2), corrects, None)));
            let lookup = Lookup::new(peer(0), Key::of(&key), params, Some(2000.0), starts);
            let lookup = lookup.brief(goal.wanted(20, 15).unwrap());
            let request = Request::GetValue { key: key.clone() };
            Query::walk(QueryId(0), Duration::from_secs(2000), lookup, request, goal)
        };
        let (mut asked, mut connected, mut actions) = (Vec::new(), Vec::new(), Vec::new());
        let mut publish = walk(false);
        publish.advance(&CONTEXT, &mut actions);
        publish.advance(&CONTEXT, &mut actions);
        for action in actions.drain(..) {
            match action {
                Action::Ask(peer, ..) => asked.push(peer),
                Action::Connect(peer) => connected.push(peer),
                Action::Tell(_) | Action::Explore => {}
            }
        }
        // Three answers are enough: seven are asked, and the rest of the twenty nearest are connected to, once.
        let nearest: Vec<PeerInfo> = order[..20].iter().map(|n| info(*n)).collect();
        assert_eq!((&asked[..], &connected[..]), nearest.split_at(7));
        walk(true).advance(&CONTEXT, &mut actions);
        assert!(!actions.iter().any(|action| matches!(action, Action::Connect(_))), "nobody is sent anything");

        // Beside a put, which takes longer, fewer are asked to be on the safe side.
        let value = publisher.record(2, 100).as_bytes().clone();
        let put = Request::PutValue { record: ValueRecord { key: key.clone(), value, received: None } };
        let (mut beside, mut actions) = (walk(false), Vec::new());
        beside.attach(Duration::from_secs(2000), Fanout::open(put, 10));
        beside.advance(&CONTEXT, &mut actions);
        let roles = |wanted: Role| {
            actions.iter().filter(|action| matches!(action, Action::Ask(_, _, role) if *role == wanted)).count()
        };
        assert_eq!((roles(Role::Walk), roles(Role::Send)), (5, 20));
    }

    #[test]
    fn a_put_beside_its_walk_does_not_miss_those_that_were_never_there() {
        let publisher = Publisher::new(1);
        let key: bytes::Bytes = publisher.name().routing_key().into();
        let goal = || Goal::Get(Box::new(Get::new(publisher.name(), Until::Probable(1e-2), false, None)));
        let value = publisher.record(2, 100).as_bytes().clone();
        let record = ValueRecord { key: key.clone(), value, received: None };
        let nobody = Response::GetValue { record: None, closer: Vec::new() };
        let echo = Response::PutValue { record: record.clone() };
        // Whether the dead one is found to be so by the walk or by the put first.
        for walk_first in [true, false] {
            let params = Params { k: 20, alpha: 10, beta: 3 };
            let lookup = Lookup::new(peer(0), Key::of(&key), params, Some(5.0), (1..6).map(lead));
            let read = Request::GetValue { key: key.clone() };
            let mut query = Query::walk(QueryId(0), Duration::from_secs(2000), lookup, read, goal());
            let (mut asked, _) = act(&mut query, |query, actions| query.advance(&CONTEXT, actions));
            let fanout = Fanout::open(Request::PutValue { record: record.clone() }, 10);
            let mut told = Vec::new();
            act(&mut query, |query, _| query.attach(Duration::from_secs(2000), fanout));
            for n in 1..5 {
                let (also, _) = answer(&mut query, Role::Walk, n, Ok(&nobody), &[]);
                asked.extend(also);
            }
            assert_eq!(asked.len(), 10, "each of the five is asked, and sent the record before all have answered");
            for n in 1..5 {
                let put = Answer {
                    role: Role::Send,
                    peer: &peer(n),
                    request: &Request::PutValue { record: record.clone() },
                    result: Ok(&echo),
                    groups: &BTreeSet::new(),
                    leads: &[],
                };
                told.extend(act(&mut query, |query, actions| query.on_answer(&CONTEXT, put, actions)).1);
            }
            for role in if walk_first { [Role::Walk, Role::Send] } else { [Role::Send, Role::Walk] } {
                told.extend(answer(&mut query, role, 5, Err(RpcError::DialFailed), &[]).1);
            }
            let later = Context { now: CONTEXT.now + Duration::from_secs(1), ..CONTEXT };
            told.extend(act(&mut query, |query, actions| query.on_time(&later, actions)).1);
            assert!(matches!(told.last(), Some(Event::PutDone { success: true, .. })), "{told:?}");
            assert!(query.is_closed());
        }
    }

    #[test]
    fn who_knows_the_density_sends_before_all_have_answered_and_replaces_the_dead() {
        // 2,000 peers; the thirty nearest to the key are known, none of them has been asked.
        let mut order: Vec<u32> = (1..2001).collect();
        order.sort_by_key(|n| Key::of_peer(&peer(*n)).distance(&Key::of(b"key")));
        let params = Params { k: 20, alpha: 10, beta: 3 };
        let starts = order[..30].iter().map(|n| lead(*n));
        let lookup = Lookup::new(peer(0), Key::of(b"key"), params, Some(2000.0), starts);
        let request = Request::AddProvider { key: "key".into(), providers: vec![info(0)] };
        let find = Request::FindNode { key: "key".into() };
        let fanout = Fanout::open(request, 10);
        let mut query = Query::spread(QueryId(0), Duration::from_secs(2000), lookup, find, fanout);
        let (sent, _) = act(&mut query, |query, actions| query.advance(&CONTEXT, actions));
        assert_eq!(sent, order[..20].iter().map(|n| peer(*n)).collect::<Vec<_>>());
        // One is dead and one is slow: the next nearest take their places.
        let (sent, _) = answer(&mut query, Role::Send, order[3], Err(RpcError::DialFailed), &[]);
        assert_eq!(sent, [peer(order[20])]);
        let (sent, _) = act(&mut query, |query, actions| query.on_slow(&CONTEXT, Role::Send, &peer(order[5]), actions));
        assert_eq!(sent, [peer(order[21])]);
        let mut told = Vec::new();
        for n in &order[6..16] {
            told.extend(answer(&mut query, Role::Send, *n, Ok(&Response::AddProvider), &[]).1);
        }
        let later = Context { now: CONTEXT.now + Duration::from_secs(1), ..CONTEXT };
        told.extend(act(&mut query, |query, actions| query.on_time(&later, actions)).1);
        assert!(matches!(told.last(), Some(Event::PutDone { success: true, .. })), "{told:?}");
        assert!(!query.is_closed(), "the others are still on their way");
        // Enough have taken it: who is slow now is waited for, and only who fails is replaced.
        let (sent, _) =
            act(&mut query, |query, actions| query.on_slow(&CONTEXT, Role::Send, &peer(order[16]), actions));
        assert_eq!(sent, []);
        let (sent, _) = answer(&mut query, Role::Send, order[16], Err(RpcError::Timeout), &[]);
        assert_eq!(sent, [peer(order[22])]);
    }
}
