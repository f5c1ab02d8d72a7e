//! What the owner of the sessions tells a connection of the pulse protocol: that it is in a session, what was
//! committed, messages for the client (PROTOCOL.md sections 5, 7 and 8).

use super::Connection;
use super::dialogue::{Dialogue, ms};
use super::event::{Admission, NotSent, Output};
use crate::exchange::{Receiving, Sending};
use crate::policy::Policy;
use crate::time::Now;
use std::time::Duration;

impl Connection {
    /// Attaches the client that has said HELLO to a session.
    pub fn welcome(
        &mut self,
        now: Now,
        policy: &Policy,
        admission: &Admission<'_>,
        output: &mut impl Output,
    ) {
        let remaining = self.lifetime.age_limit(policy).0.since(now.instant);
        let Some(dialogue) = self.dialogue_mut() else { return };
        let settled = admission.acknowledged;
        let sending = Sending::restore(settled, settled, [], policy.pulse.window);
        let receiving = Receiving::restore(admission.committed, admission.floor);
        let welcome = dialogue.answer(policy, admission, remaining);
        dialogue.resumed = admission.resumed;
        dialogue.is_behind = admission.is_behind;
        dialogue.attachment = admission.attachment;
        if let Err(reason) = dialogue.pulse.welcome(&welcome, sending, receiving) {
            return self.close(now, policy, reason, output);
        }
        self.lifetime.listen_anew(now.own());
        self.speak(now, policy, output);
    }

    /// Everything up to `committed` is committed, or was refused: the receipt is sent.
    pub fn commit(&mut self, now: Now, policy: &Policy, committed: u64, output: &mut impl Output) {
        let Some(dialogue) = self.dialogue_mut() else { return };
        dialogue.pulse.commit(committed);
        self.speak(now, policy, output);
        self.finish_if_done(now, policy, output);
    }

    /// A message is not accepted; [`commit`](Self::commit) of its number has to follow, and sends the refusal too.
    pub fn refuse(&mut self, number: u64, code: u16, text: &str) {
        if let Some(dialogue) = self.dialogue_mut() {
            dialogue.pulse.refuse(number, code, text);
        }
    }

    /// A message for the client, which its owner keeps under this number. If it can't be sent soon it is not kept here
    /// too: [`Event::Room`](super::Event::Room) asks for it when it can.
    ///
    /// # Errors
    /// [`NotSent`] if the connection isn't attached to a session.
    pub fn push(
        &mut self,
        now: Now,
        policy: &Policy,
        number: u64,
        payload: Box<[u8]>,
        output: &mut impl Output,
    ) -> Result<(), NotSent> {
        let attached = |dialogue: &&mut Dialogue| dialogue.pulse.is_attached();
        let dialogue = self.dialogue_mut().filter(attached).ok_or(NotSent)?;
        let sending = dialogue.pulse.sending();
        if number > sending.last() + 1 || number > sending.last() && sending.is_waiting() {
            dialogue.is_behind = true;
            return Ok(());
        }
        dialogue.keep(number, payload);
        self.speak(now, policy, output);
        Ok(())
    }

    /// The answer to [`Event::Room`](super::Event::Room): messages with their numbers, in order, and whether there are
    /// more above them.
    pub fn load(
        &mut self,
        now: Now,
        policy: &Policy,
        messages: impl IntoIterator<Item = (u64, Box<[u8]>)>,
        has_more: bool,
        output: &mut impl Output,
    ) {
        let Some(dialogue) = self.dialogue_mut() else { return };
        (dialogue.is_loading, dialogue.is_behind) = (false, has_more);
        messages.into_iter().for_each(|(number, payload)| dialogue.keep(number, payload));
        self.speak(now, policy, output);
    }

    /// Tells a client of the pulse protocol something (PROTOCOL.md section 8.1).
    pub fn notify(
        &mut self,
        now: Now,
        policy: &Policy,
        code: u16,
        within: Duration,
        text: &str,
        output: &mut impl Output,
    ) {
        let attached = |dialogue: &&mut Dialogue| dialogue.pulse.is_attached();
        let Some(dialogue) = self.dialogue_mut().filter(attached) else { return };
        dialogue.pulse.notice(code, ms(within), text);
        self.speak(now, policy, output);
    }
}
