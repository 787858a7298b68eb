//! SUBSCRIBE and UNSUBSCRIBE: bindings of the session, and retained messages for new subscriptions.

use bytes::BytesMut;
use rustc_hash::FxHashMap;
use trivium_core::{
    Binding, Change, Command, Destination, Grammar, Pattern, Refusal, Reply, SharedLog,
    Subscription, Text, Token,
};

use super::{
    inbound::topic_exchange,
    shares::{self, Client, Shares},
};
use crate::{
    packet::{
        Filter, Packet, Qos, Reason, RetainHandling, SubAck, Subscribe, UnsubAck, Unsubscribe,
        Version, Violation,
    },
    reader::{self, Source},
    subscription::Options,
    topic,
    translation::Translation,
};

/// Of commands whose answers nobody waits for.
pub const UNANSWERED: Token = Token(u64::MAX);

/// Subscriptions under way to the core.
pub struct Subscriptions {
    version: Version,
    client_id: Text,
    translation: Translation,
    next: Token,
    pending: Option<Pending>,
    /// Retained messages asked for, and for which subscription.
    pub(super) retained: FxHashMap<Token, Options>,
    /// Packets written since somebody looked.
    sent: u32,
}

/// A SUBSCRIBE or UNSUBSCRIBE that is being carried out.
struct Pending {
    packet_id: u16,
    /// The token of the first entry; the others follow.
    first: Token,
    /// One per filter, in order.
    entries: Vec<Entry>,
    /// How many entries have no reason yet.
    outstanding: usize,
    kind: Kind,
    /// Whether a filter is that of a shared subscription.
    shared: bool,
}

enum Kind {
    Subscribe,
    Unsubscribe,
}

struct Entry {
    reason: Option<Reason>,
    /// For a subscription: what was granted, and what to do about retained messages.
    granted: Option<(Text, Options, RetainHandling)>,
    created: bool,
    /// It is of something with a name, which has to be there.
    is_named: bool,
    /// What is read, if anything, and whether its consumer is there already.
    reader: Option<Box<(Source, Reading)>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Starting,
    Started,
}

impl Entry {
    fn refused(reason: Reason) -> Entry {
        Entry {
            reason: Some(reason),
            ..Entry::asked()
        }
    }

    /// The core has been asked.
    fn asked() -> Entry {
        Entry {
            reason: None,
            granted: None,
            created: false,
            is_named: false,
            reader: None,
        }
    }
}

impl Subscriptions {
    /// Nothing under way. Tokens are taken from `next` on.
    pub fn new(
        version: Version,
        client_id: Text,
        translation: Translation,
        next: Token,
    ) -> Subscriptions {
        Subscriptions {
            version,
            client_id,
            translation,
            next,
            pending: None,
            retained: FxHashMap::default(),
            sent: 0,
        }
    }

    /// Whether a SUBSCRIBE or UNSUBSCRIBE is being carried out; no input is taken meanwhile, so that what the client
    /// publishes next comes back to it behind the retained messages.
    pub fn is_pending(&self) -> bool {
        self.pending.is_some() || !self.retained.is_empty()
    }

    /// Takes a SUBSCRIBE.
    pub fn handle_subscribe(
        &mut self,
        subscribe: Subscribe,
        client: Client<'_>,
        shares: &mut Shares,
        commands: &mut Vec<Command>,
        out: &mut BytesMut,
    ) -> Result<(), Violation> {
        let Subscribe {
            packet_id,
            subscription_id,
            start,
            filters,
        } = subscribe;
        // 3.8.3-4
        if filters
            .iter()
            .any(|filter| filter.no_local && topic::is_shared(&filter.filter))
        {
            return Err(Violation::protocol("no local on a shared subscription"));
        }
        let first = self.next;
        let shared = filters
            .iter()
            .any(|filter| topic::is_shared(&filter.filter));
        let entries = filters
            .into_iter()
            .map(|filter| match reader::is_reader(&filter.filter) {
                true => {
                    let source = Source::parse(&filter.filter, start.as_ref());
                    let options = Options::granted(&filter, subscription_id);
                    self.read(source, options, client, shares, commands)
                }
                false => self.bind(filter, subscription_id, start.as_ref(), client, commands),
            })
            .collect();
        self.begin(
            Pending {
                packet_id,
                first,
                entries,
                outstanding: 0,
                kind: Kind::Subscribe,
                shared,
            },
            commands,
            out,
        );
        Ok(())
    }

    /// Begins to read a queue or a log. QoS 2 is for queues: what a log has read stays there, so it can be read again.
    fn read(
        &mut self,
        source: Option<Source>,
        mut options: Options,
        client: Client<'_>,
        shares: &mut Shares,
        commands: &mut Vec<Command>,
    ) -> Entry {
        let token = self.take_token();
        let Some(source) = source.filter(|it| it.begin(client.now.wall).is_some()) else {
            return Entry::refused(Reason::FILTER_INVALID);
        };
        if source.kind == trivium_core::Kind::Log {
            options.qos = options.qos.min(Qos::AtLeastOnce);
        }
        let mut reading = Reading::Starting;
        if !shares.subscribe(client, token, source.clone(), options, commands) {
            reading = Reading::Started;
            commands.push(shares::remember(token, &self.client_id, &source, options));
        }
        Entry {
            granted: Some((source.text(), options, RetainHandling::Never)),
            is_named: true,
            reader: Some(Box::new((source, reading))),
            ..Entry::asked()
        }
    }

    fn bind(
        &mut self,
        filter: Filter,
        identifier: Option<u32>,
        start: Option<&Text>,
        client: Client<'_>,
        commands: &mut Vec<Command>,
    ) -> Entry {
        let token = self.take_token();
        let Ok(log) = shared_log(&filter.filter, start) else {
            return Entry::refused(Reason::FILTER_INVALID);
        };
        let options = Options::granted(&filter, identifier);
        // The text outlives this packet in the core's catalog: a copy, so that it does not hold on to the read buffer.
        let key = self.translation.filter(Text::from(&*filter.filter));
        let subscription = Subscription {
            tag: options.tag(),
            best_effort: options.qos == Qos::AtMostOnce,
            no_local: options.no_local,
        };
        let is_named = log.is_some();
        let (change, retain_handling) = match topic::shared(&key) {
            // 4.8.2: no retained messages for shared subscriptions.
            Some((group, shared)) => {
                let filter = log.as_ref().map_or_else(|| shared.into(), Source::topic);
                let log = match log.map(|log| (log.begin(client.now.wall), log.name)) {
                    None => None,
                    Some((Some(from), log)) => Some(Box::new(SharedLog { log, from })),
                    Some((None, _)) => return Entry::refused(Reason::FILTER_INVALID),
                };
                let join = Change::Join {
                    client: self.client_id.clone(),
                    group: group.into(),
                    filter,
                    subscription,
                    log,
                };
                (join, RetainHandling::Never)
            }
            None => {
                let binding = self.binding(key.clone(), Some(subscription));
                (Change::Bind(binding), filter.retain_handling)
            }
        };
        commands.push(Command::Define { token, change });
        Entry {
            granted: Some((key, options, retain_handling)),
            is_named,
            ..Entry::asked()
        }
    }

    /// Takes an UNSUBSCRIBE.
    pub fn handle_unsubscribe(
        &mut self,
        unsubscribe: Unsubscribe,
        shares: &mut Shares,
        commands: &mut Vec<Command>,
        out: &mut BytesMut,
    ) {
        let first = self.next;
        let shared = unsubscribe
            .filters
            .iter()
            .any(|filter| topic::is_shared(filter));
        let entries = unsubscribe
            .filters
            .into_iter()
            .map(|filter| self.unbind(filter, shares, commands))
            .collect();
        let packet_id = unsubscribe.packet_id;
        self.begin(
            Pending {
                packet_id,
                first,
                entries,
                outstanding: 0,
                kind: Kind::Unsubscribe,
                shared,
            },
            commands,
            out,
        );
    }

    fn unbind(&mut self, filter: Text, shares: &mut Shares, commands: &mut Vec<Command>) -> Entry {
        let token = self.take_token();
        if reader::is_reader(&filter) {
            let Some(source) = Source::parse(&filter, None) else {
                return Entry::refused(Reason::NO_SUBSCRIPTION_EXISTED);
            };
            // Nobody waits for the answer to the consumer's end.
            let what = shares.unsubscribe(&source, || UNANSWERED, commands);
            commands.push(shares::unread(token, &self.client_id, &what));
            return Entry::asked();
        }
        let Ok(log) = shared_log(&filter, None) else {
            return Entry::refused(Reason::NO_SUBSCRIPTION_EXISTED);
        };
        let filter = self.translation.filter(filter);
        let change = match topic::shared(&filter) {
            Some((group, shared)) => {
                let filter = log.as_ref().map_or_else(|| shared.into(), Source::topic);
                if log.is_some() {
                    shares.leave(&format!("{group}/{filter}"), || UNANSWERED, commands);
                }
                Change::Leave {
                    client: self.client_id.clone(),
                    group: group.into(),
                    filter,
                }
            }
            None => Change::Unbind(self.binding(filter, None)),
        };
        commands.push(Command::Define { token, change });
        Entry::asked()
    }

    fn begin(&mut self, mut pending: Pending, commands: &mut Vec<Command>, out: &mut BytesMut) {
        pending.outstanding = pending
            .entries
            .iter()
            .filter(|entry| entry.reason.is_none())
            .count();
        self.pending = Some(pending);
        self.answer(commands, out);
    }

    fn binding(&self, key: Text, subscription: Option<Subscription>) -> Binding {
        Binding {
            source: topic_exchange(),
            destination: Destination::Session(self.client_id.clone()),
            key,
            grammar: Grammar::Slashes,
            arguments: Vec::new(),
            subscription,
        }
    }

    /// How many packets were written since the last look.
    pub fn take_sent(&mut self) -> u32 {
        std::mem::take(&mut self.sent)
    }

    /// A token that no other command has.
    pub fn take_token(&mut self) -> Token {
        let token = self.next;
        self.next = token.next();
        token
    }

    /// Takes the core's answer to a binding or its removal; answers the client when it was the last.
    pub fn handle_done(
        &mut self,
        token: Token,
        result: &Result<Reply, Refusal>,
        shares: &mut Shares,
        commands: &mut Vec<Command>,
        out: &mut BytesMut,
    ) {
        let pending = self.pending.as_mut();
        if let Some(entry) = pending.and_then(|pending| pending.entry(token)) {
            if entry.reads_on(token, result, &self.client_id, shares, commands) {
                return;
            }
            entry.created = matches!(result, Ok(Reply::Bound { created: true }));
            entry.reason = Some(match result {
                Ok(Reply::Unbound { existed: false }) => Reason::NO_SUBSCRIPTION_EXISTED,
                Ok(_) => entry
                    .granted
                    .as_ref()
                    .map_or(Reason::SUCCESS, |(_, options, _)| Reason(options.qos as u8)),
                Err(refusal) => failure(refusal, entry.is_named),
            });
            if let Some(pending) = &mut self.pending {
                pending.outstanding -= 1;
            }
        } else if result.is_ok() {
            let token_of = || UNANSWERED;
            shares.started(&self.client_id, token, token_of, commands);
        } else if let Some(what) = shares.failed(token) {
            // A queue or log that a session went on with is not there any more.
            commands.push(shares::unread(UNANSWERED, &self.client_id, &what));
        }
        self.answer(commands, out);
    }

    /// Which subscription asked for these retained messages.
    pub fn take_retained(&mut self, token: Token) -> Option<Options> {
        self.retained.remove(&token)
    }

    /// Answers the client when the core has carried out everything.
    fn answer(&mut self, commands: &mut Vec<Command>, out: &mut BytesMut) {
        let Some(pending) = self.pending.take_if(|pending| pending.outstanding == 0) else {
            return;
        };
        self.sent += 1;
        pending.acknowledge(self.version, out);
        if pending.shared {
            let token = self.take_token();
            commands.push(Command::Shares { token });
        }
        for entry in pending.entries {
            self.ask_retained(entry, commands);
        }
    }

    fn ask_retained(&mut self, entry: Entry, commands: &mut Vec<Command>) {
        let failed = entry.reason.is_some_and(Reason::is_error);
        let Some((filter, options, handling)) = entry.granted.filter(|_| !failed) else {
            return;
        };
        // 3.3.1-9 to 3.3.1-11; version 3 always asks.
        let wanted = match handling {
            RetainHandling::Always => true,
            RetainHandling::IfNew => entry.created,
            RetainHandling::Never => false,
        };
        if wanted {
            let token = self.take_token();
            self.retained.insert(token, options);
            commands.push(Command::Retained {
                token,
                filter: Pattern::new(filter, Grammar::Slashes),
            });
        }
    }
}

impl Entry {
    /// Takes an answer about what is read; true when another one is still to come.
    fn reads_on(
        &mut self,
        token: Token,
        result: &Result<Reply, Refusal>,
        client: &Text,
        shares: &mut Shares,
        commands: &mut Vec<Command>,
    ) -> bool {
        let (Some(reader), Some((_, options, _))) = (&mut self.reader, &self.granted) else {
            return false;
        };
        let (source, reading) = &mut **reader;
        match (*reading, result) {
            (Reading::Starting, Ok(_)) => {
                *reading = Reading::Started;
                shares.started(client, token, || UNANSWERED, commands);
                commands.push(shares::remember(token, client, source, *options));
                return true;
            }
            (Reading::Starting, Err(_)) => drop(shares.failed(token)),
            (Reading::Started, Err(_)) => {
                shares.unsubscribe(source, || UNANSWERED, commands);
            }
            (Reading::Started, Ok(_)) => {}
        }
        false
    }
}

impl Pending {
    /// The entry that the core has answered.
    fn entry(&mut self, token: Token) -> Option<&mut Entry> {
        let index = token.0.checked_sub(self.first.0)?;
        let entry = self.entries.get_mut(index as usize)?;
        Some(entry).filter(|entry| entry.reason.is_none())
    }

    fn acknowledge(&self, version: Version, out: &mut BytesMut) {
        let packet_id = self.packet_id;
        let reasons = self.entries.iter().filter_map(|entry| entry.reason);
        let packet = match self.kind {
            Kind::Subscribe => Packet::SubAck(SubAck {
                packet_id,
                reasons: reasons.map(|reason| in_suback(reason, version)).collect(),
            }),
            Kind::Unsubscribe => Packet::UnsubAck(UnsubAck {
                packet_id,
                reasons: reasons.collect(),
            }),
        };
        packet.encode(version, out);
    }
}

/// The log whose records a shared subscription is of, if it is; an error where the filter is none. The messages of a queue
/// are shared by all who read it, without a group.
fn shared_log(filter: &str, start: Option<&Text>) -> Result<Option<Source>, ()> {
    if !topic::is_shared(filter) {
        return Ok(None);
    }
    let (_, shared) = topic::shared(filter)
        .filter(|_| topic::is_shared_filter(filter))
        .ok_or(())?;
    match reader::is_reader(shared) {
        true => Source::parse(shared, start)
            .filter(|source| source.kind == trivium_core::Kind::Log)
            .map(Some)
            .ok_or(()),
        false => Ok(None),
    }
}

/// How SUBACK of a version says it: 3.1.1 knows one failure, 3.1 none, and grants a QoS without a subscription.
fn in_suback(reason: Reason, version: Version) -> Reason {
    match version {
        Version::V5 => reason,
        _ if !reason.is_error() => reason,
        Version::V311 => Reason::UNSPECIFIED,
        Version::V31 => Reason(Qos::AtMostOnce as u8),
    }
}

fn failure(refusal: &Refusal, is_named: bool) -> Reason {
    match refusal {
        Refusal::Denied(_) => Reason::NOT_AUTHORIZED,
        Refusal::Locked { .. } | Refusal::ExclusiveUse { .. } => Reason::NOT_AUTHORIZED,
        Refusal::NotFound { .. } | Refusal::Invalid(_) | Refusal::NotImplemented(_) if is_named => {
            Reason::FILTER_INVALID
        }
        Refusal::Quota(_) => Reason::QUOTA_EXCEEDED,
        _ => Reason::UNSPECIFIED,
    }
}
