//! The first bytes of a peer, until its protocol is known (PROTOCOL.md section 2).

use super::Connection;
use super::dialogue::Dialogue;
use super::event::Output;
use super::speech::{Dialect, Speech};
use crate::close::{CloseReason, Retry};
use crate::frame::PREFACE;
use crate::lifetime::Phase;
use crate::lines::Lines;
use crate::policy::{Policy, Protocol};
use crate::pulse::{Opening, judge_opening};
use crate::time::Now;

impl Connection {
    pub(super) fn handle_opening(
        &mut self,
        now: Now,
        policy: &Policy,
        input: &[u8],
        output: &mut impl Output,
    ) {
        let mut opening = self.take_opening();
        let missing = PREFACE.len().saturating_sub(opening.len()).min(input.len());
        opening.extend_from_slice(&input[..missing]);
        let rest = &input[missing..];
        match judge_opening(&opening) {
            Opening::Undecided => self.speech = Some(Box::new(Speech::Opening(opening))),
            Opening::Pulse => {
                self.speech = Some(Box::new(Speech::Pulse(Dialogue::new(policy))));
                self.handle_pulse(now, policy, rest, output);
            }
            Opening::OtherVersion => {
                self.speech = Some(Box::new(Speech::Pulse(Dialogue::new(policy))));
                self.close(now, policy, CloseReason::UnsupportedVersion, output);
            }
            Opening::Raw if policy.protocol == Protocol::Pulse => {
                self.close(now, policy, CloseReason::BadPreface, output);
            }
            Opening::Raw => {
                opening.extend_from_slice(rest);
                self.handle_raw(now, policy, &opening, output);
            }
        }
    }

    /// Takes received bytes of a peer that can't be kept: ends the connection for this reason, telling it when to come
    /// back, as soon as its protocol is known.
    pub fn turn_away(
        &mut self,
        now: Now,
        policy: &Policy,
        input: &[u8],
        (reason, retry): (CloseReason, Retry),
        output: &mut impl Output,
    ) {
        if self.lifetime.phase() != Phase::Open {
            return;
        }
        self.totals.bytes_in += input.len() as u64;
        let mut opening = self.take_opening();
        let missing = PREFACE.len().saturating_sub(opening.len()).min(input.len());
        opening.extend_from_slice(&input[..missing]);
        self.speech = Some(Box::new(match judge_opening(&opening) {
            Opening::Undecided => Speech::Opening(opening),
            Opening::Pulse | Opening::OtherVersion => Speech::Pulse(Dialogue::new(policy)),
            Opening::Raw => Speech::Lines(Lines::default()),
        }));
        if self.dialect(policy) != Dialect::Undecided {
            self.close_until(now, policy, reason, retry, output);
        }
    }

    /// The peer has ended its side before its protocol was known. One that has begun the preface is taken for a client
    /// of the pulse protocol that was cut off.
    pub(super) fn handle_opening_end(&mut self, now: Now, policy: &Policy, output: &mut impl Output) {
        let opening = self.take_opening();
        if opening.is_empty() {
            return self.handle_raw_end(now, output);
        }
        self.close(now, policy, CloseReason::TruncatedFrame, output);
    }

    fn take_opening(&mut self) -> Vec<u8> {
        match self.speech.take().map(|speech| *speech) {
            Some(Speech::Opening(opening)) => opening,
            Some(Speech::Lines(_) | Speech::Pulse(_)) | None => Vec::new(),
        }
    }
}
