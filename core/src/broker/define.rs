//! Definitions carried out: a change of the catalog, its batch, what shards are told, and when the new routes are there.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::Inner;
use crate::{
    catalog::{Actor, Catalog, Effect, Outcome, QueueEntry, is_group},
    census::Group,
    command::{Change, Scope},
    commit::Span,
    definitions::{Definitions, Removal},
    event::{Refusal, Reply},
    id::{ConnectionId, Offset, QueueId, Token},
    link::Mailbox,
    properties::Text,
    shard::{Op, Request},
    store::{Batch, BoxFuture, StoreError},
};

/// What came of removing a queue.
struct RemovedQueue {
    /// How many messages were ready, and the queues that nobody needs without it.
    result: Result<(u64, Vec<QueueId>), Refusal>,
    committed: BoxFuture<'static, Result<(), StoreError>>,
}

impl Inner {
    /// Carries out a definition. `None`: the owning shard answers with the token.
    pub(crate) async fn define(
        &self,
        actor: &Actor,
        from: &Arc<Mailbox>,
        token: Token,
        change: Change,
    ) -> Result<Option<Reply>, Refusal> {
        let mut catalog = self.catalog.lock().await;
        if let Change::DeclareSession { client, clean, .. } = &change
            && let Some(old) = catalog.outdated_session(actor, client, *clean)
        {
            self.remove_queue(&mut catalog, old, false, false).await?;
        }
        let applied = catalog.apply(actor, &change)?;
        match &change {
            Change::Remove(Removal::User(name)) => self.census.evict(&Group::User(name.clone())),
            Change::Remove(Removal::Vhost(name)) => self.census.evict(&Group::Vhost(name.clone())),
            _ => {}
        }
        let committed =
            (!applied.batch.is_empty()).then(|| self.committer.commit(applied.batch, &[]).done);
        self.carry_out(from, &applied.effects).await?;
        self.snapshot.store(catalog.routes());
        self.begin_reading(&applied.effects);
        for unused in applied.unused {
            self.remove_queue(&mut catalog, unused, false, false)
                .await?;
        }
        let outcome = match applied.outcome {
            Outcome::DeleteQueue {
                queue,
                if_unused,
                if_empty,
            } => {
                let messages = self
                    .remove_queue(&mut catalog, queue.id, if_unused, if_empty)
                    .await?;
                return Ok(Some(Reply::Deleted { messages }));
            }
            Outcome::DeleteVhost { vhost } => {
                self.remove_vhost(&mut catalog, from, &vhost).await?;
                return Ok(Some(Reply::Removed { existed: true }));
            }
            outcome => outcome,
        };
        drop(catalog);
        self.recall_all(&applied.effects).await?;
        if let Some(committed) = committed {
            self.durable(committed).await?;
        }
        self.answer(from, token, outcome).await
    }

    /// Carries out bindings and unbindings of one connection: all are stored in one batch, and published as one change
    /// of the routes. The answers are in order.
    pub(crate) async fn define_bindings(
        &self,
        actor: &Actor,
        from: &Arc<Mailbox>,
        changes: Vec<(Token, Change)>,
    ) -> Vec<(Token, Result<Reply, Refusal>)> {
        let mut catalog = self.catalog.lock().await;
        let (mut batch, mut effects) = (Batch::new(), Vec::new());
        let mut answers = Vec::with_capacity(changes.len());
        for (token, change) in changes {
            let result = catalog.apply(actor, &change).map(|applied| {
                batch.append(applied.batch);
                effects.extend(applied.effects);
                match applied.outcome {
                    Outcome::Bound { created } => Reply::Bound { created },
                    Outcome::Unbound { existed } => Reply::Unbound { existed },
                    _ => Reply::Ok,
                }
            });
            answers.push((token, result));
        }
        let committed = (!batch.is_empty()).then(|| self.committer.commit(batch, &[]).done);
        let carried_out = self.carry_out(from, &effects).await;
        self.snapshot.store(catalog.routes());
        self.begin_reading(&effects);
        drop(catalog);
        let carried_out = carried_out.and(self.recall_all(&effects).await);
        let done = match committed {
            Some(committed) => carried_out.and(self.durable(committed).await),
            None => carried_out,
        };
        if let Err(refusal) = done {
            for (_, result) in answers.iter_mut().filter(|(_, result)| result.is_ok()) {
                *result = Err(refusal.clone());
            }
        }
        answers
    }

    /// What is set up and declared, as far as `by` may see it.
    pub(crate) async fn export(
        &self,
        by: &Actor,
        vhost: Option<&Text>,
        scope: Scope,
    ) -> Result<Definitions, Refusal> {
        self.catalog.lock().await.export(by, vhost, scope)
    }

    /// Waits for a change of the catalog. After the first that fails, nothing is accepted.
    pub(crate) async fn durable(
        &self,
        committed: BoxFuture<'static, Result<(), StoreError>>,
    ) -> Result<(), Refusal> {
        committed.await.map_err(|error| {
            self.metrics.storage_failed(&error);
            Refusal::StorageFailed(error.to_string().into())
        })
    }

    async fn answer(
        &self,
        from: &Arc<Mailbox>,
        token: Token,
        outcome: Outcome,
    ) -> Result<Option<Reply>, Refusal> {
        let (queue, op) = match outcome {
            Outcome::Ok | Outcome::DeleteQueue { .. } | Outcome::DeleteVhost { .. } => {
                return Ok(Some(Reply::Ok));
            }
            Outcome::Removed { existed } => return Ok(Some(Reply::Removed { existed })),
            Outcome::Stream { log, created } => return Ok(Some(log.as_queue(created))),
            Outcome::NoQueue | Outcome::StreamDeleted => {
                return Ok(Some(Reply::Deleted { messages: 0 }));
            }
            Outcome::Bound { created } => return Ok(Some(Reply::Bound { created })),
            Outcome::Unbound { existed } => return Ok(Some(Reply::Unbound { existed })),
            Outcome::Log(info) => return Ok(Some(Reply::Logs(vec![Ok(info)]))),
            // Its shard has heard of it before it hears anything else of this connection.
            Outcome::Queue {
                queue,
                created: true,
            } if queue.source.is_none() => {
                return Ok(Some(Reply::Queue {
                    name: queue.name.clone(),
                    messages: 0,
                    consumers: 0,
                    created: true,
                }));
            }
            Outcome::Queue { queue, created } => (
                queue.id,
                Op::Inspect {
                    token,
                    queue,
                    created,
                },
            ),
            Outcome::Purge { queue } => (
                queue.id,
                Op::Purge {
                    token,
                    queue: queue.id,
                },
            ),
        };
        let shard = &self.shards[self.shard_of_queue(queue)];
        self.send_from(from, shard, vec![op]).await?;
        Ok(None)
    }

    /// Tells the shards what has changed. They hear of it before the new routes can lead anything to them: of what is
    /// new by the express inbox, since things may come that way.
    async fn carry_out(&self, from: &Arc<Mailbox>, effects: &[Effect]) -> Result<(), Refusal> {
        for effect in effects {
            match effect {
                Effect::QueueCreated(entry) => {
                    let shard = &self.express[self.shard_of_queue(entry.id)];
                    self.send_from(from, shard, vec![Op::CreateQueue(entry.clone())])
                        .await?;
                }
                Effect::QueueChanged(entry) => {
                    let shard = &self.shards[self.shard_of_queue(entry.id)];
                    self.send_from(from, shard, vec![Op::ChangeQueue(entry.clone())])
                        .await?;
                }
                Effect::LogCreated(entry) => {
                    for shard in &self.express {
                        self.send_from(from, shard, vec![Op::CreateLog(entry.clone())])
                            .await?;
                    }
                }
                Effect::DelayCreated(entry) => {
                    let shard = &self.express[self.shard_of_exchange(entry.id)];
                    self.send_from(from, shard, vec![Op::CreateDelay(entry.clone())])
                        .await?;
                }
                Effect::DelayRemoved(entry) => {
                    let shard = &self.shards[self.shard_of_exchange(entry.id)];
                    self.send_from(from, shard, vec![Op::RemoveDelay(entry.id)])
                        .await?;
                }
                Effect::LogChanged(entry) => {
                    for shard in &self.express {
                        self.send_from(from, shard, vec![Op::ChangeLog(entry.clone())])
                            .await?;
                    }
                }
                // Once the new routes are there.
                Effect::Fed(_) | Effect::Mapped(_) | Effect::Recalled(_) => {}
                Effect::LogRemoved(entry) => {
                    self.transactions.lock().forget_log(entry.info.id);
                    for shard in &self.shards {
                        self.send_from(from, shard, vec![Op::RemoveLog(entry.clone())])
                            .await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Has logs read for which there is more to do by the new routes: for bindings by way of them, and to retain what
    /// they have.
    fn begin_reading(&self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Fed(log) => self.feeds.signal_all(log),
                Effect::Mapped(log) => {
                    let from = log.settings.retain_map.then_some(Offset(0));
                    log.tails.iter().for_each(|tail| tail.set_fill(from));
                    self.taps.signal_all(log);
                }
                _ => {}
            }
        }
    }

    /// Sends what exchanges remember to where new bindings lead.
    async fn recall_all(&self, effects: &[Effect]) -> Result<(), Refusal> {
        for effect in effects {
            if let Effect::Recalled(recall) = effect {
                self.recall(recall).await?;
            }
        }
        Ok(())
    }

    /// Removes a queue if its shard agrees, and what nobody needs without it; how many messages were ready.
    pub(super) async fn remove_queue(
        &self,
        catalog: &mut Catalog,
        id: QueueId,
        if_unused: bool,
        if_empty: bool,
    ) -> Result<u64, Refusal> {
        let removed = self.remove_one(catalog, id, if_unused, if_empty).await?;
        self.durable(removed.committed).await?;
        let (messages, unused) = removed.result?;
        for id in unused {
            // A group, which nothing else depends on.
            let removed = self.remove_one(catalog, id, false, false).await?;
            self.durable(removed.committed).await?;
        }
        Ok(messages)
    }

    /// Removes a queue if its shard agrees, without waiting until that is durable.
    async fn remove_one(
        &self,
        catalog: &mut Catalog,
        id: QueueId,
        if_unused: bool,
        if_empty: bool,
    ) -> Result<RemovedQueue, Refusal> {
        let (reply, removed) = oneshot::channel();
        // What is declared and what it holds go together, or a crash would leave one without the other.
        let stored = catalog.queue(id).is_some_and(|queue| queue.spec.durable);
        let span = stored.then(|| Span {
            id: self.next_span(),
            parts: 2,
        });
        let from = Arc::new(Mailbox::new(ConnectionId(0)));
        let request = Request {
            from: from.clone(),
            ops: vec![Op::RemoveQueue {
                queue: id,
                if_unused,
                if_empty,
                reply,
            }],
            span,
        };
        let shard = &self.shards[self.shard_of_queue(id)];
        shard.send(request).await.map_err(|_| Refusal::Stopping)?;
        let removed = removed.await.map_err(|_| Refusal::Stopping)?;
        let (batch, unused) = match removed.is_ok().then(|| catalog.remove_queue(id)).flatten() {
            Some(applied) => {
                self.snapshot.store(catalog.routes());
                self.carry_out(&from, &applied.effects).await?;
                (applied.batch, applied.unused)
            }
            None => (Batch::new(), Vec::new()),
        };
        let committed = if span.is_some() || !batch.is_empty() {
            self.committer.commit(batch, span.as_slice()).done
        } else {
            Box::pin(async { Ok(()) })
        };
        Ok(RemovedQueue {
            result: removed.map(|messages| (messages, unused)),
            committed,
        })
    }

    /// Removes a vhost with everything in it. Its row goes last, so that a crash leaves no part of it behind that
    /// another of its name would find.
    async fn remove_vhost(
        &self,
        catalog: &mut Catalog,
        from: &Arc<Mailbox>,
        vhost: &Text,
    ) -> Result<(), Refusal> {
        let mut queues: Vec<QueueId> = catalog
            .queues()
            .filter(|queue| queue.vhost == *vhost)
            .map(|queue| queue.id)
            .collect();
        let mut committed = Vec::with_capacity(queues.len());
        while let Some(queue) = queues.pop() {
            let removed = self.remove_one(catalog, queue, false, false).await?;
            committed.push(removed.committed);
            let (_, unused) = removed.result?;
            queues.extend(unused);
        }
        let removed = catalog.remove_vhost(vhost);
        self.carry_out(from, &removed.effects).await?;
        self.snapshot.store(catalog.routes());
        self.forget_vhost(vhost).await?;
        committed.push(self.committer.commit(removed.batch, &[]).done);
        for committed in committed {
            self.durable(committed).await?;
        }
        Ok(())
    }

    /// Has the shards forget what they know of a vhost beside queues and logs.
    async fn forget_vhost(&self, vhost: &Text) -> Result<(), Refusal> {
        let mut replies = Vec::with_capacity(self.shards.len());
        for shard in &self.shards {
            let (reply, forgotten) = oneshot::channel();
            let vhost = vhost.clone();
            self.send(shard, vec![Op::ForgetVhost { vhost, reply }])
                .await?;
            replies.push(forgotten);
        }
        for forgotten in replies {
            forgotten.await.map_err(|_| Refusal::Stopping)?;
        }
        Ok(())
    }

    /// A crash may have left groups whose members were there for as long as their connections.
    pub(crate) async fn remove_unused_groups(&self) {
        let mut catalog = self.catalog.lock().await;
        for id in catalog.unused_groups() {
            if let Err(refusal) = self.remove_queue(&mut catalog, id, true, false).await {
                tracing::debug!(queue = %id, %refusal, "unused group stays");
            }
        }
    }

    /// A queue has told that it is unused and wants to go.
    pub(crate) async fn remove_idle_queue(&self, id: QueueId) {
        let mut catalog = self.catalog.lock().await;
        if catalog.has_members(id) {
            // They have come while it was about to go.
            return;
        }
        let queue = catalog.queue(id).cloned();
        let is_session = |queue: &QueueEntry| queue.spec.session && !is_group(&queue.name);
        match self.remove_queue(&mut catalog, id, true, false).await {
            Ok(_) if queue.is_some_and(|queue| is_session(&queue) && queue.spec.durable) => {
                self.metrics.session_expired();
            }
            Ok(_) => {}
            Err(refusal) => tracing::debug!(queue = %id, %refusal, "unused queue stays"),
        }
    }
}
