//! What each frame of the peer causes. Must not know: bytes, and what is sent when.

use super::event::PulseEvent;
use super::{CONFIRM_WITHIN, Pulse, Side, Stage};
use crate::close::CloseReason;
use crate::exchange::{Receiving, Sending, Violation};
use crate::frame::{Beat, Frame, Welcome};
use crate::time::Instant;

impl<P: AsRef<[u8]>> Pulse<P> {
    pub(super) fn handle_frame(
        &mut self,
        now: Instant,
        frame: Frame<'_>,
        on_event: &mut impl FnMut(PulseEvent<'_>),
    ) -> Result<(), CloseReason> {
        match (frame, self.stage, self.side) {
            (Frame::Bye(bye), ..) => {
                self.stage = Stage::Over;
                on_event(PulseEvent::Bye(bye));
            }
            (Frame::Hello(hello), Stage::Opening, Side::Gateway) => {
                self.stage = Stage::Attaching;
                self.sending = Sending::restore(hello.committed, hello.committed, [], hello.window);
                self.peer_message_bytes_max = hello.message_bytes_max;
                on_event(PulseEvent::Hello(hello));
            }
            (Frame::Hello(_), _, Side::Gateway) => return Err(CloseReason::SecondHello),
            (Frame::Welcome(welcome), Stage::Opening, Side::Client) => {
                self.handle_welcome(now, welcome, on_event)?
            }
            (Frame::Notice { code, in_ms, text }, Stage::Attached, Side::Client) => {
                on_event(PulseEvent::Notice { code, in_ms, text });
            }
            (Frame::Hello(_) | Frame::Welcome(_) | Frame::Notice { .. }, ..) => {
                return Err(CloseReason::FrameOutOfPlace);
            }
            (frame, Stage::Attached, _) => self.handle_exchange(now, frame, on_event)?,
            (_, Stage::Opening | Stage::Attaching | Stage::Over, _) => {
                return Err(CloseReason::FrameOutOfPlace);
            }
        }
        Ok(())
    }

    fn handle_welcome(
        &mut self,
        now: Instant,
        welcome: Welcome<'_>,
        on_event: &mut impl FnMut(PulseEvent<'_>),
    ) -> Result<(), CloseReason> {
        self.stage = Stage::Attached;
        self.peer_message_bytes_max = welcome.message_bytes_max;
        on_event(PulseEvent::Welcome(welcome));
        let settled = if welcome.resumed {
            // A number that was given out and never sent may be in use for something else (section 5.5).
            if welcome.committed > self.sending.ever_sent().max(self.sending.settled()) {
                return Err(CloseReason::FrameOutOfPlace);
            }
            self.receiving.attach(welcome.acknowledged);
            self.sending.attach(welcome.committed, welcome.window)?
        } else {
            self.receiving = Receiving::default();
            self.left_over =
                Some(Box::new(std::mem::replace(&mut self.sending, Sending::new(welcome.window))));
            None
        };
        if let Some((first, last)) = settled {
            for (number, code) in welcome.refused.iter().filter(|(number, _)| (first..=last).contains(number))
            {
                on_event(PulseEvent::Refused { number, code, text: "" });
            }
        }
        self.handle_settled(now, settled, on_event);
        Ok(())
    }

    fn handle_exchange(
        &mut self,
        now: Instant,
        frame: Frame<'_>,
        on_event: &mut impl FnMut(PulseEvent<'_>),
    ) -> Result<(), Violation> {
        match frame {
            Frame::Message { number, payload } => {
                let (bytes, before) = (payload.len() as u32, self.uncommitted_bytes);
                let is_alone = !self.has_uncommitted();
                self.receiving.handle_message(number, self.window.messages)?;
                // A single message is within its own limit, and may be as large as the whole window.
                if !is_alone && u64::from(before) + u64::from(bytes) > u64::from(self.window.bytes) {
                    return Err(Violation::WindowExceeded);
                }
                self.uncommitted_bytes += bytes;
                if !is_alone {
                    if self.uncommitted.is_empty() {
                        self.uncommitted.push_back(before);
                    }
                    self.uncommitted.push_back(bytes);
                }
                on_event(PulseEvent::Message { number, payload });
            }
            Frame::Receipt { committed } => {
                let settled = self.sending.handle_receipt(committed)?;
                self.handle_settled(now, settled, on_event);
            }
            Frame::Refuse { number, code, text } => {
                self.sending.handle_refusal(number)?;
                on_event(PulseEvent::Refused { number, code, text });
            }
            Frame::Confirm { floor } => {
                let before = self.receiving.floor();
                self.receiving.handle_confirm(floor)?;
                if floor > before {
                    on_event(PulseEvent::Confirmed { floor });
                }
            }
            Frame::Beat(beat) => {
                if beat == Beat::Question {
                    self.beat(Beat::Answer);
                }
            }
            Frame::Hello(_) | Frame::Welcome(_) | Frame::Notice { .. } | Frame::Bye(_) => {}
        }
        Ok(())
    }

    fn handle_settled(
        &mut self,
        now: Instant,
        settled: Option<(u64, u64)>,
        on_event: &mut impl FnMut(PulseEvent<'_>),
    ) {
        if let Some((first, last)) = settled {
            on_event(PulseEvent::Settled { first, last });
        }
        if self.sending.unconfirmed() > 0 {
            self.confirm_by.get_or_insert_with(|| now.after(CONFIRM_WITHIN));
        }
    }
}
