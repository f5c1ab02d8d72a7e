//! The scenario: which messages, how far apart. Must not know: sockets, clocks, or how it is played.

use std::time::Duration;

/// Bursts of messages with silences in between.
pub(super) struct Plan {
    /// The text of a message; `{n}` stands for its number.
    pub(super) message: String,
    /// From one message of a burst to the next.
    pub(super) every: Duration,
    /// Messages in a burst, at least 1.
    pub(super) count: u32,
    /// From the last message of a burst to the first of the next; zero for the pace of `every`.
    pub(super) pause: Duration,
    /// Bursts, at least 1.
    pub(super) repeat: u32,
}

/// What comes after a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another message, one `every` later.
    Message,
    /// A silence of `pause`, then another message.
    Silence,
    /// Nothing: it was the last.
    End,
}

impl Plan {
    /// Messages in all.
    pub(super) fn total(&self) -> u64 {
        u64::from(self.count) * u64::from(self.repeat)
    }

    /// The text of message `number`, counted from 1 over all bursts, without its line end.
    pub(super) fn text(&self, number: u64) -> String {
        self.message.replace("{n}", &number.to_string())
    }

    /// What comes after message `number`.
    pub(super) fn after(&self, number: u64) -> Next {
        if number >= self.total() {
            Next::End
        } else if number.is_multiple_of(u64::from(self.count)) && !self.pause.is_zero() {
            Next::Silence
        } else {
            Next::Message
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(pause: Duration) -> Plan {
        let every = Duration::from_secs(2);
        Plan { message: "m {n} of {n}".to_owned(), every, count: 2, pause, repeat: 2 }
    }

    #[test]
    fn silence_stands_between_bursts_only() {
        let plan = plan(Duration::from_secs(24));
        let after: Vec<_> = (1..=plan.total()).map(|number| plan.after(number)).collect();
        assert_eq!(after, [Next::Message, Next::Silence, Next::Message, Next::End]);
    }

    #[test]
    fn without_a_pause_bursts_keep_the_pace() {
        assert_eq!(plan(Duration::ZERO).after(2), Next::Message);
    }

    #[test]
    fn the_number_is_put_in_wherever_it_is_asked_for() {
        assert_eq!(plan(Duration::ZERO).text(12), "m 12 of 12");
    }
}
