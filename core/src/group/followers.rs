//! Consumers of streams that go by a name: a group whose members read whole logs, one at a time each. What they have
//! read is committed as any group's offsets are, so that the tools of groups see and move it.

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{
    CommittedOffset, DescribedMember, GroupError,
    subscription::{self, Assignment},
};
use crate::{
    id::{ConnectionId, ConsumerId},
    properties::Text,
};

/// What a consumer of a stream has to say to the group that it goes by. What it has read is written without being
/// waited for: like any settlement it becomes durable with the next commit that somebody waits for.
#[derive(Debug)]
pub(crate) struct Follow {
    pub vhost: Text,
    pub group: Text,
    pub consumer: ConsumerId,
    pub step: FollowStep,
}

#[derive(Debug)]
pub(crate) enum FollowStep {
    /// It wants to read a log, when nobody else of the group does.
    Begin(Beginning),
    /// It has read so far.
    Advance(Vec<CommittedOffset>),
    /// It has ended, having read so far.
    End(Vec<CommittedOffset>),
}

#[derive(Debug)]
pub(crate) struct Beginning {
    pub log: Text,
    pub partitions: u32,
    /// What it is called, and who asks.
    pub client: Text,
    /// Of its connection.
    pub protocol: &'static str,
    /// Where it begins if the group knows nothing of the log.
    pub otherwise: Vec<CommittedOffset>,
    pub reply: oneshot::Sender<Result<Start, GroupError>>,
}

/// When a consumer begins.
#[derive(Debug)]
pub(crate) enum Start {
    /// Now, with these.
    Now(Vec<CommittedOffset>),
    /// When the one that reads has ended.
    Later(oneshot::Receiver<Vec<CommittedOffset>>),
}

/// The consumers of streams of one group, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Followers(Vec<Follower>);

#[derive(Debug)]
struct Follower {
    connection: ConnectionId,
    consumer: ConsumerId,
    log: Text,
    partitions: u32,
    client: Text,
    protocol: &'static str,
    /// Set while it waits for another to end, with where it begins.
    waits: Option<(oneshot::Sender<Vec<CommittedOffset>>, Vec<CommittedOffset>)>,
}

impl Followers {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The protocol of the one that came first.
    pub fn protocol(&self) -> Option<&'static str> {
        self.0.first().map(|it| it.protocol)
    }

    /// Whether somebody reads the log.
    pub fn reads(&self, log: &str) -> bool {
        self.0.iter().any(|it| it.waits.is_none() && it.log == log)
    }

    /// Adds a consumer that reads its log now.
    pub fn add(&mut self, by: (ConnectionId, ConsumerId), beginning: &Beginning) {
        self.0.push(Follower {
            connection: by.0,
            consumer: by.1,
            log: beginning.log.clone(),
            partitions: beginning.partitions,
            client: beginning.client.clone(),
            protocol: beginning.protocol,
            waits: None,
        });
    }

    /// Adds a consumer whose turn comes when the one that reads its log ends.
    pub fn add_waiting(
        &mut self,
        by: (ConnectionId, ConsumerId),
        beginning: &mut Beginning,
    ) -> oneshot::Receiver<Vec<CommittedOffset>> {
        let (sender, turn) = oneshot::channel();
        self.add(by, beginning);
        if let Some(added) = self.0.last_mut() {
            added.waits = Some((sender, std::mem::take(&mut beginning.otherwise)));
        }
        turn
    }

    /// Whether this consumer is the one that reads its log.
    pub fn is_reading(&self, by: (ConnectionId, ConsumerId)) -> bool {
        let it = self.0.iter().find(|it| it.is(by));
        it.is_some_and(|it| it.waits.is_none())
    }

    /// Removes a consumer; the log that nobody reads now.
    pub fn remove(&mut self, by: (ConnectionId, ConsumerId)) -> Option<Text> {
        let at = self.0.iter().position(|it| it.is(by))?;
        let removed = self.0.remove(at);
        removed.waits.is_none().then_some(removed.log)
    }

    /// Removes the consumers of a connection; the logs that nobody reads now.
    pub fn remove_all(&mut self, connection: ConnectionId) -> Vec<Text> {
        let own = self.0.extract_if(.., |it| it.connection == connection);
        own.filter(|it| it.waits.is_none())
            .map(|it| it.log)
            .collect()
    }

    /// The next consumer that waits for a log reads it from now on.
    pub fn promote(
        &mut self,
        log: &str,
    ) -> Option<(
        oneshot::Sender<Vec<CommittedOffset>>,
        Vec<CommittedOffset>,
        u32,
    )> {
        let next = self.0.iter_mut().find(|it| it.log == log)?;
        let (sender, otherwise) = next.waits.take()?;
        Some((sender, otherwise, next.partitions))
    }

    /// As members of a group of consumers are described.
    pub fn describe(&self) -> impl Iterator<Item = DescribedMember> {
        self.0.iter().map(|it| DescribedMember {
            member: format!("{}@{}.{}", it.client, it.connection.0, it.consumer.0).into(),
            instance: None,
            client: it.client.clone(),
            host: Text::new(),
            metadata: Bytes::new(),
            assignment: match it.waits {
                Some(_) => Assignment::write(0, &[]),
                None => Assignment::write(0, &[(it.log.clone(), (0..it.partitions).collect())]),
            },
        })
    }
}

impl Follower {
    fn is(&self, by: (ConnectionId, ConsumerId)) -> bool {
        (self.connection, self.consumer) == by
    }
}

/// What the group is called while such consumers are its members.
pub(super) const PROTOCOL_TYPE: &str = subscription::CONSUMER;
/// How they share logs.
pub(super) const PROTOCOL: &str = "stream";
