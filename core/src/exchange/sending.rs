//! The sending half of an exchange. Must not know: frames and time.

use super::{Violation, Window};
use crate::sparse::SparseQueue;

/// The sending half: what has a number, and whose fate is not known yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sending<P> {
    /// Everything up to here is committed or refused, and we know it.
    settled: u64,
    /// Everything up to here was sent on the present connection, or settled before it.
    sent: u64,
    /// The highest number that was ever sent, on whatever connection.
    ever_sent: u64,
    /// The highest number that we have confirmed on the present connection.
    confirmed: u64,
    /// The payloads above `settled`, in the order of their numbers.
    kept: SparseQueue<P>,
    /// The bytes of those in flight: above `settled`, up to `sent`.
    bytes_in_flight: u32,
    window: Window,
}

impl<P: AsRef<[u8]>> Sending<P> {
    /// A half that has sent nothing yet.
    #[must_use]
    pub const fn new(window: Window) -> Self {
        Self {
            settled: 0,
            sent: 0,
            ever_sent: 0,
            confirmed: 0,
            kept: SparseQueue::new(),
            bytes_in_flight: 0,
            window,
        }
    }

    /// A half that continues after a restart: everything up to `settled` has been settled, `kept` follows, and
    /// of those what is numbered up to `ever_sent` may have been sent.
    #[must_use]
    pub fn restore(settled: u64, ever_sent: u64, kept: impl IntoIterator<Item = P>, window: Window) -> Self {
        let kept = kept.into_iter().collect();
        Self { settled, sent: settled, ever_sent, confirmed: 0, kept, bytes_in_flight: 0, window }
    }

    /// The highest number whose fate is known.
    #[must_use]
    pub const fn settled(&self) -> u64 {
        self.settled
    }

    /// What the receiver takes.
    #[must_use]
    pub const fn window(&self) -> Window {
        self.window
    }

    /// The highest number given out.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.settled + self.kept.len() as u64
    }

    /// How many bytes more would leave at once: if everything that was given a number has left, and at most half of
    /// the window is taken.
    #[must_use]
    pub fn room(&self) -> Option<u32> {
        let has_room = self.sent == self.last()
            && self.kept.len() <= self.window.messages as usize / 2
            && self.bytes_in_flight <= self.window.bytes / 2;
        has_room.then(|| self.window.bytes - self.bytes_in_flight)
    }

    /// Whether something that was given a number has yet to leave.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.sent < self.last()
    }

    /// Whether everything that was given a number has been settled, and confirmed as such.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.kept.is_empty() && self.confirmed == self.settled
    }

    /// Gives a payload its number and keeps it. It leaves when [`poll_transmit`](Self::poll_transmit) says so.
    pub fn push(&mut self, payload: P) -> u64 {
        self.kept.push_back(payload);
        self.last()
    }

    /// A new connection has been made: `committed` is the peer's cursor, `window` what it takes. Returns the
    /// range of numbers that are thereby settled, `None` if there are none. What is left will be sent again.
    ///
    /// # Errors
    /// [`Violation::NeverSent`] if the cursor is ahead of everything that was given a number.
    pub fn attach(&mut self, committed: u64, window: Window) -> Result<Option<(u64, u64)>, Violation> {
        self.window = window;
        // What was on its way is lost with the old connection, and may have arrived as far as the cursor says.
        self.sent = self.last();
        let settled = self.handle_receipt(committed.max(self.settled))?;
        self.sent = self.settled;
        self.bytes_in_flight = 0;
        self.confirmed = 0;
        Ok(settled)
    }

    /// The next message to put on the wire, if the window has room for it.
    pub fn poll_transmit(&mut self) -> Option<(u64, &P)> {
        let place = usize::try_from(self.sent - self.settled).ok()?;
        let payload = self.kept.get(place)?;
        let bytes = length(payload);
        let has_room = place < self.window.messages as usize
            && (place == 0 || self.bytes_in_flight.saturating_add(bytes) <= self.window.bytes);
        if !has_room {
            return None;
        }
        self.sent += 1;
        self.ever_sent = self.ever_sent.max(self.sent);
        self.bytes_in_flight = self.bytes_in_flight.saturating_add(bytes);
        Some((self.sent, payload))
    }

    /// The peer has committed or refused everything up to `committed`. Returns the range of numbers that
    /// are thereby settled, `None` if nothing is new.
    ///
    /// # Errors
    /// [`Violation::NeverSent`] if it names a number that was not sent.
    pub fn handle_receipt(&mut self, committed: u64) -> Result<Option<(u64, u64)>, Violation> {
        if committed > self.sent {
            return Err(Violation::NeverSent);
        }
        if committed <= self.settled {
            return Ok(None);
        }
        let first = self.settled + 1;
        while self.settled < committed {
            let payload = self.kept.pop_front().ok_or(Violation::NeverSent)?;
            self.bytes_in_flight = self.bytes_in_flight.saturating_sub(length(&payload));
            self.settled += 1;
        }
        Ok(Some((first, committed)))
    }

    /// The peer has refused this number. It stays in flight until a receipt covers it.
    ///
    /// # Errors
    /// [`Violation::NeverSent`] if it is not in flight.
    pub const fn handle_refusal(&self, number: u64) -> Result<(), Violation> {
        if number > self.settled && number <= self.sent { Ok(()) } else { Err(Violation::NeverSent) }
    }

    /// The floor to be confirmed, if there is a new one. Taking it counts as having said it.
    pub const fn poll_confirm(&mut self) -> Option<u64> {
        if self.confirmed == self.settled {
            return None;
        }
        self.confirmed = self.settled;
        Some(self.settled)
    }

    /// How many messages are settled and not yet confirmed.
    #[must_use]
    pub const fn unconfirmed(&self) -> u64 {
        self.settled - self.confirmed
    }

    /// The highest number that was ever sent; what is kept on disk with the payloads.
    #[must_use]
    pub const fn ever_sent(&self) -> u64 {
        self.ever_sent
    }

    /// Gives up: the session is gone. The outcome of what was sent is unknown (PROTOCOL.md section 7.5); what
    /// never left can go to another session.
    pub fn into_unsettled(self) -> impl Iterator<Item = (u64, Unsettled, P)> {
        let ever_sent = self.ever_sent;
        let unsettled = move |(number, payload)| {
            let outcome = if number <= ever_sent { Unsettled::Unknown } else { Unsettled::NeverSent };
            (number, outcome, payload)
        };
        (self.settled + 1..).zip(self.kept).map(unsettled)
    }
}

/// In bytes, as frames count them.
fn length(payload: &impl AsRef<[u8]>) -> u32 {
    u32::try_from(payload.as_ref().len()).unwrap_or(u32::MAX)
}

/// What becomes of a message whose session is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unsettled {
    /// It may or may not have been committed.
    Unknown,
    /// It has never left its sender.
    NeverSent,
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window { messages: 3, bytes: 10 };

    fn transmitted(sending: &mut Sending<&'static str>) -> Vec<u64> {
        std::iter::from_fn(|| sending.poll_transmit().map(|(number, _)| number)).collect()
    }

    #[test]
    fn the_window_holds_back_what_a_receipt_lets_go() {
        let mut sending = Sending::new(WINDOW);
        for payload in ["aaaa", "bbbb", "cccc", "dddd"] {
            sending.push(payload);
        }
        assert_eq!(transmitted(&mut sending), [1, 2]);
        assert_eq!(sending.handle_receipt(1), Ok(Some((1, 1))));
        assert_eq!(transmitted(&mut sending), [3]);
        assert_eq!(sending.handle_receipt(1), Ok(None));
        assert_eq!(sending.handle_receipt(4), Err(Violation::NeverSent));
        assert_eq!(sending.handle_receipt(3), Ok(Some((2, 3))));
        assert_eq!(transmitted(&mut sending), [4]);
    }

    #[test]
    fn a_message_larger_than_the_window_goes_alone() {
        let mut sending = Sending::new(Window { messages: 3, bytes: 2 });
        sending.push("large");
        sending.push("x");
        assert_eq!(transmitted(&mut sending), [1]);
        assert_eq!(sending.handle_receipt(1), Ok(Some((1, 1))));
        assert_eq!(transmitted(&mut sending), [2]);
    }

    #[test]
    fn after_a_new_connection_the_rest_is_sent_again_with_the_same_numbers() {
        let mut sending = Sending::new(WINDOW);
        for payload in ["a", "b", "c"] {
            sending.push(payload);
        }
        assert_eq!(transmitted(&mut sending), [1, 2, 3]);
        assert_eq!(sending.handle_receipt(1), Ok(Some((1, 1))));
        assert_eq!(sending.attach(2, WINDOW), Ok(Some((2, 2))));
        assert_eq!(transmitted(&mut sending), [3]);
        assert_eq!(sending.attach(9, WINDOW), Err(Violation::NeverSent));
    }

    #[test]
    fn what_never_left_is_told_from_what_may_have_arrived() {
        let mut sending = Sending::new(WINDOW);
        for payload in ["a", "b", "c", "d"] {
            sending.push(payload);
        }
        assert_eq!(transmitted(&mut sending), [1, 2, 3]);
        sending.attach(1, WINDOW).unwrap();
        let unsettled: Vec<_> = sending.into_unsettled().collect();
        assert_eq!(
            unsettled,
            [(2, Unsettled::Unknown, "b"), (3, Unsettled::Unknown, "c"), (4, Unsettled::NeverSent, "d")]
        );
    }

    #[test]
    fn confirmations_are_said_once_a_connection() {
        let mut sending = Sending::new(WINDOW);
        sending.push("a");
        transmitted(&mut sending);
        assert_eq!(sending.poll_confirm(), None);
        sending.handle_receipt(1).unwrap();
        assert_eq!((sending.unconfirmed(), sending.is_settled()), (1, false));
        assert_eq!(sending.poll_confirm(), Some(1));
        assert_eq!((sending.poll_confirm(), sending.is_settled()), (None, true));
        sending.attach(1, WINDOW).unwrap();
        assert_eq!(
            sending.poll_confirm(),
            Some(1),
            "the new connection may belong to a gateway that has forgotten"
        );
    }
}
