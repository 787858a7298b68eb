//! Messages going out: to consumers in turn, and to whoever asks for one.

use super::{Budget, Held, Queue, QueueType};
use crate::{
    event::{Delivery, Event, Refusal, Reply},
    id::{ConnectionId, ConsumerId, Token},
    shard::Turn,
};

/// A `basic.get` that waits for the backlog to be read.
pub(super) struct PendingGet {
    pub(super) connection: ConnectionId,
    token: Token,
    consumer: ConsumerId,
    auto_ack: bool,
}

impl Queue {
    /// Whether a `basic.get` waits.
    pub(super) fn has_gets(&self) -> bool {
        self.gets.get().is_some_and(|gets| !gets.is_empty())
    }

    /// Hands messages to consumers that take them. True if messages expired that came to the head thereby.
    pub(super) fn deliver(&mut self, budget: &mut Budget, turn: &mut Turn) -> bool {
        let at = turn.now.wall;
        let timed = self.entry.settings.consumer_timeout.is_some();
        let mut expired = false;
        while let Some(front) = self.front()
            && let Some((fleeting, sequence)) =
                self.at(front).map(|held| (held.fleeting, held.sequence))
        {
            if self.is_choked() || self.head_must_wait_to_expire(turn) {
                break;
            }
            if self
                .cursor
                .as_ref()
                .is_some_and(|it| it.is_scattered(sequence))
            {
                break;
            }
            let Some(slot) = self.consumers.next(fleeting) else {
                break;
            };
            if !fleeting && !self.may_send(slot, sequence) {
                break;
            }
            let held = self.take(front).expect("it was just seen");
            turn.count.delivered += 1;
            match self.consumers.deliver(slot, held, fleeting, timed, at) {
                Some(held) => self.forget(&held, budget),
                None => self.unsettled_count += 1,
            }
            if !fleeting {
                self.note_sent(slot, sequence);
            }
            expired |= self.expire(false, budget, turn);
        }
        for (connection, consumer, deliveries) in self.consumers.drain_outgoing() {
            turn.free.push(
                connection,
                Event::Deliver {
                    consumer,
                    deliveries,
                },
            );
        }
        expired
    }

    /// Takes one message, when it is there; otherwise once the backlog is read.
    pub(crate) fn get(
        &mut self,
        connection: ConnectionId,
        token: Token,
        consumer: ConsumerId,
        auto_ack: bool,
        turn: &Turn,
    ) -> Result<(), Refusal> {
        self.check_owner(connection)?;
        let settings = &self.entry.settings;
        if settings.single_active_consumer && settings.kind == QueueType::Quorum {
            let (name, vhost) = (self.entry.name.clone(), self.entry.vhost.clone());
            return Err(Refusal::NoGet { name, vhost });
        }
        self.renew(turn.now.wall);
        self.read_again();
        self.gets.make().push_back(PendingGet {
            connection,
            token,
            consumer,
            auto_ack,
        });
        Ok(())
    }

    /// Answers those who ask for one message. True if messages expired that came to the head thereby.
    pub(super) fn serve_gets(&mut self, budget: &mut Budget, turn: &mut Turn) -> bool {
        let mut expired = false;
        while self.has_gets() && (self.head().is_some() || self.is_all_in_memory()) {
            let gets = self.gets.make();
            let get = gets.pop_front().expect("there is a get");
            let head = if self.is_choked() || self.head_must_wait_to_expire(turn) {
                None
            } else {
                self.take_head()
            };
            let delivery = head.map(|held| self.deliver_get(&get, held, budget, turn));
            expired |= self.expire(true, budget, turn);
            let reply = Reply::Got {
                delivery,
                remaining: self.ready(),
            };
            turn.free.push(
                get.connection,
                Event::Done {
                    token: get.token,
                    result: Ok(reply),
                },
            );
        }
        expired
    }

    fn is_all_in_memory(&self) -> bool {
        match &self.cursor {
            Some(cursor) => !cursor.has_unread(),
            None => self.lanes.iter().all(|lane| lane.backlog.is_none()),
        }
    }

    fn deliver_get(
        &mut self,
        get: &PendingGet,
        held: Held,
        budget: &mut Budget,
        turn: &mut Turn,
    ) -> Delivery {
        turn.count.delivered += 1;
        let (delivery, settled) =
            self.consumers
                .get(get.connection, get.consumer, held, get.auto_ack);
        match settled {
            Some(held) => self.forget(&held, budget),
            None => self.unsettled_count += 1,
        }
        delivery
    }

    pub(super) fn refuse_gets(&mut self, refusal: &Refusal, turn: &mut Turn) {
        for get in self.gets.get_mut().map(std::mem::take).unwrap_or_default() {
            let event = Event::Done {
                token: get.token,
                result: Err(refusal.clone()),
            };
            turn.free.push(get.connection, event);
        }
    }
}
