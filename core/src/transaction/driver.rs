//! Carries out what the coordinator decides: one batch for all that a transaction wrote to, and the clock.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, oneshot};

use super::{
    Coordinator, ProducerIdentity, TransactionAnswer, TransactionError, TransactionReply,
    coordinator::{Change, Decision, Ends, Name},
};
use crate::{
    broker::Inner,
    commit::Span,
    event::Refusal,
    id::{ConnectionId, LogId},
    link::Mailbox,
    log::Marker,
    properties::Text,
    shard::{Op, Request},
    store::{Batch, Table, keys},
};

/// The coordinator of a broker, shared by its links.
#[derive(Debug)]
pub(crate) struct Transactions {
    coordinator: Mutex<Coordinator>,
    /// There may be an earlier deadline, or one that has passed.
    changed: Notify,
}

/// What the transaction that ends wrote to in one shard.
#[derive(Debug, Default)]
struct Part {
    partitions: Vec<(LogId, u32)>,
    groups: Vec<(Text, Text)>,
}

impl Transactions {
    pub(crate) fn new(coordinator: Coordinator) -> Transactions {
        Transactions {
            coordinator: Mutex::new(coordinator),
            changed: Notify::new(),
        }
    }

    /// Each decision is whole, so a panic elsewhere spoils nothing.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Coordinator> {
        self.coordinator
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the deadlines looked at.
    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }
}

impl Inner {
    /// Carries out a decision, to its end even when nobody waits for the answer any more.
    pub(crate) async fn carry_out_decision(
        self: Arc<Inner>,
        decision: Result<Decision, TransactionError>,
    ) -> Result<TransactionReply, Refusal> {
        let change = match decision {
            Ok(Decision::Known(producer)) => return Ok(Ok(TransactionAnswer::Producer(producer))),
            Ok(Decision::Change(change)) => *change,
            Err(error) => return Ok(Err(error)),
        };
        let task = tokio::spawn(async move { self.carry_out_change(change).await });
        let producer = task.await.map_err(|_| Refusal::Stopping)??;
        Ok(Ok(TransactionAnswer::Producer(producer)))
    }

    /// Writes a change in one batch with all that it ends, and waits until everybody can see it.
    async fn carry_out_change(&self, change: Change) -> Result<ProducerIdentity, Refusal> {
        let (vhost, id) = &change.name;
        let mut batch = Batch::new();
        batch.put(Table::State, keys::transaction(vhost, id), change.row());
        let parts = change
            .ends
            .as_ref()
            .map(|ends| self.parts(vhost, ends))
            .unwrap_or_default();
        // Room first, so that nothing is awaited between the parts of the span.
        let mut permits = Vec::with_capacity(parts.len());
        for shard in parts.keys() {
            let permit = self.shards[*shard].reserve().await;
            permits.push(permit.map_err(|_| Refusal::Stopping)?);
        }
        let span = (!parts.is_empty()).then(|| Span {
            id: self.next_span(),
            parts: parts.len() as u32 + 1,
        });
        let from = Arc::new(Mailbox::new(ConnectionId(0)));
        let mut visible = Vec::with_capacity(permits.len());
        for (permit, part) in permits.into_iter().zip(parts.into_values()) {
            let (sender, receiver) = oneshot::channel();
            visible.push(receiver);
            permit.send(Request {
                from: from.clone(),
                ops: change
                    .ends
                    .iter()
                    .map(|ends| ends.marker())
                    .map(|marker| Op::EndTransaction {
                        marker,
                        partitions: part.partitions.clone(),
                        groups: part.groups.clone(),
                    })
                    .chain([Op::Drain(sender)])
                    .collect(),
                span,
            });
        }
        let committed = self.committer.commit(batch, span.as_slice()).done;
        self.durable(committed).await?;
        for published in visible {
            // A shard that has stopped shows nothing to anybody.
            let _ = published.await;
        }
        let producer = change.producer;
        self.transactions.lock().settle(change);
        Ok(producer)
    }

    fn parts(&self, vhost: &Text, ends: &Ends) -> BTreeMap<usize, Part> {
        let mut parts: BTreeMap<usize, Part> = BTreeMap::new();
        for (log, number) in &ends.partitions {
            let shard = self.shard_of_partition(*log, *number);
            let part = parts.entry(shard).or_default();
            part.partitions.push((*log, *number));
        }
        for group in &ends.groups {
            let part = parts.entry(self.shard_of_name(group)).or_default();
            part.groups.push((vhost.clone(), group.clone()));
        }
        parts
    }
}

impl Ends {
    fn marker(&self) -> Marker {
        Marker {
            producer: self.producer.id,
            epoch: self.producer.epoch,
            transaction: self.number,
            commit: self.commit,
        }
    }
}

/// Aborts transactions whose time is up, and forgets unused transactional ids.
pub(crate) async fn run(inner: Arc<Inner>) {
    loop {
        loop {
            let now = (inner.clock)();
            let due = inner
                .transactions
                .lock()
                .time_out(now, || inner.next_producer());
            let Some(change) = due else { break };
            tracing::info!(id = %change.name.1, "transaction aborted: its time is up");
            if let Err(refusal) = inner.carry_out_change(change).await {
                tracing::warn!(%refusal, "transaction not aborted");
            }
        }
        expire(&inner).await;
        let next = inner.transactions.lock().next_deadline();
        let wait = async {
            match next {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wait => {}
            () = inner.transactions.changed.notified() => {}
        }
    }
}

async fn expire(inner: &Inner) {
    let now = (inner.clock)();
    let unused: Vec<Name> = inner.transactions.lock().expire(now);
    if unused.is_empty() {
        return;
    }
    let mut batch = Batch::new();
    for (vhost, id) in &unused {
        batch.delete(Table::State, keys::transaction(vhost, id));
    }
    let committed = inner.committer.commit(batch, &[]).done;
    if let Err(refusal) = inner.durable(committed).await {
        tracing::warn!(%refusal, "unused transactional ids stay");
    }
}
