//! What is special to raw connections: chunks or lines, the reply to each message, the farewell.

use super::Connection;
use super::dialogue::Dialogue;
use super::event::{Event, Output};
use super::speech::Speech;
use crate::close::{CloseReason, Retry};
use crate::frame::PREFACE;
use crate::lifetime::Phase;
use crate::lines::Lines;
use crate::policy::{Framing, Heartbeat, Policy, Protocol};
use crate::time::Now;
use crate::timer::Timer;
use memchr::memchr;

/// What stands for the number of the message in a reply.
const NUMBER: &str = "{n}";
/// The digits of the highest number.
const NUMBER_DIGITS_MAX: usize = 20;

impl Connection {
    pub(super) fn handle_raw(&mut self, now: Now, policy: &Policy, input: &[u8], output: &mut impl Output) {
        if !self.lifetime.has_spoken() && self.is_lost(policy, input) {
            return self.turn_lost_away(now, policy, output);
        }
        if policy.heartbeat == Heartbeat::Any {
            self.lifetime.handle_heartbeat(now);
        }
        let before = output.transmit().len();
        match policy.framing {
            Framing::Chunks => {
                for chunk in input.chunks(policy.message_bytes_max.max(1)) {
                    self.handle_message(now, policy, chunk, output);
                }
            }
            Framing::Lines => self.handle_lines(now, policy, input, output),
        }
        if output.transmit().len() > before && self.lifetime.write_deadline_passed(now) {
            output.transmit().truncate(before);
            self.strike(now, policy, Timer::WriteDeadline, output);
        }
    }

    #[cold]
    fn turn_lost_away(&mut self, now: Now, policy: &Policy, output: &mut impl Output) {
        self.speech = Some(Box::new(Speech::Pulse(Dialogue::new(policy))));
        self.close(now, policy, CloseReason::RawListener, output);
    }

    /// Whether a client of the pulse protocol has come to a listener for raw clients, as far as its first bytes tell.
    #[inline]
    fn is_lost(&self, policy: &Policy, input: &[u8]) -> bool {
        let is_first = self.totals.bytes_in == input.len() as u64;
        policy.protocol == Protocol::Raw && is_first && input.starts_with(&PREFACE)
    }

    pub(super) fn handle_raw_end(&mut self, now: Now, output: &mut impl Output) {
        self.lifetime.handle_input_end(now);
        output.handle_event(Event::InputEnded);
    }

    fn handle_lines(&mut self, now: Now, policy: &Policy, input: &[u8], output: &mut impl Output) {
        let mut lines = match self.speech.take().map(|speech| *speech) {
            Some(Speech::Lines(lines)) => lines,
            Some(Speech::Opening(_) | Speech::Pulse(_)) | None => Lines::default(),
        };
        let outcome = lines.handle_input(input, policy.message_bytes_max, |line| {
            self.handle_message(now, policy, line, output);
            self.lifetime.phase() == Phase::Open
        });
        if outcome.is_err() {
            self.close(now, policy, CloseReason::MessageTooLarge, output);
        }
        if self.lifetime.phase() == Phase::Open && lines.kept() > 0 {
            self.speech = Some(Box::new(Speech::Lines(lines)));
        }
    }

    fn handle_message(&mut self, now: Now, policy: &Policy, payload: &[u8], output: &mut impl Output) {
        self.lifetime.handle_first_message(now);
        if let Heartbeat::Line(line) = &policy.heartbeat
            && **line == *payload
        {
            return self.lifetime.handle_heartbeat(now);
        }
        self.totals.messages += 1;
        let number = self.totals.messages;
        output.handle_event(Event::Message { number, payload });
        if let Some(reply) = &policy.reply {
            append_reply(output.transmit(), reply, number);
        }
    }
}

/// Appends the reply to the message with this number, and a line end.
fn append_reply(transmit: &mut Vec<u8>, reply: &str, number: u64) {
    let mut rest = reply.as_bytes();
    while let Some(place) = memchr(NUMBER.as_bytes()[0], rest) {
        let (before, found) = rest.split_at(place);
        transmit.extend_from_slice(before);
        rest = match found.strip_prefix(NUMBER.as_bytes()) {
            Some(behind) => {
                append_number(transmit, number);
                behind
            }
            None => {
                transmit.push(found[0]);
                &found[1..]
            }
        };
    }
    transmit.extend_from_slice(rest);
    transmit.push(b'\n');
}

fn append_number(transmit: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; NUMBER_DIGITS_MAX];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    transmit.extend_from_slice(&digits[first..]);
}

/// The longest that a reply can become, with its line end.
#[must_use]
pub fn reply_bytes_max(reply: &str) -> usize {
    reply.len() + reply.matches(NUMBER).count() * NUMBER_DIGITS_MAX + 1
}

/// Appends the farewell, if the listener has one.
pub(super) fn say_farewell(policy: &Policy, reason: CloseReason, retry: Retry, transmit: &mut Vec<u8>) {
    if let Some(farewell) = policy.farewell.as_deref() {
        append_line(transmit, &farewell_line(farewell, reason, retry));
    }
}

/// The farewell with its placeholders filled in.
#[must_use]
pub fn farewell_line(farewell: &str, reason: CloseReason, retry: Retry) -> String {
    farewell.replace("{reason}", reason.as_str()).replace("{retry}", &retry.to_string())
}

fn append_line(transmit: &mut Vec<u8>, line: &str) {
    transmit.extend_from_slice(line.as_bytes());
    transmit.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_has_the_number_of_its_message_wherever_it_is_wanted() {
        for reply in ["", "OK", "{n}", "OK {n}.", "{n}{n}", "{", "{{n}", "{n", "{n} of {m} }{"] {
            for number in [1, 10, 907, u64::MAX] {
                let mut transmit = b"before".to_vec();
                append_reply(&mut transmit, reply, number);
                let expected = format!("before{}\n", reply.replace(NUMBER, &number.to_string()));
                assert_eq!(String::from_utf8_lossy(&transmit), expected);
                assert!(expected.len() <= "before".len() + reply_bytes_max(reply));
            }
        }
    }
}
