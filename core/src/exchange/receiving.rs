//! The receiving half of an exchange. Must not know: frames, time, and what a message says.

use super::Violation;

/// The receiving half: 24 bytes, whatever happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Receiving {
    received: u64,
    committed: u64,
    floor: u64,
}

const _: () = assert!(size_of::<Receiving>() == 24);

impl Receiving {
    /// A half whose cursor stands at `committed`.
    #[must_use]
    pub const fn restore(committed: u64, floor: u64) -> Self {
        Self { received: committed, committed, floor }
    }

    /// The highest number that has arrived on the present connection.
    #[must_use]
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// The cursor: everything up to here is committed or refused.
    #[must_use]
    pub const fn committed(&self) -> u64 {
        self.committed
    }

    /// What the sender holds receipts for.
    #[must_use]
    pub const fn floor(&self) -> u64 {
        self.floor
    }

    /// Whether nothing is left to remember: all that was received is committed, and its sender knows.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.received == self.committed && self.committed == self.floor
    }

    /// A new connection has been made, and the committer has named the cursor: what was received and not
    /// committed will be sent again.
    pub fn attach(&mut self, committed: u64) {
        self.committed = self.committed.max(committed);
        self.received = self.committed;
    }

    /// A message has arrived.
    ///
    /// # Errors
    /// [`Violation::SequenceGap`] if it is not the next one, [`Violation::WindowExceeded`] if more messages
    /// are in flight than `window_messages`.
    pub const fn handle_message(&mut self, number: u64, window_messages: u32) -> Result<(), Violation> {
        // Where a peer's HELLO has moved the cursor to, no number may follow: the difference can't overflow.
        if number <= self.received || number - self.received != 1 {
            return Err(Violation::SequenceGap);
        }
        if number - self.committed > window_messages as u64 {
            return Err(Violation::WindowExceeded);
        }
        self.received = number;
        Ok(())
    }

    /// The committer has committed, or refused, everything up to `committed`. Whether a receipt is due. What
    /// has not been received on the present connection is not the business of its sender yet.
    pub const fn handle_committed(&mut self, committed: u64) -> bool {
        let committed = if committed < self.received { committed } else { self.received };
        let is_new = committed > self.committed;
        if is_new {
            self.committed = committed;
        }
        is_new
    }

    /// The sender holds receipts up to `floor`.
    ///
    /// # Errors
    /// [`Violation::NeverSent`] if we have not sent receipts up to there.
    pub const fn handle_confirm(&mut self, floor: u64) -> Result<(), Violation> {
        if floor > self.committed {
            return Err(Violation::NeverSent);
        }
        if floor > self.floor {
            self.floor = floor;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_takes_the_next_number_and_no_other() {
        let mut receiving = Receiving::default();
        assert_eq!(receiving.handle_message(2, 3), Err(Violation::SequenceGap));
        for number in 1..=3 {
            assert_eq!(receiving.handle_message(number, 3), Ok(()));
        }
        assert_eq!(receiving.handle_message(3, 3), Err(Violation::SequenceGap));
        assert_eq!(receiving.handle_message(4, 3), Err(Violation::WindowExceeded));
        assert!(receiving.handle_committed(2));
        assert!(!receiving.handle_committed(2));
        assert_eq!(receiving.handle_confirm(3), Err(Violation::NeverSent));
        assert_eq!(receiving.handle_confirm(2), Ok(()));
        assert!(!receiving.is_settled());
        assert!(receiving.handle_committed(9), "what was received, and no more");
        assert_eq!(receiving.committed(), 3);
        receiving = Receiving::restore(2, 2);
        receiving.attach(2);
        assert!(receiving.is_settled());
        assert_eq!(receiving.handle_message(3, 3), Ok(()));
    }
}
