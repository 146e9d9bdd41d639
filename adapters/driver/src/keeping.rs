//! The names that a node keeps alive: listing them, and changing which they are.

use bytes::Bytes;
use futures_channel::oneshot;
use ipns_core::engine::{FollowError, Followed, Own, QueueError};
use ipns_core::{Name, Now, Timestamp};
use thiserror::Error;

use crate::handle::{Command, Handle, Stopped};
use crate::node::Node;

/// Why a node did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal<E> {
    /// It would not.
    #[error(transparent)]
    Refused(E),
    /// It has stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl Refusal<FollowError> {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(error) => error.code(),
            Self::Stopped(_) => "stopped",
        }
    }
}

impl Refusal<QueueError> {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(error) => error.code(),
            Self::Stopped(_) => "stopped",
        }
    }
}

/// What concerns the kept names. The node does it once they are loaded.
pub(crate) enum KeepCommand {
    Count(oneshot::Sender<(usize, usize)>),
    List(Option<Name>, usize, oneshot::Sender<Vec<(Name, Own)>>),
    Disown(Name, oneshot::Sender<bool>),
    Followed(Option<Name>, usize, oneshot::Sender<Vec<(Name, Followed)>>),
    Follow(Name, oneshot::Sender<Result<bool, FollowError>>),
    Unfollow(Name, oneshot::Sender<bool>),
    Queued(oneshot::Sender<Vec<(Name, Timestamp)>>),
    Queue(Name, Bytes, Timestamp, oneshot::Sender<Result<(), QueueError>>),
}

impl Handle {
    /// How many names this node publishes, and how many of others it keeps alive: the cheapest question of all, answered
    /// once the store has been read.
    ///
    /// # Errors
    /// When the node has stopped.
    pub async fn kept(&self) -> Result<(usize, usize), Stopped> {
        self.keep(KeepCommand::Count).await
    }

    /// The names that this node publishes, in the order of their bytes: all at once, while which the node does nothing
    /// else. Of very many take some at a time by [`list_after`](Self::list_after).
    ///
    /// # Errors
    /// When the node has stopped.
    pub async fn list(&self) -> Result<Vec<(Name, Own)>, Stopped> {
        self.list_after(None, usize::MAX).await
    }

    /// At most `limit` of the names that this node publishes: the first ones, or those that come after a name.
    ///
    /// # Errors
    /// When the node has stopped.
    pub async fn list_after(&self, after: Option<Name>, limit: usize) -> Result<Vec<(Name, Own)>, Stopped> {
        self.keep(|answer| KeepCommand::List(after, limit, answer)).await
    }

    /// Forgets that this node publishes a name; says whether it did.
    ///
    /// # Errors
    /// When the node has stopped.
    pub async fn disown(&self, name: Name) -> Result<bool, Stopped> {
        self.keep(|answer| KeepCommand::Disown(name, answer)).await
    }

    /// The names of others that this node keeps alive, in the order of their bytes: all at once, while which the node does
    /// nothing else. Of very many take some at a time by [`followed_after`](Self::followed_after).
    ///
    /// # Errors
    /// When the node has stopped.
    pub async fn followed(&self) -> Result<Vec<(Name, Followed)>, Stopped> {
        self.followed_after(None, usize::MAX).await
    }

    /// At most `limit` of the names of others that this node keeps alive: the first ones, or those that come after a name.
    ///
    /// # Errors
    /// When the node has stopped.
    pub async fn followed_after(&self, after: Option<Name>, limit: usize) -> Result<Vec<(Name, Followed)>, Stopped> {
        self.keep(|answer| KeepCommand::Followed(after, limit, answer)).await
    }

    /// Keeps the name of someone else alive from now on: its newest record is looked for, stored, and sent again and
    /// again until it ends. Says whether the name was not kept before; an own name is kept anyway.
    ///
    /// # Errors
    /// When too many names are followed, or the node has stopped.
    pub async fn follow(&self, name: Name) -> Result<bool, Refusal<FollowError>> {
        self.keep(|answer| KeepCommand::Follow(name, answer)).await?.map_err(Refusal::Refused)
    }

    /// Keeps the name of someone else alive no more; says whether it was.
    ///
    /// # Errors
    /// When the node has stopped.
    pub async fn unfollow(&self, name: Name) -> Result<bool, Stopped> {
        self.keep(|answer| KeepCommand::Unfollow(name, answer)).await
    }

    /// Stores a record that was signed for later, and sends it when `at` has come; from then on its name is kept alive.
    ///
    /// # Errors
    /// When it is no valid record of the name, will have ended by then, too many wait, or the node has stopped.
    pub async fn queue(&self, name: Name, record: Bytes, at: Timestamp) -> Result<(), Refusal<QueueError>> {
        self.keep(|answer| KeepCommand::Queue(name, record, at, answer)).await?.map_err(Refusal::Refused)
    }

    /// The records that wait for their time, in its order.
    ///
    /// # Errors
    /// When the node has stopped.
    pub async fn queued(&self) -> Result<Vec<(Name, Timestamp)>, Stopped> {
        self.keep(KeepCommand::Queued).await
    }

    async fn keep<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> KeepCommand) -> Result<T, Stopped> {
        self.ask(|answer| Command::Keep(make(answer))).await
    }
}

impl Node {
    /// Does what concerns the kept names. Whoever asked may have gone away; it is done all the same.
    pub(crate) fn keep(&mut self, now: Now, command: KeepCommand) {
        let engine = &mut self.engine;
        match command {
            KeepCommand::Count(answer) => {
                let _ = answer.send(engine.kept());
            }
            KeepCommand::List(after, limit, answer) => {
                let _ = answer.send(engine.own_after(after).take(limit).collect());
            }
            KeepCommand::Disown(name, answer) => {
                let _ = answer.send(engine.disown(now, &name));
            }
            KeepCommand::Followed(after, limit, answer) => {
                let _ = answer.send(engine.followed_after(after).take(limit).collect());
            }
            KeepCommand::Follow(name, answer) => {
                let _ = answer.send(engine.follow(now, name));
            }
            KeepCommand::Unfollow(name, answer) => {
                let _ = answer.send(engine.unfollow(now, &name));
            }
            KeepCommand::Queued(answer) => {
                let _ = answer.send(engine.queued().collect());
            }
            KeepCommand::Queue(name, record, at, answer) => {
                let _ = answer.send(engine.queue(now, name, record, at));
            }
        }
    }
}
