//! What lies between a connection and its socket: output that waits to leave, and a layer if the listener has one, with
//! what that has yielded. Knows no socket: whoever reads and writes it brings the bytes here and takes them.

use crate::shard::byte_queue::ByteQueue;
use crate::shard::layer::{InputEnd, Layer};
use pulsegate_core::close::CloseReason;

/// How many bytes a layer may produce by itself while the peer takes nothing.
const ANSWERS_BYTES_MAX: usize = 16 * 1024;

/// The way between a connection and its socket. Without a layer nothing is allocated while nothing waits there.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    aside: Option<Box<Aside>>,
}

/// What most connections don't have.
#[derive(Debug, Default)]
struct Aside {
    /// Until it has produced its last bytes.
    layer: Option<Box<dyn Layer>>,
    /// An idle connection has none.
    waiting: Option<Box<Waiting>>,
}

const _: () = assert!(size_of::<Pipe>() == 8 && size_of::<Aside>() == 24);

/// What waits on its way.
#[derive(Debug, Default)]
struct Waiting {
    /// What the socket is to take.
    unsent: ByteQueue,
    /// How many bytes the layer has produced by itself, less all that the socket has taken since. So it is what nobody
    /// takes that counts.
    answers: usize,
    /// What the layer is to take once it is open.
    early: Vec<u8>,
    /// What the connection is to take.
    unread: ByteQueue,
    /// How its input ends after that.
    end: Option<InputEnd>,
    /// The layer has produced its last bytes, and nothing may come after them.
    is_closed: bool,
}

impl Waiting {
    const fn is_nothing(&self) -> bool {
        let is_empty = self.unsent.is_empty() && self.early.is_empty() && self.unread.is_empty();
        is_empty && self.end.is_none() && !self.is_closed
    }
}

impl Aside {
    /// Whether something for the connection was yielded, or how its input ends.
    fn has_yielded(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| !waiting.unread.is_empty() || waiting.end.is_some())
    }

    /// Whether more would be yielded though nothing comes.
    fn keeps_back(&self) -> bool {
        self.layer.as_ref().is_some_and(|layer| layer.has_unread())
    }
}

impl Pipe {
    /// A pipe with this layer, if any.
    pub(crate) fn new(layer: Option<Box<dyn Layer>>) -> Self {
        let aside = layer.map(|layer| Box::new(Aside { layer: Some(layer), waiting: None }));
        Self { aside }
    }

    /// Whether bytes pass as they are, and none wait: output can go straight to the socket.
    #[inline]
    pub(crate) const fn is_bare(&self) -> bool {
        self.aside.is_none()
    }

    /// Whether a layer stands in it that has not said its last.
    #[inline]
    pub(crate) fn has_layer(&self) -> bool {
        self.aside.as_ref().is_some_and(|aside| aside.layer.is_some())
    }

    /// How many bytes of output wait: as they are to be sent, or for the layer to be open.
    #[inline]
    pub(crate) fn waiting(&self) -> usize {
        self.what_waits().map_or(0, |waiting| waiting.unsent.len() + waiting.early.len())
    }

    /// Whether something waits that the socket is to take.
    #[inline]
    pub(crate) fn has_unsent(&self) -> bool {
        self.what_waits().is_some_and(|waiting| !waiting.unsent.is_empty())
    }

    /// What the socket is to take, oldest first.
    pub(crate) fn unsent(&self) -> &[u8] {
        self.what_waits().map_or(&[], |waiting| waiting.unsent.as_slice())
    }

    /// More output, after all that waits.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let Aside { layer, waiting } = &mut **self.aside.get_or_insert_default();
        let waiting = waiting.get_or_insert_default();
        match layer {
            _ if waiting.is_closed => {}
            None => waiting.unsent.append(bytes),
            Some(layer) if layer.is_open() => layer.send(bytes, waiting.unsent.end()),
            Some(_) => waiting.early.extend_from_slice(bytes),
        }
    }

    /// The socket has taken `count` bytes.
    pub(crate) fn advance(&mut self, count: usize) {
        self.change(|waiting| {
            waiting.unsent.advance(count);
            waiting.answers = waiting.answers.saturating_sub(count);
        });
    }

    /// Throws away all output that waits.
    pub(crate) fn clear(&mut self) {
        self.change(|waiting| {
            (waiting.unsent, waiting.answers, waiting.early) = (ByteQueue::default(), 0, Vec::new());
        });
    }

    /// The connection has ended: the layer appends its own last bytes. What still waits for it to be open is never
    /// sent, and nothing is read from it any more.
    pub(crate) fn close(&mut self) {
        let Some(aside) = &mut self.aside else { return };
        let Some(mut layer) = aside.layer.take() else { return };
        let waiting = aside.waiting.get_or_insert_default();
        let mut unsent = std::mem::take(&mut waiting.unsent);
        layer.close(unsent.end());
        **waiting = Waiting { unsent, is_closed: true, ..Waiting::default() };
    }

    /// The layer takes what has come from the socket.
    pub(crate) fn receive(&mut self, received: &mut [u8]) {
        let Some(Aside { layer: Some(layer), waiting }) = self.aside.as_deref_mut() else { return };
        let Waiting { unsent, answers, early, unread, end, .. } = &mut **waiting.get_or_insert_default();
        let before = unsent.len();
        *end = layer.receive(received, unread.end(), unsent.end());
        *answers += unsent.len().saturating_sub(before);
        if *answers > ANSWERS_BYTES_MAX {
            *end = Some(Err(CloseReason::OutputFull));
        }
        if !early.is_empty() && layer.is_open() {
            layer.send(&std::mem::take(early), unsent.end());
        }
        self.give_back();
    }

    /// The peer has ended its side of the socket.
    pub(crate) fn receive_end(&mut self) {
        let Some(Aside { layer: Some(layer), waiting }) = self.aside.as_deref_mut() else { return };
        waiting.get_or_insert_default().end = Some(layer.receive_end());
    }

    /// Whether a layer has something for the connection, or knows how its input ends.
    #[inline]
    pub(crate) fn has_unread(&self) -> bool {
        self.aside.as_ref().is_some_and(|aside| aside.has_yielded() || aside.keeps_back())
    }

    /// What a layer has for the connection, or a part of it.
    pub(crate) fn unread(&mut self) -> &[u8] {
        if self.aside.as_ref().is_some_and(|aside| !aside.has_yielded() && aside.keeps_back()) {
            self.receive(&mut []);
        }
        self.what_waits().map_or(&[], |waiting| waiting.unread.as_slice())
    }

    /// Copies the first bytes of that for which there is room, and takes them out. Returns how many.
    pub(crate) fn read(&mut self, plain: &mut [u8]) -> usize {
        let unread = self.unread();
        let count = unread.len().min(plain.len());
        plain[..count].copy_from_slice(&unread[..count]);
        self.change(|waiting| waiting.unread.advance(count));
        count
    }

    /// How the input has ended, once all that came before is read.
    pub(crate) fn take_end(&mut self) -> Option<InputEnd> {
        let waiting = self.aside.as_mut()?.waiting.as_deref_mut()?;
        let end = waiting.end.take_if(|_| waiting.unread.is_empty());
        self.give_back();
        end
    }

    /// Everything that a peer is sent whose connection has this farewell for it and nothing else.
    pub(crate) fn into_last_words(mut self, words: Vec<u8>) -> Vec<u8> {
        if self.is_bare() {
            return words;
        }
        self.append(&words);
        self.close();
        self.unsent().to_vec()
    }

    /// How much of what the layer has yielded is not read.
    #[cfg(test)]
    pub(crate) fn yielded(&self) -> usize {
        self.what_waits().map_or(0, |waiting| waiting.unread.len())
    }

    #[inline]
    fn what_waits(&self) -> Option<&Waiting> {
        self.aside.as_ref()?.waiting.as_deref()
    }

    fn change(&mut self, change: impl FnOnce(&mut Waiting)) {
        if let Some(waiting) = self.aside.as_mut().and_then(|aside| aside.waiting.as_mut()) {
            change(waiting);
            self.give_back();
        }
    }

    /// Gives back the memory of what doesn't wait any more.
    fn give_back(&mut self) {
        let Some(aside) = &mut self.aside else { return };
        aside.waiting.take_if(|waiting| waiting.is_nothing());
        self.aside.take_if(|aside| aside.layer.is_none() && aside.waiting.is_none());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A layer without a handshake that doubles each byte of output, and takes every other one of input.
    #[derive(Debug)]
    struct Doubling;

    impl Layer for Doubling {
        fn receive(&mut self, received: &mut [u8], plain: &mut Vec<u8>, _: &mut Vec<u8>) -> Option<InputEnd> {
            plain.extend(received.iter().step_by(2));
            received.contains(&b'.').then_some(Ok(()))
        }

        fn receive_end(&mut self) -> InputEnd {
            Err(CloseReason::TruncatedFrame)
        }

        fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>) {
            plain.iter().for_each(|byte| wire.extend([*byte; 2]));
        }

        fn close(&mut self, wire: &mut Vec<u8>) {
            wire.push(b'.');
        }

        fn is_open(&self) -> bool {
            true
        }
    }

    fn doubling() -> Pipe {
        Pipe::new(Some(Box::new(Doubling)))
    }

    #[test]
    fn without_a_layer_nothing_is_kept_when_nothing_waits() {
        let mut pipe = Pipe::default();
        pipe.append(b"");
        assert!(pipe.is_bare());
        pipe.append(b"abc");
        assert_eq!((pipe.unsent(), pipe.waiting(), pipe.is_bare()), (&b"abc"[..], 3, false));
        pipe.advance(3);
        assert!(pipe.is_bare());
        pipe.append(b"abc");
        pipe.clear();
        assert!(pipe.is_bare());
    }

    #[test]
    fn with_a_layer_only_that_is_kept_when_nothing_waits() {
        let mut pipe = doubling();
        let mut plain = [0; 8];
        for _ in 0..3 {
            pipe.append(b"ab");
            pipe.receive(&mut b"xxyyzz".to_vec());
            assert_eq!((pipe.unsent(), pipe.waiting()), (&b"aabb"[..], 4));
            assert_eq!((pipe.read(&mut plain[..2]), &plain[..2]), (2, &b"xy"[..]));
            assert!(pipe.has_unread());
            pipe.advance(4);
            assert_eq!((pipe.read(&mut plain), plain[0]), (1, b'z'));
            assert!(!pipe.has_unread() && !pipe.has_unsent());
            assert!(pipe.what_waits().is_none() && pipe.has_layer());
        }
    }

    #[test]
    fn the_end_of_input_comes_after_all_before_it() {
        let mut pipe = doubling();
        pipe.receive(&mut b"xx..".to_vec());
        assert_eq!((pipe.take_end(), pipe.has_unread()), (None, true));
        assert_eq!(pipe.read(&mut [0; 8]), 2);
        assert!(pipe.has_unread(), "the end is still to be taken");
        assert_eq!((pipe.take_end(), pipe.has_unread()), (Some(Ok(())), false));
        pipe.receive_end();
        assert_eq!(pipe.take_end(), Some(Err(CloseReason::TruncatedFrame)));
    }

    #[test]
    fn nothing_comes_after_the_last_of_a_layer() {
        let mut pipe = doubling();
        pipe.receive(&mut b"xx".to_vec());
        pipe.append(b"a");
        pipe.close();
        pipe.close();
        pipe.append(b"b");
        pipe.receive(&mut b"yy".to_vec());
        assert_eq!((pipe.unsent(), pipe.has_unread(), pipe.has_layer()), (&b"aa."[..], false, false));
        pipe.advance(3);
        pipe.append(b"c");
        assert_eq!((pipe.waiting(), pipe.is_bare()), (0, false));
    }

    #[test]
    fn last_words_are_what_the_connection_says_and_then_the_layer() {
        assert_eq!(Pipe::default().into_last_words(b"bye".to_vec()), b"bye");
        assert_eq!(doubling().into_last_words(b"bye".to_vec()), b"bbyyee.");
        assert_eq!(doubling().into_last_words(Vec::new()), b".");
    }
}
