//! Frames to bytes.

use super::{
    BEAT, BYE, Bye, CONFIRM, Frame, HEADER_BYTES, HELLO, Hello, ID_BYTES_MAX, MESSAGE, NOTICE, RECEIPT,
    REFUSE, TEXT_BYTES_MAX, WELCOME, Welcome,
};

impl Frame<'_> {
    /// Appends the frame, header and body, to `out`. Texts and ids longer than allowed are cut at a
    /// character; a payload must fit the receiver's limit, which its sender knows.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_BYTES]);
        let kind = self.encode_body(out);
        let length = (out.len() - start - HEADER_BYTES) as u32;
        debug_assert!(length <= 0xFF_FFFF, "a body's length has 24 bits");
        out[start..start + HEADER_BYTES].copy_from_slice(&(u32::from(kind) << 24 | length).to_be_bytes());
    }

    fn encode_body(&self, out: &mut Vec<u8>) -> u8 {
        match self {
            Self::Hello(hello) => {
                hello.encode_body(out);
                HELLO
            }
            Self::Welcome(welcome) => {
                welcome.encode_body(out);
                WELCOME
            }
            Self::Beat(beat) => {
                out.push(*beat as u8);
                BEAT
            }
            Self::Message { number, payload } => {
                out.extend_from_slice(&number.to_be_bytes());
                out.extend_from_slice(payload);
                MESSAGE
            }
            Self::Receipt { committed } => {
                out.extend_from_slice(&committed.to_be_bytes());
                RECEIPT
            }
            Self::Refuse { number, code, text } => {
                out.extend_from_slice(&number.to_be_bytes());
                out.extend_from_slice(&code.to_be_bytes());
                out.extend_from_slice(cut(text, TEXT_BYTES_MAX).as_bytes());
                REFUSE
            }
            Self::Confirm { floor } => {
                out.extend_from_slice(&floor.to_be_bytes());
                CONFIRM
            }
            Self::Notice { code, in_ms, text } => {
                out.extend_from_slice(&code.to_be_bytes());
                out.extend_from_slice(&in_ms.to_be_bytes());
                out.extend_from_slice(cut(text, TEXT_BYTES_MAX).as_bytes());
                NOTICE
            }
            Self::Bye(bye) => {
                bye.encode_body(out);
                BYE
            }
        }
    }
}

impl Hello<'_> {
    fn encode_body(&self, out: &mut Vec<u8>) {
        let id = cut(self.id, ID_BYTES_MAX);
        out.extend_from_slice(&[self.lifetime as u8, 0]);
        out.extend_from_slice(&(id.len() as u16).to_be_bytes());
        for number in [
            self.beat_min_ms,
            self.beat_max_ms,
            self.window.messages,
            self.window.bytes,
            self.message_bytes_max,
        ] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&self.session.to_be_bytes());
        out.extend_from_slice(&self.token);
        out.extend_from_slice(&self.committed.to_be_bytes());
        out.extend_from_slice(&self.acknowledged.to_be_bytes());
        out.extend_from_slice(id.as_bytes());
        out.extend_from_slice(self.refused.bytes);
    }
}

impl Welcome<'_> {
    fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[u8::from(self.resumed), self.lifetime as u8, self.durability.code(), 0]);
        for number in [
            self.beat_interval_ms,
            self.beat_timeout_ms,
            self.remaining_ms,
            self.session_ttl_ms,
            self.window.messages,
            self.window.bytes,
            self.message_bytes_max,
        ] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&self.server_time_ms.to_be_bytes());
        out.extend_from_slice(&self.session.to_be_bytes());
        out.extend_from_slice(&self.token);
        for number in [self.committed, self.acknowledged, self.lost.0, self.lost.1] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(self.refused.bytes);
    }
}

impl Bye<'_> {
    fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.code.to_be_bytes());
        out.extend_from_slice(&[self.retry, 0]);
        out.extend_from_slice(&self.delay_ms.to_be_bytes());
        out.extend_from_slice(&self.committed.to_be_bytes());
        out.extend_from_slice(cut(self.text, TEXT_BYTES_MAX).as_bytes());
    }
}

/// As much of a text as fits, up to a whole character.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}
