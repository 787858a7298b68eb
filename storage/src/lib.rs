//! The embedded backend of the storage seam: RocksDB.
//!
//! ```text
//!  commit() ─ channel ─► writer thread ── one WriteBatch, one write, one sync ──► completes the commits
//!                             │ forgotten ranges, merged
//!                             ▼
//!                        reclaim thread ── compacts what was forgotten ──► disk space
//!  get(), scan() ─ channel ─► reader threads
//! ```
//!
//! Start reading at [`open`], then [`RocksStore`]. Why the options are as they are: `docs/internals/storage.md`.

mod rocks;

pub use rocks::{OpenError, Options, RocksStore, Statistics, open};
