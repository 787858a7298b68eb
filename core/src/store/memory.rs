//! The store in memory: ordered maps, one per [`Table`].
//!
//! It keeps the whole contract except that nothing outlives the process. With the feature `testing`
//! it also fails in the ways that disks do: the power goes ([`MemoryStore::crash`]), the process is
//! killed ([`MemoryStore::kill`]), a write fails ([`MemoryStore::fail_next_commit`]), writes take
//! their time ([`MemoryStore::hold`]).

use std::{
    collections::BTreeMap,
    future::ready,
    ops::Range,
    sync::{Mutex, MutexGuard},
};

use bytes::Bytes;

use super::{Batch, BoxFuture, Durability, Page, ScanLimit, Store, StoreError, Table, Write};

/// A store that lives as long as the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no code panics while it holds the state")
    }
}

impl Store for MemoryStore {
    fn commit(
        &self,
        batch: Batch,
        durability: Durability,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        self.state().commit(batch, durability)
    }

    fn get(
        &self,
        table: Table,
        key: Bytes,
    ) -> BoxFuture<'static, Result<Option<Bytes>, StoreError>> {
        let state = self.state();
        Box::pin(ready(
            state
                .open()
                .map(|()| state.tables.of(table).get(&key).cloned()),
        ))
    }

    fn scan(
        &self,
        table: Table,
        range: Range<Bytes>,
        limit: ScanLimit,
    ) -> BoxFuture<'static, Result<Page, StoreError>> {
        let state = self.state();
        Box::pin(ready(
            state
                .open()
                .map(|()| state.tables.scan(table, range, limit)),
        ))
    }

    fn close(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        let mut state = self.state();
        #[cfg(any(test, feature = "testing"))]
        state.settle();
        state.closed = true;
        Box::pin(ready(match &state.poison {
            Some(poison) => Err(poison.clone()),
            None => Ok(()),
        }))
    }
}

#[derive(Debug, Default)]
struct State {
    tables: Tables,
    closed: bool,
    /// What every commit fails with since one of them failed.
    poison: Option<StoreError>,
    #[cfg(any(test, feature = "testing"))]
    faults: testing::Faults,
}

impl State {
    fn open(&self) -> Result<(), StoreError> {
        if self.closed {
            Err(StoreError::Closed)
        } else {
            Ok(())
        }
    }

    /// Whether commits are taken at all.
    fn writable(&self) -> Result<(), StoreError> {
        self.open()?;
        self.poison.clone().map_or(Ok(()), Err)
    }

    #[cfg(not(any(test, feature = "testing")))]
    fn commit(
        &mut self,
        batch: Batch,
        _durability: Durability,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        let result = self.writable();
        if result.is_ok() {
            self.tables.apply(&batch);
        }
        Box::pin(ready(result))
    }
}

/// One ordered map per table.
#[derive(Clone, Debug, Default)]
struct Tables([BTreeMap<Bytes, Bytes>; Table::ALL.len()]);

impl Tables {
    fn of(&self, table: Table) -> &BTreeMap<Bytes, Bytes> {
        &self.0[table as usize]
    }

    fn apply(&mut self, batch: &Batch) {
        for write in batch.writes() {
            match write {
                Write::Put(table, key, value) => {
                    self.0[*table as usize].insert(key.clone(), value.clone());
                }
                Write::Delete(table, key) => {
                    self.0[*table as usize].remove(key);
                }
                Write::Forget(table, range) => self.forget(*table, range.clone()),
            }
        }
    }

    /// Forgets at once, so that whoever forgets too much is found out.
    fn forget(&mut self, table: Table, range: Range<Bytes>) {
        if range.is_empty() {
            return;
        }
        let rows = &mut self.0[table as usize];
        let mut forgotten = rows.split_off(&range.start);
        rows.append(&mut forgotten.split_off(&range.end));
    }

    fn scan(&self, table: Table, range: Range<Bytes>, limit: ScanLimit) -> Page {
        let mut page = Page::default();
        if range.is_empty() {
            return page;
        }
        let mut bytes = 0usize;
        for (key, value) in self.of(table).range(range) {
            bytes = bytes.saturating_add(key.len() + value.len());
            let full = page.entries.len() >= limit.entries || bytes > limit.bytes;
            if full && !page.entries.is_empty() {
                page.next = Some(key.clone());
                break;
            }
            page.entries.push((key.clone(), value.clone()));
        }
        page
    }
}

#[cfg(any(test, feature = "testing"))]
mod testing {
    //! Faults on request.

    use std::collections::VecDeque;

    use tokio::sync::oneshot;

    use super::*;

    /// What a simulated disk remembers, and what is to go wrong.
    #[derive(Debug, Default)]
    pub(super) struct Faults {
        /// What a power cut leaves at least: the tables after the last synced commit.
        synced: Tables,
        /// Commits since then, in order.
        since: Vec<(Batch, Durability)>,
        /// Whether commits wait for `release`.
        holding: bool,
        /// Commits that wait, in order.
        held: VecDeque<Held>,
        /// The reason for which the next commit fails.
        fail_next: Option<String>,
    }

    #[derive(Debug)]
    struct Held {
        batch: Batch,
        durability: Durability,
        done: oneshot::Sender<Result<(), StoreError>>,
    }

    impl MemoryStore {
        /// Cuts the power. This store is closed; the one returned holds everything up to the last
        /// commit at [`Durability::Synced`] and some of the commits after it, chosen by `seed`.
        pub fn crash(&self, seed: u64) -> MemoryStore {
            self.state().crash(Durability::Synced, seed)
        }

        /// Kills the process. As [`MemoryStore::crash`], but [`Durability::Written`] survives too.
        pub fn kill(&self, seed: u64) -> MemoryStore {
            self.state().crash(Durability::Written, seed)
        }

        /// Makes the next commit fail for `reason`, and so poisons the store. A later crash may or
        /// may not keep the batch.
        pub fn fail_next_commit(&self, reason: &str) {
            self.state().faults.fail_next = Some(reason.to_owned());
        }

        /// Lets commits wait, unwritten and unseen by reads, until they are released.
        pub fn hold(&self) {
            self.state().faults.holding = true;
        }

        /// Carries out the oldest commit that waits. False if none does.
        pub fn release_one(&self) -> bool {
            self.state().release_one()
        }

        /// Carries out all commits that wait; later ones wait no more.
        pub fn release(&self) {
            self.state().release();
        }

        /// Key and value bytes that are readable.
        pub fn bytes(&self) -> usize {
            let entries = |tables: &Tables| {
                tables
                    .0
                    .iter()
                    .flatten()
                    .map(|(key, value)| key.len() + value.len())
                    .sum()
            };
            entries(&self.state().tables)
        }

        /// How many commits wait.
        pub fn held(&self) -> usize {
            self.state().faults.held.len()
        }
    }

    impl State {
        pub(super) fn commit(
            &mut self,
            batch: Batch,
            durability: Durability,
        ) -> BoxFuture<'static, Result<(), StoreError>> {
            if !self.faults.holding {
                return Box::pin(ready(self.write(batch, durability)));
            }
            let (done, result) = oneshot::channel();
            self.faults.held.push_back(Held {
                batch,
                durability,
                done,
            });
            Box::pin(async move { result.await.unwrap_or(Err(StoreError::Closed)) })
        }

        fn write(&mut self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
            self.writable()?;
            if let Some(reason) = self.faults.fail_next.take() {
                self.faults.since.push((batch, Durability::Buffered));
                self.poison = Some(StoreError::Poisoned(reason.as_str().into()));
                return Err(StoreError::Unavailable(reason.into()));
            }
            self.tables.apply(&batch);
            self.faults.since.push((batch, durability));
            if durability == Durability::Synced {
                self.sync();
            }
            Ok(())
        }

        fn sync(&mut self) {
            for (batch, _) in self.faults.since.drain(..) {
                self.faults.synced.apply(&batch);
            }
        }

        /// What a close does: everything that waits is written, everything written is synced.
        pub(super) fn settle(&mut self) {
            self.release();
            if self.poison.is_none() {
                self.sync();
            }
        }

        fn release_one(&mut self) -> bool {
            let Some(Held {
                batch,
                durability,
                done,
            }) = self.faults.held.pop_front()
            else {
                return false;
            };
            let result = self.write(batch, durability);
            let _ = done.send(result);
            true
        }

        fn release(&mut self) {
            while self.release_one() {}
            self.faults.holding = false;
        }

        fn crash(&mut self, survives: Durability, seed: u64) -> MemoryStore {
            let faults = std::mem::take(&mut self.faults);
            self.closed = true;
            let sure = faults
                .since
                .iter()
                .rposition(|(_, durability)| *durability >= survives)
                .map_or(0, |at| at + 1);
            let unsure = faults.since.len() + faults.held.len() - sure;
            let kept = sure + (split_mix(seed) % (unsure as u64 + 1)) as usize;

            let mut tables = faults.synced;
            let since = faults.since.iter().map(|(batch, _)| batch);
            for batch in since
                .chain(faults.held.iter().map(|held| &held.batch))
                .take(kept)
            {
                tables.apply(batch);
            }
            let faults = Faults {
                synced: tables.clone(),
                ..Faults::default()
            };
            MemoryStore {
                state: Mutex::new(State {
                    tables,
                    faults,
                    ..State::default()
                }),
            }
        }
    }

    /// One step of SplitMix64: a well-mixed number for a seed.
    pub(in crate::store) fn split_mix(seed: u64) -> u64 {
        let z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(any(test, feature = "testing"))]
pub(super) use testing::split_mix;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::conformance::{self, Backend};

    #[derive(Default)]
    struct Memory(Arc<MemoryStore>);

    impl Backend for Memory {
        fn open(&mut self) -> Arc<dyn Store> {
            self.0 = Arc::new(self.0.crash(0));
            self.0.clone()
        }

        fn crash(&mut self, seed: u64) {
            self.0 = Arc::new(self.0.crash(seed));
        }

        fn fail_writes(&mut self) {
            self.0.fail_next_commit("the disk is on fire");
        }
    }

    #[tokio::test]
    async fn keeps_the_contract() {
        conformance::contract(Memory::default).await;
        conformance::poisons(&mut Memory::default()).await;
    }

    #[tokio::test]
    async fn agrees_with_the_model() {
        for seed in 0..200 {
            conformance::model(&mut Memory::default(), seed, 100).await;
        }
    }

    fn row(value: &'static str) -> Batch {
        let mut batch = Batch::new();
        batch.put(Table::State, "key", value);
        batch
    }

    async fn value(store: &MemoryStore) -> Option<Bytes> {
        store
            .get(Table::State, Bytes::from("key"))
            .await
            .expect("the store is open")
    }

    #[tokio::test]
    async fn a_kill_spares_what_was_written_and_a_power_cut_does_not() {
        let mut lost = false;
        for seed in 0..20 {
            let store = MemoryStore::new();
            store
                .commit(row("written"), Durability::Written)
                .await
                .unwrap();
            assert_eq!(
                value(&store.kill(seed)).await.as_deref(),
                Some(&b"written"[..])
            );

            let store = MemoryStore::new();
            store
                .commit(row("written"), Durability::Written)
                .await
                .unwrap();
            lost |= value(&store.crash(seed)).await.is_none();
        }
        assert!(lost, "no seed lost what was not synced");
    }

    #[tokio::test]
    async fn held_commits_are_neither_done_nor_seen() {
        let store = MemoryStore::new();
        store.hold();
        let mut first = store.commit(row("first"), Durability::Synced);
        let second = store.commit(row("second"), Durability::Synced);
        assert!(futures_util::FutureExt::now_or_never(&mut first).is_none());
        assert_eq!(value(&store).await, None);

        assert!(store.release_one());
        first.await.unwrap();
        assert_eq!(value(&store).await.as_deref(), Some(&b"first"[..]));
        store.release();
        second.await.unwrap();
        assert_eq!(store.held(), 0);
    }

    #[tokio::test]
    async fn a_crash_never_acknowledges_what_was_held() {
        let store = MemoryStore::new();
        store.hold();
        let commit = store.commit(row("held"), Durability::Synced);
        store.crash(1);
        assert_eq!(commit.await, Err(StoreError::Closed));
    }
}
