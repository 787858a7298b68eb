//! Consumers of logs that go by a name: how far they have settled what they were sent, as their group is told.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::oneshot;

use super::{
    Link,
    streams::{Came, Read, Stream},
};
use crate::{
    access::Operation,
    catalog::LogEntry,
    command::{FollowSpec, StreamStart},
    event::{Kind, Refusal, Reply},
    group::{Beginning, CommittedOffset, Follow, FollowStep, GroupError, Start},
    id::{ConsumerId, DeliveryId, Offset},
    log::{Position, Tail, record_place},
    message::Message,
    properties::Text,
    shard::Op,
    store::BoxFuture,
};

/// Where the consumer of a log is that goes by a name.
pub(super) struct Tracker {
    group: Text,
    log: Text,
    /// Of unsettled deliveries, and of settled ones behind the first that is not.
    places: VecDeque<(u32, Offset)>,
    /// Everything before it is settled, by partition; what is not known is not said.
    done: Vec<Option<Offset>>,
    /// As the group was told.
    told: Vec<Option<Offset>>,
    /// The first delivery that came back: it is to be read again, and so is all behind it.
    returned: Option<DeliveryId>,
    /// Its turn has come.
    started: bool,
    /// It begins where it says, whatever the group has.
    pub(super) anew: bool,
}

impl Tracker {
    /// It reads from now on.
    pub(super) fn start(&mut self) {
        self.started = true;
    }

    /// A message is delivered.
    pub(super) fn delivered(&mut self, message: &Message) {
        self.places
            .push_back(record_place(&message.native).unwrap_or_default());
    }

    /// The delivery came back.
    pub(super) fn returned(&mut self, delivery: DeliveryId) {
        self.returned = Some(self.returned.map_or(delivery, |first| first.min(delivery)));
    }

    /// The oldest delivery is settled, whatever became of it.
    pub(super) fn settled(&mut self, delivery: DeliveryId) {
        let Some((partition, offset)) = self.places.pop_front() else {
            return;
        };
        if self.returned.is_none_or(|returned| delivery < returned)
            && let Some(done) = self.done.get_mut(partition as usize)
        {
            *done = Some(offset.next());
        }
    }

    /// Nothing that was read is unsettled: reading goes on here.
    pub(super) fn caught_up(&mut self, positions: &[(u32, Position)]) {
        if self.started && self.returned.is_none() && self.places.is_empty() {
            for (done, (_, position)) in self.done.iter_mut().zip(positions) {
                if let Position::At(offset) = position {
                    *done = Some(*offset);
                }
            }
        }
    }

    /// What the group has not been told.
    fn news(&mut self) -> Vec<CommittedOffset> {
        if self.told == self.done {
            return Vec::new();
        }
        let old = std::mem::replace(&mut self.told, self.done.clone());
        let both = self.done.iter().zip(old).enumerate();
        both.filter(|(_, (done, told))| *done != told)
            .filter_map(|(partition, (done, _))| Some(committed(&self.log, partition, (*done)?)))
            .collect()
    }
}

fn committed(log: &Text, partition: usize, offset: Offset) -> CommittedOffset {
    CommittedOffset {
        log: log.clone(),
        partition: partition as u32,
        offset,
        leader_epoch: -1,
        metadata: Text::new(),
    }
}

impl Link {
    /// Whether the consumer is to be followed: who may not read the group's offsets is refused where that was asked
    /// for, and else reads the log as one without a name.
    pub(super) fn may_follow(&mut self, spec: &FollowSpec) -> Result<bool, Refusal> {
        if spec.own {
            return Ok(true);
        }
        let permit = self
            .routing
            .permit(Operation::Read, Kind::Group, &spec.group);
        match permit {
            Ok(()) => Ok(true),
            Err(_) if !spec.required => Ok(false),
            Err(refusal) => Err(refusal),
        }
    }

    /// Asks the group when the consumer begins, and where.
    pub(super) fn ask_to_follow(
        &mut self,
        consumer: ConsumerId,
        log: &LogEntry,
        spec: FollowSpec,
        positions: &[(u32, Position)],
    ) -> (Tracker, BoxFuture<'static, Read>) {
        let (reply, answer) = oneshot::channel();
        let FollowSpec {
            group,
            client,
            protocol,
            anew,
            ..
        } = spec;
        let name = &log.info.name;
        let certain = |(partition, position): &(u32, Position)| match position {
            Position::At(offset) => Some(committed(name, *partition as usize, *offset)),
            _ => None,
        };
        let beginning = Beginning {
            log: name.clone(),
            partitions: positions.len() as u32,
            client,
            protocol,
            otherwise: positions.iter().filter_map(certain).collect(),
            reply,
        };
        self.tell(&group, consumer, FollowStep::Begin(beginning));
        let tracker = Tracker {
            group,
            log: name.clone(),
            places: VecDeque::new(),
            done: vec![None; positions.len()],
            told: vec![None; positions.len()],
            returned: None,
            started: false,
            anew,
        };
        let asked = Box::pin(async move {
            // A shard that has gone says nothing, as for all that it was asked.
            let answer = answer.await.unwrap_or(Err(GroupError::StorageFailed));
            (consumer, Came::Answer(answer))
        });
        (tracker, asked)
    }

    /// A consumer's group has said when it begins.
    pub(super) fn follow_answered(
        &mut self,
        consumer: ConsumerId,
        answer: Result<Start, GroupError>,
    ) {
        let Some(stream) = self.stream(consumer) else {
            return;
        };
        let Some(token) = stream.asked.take() else {
            return;
        };
        match answer {
            Ok(Start::Now(offsets)) => {
                self.done(token, Ok(Reply::Ok));
                self.follow_from(consumer, &offsets);
            }
            Ok(Start::Later(turn)) => {
                self.done(token, Ok(Reply::Ok));
                let turn: BoxFuture<'static, Read> = Box::pin(async move {
                    let offsets = turn.await.map(Start::Now);
                    let came = offsets.map_err(|_| GroupError::StorageFailed);
                    (consumer, Came::Turn(came))
                });
                self.streams.make().reads.push(turn);
            }
            Err(error) => {
                let removed = self.streams.make().consumers.remove(&consumer);
                let group = removed.and_then(|it| it.tracker).map(|it| it.group);
                let text = format!("cannot consume as '{}': {error}", group.unwrap_or_default());
                self.done(token, Err(Refusal::NotAllowed(text.into())));
            }
        }
    }

    /// It is the consumer's turn, with what the group has committed.
    pub(super) fn follow_from(&mut self, consumer: ConsumerId, offsets: &[CommittedOffset]) {
        let Some(stream) = self.stream(consumer) else {
            return;
        };
        stream.resume(offsets);
        self.advance_stream(consumer);
    }

    /// Tells groups how far the consumers have come that go by a name.
    pub(super) fn tell_positions(&mut self) {
        let Some(streams) = self.streams.get_mut().filter(|it| it.followers > 0) else {
            return;
        };
        let mut told = Vec::new();
        for (consumer, stream) in &mut streams.consumers {
            if let Some(tracker) = &mut stream.tracker {
                let news = tracker.news();
                if !news.is_empty() {
                    told.push((tracker.group.clone(), *consumer, news));
                }
            }
        }
        for (group, consumer, news) in told {
            self.tell(&group, consumer, FollowStep::Advance(news));
        }
    }

    /// The consumer has ended; `told` says whether how far it has come still matters.
    pub(super) fn end_following(&mut self, consumer: ConsumerId, mut stream: Stream, told: bool) {
        let Some(tracker) = &mut stream.tracker else {
            return;
        };
        let news = if told { tracker.news() } else { Vec::new() };
        let group = tracker.group.clone();
        if let Some(streams) = self.streams.get_mut() {
            streams.followers -= 1;
        }
        self.tell(&group, consumer, FollowStep::End(news));
    }

    fn tell(&mut self, group: &Text, consumer: ConsumerId, step: FollowStep) {
        let shard = self.broker.shard_of_name(group);
        let follow = Follow {
            vhost: self.actor.vhost.clone(),
            group: group.clone(),
            consumer,
            step,
        };
        self.outgoing.push(shard, Op::Follow(Box::new(follow)));
    }
}

/// Where to go on with what is committed, as far as the log still has it.
pub(super) fn resumed(
    positions: &mut [(u32, Position)],
    tails: &[Arc<Tail>],
    offsets: &[CommittedOffset],
) {
    for committed in offsets {
        let partition = committed.partition as usize;
        if let (Some((_, position)), Some(tail)) =
            (positions.get_mut(partition), tails.get(partition))
        {
            let start = StreamStart::Offset(committed.offset);
            *position = Position::start(start, tail);
        }
    }
}
