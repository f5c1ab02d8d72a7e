//! The rule by which a committer judges what is new. Must not know: where a cursor is kept.

/// A session's cursor as its committer keeps it, in the same transaction as the messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// Goes up by one with each connection that attaches.
    pub epoch: u64,
    /// Everything up to here is committed or refused.
    pub committed: u64,
}

/// A committer's verdict over a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It is new: commit it together with the cursor.
    Commit,
    /// It was committed or refused before: it gets the same answer again, for this number.
    Known,
    /// It comes from a connection that has been replaced: nothing is done, and nobody is told.
    Stale,
    /// One before it is missing; it can't come from a connection that keeps the protocol.
    Gap,
}

impl Cursor {
    /// Judges a message that came on the connection with this epoch. The committer alone decides what is
    /// new, whatever the connection believes.
    #[must_use]
    pub const fn judge(&self, epoch: u64, number: u64) -> Verdict {
        if epoch != self.epoch {
            Verdict::Stale
        } else if number <= self.committed {
            Verdict::Known
        } else if number == self.committed + 1 {
            Verdict::Commit
        } else {
            Verdict::Gap
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_next_number_of_the_present_epoch_is_committed() {
        let cursor = Cursor { epoch: 7, committed: 4 };
        assert_eq!(cursor.judge(7, 5), Verdict::Commit);
        assert_eq!(cursor.judge(7, 4), Verdict::Known);
        assert_eq!(cursor.judge(7, 6), Verdict::Gap);
        assert_eq!(cursor.judge(6, 5), Verdict::Stale);
    }
}
