//! What the client takes messages from besides its session, each by a consumer of its own: groups that share
//! subscriptions (section 4.8.2), queues and logs.

use trivium_core::{
    BindingTag, Change, Command, ConsumeSpec, ConsumerId, FollowSpec, Kind, Now, StreamSpec,
    Subscription, Text, Token,
};

use super::outbound::CONSUMER;
use crate::{
    packet::Qos,
    reader::{self, Source},
    subscription::Options,
};

/// Unsettled messages of a log that is read at QoS 0, at most: they are settled when they are written.
const UNACKNOWLEDGED: u32 = 1000;

/// What this connection takes messages from.
pub struct Shares {
    members: Vec<Share>,
    last_consumer: ConsumerId,
    /// Unsettled messages of one of them at most.
    window: u16,
}

/// One of them.
pub struct Share {
    /// As the session remembers it: the queue of a group, or what is read.
    name: Text,
    consumer: ConsumerId,
    /// The subscription's.
    pub(super) options: Options,
    /// What is read, if it is not what matches a filter.
    pub(super) source: Option<Box<Source>>,
    /// It is a group's.
    is_group: bool,
    /// The command that started it, until it is answered.
    starting: Option<Token>,
}

/// How a client reads something: who it is, and whether how far it has come outlives its connection.
#[derive(Clone, Copy)]
pub struct Client<'a> {
    pub id: &'a Text,
    pub lasts: bool,
    pub now: Now,
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

    /// What a consumer stands for; `None` when it has ended.
    pub fn find(&self, consumer: ConsumerId) -> Option<&Share> {
        self.members.iter().find(|it| it.consumer == consumer)
    }

    /// A consumer has ended because what it read was deleted: the client is to find out if that was something with a name.
    /// What its session is to forget is told, but not groups, which it is no member of any more.
    pub fn forget(&mut self, consumer: ConsumerId) -> Option<Option<Text>> {
        let at = self.members.iter().position(|it| it.consumer == consumer)?;
        let share = self.members.swap_remove(at);
        share
            .source
            .map(|_| (!share.is_group).then_some(share.name))
    }

    /// Takes part in what the session is a member of now, and in no other group. What is under way stays so (3.10.4-4).
    pub fn follow(
        &mut self,
        client: Client<'_>,
        groups: Vec<(Text, BindingTag)>,
        mut token: impl FnMut() -> Token,
        commands: &mut Vec<Command>,
    ) {
        self.members.retain(|share| {
            let now = groups.iter().find(|(name, _)| *name == share.name);
            // Acknowledging is part of how a consumer was started.
            let stays = !share.is_group
                || now.is_some_and(|(_, tag)| acknowledges(Options::from_tag(*tag), share.options));
            if !stays {
                commands.push(Command::Cancel {
                    token: token(),
                    consumer: share.consumer,
                });
            }
            stays
        });
        for (name, tag) in groups {
            let options = Options::from_tag(tag);
            if let Some(share) = self.members.iter_mut().find(|share| share.name == name) {
                share.options = options;
            } else if let Some(source) = Source::parse(&name, None) {
                self.read(client, token(), source, options, false, commands);
            } else {
                let spec = ConsumeSpec {
                    auto_ack: options.qos == Qos::AtMostOnce,
                    prefetch: Some(self.window.into()),
                    session: true,
                    ..ConsumeSpec::default()
                };
                let share = Share {
                    source: group_source(&name).map(Box::new),
                    is_group: true,
                    ..Share::new(name.clone(), options)
                };
                self.consume(token(), name, share, spec, commands);
            }
        }
    }

    /// Reads something; false if it is read as wanted already. The old consumer, if there was another one, goes on
    /// until [`Shares::started`].
    pub fn subscribe(
        &mut self,
        client: Client<'_>,
        token: Token,
        source: Source,
        options: Options,
        commands: &mut Vec<Command>,
    ) -> bool {
        let name = source.text();
        if let Some(share) = self.members.iter_mut().find(|share| share.name == name)
            && share.starting.is_none()
            && (source.kind == Kind::Log || acknowledges(options, share.options))
        {
            share.options = options;
            return false;
        }
        self.read(client, token, source, options, true, commands);
        true
    }

    fn read(
        &mut self,
        client: Client<'_>,
        token: Token,
        source: Source,
        options: Options,
        anew: bool,
        commands: &mut Vec<Command>,
    ) {
        let spec = match source.kind {
            Kind::Log => self.log_spec(client, &source, options, anew),
            _ => ConsumeSpec {
                auto_ack: options.qos == Qos::AtMostOnce,
                prefetch: Some(self.window.into()),
                only: Some(Kind::Queue),
                ..ConsumeSpec::default()
            },
        };
        let (name, queue) = (source.text(), source.name.clone());
        let share = Share {
            source: Some(Box::new(source)),
            starting: Some(token),
            ..Share::new(name, options)
        };
        self.consume(token, queue, share, spec, commands);
    }

    fn log_spec(
        &self,
        client: Client<'_>,
        source: &Source,
        options: Options,
        anew: bool,
    ) -> ConsumeSpec {
        let follow = client.lasts.then(|| FollowSpec {
            group: format!("mqtt.{}", client.id).into(),
            client: client.id.clone(),
            protocol: "mqtt",
            required: false,
            own: true,
            anew,
        });
        let stream = StreamSpec {
            from: source.begin(client.now.wall).unwrap_or_default(),
            filter: None,
            follow,
        };
        let prefetch = match options.qos {
            Qos::AtMostOnce => UNACKNOWLEDGED,
            _ => self.window.into(),
        };
        ConsumeSpec {
            prefetch: Some(prefetch),
            stream: Some(Box::new(stream)),
            only: Some(Kind::Log),
            ..ConsumeSpec::default()
        }
    }

    fn consume(
        &mut self,
        token: Token,
        queue: Text,
        share: Share,
        spec: ConsumeSpec,
        commands: &mut Vec<Command>,
    ) {
        self.last_consumer = self.last_consumer.next();
        let consumer = self.last_consumer;
        commands.push(Command::Consume {
            token,
            consumer,
            queue,
            spec,
        });
        self.members.push(Share { consumer, ..share });
    }

    /// A consumer reads: others of the same are ended, and what they were called is forgotten.
    pub fn started(
        &mut self,
        client: &Text,
        by: Token,
        mut token: impl FnMut() -> Token,
        commands: &mut Vec<Command>,
    ) {
        let new = self.members.iter_mut().find(|it| it.starting == Some(by));
        let Some(new) = new else { return };
        new.starting = None;
        let (consumer, name) = (new.consumer, new.name.clone());
        let Some(source) = new.source.clone() else {
            return;
        };
        self.members.retain(|share| {
            if share.consumer == consumer || !share.reads(&source) {
                return true;
            }
            let ended = share.consumer;
            commands.push(Command::Cancel {
                token: token(),
                consumer: ended,
            });
            if share.name != name {
                commands.push(unread(token(), client, &share.name));
            }
            false
        });
    }

    /// A consumer could not be started; what the session is to forget, if it was to go on.
    pub fn failed(&mut self, by: Token) -> Option<Text> {
        let at = self.members.iter().position(|it| it.starting == Some(by))?;
        Some(self.members.swap_remove(at).name)
    }

    /// Takes part in a group no more that reads something, and goes when its last member has left: this client has asked
    /// for that and need not be told.
    pub fn leave(
        &mut self,
        filter: &str,
        token: impl FnOnce() -> Token,
        commands: &mut Vec<Command>,
    ) {
        let is_it = |share: &Share| {
            share.is_group
                && share.name.strip_prefix('\0') == Some(filter)
                && share.source.is_some()
        };
        if let Some(at) = self.members.iter().position(is_it) {
            let consumer = self.members.swap_remove(at).consumer;
            let token = token();
            commands.push(Command::Cancel { token, consumer });
        }
    }

    /// Reads something no more; what the session is to forget.
    pub fn unsubscribe(
        &mut self,
        source: &Source,
        token: impl FnOnce() -> Token,
        commands: &mut Vec<Command>,
    ) -> Text {
        let at = self.members.iter().position(|share| share.reads(source));
        let Some(at) = at else {
            return source.text();
        };
        let share = self.members.swap_remove(at);
        commands.push(Command::Cancel {
            token: token(),
            consumer: share.consumer,
        });
        share.name
    }
}

impl Share {
    fn new(name: Text, options: Options) -> Share {
        Share {
            name,
            consumer: CONSUMER,
            options,
            source: None,
            is_group: false,
            starting: None,
        }
    }

    /// Whether it reads something for this client alone.
    fn reads(&self, source: &Source) -> bool {
        let own = self.source.as_ref().filter(|_| !self.is_group);
        own.is_some_and(|own| own.reads_the_same(source))
    }
}

/// What a group reads, if its queue is not of what matches a filter; its name ends with that filter.
fn group_source(name: &str) -> Option<Source> {
    let (_, filter) = name.split_once('/')?;
    Source::parse(filter, None).filter(|_| reader::is_reader(filter))
}

/// Whether both acknowledge, or none.
fn acknowledges(a: Options, b: Options) -> bool {
    (a.qos == Qos::AtMostOnce) == (b.qos == Qos::AtMostOnce)
}

/// Has the session remember what its client reads.
pub fn remember(token: Token, client: &Text, source: &Source, options: Options) -> Command {
    let change = Change::Read {
        client: client.clone(),
        what: source.text(),
        subscription: Subscription {
            tag: options.tag(),
            best_effort: options.qos == Qos::AtMostOnce,
            no_local: false,
        },
    };
    Command::Define { token, change }
}

/// Has the session forget it.
pub fn unread(token: Token, client: &Text, what: &Text) -> Command {
    let change = Change::Unread {
        client: client.clone(),
        what: what.clone(),
    };
    Command::Define { token, change }
}
