//! Shared subscriptions: the groups that the session is a member of, each with a consumer of its own (section 4.8.2).

use trivium_core::{BindingTag, Command, ConsumeSpec, ConsumerId, Text, Token};

use super::outbound::CONSUMER;
use crate::{packet::Qos, subscription::Options};

/// The groups that this connection takes messages from.
pub struct Shares {
    members: Vec<Share>,
    last_consumer: ConsumerId,
    /// Unsettled messages of one group at most.
    window: u16,
}

struct Share {
    queue: Text,
    consumer: ConsumerId,
    options: Options,
}

impl Shares {
    /// None yet.
    pub fn new(window: u16) -> Shares {
        Shares {
            members: Vec::new(),
            last_consumer: CONSUMER,
            window,
        }
    }

    /// The options of the subscription that a consumer stands for; `None` when it has ended.
    pub fn options(&self, consumer: ConsumerId) -> Option<Options> {
        let share = self.members.iter().find(|it| it.consumer == consumer);
        share.map(|share| share.options)
    }

    /// A group has ended, and with it this consumer.
    pub fn forget(&mut self, consumer: ConsumerId) {
        self.members.retain(|share| share.consumer != consumer);
    }

    /// Takes part in what the session is a member of now, and in nothing else. What is under way stays so (3.10.4-4).
    pub fn follow(
        &mut self,
        groups: Vec<(Text, BindingTag)>,
        mut token: impl FnMut() -> Token,
        commands: &mut Vec<Command>,
    ) {
        self.members.retain(|share| {
            let now = groups.iter().find(|(queue, _)| *queue == share.queue);
            // Acknowledging is part of how a consumer was started.
            let stays = now.is_some_and(|(_, tag)| {
                let options = Options::from_tag(*tag);
                (options.qos == Qos::AtMostOnce) == (share.options.qos == Qos::AtMostOnce)
            });
            if !stays {
                commands.push(Command::Cancel {
                    token: token(),
                    consumer: share.consumer,
                });
            }
            stays
        });
        for (queue, tag) in groups {
            let options = Options::from_tag(tag);
            if let Some(share) = self.members.iter_mut().find(|share| share.queue == queue) {
                share.options = options;
                continue;
            }
            self.last_consumer = self.last_consumer.next();
            let consumer = self.last_consumer;
            commands.push(Command::Consume {
                token: token(),
                consumer,
                queue: queue.clone(),
                spec: ConsumeSpec {
                    auto_ack: options.qos == Qos::AtMostOnce,
                    prefetch: Some(self.window.into()),
                    session: true,
                    ..ConsumeSpec::default()
                },
            });
            self.members.push(Share {
                queue,
                consumer,
                options,
            });
        }
    }
}
