//! Where objects came from: what is known is said in the index journal of every disk that works, so that it outlives the
//! disk that the object is on, a restart, and the object.

use super::super::digest::Digest;
use super::super::record::{ORIGIN_BYTES_MAX, Origin};
use super::{PutError, Shard};
use crate::io::Io;
use crate::journal::{Appended, JournalError};
use bytes::Bytes;

impl<I: Io> Shard<I> {
    /// Where an object came from.
    pub fn origin(&self, digest: &Digest) -> Option<String> {
        self.inner.state.borrow().origins.get(digest).map(str::to_owned)
    }

    /// Keeps where an object came from; on stable storage when this returns. A URL that is too long is not kept.
    pub async fn remember_origin(&self, digest: Digest, url: &str) -> Result<(), PutError> {
        assert!(!url.is_empty(), "an object came from nowhere");
        let _lock = self.lock(digest).await;
        if url.len() > ORIGIN_BYTES_MAX || self.origin(&digest).is_some_and(|known| known == url) {
            return Ok(());
        }
        self.say_origin(digest, url.to_owned()).await
    }

    /// An object is not to be fetched from `url` again.
    pub async fn forget_origin(&self, digest: Digest, url: &str) -> Result<(), PutError> {
        let _lock = self.lock(digest).await;
        if self.origin(&digest).is_some_and(|known| known == url) {
            self.say_origin(digest, String::new()).await?;
        }
        Ok(())
    }

    /// An object that is deleted is not to come back; whether it could have. The caller holds the digest's lock.
    pub(super) async fn forget_any_origin(&self, digest: Digest) -> Result<bool, PutError> {
        let (known, may_be) = {
            let origins = &self.inner.state.borrow().origins;
            (origins.get(&digest).is_some(), origins.may_be_known(&digest))
        };
        if may_be {
            self.say_origin(digest, String::new()).await?;
        }
        Ok(known)
    }

    /// The caller holds the digest's lock.
    async fn say_origin(&self, digest: Digest, url: String) -> Result<(), PutError> {
        let said = Origin { digest, sequence: self.next_sequence(), url };
        let data = Bytes::copy_from_slice(said.url.as_bytes());
        let working = self.inner.disks.iter().filter(|d| d.out().is_none());
        let queued: Vec<(_, Result<Appended, JournalError>)> =
            working.map(|disk| (disk, disk.index.append(said.frame(), data.clone()))).collect();
        let mut outcome = Ok(());
        for (disk, appended) in queued {
            let synced = async { appended?.synced().await };
            match synced.await {
                // With the disk gone, so is what it says.
                Err(e) if disk.out().is_none() || self.inner.disks.len() == 1 => outcome = Err(e.into()),
                _ => {}
            }
        }
        if outcome.is_ok() {
            self.inner.state.borrow_mut().origins.hear(said);
        }
        outcome
    }
}
