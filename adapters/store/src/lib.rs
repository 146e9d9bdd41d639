//! Where an IPNS node keeps things: implementations of [`Store`] and a directory of private keys.
//!
//! - [`RedbStore`] is the store of a real node: one file, every commit on the disk before it returns. It opens a
//!   file only after it has verified the whole of it, without having changed a byte; it migrates files of older
//!   schemas; and it tells a file that is foreign, damaged, too new or in use apart, each with its own error.
//! - `RocksStore`, behind the feature `rocksdb`, makes the same promises with a folder of RocksDB: for those who run
//!   it already. It is built from its C++ sources, with a C++ compiler and libclang, in minutes.
//! - [`MemoryStore`] keeps the same in memory, for tests and for nodes that need nothing kept. Its clones share
//!   their contents, so that a test can start a second engine over what the first one left.
//! - [`KeyStore`] is a directory with one file for each private key, named as Kubo names them.
//!
//! [`Backend`] names the kinds, and [`AnyStore`] is a store of any kind. Whole stores can be looked through
//! ([`check`]), written to a file and read from it ([`export`], [`import`]), copied to a store of another kind
//! ([`copy`]) and replaced by one ([`migrate`]).
//!
//! All of it is synchronous and blocks: a driver runs it off the executor. All errors are values, and each has a
//! stable `code()`.
//!
//! ```
//! use ipns_core::store::{Store, Table, Write};
//! use ipns_store::MemoryStore;
//!
//! let mut store = MemoryStore::new();
//! store.commit(&[Write { table: Table::Meta, key: b"answer".to_vec(), value: Some(b"42".to_vec()) }])?;
//! assert_eq!(store.get(Table::Meta, b"answer")?.as_deref(), Some(&b"42"[..]));
//! # Ok::<(), ipns_core::store::StoreError>(())
//! ```
//!
//! Inside: `redb.rs` opens and uses the file, over `staged.rs`, which holds back its first writes until
//! `schema.rs` has recognised it and before `migrate.rs` changes it. `rocksdb.rs` does so with the folder, over
//! `tally.rs`, which counts its commits a second time, and `framing.rs`, which looks at its logs before RocksDB does.
//! `publish.rs` makes new files and folders appear whole or not at all; `limits.rs` is the size check and `failure.rs`
//! the errors that stores share. `check.rs` and `transfer.rs` work on stores of any kind, a page at a time
//! (`pages.rs`); `portable.rs` is the file that they are exported to.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod backend;
mod check;
mod failure;
#[cfg(feature = "rocksdb")]
mod framing;
mod keystore;
mod limits;
mod memory;
mod migrate;
mod pages;
mod portable;
mod publish;
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
mod schema;
mod staged;
#[cfg(feature = "rocksdb")]
mod tally;
mod transfer;

pub use ipns_core::store::{Entries, Store, StoreError, Table, Write};

pub use self::backend::{AnyStore, Backend, UnknownBackend};
pub use self::check::{Problem, Report, TableReport, check};
pub use self::keystore::{KeyStore, KeyStoreError, MAX_KEY_NAME_BYTES};
pub use self::memory::MemoryStore;
pub use self::publish::create_file;
pub use self::redb::RedbStore;
#[cfg(feature = "rocksdb")]
pub use self::rocksdb::RocksStore;
pub use self::transfer::{ImportError, Imported, Migrated, copy, export, finish_migration, import, migrate};
