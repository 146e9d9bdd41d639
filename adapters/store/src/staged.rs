//! A file that redb may write to but that does not change until we have accepted it.
//!
//! redb writes as soon as it opens a file: it marks it as in use and repairs it. But a file that turns out to be
//! foreign, damaged or too new must stay as it was. So the writes wait in memory until [`Staged::accept`] carries
//! them out, in their order and with their syncs, so that a crash meanwhile is one that redb can recover from.

use std::fmt;
use std::io;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use redb::{BackendError, StorageBackend};

/// The backend to give to redb, and the handle to accept the file by: clones are the same backend.
pub(crate) struct Staged<B>(Arc<Inner<B>>);

struct Inner<B> {
    file: B,
    /// `None` once accepted: from then on every call goes straight to the file.
    pending: RwLock<Option<Pending>>,
}

struct Pending {
    operations: Vec<Operation>,
    /// The length of the file itself.
    file_len: u64,
    /// The length it would have after the operations.
    len: u64,
}

enum Operation {
    Write { offset: u64, data: Vec<u8> },
    SetLen(u64),
    Sync,
}

impl<B: StorageBackend> Staged<B> {
    pub(crate) fn new(file: B) -> io::Result<Self> {
        let len = file.len()?;
        let pending = Pending { operations: Vec::new(), file_len: len, len };
        Ok(Self(Arc::new(Inner { file, pending: RwLock::new(Some(pending)) })))
    }

    /// Carries out what was held back and lets everything through from now on.
    ///
    /// When that fails, the file is as after a crash, and everything later is still held back.
    pub(crate) fn accept(&self) -> io::Result<()> {
        let mut pending = self.pending_mut();
        for operation in pending.iter().flat_map(|pending| &pending.operations) {
            match operation {
                Operation::Write { offset, data } => self.0.file.write(*offset, data)?,
                Operation::SetLen(len) => self.0.file.set_len(*len)?,
                Operation::Sync => self.0.file.sync_data()?,
            }
        }
        *pending = None;
        Ok(())
    }

    fn pending(&self) -> RwLockReadGuard<'_, Option<Pending>> {
        self.0.pending.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn pending_mut(&self) -> RwLockWriteGuard<'_, Option<Pending>> {
        self.0.pending.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn read(&self, file: &impl StorageBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = offset.saturating_add(out.len() as u64);
        if end > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        out.fill(0);
        let in_file = clamp(self.file_len, offset, out.len());
        if in_file > 0 {
            file.read(offset, &mut out[..in_file])?;
        }
        for operation in &self.operations {
            match operation {
                Operation::Write { offset: start, data } => {
                    let from = clamp(*start, offset, out.len());
                    let to = clamp(start.saturating_add(data.len() as u64), offset, out.len());
                    let skip = clamp(offset, *start, data.len());
                    out[from..to].copy_from_slice(&data[skip..skip + (to - from)]);
                }
                // What a shorter length cut off stays zero when the file grows again.
                Operation::SetLen(len) => {
                    let cut = clamp(*len, offset, out.len());
                    out[cut..].fill(0);
                }
                Operation::Sync => {}
            }
        }
        Ok(())
    }
}

/// Where `position` falls in a window of `len` bytes that begins at `start`.
fn clamp(position: u64, start: u64, len: usize) -> usize {
    usize::try_from(position.saturating_sub(start)).map_or(len, |at| at.min(len))
}

impl<B: StorageBackend> StorageBackend for Staged<B> {
    fn len(&self) -> io::Result<u64> {
        match &*self.pending() {
            Some(pending) => Ok(pending.len),
            None => self.0.file.len(),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match &*self.pending() {
            Some(pending) => pending.read(&self.0.file, offset, out),
            None => self.0.file.read(offset, out),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if let Some(pending) = &mut *self.pending_mut() {
            pending.operations.push(Operation::SetLen(len));
            pending.len = len;
            return Ok(());
        }
        self.0.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if let Some(pending) = &mut *self.pending_mut() {
            pending.operations.push(Operation::Sync);
            return Ok(());
        }
        self.0.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if let Some(pending) = &mut *self.pending_mut() {
            pending.operations.push(Operation::Write { offset, data: data.to_vec() });
            pending.len = pending.len.max(offset.saturating_add(data.len() as u64));
            return Ok(());
        }
        self.0.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.file.query_lock_range(start, end)
    }
}

impl<B> Clone for Staged<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B> fmt::Debug for Staged<B> {
    // The contents of the store do not belong into a log.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Staged").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redb::backends::InMemoryBackend;

    fn file(contents: &[u8]) -> InMemoryBackend {
        let file = InMemoryBackend::new();
        file.set_len(contents.len() as u64).unwrap();
        file.write(0, contents).unwrap();
        file
    }

    fn contents(backend: &impl StorageBackend) -> Vec<u8> {
        let mut out = vec![0xFF; usize::try_from(backend.len().unwrap()).unwrap()];
        backend.read(0, &mut out).unwrap();
        out
    }

    #[test]
    fn reads_see_what_is_held_back_and_the_file_does_not() {
        let staged = Staged::new(file(b"0123456789")).unwrap();
        staged.write(2, b"ab").unwrap();
        staged.write(3, b"cd").unwrap();
        staged.set_len(6).unwrap();
        staged.set_len(12).unwrap();
        staged.write(10, b"yz").unwrap();
        staged.sync_data().unwrap();
        assert_eq!(contents(&staged), b"01acd5\0\0\0\0yz");
        // Every window sees the same bytes as the whole.
        let whole = contents(&staged);
        for start in 0..whole.len() {
            for end in start..=whole.len() {
                let mut out = vec![0xFF; end - start];
                staged.read(start as u64, &mut out).unwrap();
                assert_eq!(out, whole[start..end], "{start}..{end}");
            }
        }
        assert_eq!(contents(&staged.0.file), b"0123456789");
        assert_eq!(staged.read(11, &mut [0; 2]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);

        staged.accept().unwrap();
        assert_eq!(contents(&staged.0.file), b"01acd5\0\0\0\0yz");
        staged.write(0, b"!").unwrap();
        assert_eq!(contents(&staged.0.file), b"!1acd5\0\0\0\0yz");
    }

    #[test]
    fn what_was_held_back_is_carried_out_in_its_order() {
        #[derive(Debug, Default)]
        struct Recorder(std::sync::Mutex<Vec<String>>);

        impl Recorder {
            fn record(&self, what: String) -> io::Result<()> {
                self.0.lock().unwrap().push(what);
                Ok(())
            }
        }

        impl StorageBackend for Recorder {
            fn len(&self) -> io::Result<u64> {
                Ok(10)
            }
            fn read(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
                Ok(())
            }
            fn set_len(&self, len: u64) -> io::Result<()> {
                self.record(format!("length {len}"))
            }
            fn sync_data(&self) -> io::Result<()> {
                self.record("sync".to_owned())
            }
            fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
                self.record(format!("write {data:?} at {offset}"))
            }
        }

        let staged = Staged::new(Recorder::default()).unwrap();
        staged.write(3, &[1]).unwrap();
        staged.sync_data().unwrap();
        staged.set_len(20).unwrap();
        staged.write(3, &[2]).unwrap();
        staged.sync_data().unwrap();
        assert!(staged.0.file.0.lock().unwrap().is_empty());
        staged.accept().unwrap();
        let recorded = staged.0.file.0.lock().unwrap();
        assert_eq!(*recorded, ["write [1] at 3", "sync", "length 20", "write [2] at 3", "sync"]);
    }
}
