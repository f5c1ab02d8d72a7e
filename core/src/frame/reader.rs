//! Cuts received bytes into frames. Keeps only the beginning of an unfinished frame between two inputs, and
//! makes room for it as it arrives: a length alone, however large, costs nothing.

use super::{Frame, FrameError, HEADER_BYTES, Header};

/// How many bytes of a MESSAGE's body are a sign of life, like a whole frame.
const PROOF_BYTES: usize = 1024;

/// The unfinished frame of one connection; nothing is allocated while there is none.
#[derive(Debug, Default)]
pub struct FrameReader {
    unfinished: Option<Box<Unfinished>>,
}

/// Header and body of a frame, as far as they have come; the header has been checked once it is whole.
#[derive(Debug, Default)]
struct Unfinished {
    bytes: Vec<u8>,
}

impl FrameReader {
    /// Takes input and hands each whole frame to `on_frame`, until that returns `false`; frames to be
    /// skipped are skipped. Frames that lie whole in the input are not copied. Returns whether the input proves
    /// its sender alive (PROTOCOL.md section 3.4): it has made a frame whole, or a MESSAGE longer by enough.
    ///
    /// # Errors
    /// What is wrong with a frame (PROTOCOL.md section 3), as soon as it can be seen. The frames before it
    /// have been handed over; the reader is not to be used any more.
    pub fn handle_input(
        &mut self,
        input: &[u8],
        message_bytes_max: u32,
        mut on_frame: impl FnMut(Frame<'_>) -> bool,
    ) -> Result<bool, FrameError> {
        let mut rest = input;
        let mut proves = false;
        if let Some(mut frame) = self.unfinished.take() {
            let before = frame.proofs();
            let Some(after) = frame.complete(rest, message_bytes_max)? else {
                proves = frame.proofs() > before;
                self.unfinished = Some(frame);
                return Ok(proves);
            };
            rest = after;
            proves = true;
            if !hand_over(&frame.bytes, &mut on_frame)? {
                return Ok(proves);
            }
        }
        while let Some(length) = whole_frame(rest, message_bytes_max)? {
            let (frame, after) = rest.split_at(length);
            rest = after;
            proves = true;
            if !hand_over(frame, &mut on_frame)? {
                return Ok(proves);
            }
        }
        if !rest.is_empty() {
            let frame = Unfinished { bytes: rest.to_vec() };
            proves |= frame.proofs() > 0;
            self.unfinished = Some(Box::new(frame));
        }
        Ok(proves)
    }

    /// Whether no frame has begun that is not whole yet.
    #[must_use]
    pub const fn is_between_frames(&self) -> bool {
        self.unfinished.is_none()
    }
}

impl Unfinished {
    /// How many signs of life the bytes that have arrived are.
    fn proofs(&self) -> usize {
        let Some((header, body)) = self.bytes.split_first_chunk::<HEADER_BYTES>() else { return 0 };
        if Header::decode(*header).is_message() { body.len() / PROOF_BYTES } else { 0 }
    }

    /// Takes what is missing. Returns what stands after the frame once it is whole.
    fn complete<'a>(
        &mut self,
        input: &'a [u8],
        message_bytes_max: u32,
    ) -> Result<Option<&'a [u8]>, FrameError> {
        let rest = self.take(input, HEADER_BYTES);
        let Some(header) = header(&self.bytes, message_bytes_max)? else { return Ok(None) };
        let length = HEADER_BYTES + header.body_bytes();
        let rest = self.take(rest, length);
        Ok((self.bytes.len() == length).then_some(rest))
    }

    /// Takes bytes until there are `length` of them, and returns the rest.
    fn take<'a>(&mut self, input: &'a [u8], length: usize) -> &'a [u8] {
        let missing = length.saturating_sub(self.bytes.len()).min(input.len());
        let (head, tail) = input.split_at(missing);
        self.bytes.extend_from_slice(head);
        tail
    }
}

/// The header at the beginning, checked, if it is there.
fn header(bytes: &[u8], message_bytes_max: u32) -> Result<Option<Header>, FrameError> {
    let Some((header, _)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let header = Header::decode(*header);
    header.check(message_bytes_max)?;
    Ok(Some(header))
}

/// The length of the frame at the beginning, if it is whole.
fn whole_frame(bytes: &[u8], message_bytes_max: u32) -> Result<Option<usize>, FrameError> {
    let header = header(bytes, message_bytes_max)?;
    let length = header.map(|header| HEADER_BYTES + header.body_bytes());
    Ok(length.filter(|length| *length <= bytes.len()))
}

fn hand_over(bytes: &[u8], on_frame: &mut impl FnMut(Frame<'_>) -> bool) -> Result<bool, FrameError> {
    let Some((header, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Ok(true) };
    Ok(Frame::decode(Header::decode(*header), body)?.is_none_or(on_frame))
}
