//! Online migration (KIP-848): a group of the classic protocol becomes one of the consumer protocol with the first
//! member that speaks it, and is one of the classic protocol again when the last such member has gone. Members,
//! generation and offsets stay.

use bytes::Bytes;

use super::{Group, State};
use crate::{
    group::{
        GroupError,
        consumer::{Classic, ConsumerGroup, Member as ConsumerMember},
        coordinator::Answers,
        directory::Directory,
        member::Member,
        subscription::{self, Assignment, Subscription},
    },
    time::Now,
};

const NOT_CONSUMERS: &str = "the group does not use the consumer embedded protocol";
const MALFORMED: &str = "the embedded consumer protocol is malformed";
const CUSTOM_ASSIGNOR: &str = "an unsupported custom assignor is in use. Please refer to the documentation or switch to a default assignor before re-attempting the upgrade";

impl Group {
    /// The group as one of the consumer protocol, with its members as they are: each at the epoch of the generation,
    /// with what it has been assigned.
    pub(super) fn upgraded(
        &self,
        now: Now,
        directory: &Directory,
    ) -> Result<ConsumerGroup, GroupError> {
        let cannot = |why| GroupError::CannotUpgrade(self.name.1.clone(), why);
        if self.protocol_type != subscription::CONSUMER {
            return Err(cannot(NOT_CONSUMERS));
        }
        let mut consumers = self.new_consumers();
        let (mut assigned, mut kept) = (Vec::new(), Vec::new());
        for member in self.members.values() {
            let metadata = match member.metadata(&self.protocol) {
                metadata if metadata.is_empty() => {
                    member.protocols.first().map(|(_, it)| it.clone())
                }
                metadata => Some(metadata),
            };
            let subscription = metadata.as_ref().and_then(Subscription::read);
            let subscription = subscription.ok_or_else(|| cannot(MALFORMED))?;
            let assignment = Assignment::read(&member.assignment);
            let assignment = assignment.ok_or_else(|| cannot(MALFORMED))?;
            if assignment.user_data.is_some_and(|data| !data.is_empty()) {
                return Err(cannot(CUSTOM_ASSIGNOR));
            }
            let classic = Classic {
                session_timeout: member.session_timeout,
                protocols: member.protocols.clone(),
                owes: None,
            };
            let mut migrated = ConsumerMember::new(
                member.id.clone(),
                member.instance.clone(),
                now.instant + member.session_timeout,
            );
            (migrated.epoch, migrated.previous_epoch) = (self.generation, self.generation);
            (migrated.client, migrated.host) = (member.client.clone(), member.host.clone());
            migrated.rack = subscription.rack;
            migrated.rebalance_timeout = member.rebalance_timeout;
            migrated.subscribe(Some(subscription.logs), None, &self.name.0, directory);
            migrated.classic = Some(Box::new(classic));
            consumers.migrate(migrated)?;
            assigned.push((&member.id, assignment.partitions));
            kept.push((&member.id, subscription.owned));
        }
        // What a member is to let go of is in nobody's assignment, but it has said that it has it.
        for (id, partitions) in assigned.into_iter().chain(kept) {
            consumers.has_kept(id, &partitions, directory);
        }
        Ok(consumers)
    }

    /// Goes on as a group of the consumer protocol. Who waits for the old one to move on is to join again.
    pub(super) fn become_consumers(&mut self, consumers: ConsumerGroup, answers: &mut Answers) {
        for member in std::mem::take(&mut self.members).into_values() {
            let parked = member.joining.into_iter().chain(member.syncing);
            answers.extend(parked.map(|it| (it, Err(GroupError::RebalanceInProgress))));
        }
        self.instances.clear();
        self.pending.clear();
        self.become_empty();
        self.consumers = Some(Box::new(consumers));
        self.protocol_changed();
    }

    /// Once all members speak the classic protocol, it is a group of the classic protocol, and they share it out among
    /// themselves.
    pub(super) fn downgrade_if_due(
        &mut self,
        now: Now,
        directory: &Directory,
        answers: &mut Answers,
    ) {
        let Some(mut consumers) = self.consumers.take_if(|it| it.is_all_classic()) else {
            return;
        };
        self.generation = consumers.epoch();
        self.protocol_type = subscription::CONSUMER.into();
        for (member, assigned) in consumers.take_classic(directory) {
            let Some(classic) = member.classic else {
                continue;
            };
            let assignment = match assigned.is_empty() {
                true => Bytes::new(),
                false => Assignment::write(classic.version(), &assigned),
            };
            if let Some(instance) = &member.instance {
                self.instances.insert(instance.clone(), member.id.clone());
            }
            let classic = Member {
                id: member.id.clone(),
                instance: member.instance,
                client: member.client,
                host: member.host,
                session_timeout: classic.session_timeout,
                rebalance_timeout: member.rebalance_timeout,
                protocols: classic.protocols,
                assignment,
                joining: None,
                syncing: None,
                is_new: false,
                owes_sync: false,
                alive_until: now.instant + classic.session_timeout,
            };
            self.members.insert(member.id, classic);
        }
        self.leader = self.members.keys().next().cloned().unwrap_or_default();
        self.protocol = self.select_protocol();
        self.state = State::Stable;
        self.protocol_changed();
        self.prepare(now, answers);
    }
}
