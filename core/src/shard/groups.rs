//! What clients and the broker ask of groups.

use super::{Op, Shard, Turn};
use crate::{
    event::{Event, Reply},
    group::{Answers, GroupRequest},
    id::ConnectionId,
};

impl Shard {
    pub(super) fn apply_group(&mut self, from: ConnectionId, op: Op, turn: &mut Turn) {
        match op {
            Op::Group {
                token,
                vhost,
                group,
                request,
                transaction,
            } => {
                let mut answers = Answers::new();
                let (now, from) = (turn.now, (from, token));
                // What is read may still be in flight, and must not be told before it is durable.
                turn.in_order |= matches!(*request, GroupRequest::Offsets { .. });
                self.groups.handle(
                    now,
                    from,
                    vhost,
                    group,
                    *request,
                    transaction,
                    &mut answers,
                    &mut turn.batch,
                );
                answer(answers, turn);
            }
            Op::Follow(follow) => {
                self.groups.follow(turn.now, from, *follow, &mut turn.batch);
            }
            Op::ListGroups { token, vhost } => {
                let result = Ok(Reply::Groups(self.groups.list(&vhost)));
                turn.free.push(from, Event::Done { token, result });
            }
            Op::BuriedShare(burial) => self.groups.bury(*burial, &mut turn.batch),
            _ => {}
        }
    }
}

/// Answers of group coordinators wait until what they say is durable.
pub(super) fn answer(answers: Answers, turn: &mut Turn) {
    for ((connection, token), reply) in answers {
        let result = Ok(Reply::Group(reply));
        turn.held.push(connection, Event::Done { token, result });
    }
}
