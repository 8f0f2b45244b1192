//! Where does memory come from that is no block? A request asks here for what it is going to hold, and is put off (SlowDown) when none
//! comes free. Cached directories give way for it: they can be read again.

use std::pin::pin;

use super::answer::Answer;
use super::core::Core;
use crate::io::{Work, blocking, within};
use crate::limits::{ROOM_WAIT, SMALL_ANSWER_SIZE_MAX};
use crate::mem::Lease;
use crate::s3::ask::error::{Code, S3Error};

impl Core {
    /// Room for `size` bytes, waited for a while. Whoever holds some already must not wait for more: see `Lease::resize`.
    pub async fn room_for(&self, size: usize) -> Result<Lease, S3Error> {
        if let Some(lease) = self.room.try_take(size) {
            return Ok(lease);
        }
        Box::pin(self.wait_for_room(size)).await
    }

    async fn wait_for_room(&self, size: usize) -> Result<Lease, S3Error> {
        let settings = self.settings.clone();
        // On a helper: it may be much to free.
        blocking(Work::Read, move || settings.volume.give_way(size)).await?;
        within(ROOM_WAIT, pin!(self.room.take(size))).await.ok_or_else(|| self.no_room())
    }

    /// A page that was made, and has room to be held until its client has taken it. Its lease was for the largest that is usual: pages
    /// that are made at once and then ask for more would refuse each other.
    pub fn answer_page(&self, document: Vec<u8>, mut lease: Lease) -> Result<Answer, S3Error> {
        // A short one is copied behind its head.
        if !lease.resize(document.capacity() + document.len().min(SMALL_ANSWER_SIZE_MAX)) {
            return Err(self.no_room());
        }
        let mut answer = Answer::xml(200, document);
        answer.lease = Some(lease);
        Ok(answer)
    }

    /// The refusal of a request that would hold more than there is room for.
    pub fn no_room(&self) -> S3Error {
        self.room.count_refusal();
        S3Error::new(Code::SlowDown).message("The memory for requests is in use (--request-memory). Please try again")
    }
}
