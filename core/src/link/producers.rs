//! Transactions: what is decided at once is answered at once; what is written is carried through by a task.

use super::{Link, Stopped, logs::no_partition};
use crate::{
    access::Operation,
    command::Command,
    event::{Kind, Refusal, Reply},
    group::{DEAD_LETTER_LOG, GroupRequest},
    id::{LogId, Token},
    log::{Header, Marker},
    properties::Text,
    shard::Op,
    transaction::{
        AddError, OffsetsInTransaction, ProducerIdentity, TransactionAnswer, TransactionError,
        TransactionPart, TransactionReply, TransactionRequest,
    },
};

impl Link {
    pub(super) fn list_transactions(&mut self, token: Token) {
        let now = (self.broker.clock)();
        let mut list = self.broker.transactions.lock().list(now, &self.actor.vhost);
        list.retain(|info| {
            let permit = self.routing.permit_any(Kind::TransactionalId, &info.id);
            permit.is_ok()
        });
        self.done(token, Ok(Reply::Transactions(list)));
    }

    pub(super) async fn coordinate(
        &mut self,
        token: Token,
        id: Text,
        request: TransactionRequest,
    ) -> Result<(), Stopped> {
        if let Err(refusal) = self.may_use(&id) {
            self.done(token, Err(refusal));
            return Ok(());
        }
        let name = (self.actor.vhost.clone(), id);
        let broker = self.broker.clone();
        let now = (broker.clock)();
        let decision = match request {
            TransactionRequest::Init { timeout, expected } => {
                let fresh = || broker.next_producer();
                broker
                    .transactions
                    .lock()
                    .init(now, &name, timeout, expected, fresh)
            }
            TransactionRequest::End {
                producer,
                commit,
                renew,
            } => {
                // What the producer wrote through this connection must be there first.
                self.outgoing.flush(&self.broker, &self.mailbox).await?;
                let fresh = || broker.next_producer();
                broker
                    .transactions
                    .lock()
                    .end(now, &name, producer, commit, renew, fresh)
            }
            TransactionRequest::AddPartitions {
                producer,
                partitions,
                verify_only,
            } => {
                let added = self.add_partitions(&name, producer, partitions, verify_only);
                self.transaction_answer(token, added);
                return Ok(());
            }
            TransactionRequest::AddGroup { producer, group } => {
                let added = broker
                    .transactions
                    .lock()
                    .add_group(now, &name, producer, group);
                self.transaction_answer(token, added.map(|()| TransactionAnswer::Ok));
                return Ok(());
            }
            TransactionRequest::Describe => {
                let found = broker.transactions.lock().describe(now, &name);
                let reply = match found {
                    Some(found) => Ok(TransactionAnswer::Described(found)),
                    None if name.1.is_empty() => Err(TransactionError::Invalid),
                    None => Err(TransactionError::NotFound),
                };
                self.transaction_answer(token, reply);
                return Ok(());
            }
        };
        broker.transactions.wake();
        self.answer_when_read(token, async move {
            let answer = broker.carry_out_decision(decision).await;
            answer.map(Reply::Transaction)
        });
        Ok(())
    }

    fn may_use(&mut self, id: &Text) -> Result<(), Refusal> {
        self.routing
            .permit(Operation::Write, Kind::TransactionalId, id)
    }

    fn transaction_answer(&mut self, token: Token, reply: TransactionReply) {
        self.broker.transactions.wake();
        self.done(token, Ok(Reply::Transaction(reply)));
    }

    fn add_partitions(
        &mut self,
        name: &(Text, Text),
        producer: ProducerIdentity,
        partitions: Vec<(Text, u32)>,
        verify_only: bool,
    ) -> TransactionReply {
        let routes = self.routing.current();
        let find = |(log, number): &(Text, u32)| {
            let entry = routes.log(&name.0, log)?;
            ((*number as usize) < entry.tails.len()).then_some((entry.info.id, *number))
        };
        let found: Vec<Option<(LogId, u32)>> = partitions.iter().map(find).collect();
        let mut coordinator = self.broker.transactions.lock();
        if verify_only {
            let known: Vec<_> = found.iter().flatten().copied().collect();
            let mut verified = coordinator.verify(name, producer, &known)?.into_iter();
            let result = |found: &Option<_>| match found {
                None => Err(AddError::NoPartition),
                Some(_) if verified.next() == Some(true) => Ok(()),
                Some(_) => Err(AddError::NotAdded),
            };
            return Ok(TransactionAnswer::Added(found.iter().map(result).collect()));
        }
        if found.iter().any(Option::is_none) {
            let result = |found: &Option<_>| match found {
                None => Err(AddError::NoPartition),
                Some(_) => Err(AddError::NotAttempted),
            };
            return Ok(TransactionAnswer::Added(found.iter().map(result).collect()));
        }
        let results = vec![Ok(()); found.len()];
        let logs = partitions.into_iter().map(|(log, _)| log);
        let found = found.into_iter().flatten().zip(logs).collect();
        coordinator.add_partitions((self.broker.clock)(), name, producer, found)?;
        Ok(TransactionAnswer::Added(results))
    }

    /// The number of the transaction that a batch is part of; 0 for a batch without one.
    pub(super) fn admit(
        &mut self,
        header: &Header,
        part: Option<TransactionPart>,
        partition: (LogId, u32),
        log: &Text,
    ) -> Result<u64, Refusal> {
        if !header.attributes.is_transactional() {
            return Ok(0);
        }
        let part = part.ok_or(Refusal::Transaction(TransactionError::Invalid))?;
        self.may_use(&part.id)?;
        let name = (self.actor.vhost.clone(), part.id);
        let producer = ProducerIdentity {
            id: header.producer_id,
            epoch: header.producer_epoch,
        };
        let now = (self.broker.clock)();
        let admitted = self.broker.transactions.lock().admit(
            now,
            &name,
            producer,
            partition,
            log,
            part.implicit,
        );
        if part.implicit {
            self.broker.transactions.wake();
        }
        admitted.map_err(Refusal::Transaction)
    }

    /// Hands a request to the coordinator of a group.
    pub(super) fn group(&mut self, token: Token, group: Text, request: GroupRequest) {
        let operation = match request {
            GroupRequest::Configure { .. } => Operation::Configure,
            _ => Operation::Read,
        };
        if let Err(refusal) = self.routing.permit(operation, Kind::Group, &group) {
            return self.done(token, Err(refusal));
        }
        if let Err(refusal) = self.may_configure(&request) {
            return self.done(token, Err(refusal));
        }
        let shard = self.broker.shard_of_name(&group);
        let vhost = self.actor.vhost.clone();
        let transaction = match &request {
            GroupRequest::CommitInTransaction(commit) => match self.admit_offsets(&group, commit) {
                Ok(number) => number,
                Err(refusal) => return self.done(token, Err(refusal)),
            },
            _ => 0,
        };
        self.outgoing.push(
            shard,
            Op::Group {
                token,
                vhost,
                group,
                request: Box::new(request),
                transaction,
            },
        );
    }

    /// Who has dead letters go to a log must be one who may write to it.
    fn may_configure(&mut self, request: &GroupRequest) -> Result<(), Refusal> {
        let GroupRequest::Configure { settings, .. } = request else {
            return Ok(());
        };
        let log = settings.iter().find(|(name, _)| name == DEAD_LETTER_LOG);
        match log.and_then(|(_, log)| log.as_ref()) {
            Some(log) if !log.is_empty() => self.routing.permit(Operation::Write, Kind::Log, log),
            _ => Ok(()),
        }
    }

    fn admit_offsets(
        &mut self,
        group: &Text,
        commit: &OffsetsInTransaction,
    ) -> Result<u64, Refusal> {
        self.may_use(&commit.id)?;
        let name = (self.actor.vhost.clone(), commit.id.clone());
        let now = (self.broker.clock)();
        self.broker.transactions.wake();
        let admitted = self.broker.transactions.lock().admit_group(
            now,
            &name,
            commit.producer,
            group,
            commit.implicit,
        );
        admitted.map_err(Refusal::Transaction)
    }

    /// Administration of what a partition knows of producers.
    pub(super) fn administer_partition(&mut self, command: Command) {
        let (token, log, number, marker) = match command {
            Command::WriteMarker {
                token,
                log,
                partition,
                producer,
                commit,
            } => {
                let marker = Marker {
                    producer: producer.id,
                    epoch: producer.epoch,
                    transaction: 0,
                    commit,
                };
                (token, log, partition, Some(marker))
            }
            Command::DescribeProducers {
                token,
                log,
                partition,
            } => (token, log, partition, None),
            _ => return,
        };
        let needed = match marker {
            Some(_) => Operation::Configure,
            None => Operation::Read,
        };
        if let Err(refusal) = self.routing.permit(needed, Kind::Log, &log) {
            return self.done(token, Err(refusal));
        }
        let id = match self.routing.current().log(&self.actor.vhost, &log) {
            Some(entry) if (number as usize) < entry.tails.len() => entry.info.id,
            Some(entry) => {
                let refusal = no_partition(entry);
                return self.done(token, Err(refusal));
            }
            None => {
                let refusal = self.not_found(Kind::Log, &log);
                return self.done(token, Err(refusal));
            }
        };
        let shard = self.broker.shard_of_partition(id, number);
        let partition = (id, number);
        self.outgoing.push(
            shard,
            match marker {
                Some(marker) => Op::WriteMarker {
                    token,
                    partition,
                    marker,
                },
                None => Op::DescribeProducers { token, partition },
            },
        );
    }
}
