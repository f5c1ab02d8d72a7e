//! Bodies to frames: every field is checked.

use super::{
    BEAT, BYE, Beat, Bye, CONFIRM, CURSOR_MAX, Durability, Frame, FrameError, HELLO, Header, Hello,
    ID_BYTES_MAX, LifetimeKind, MESSAGE, MESSAGE_BYTES_MAX, NOTICE, RECEIPT, REFUSE, Refusals, SKIPPED,
    WELCOME, Welcome,
};
use crate::exchange::Window;

impl<'a> Frame<'a> {
    /// Reads a frame whose header has been checked; `None` if it is one to be skipped.
    ///
    /// # Errors
    /// [`FrameError::Malformed`] or [`FrameError::BadText`]. Never panics, whatever the bytes.
    pub fn decode(header: Header, body: &'a [u8]) -> Result<Option<Self>, FrameError> {
        let mut fields = Fields { rest: body };
        let frame = match header.kind {
            HELLO => Self::Hello(fields.hello()?),
            WELCOME => Self::Welcome(fields.welcome()?),
            BEAT => Self::Beat(fields.beat()?),
            MESSAGE => Self::Message { number: fields.number()?, payload: fields.take_rest() },
            RECEIPT => Self::Receipt { committed: fields.u64()? },
            REFUSE => Self::Refuse { number: fields.number()?, code: fields.u16()?, text: fields.text()? },
            CONFIRM => Self::Confirm { floor: fields.u64()? },
            NOTICE => Self::Notice { code: fields.u16()?, in_ms: fields.u32()?, text: fields.text()? },
            BYE => Self::Bye(fields.bye()?),
            SKIPPED.. => return Ok(None),
            _ => return Err(FrameError::Unknown),
        };
        if fields.rest.is_empty() { Ok(Some(frame)) } else { Err(FrameError::Malformed) }
    }
}

/// Reads a body field by field; everything that doesn't fit is malformed.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(FrameError::Malformed)?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn u8(&mut self) -> Result<u8, FrameError> {
        Ok(self.bytes::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, FrameError> {
        Ok(u16::from_be_bytes(self.bytes()?))
    }

    fn u32(&mut self) -> Result<u32, FrameError> {
        Ok(u32::from_be_bytes(self.bytes()?))
    }

    fn u64(&mut self) -> Result<u64, FrameError> {
        Ok(u64::from_be_bytes(self.bytes()?))
    }

    /// A message's number, which is never 0.
    fn number(&mut self) -> Result<u64, FrameError> {
        self.u64().and_then(|number| if number == 0 { Err(FrameError::Malformed) } else { Ok(number) })
    }

    /// A cursor, which leaves room for more numbers than there will ever be.
    fn cursor(&mut self) -> Result<u64, FrameError> {
        self.u64()
            .and_then(|cursor| if cursor > CURSOR_MAX { Err(FrameError::Malformed) } else { Ok(cursor) })
    }

    fn zero(&mut self) -> Result<(), FrameError> {
        if self.u8()? == 0 { Ok(()) } else { Err(FrameError::Malformed) }
    }

    fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    fn text(&mut self) -> Result<&'a str, FrameError> {
        std::str::from_utf8(self.take_rest()).map_err(|_| FrameError::BadText)
    }

    fn lifetime(&mut self) -> Result<LifetimeKind, FrameError> {
        match self.u8()? {
            0 => Ok(LifetimeKind::Any),
            1 => Ok(LifetimeKind::Short),
            2 => Ok(LifetimeKind::Long),
            _ => Err(FrameError::Malformed),
        }
    }

    fn beat(&mut self) -> Result<Beat, FrameError> {
        match self.u8()? {
            0 => Ok(Beat::Beat),
            1 => Ok(Beat::Question),
            2 => Ok(Beat::Answer),
            _ => Err(FrameError::Malformed),
        }
    }

    fn window(&mut self) -> Result<(Window, u32), FrameError> {
        let window = Window { messages: self.u32()?, bytes: self.u32()? };
        let message_bytes_max = self.u32()?;
        let fits = window.messages >= 1
            && (1..=MESSAGE_BYTES_MAX).contains(&message_bytes_max)
            && window.bytes >= message_bytes_max;
        if fits { Ok((window, message_bytes_max)) } else { Err(FrameError::Malformed) }
    }

    fn hello(&mut self) -> Result<Hello<'a>, FrameError> {
        let lifetime = self.lifetime()?;
        self.zero()?;
        let id_length = usize::from(self.u16()?);
        let (beat_min_ms, beat_max_ms) = (self.u32()?, self.u32()?);
        let (window, message_bytes_max) = self.window()?;
        let hello = Hello {
            lifetime,
            beat_min_ms,
            beat_max_ms,
            window,
            message_bytes_max,
            session: self.u64()?,
            token: self.bytes()?,
            committed: self.cursor()?,
            acknowledged: self.cursor()?,
            id: "",
            refused: Refusals::default(),
        };
        let fresh = hello.session == 0;
        let empty = hello.token == [0; 16] && hello.committed == 0 && hello.acknowledged == 0;
        if (fresh && !empty) || beat_min_ms > beat_max_ms || !(1..=ID_BYTES_MAX).contains(&id_length) {
            return Err(FrameError::Malformed);
        }
        let (id, refused) = self.take_rest().split_at_checked(id_length).ok_or(FrameError::Malformed)?;
        let id = std::str::from_utf8(id).map_err(|_| FrameError::BadText)?;
        Ok(Hello { id, refused: Refusals::read(refused, hello.committed)?, ..hello })
    }

    fn welcome(&mut self) -> Result<Welcome<'a>, FrameError> {
        let resumed = match self.u8()? {
            0 => false,
            1 => true,
            _ => return Err(FrameError::Malformed),
        };
        let lifetime = self.lifetime()?;
        if lifetime == LifetimeKind::Any {
            return Err(FrameError::Malformed);
        }
        let durability = Durability::from_code(self.u8()?);
        self.zero()?;
        let (beat_interval_ms, beat_timeout_ms) = (self.u32()?, self.u32()?);
        let (remaining_ms, session_ttl_ms) = (self.u32()?, self.u32()?);
        let (window, message_bytes_max) = self.window()?;
        let welcome = Welcome {
            resumed,
            lifetime,
            durability,
            beat_interval_ms,
            beat_timeout_ms,
            remaining_ms,
            session_ttl_ms,
            window,
            message_bytes_max,
            server_time_ms: self.u64()?,
            session: self.number()?,
            token: self.bytes()?,
            committed: self.cursor()?,
            acknowledged: self.cursor()?,
            lost: (self.u64()?, self.u64()?),
            refused: Refusals::default(),
        };
        Ok(Welcome { refused: Refusals::read(self.take_rest(), welcome.committed)?, ..welcome })
    }

    fn bye(&mut self) -> Result<Bye<'a>, FrameError> {
        let (code, retry) = (self.u16()?, self.u8()?);
        self.zero()?;
        if retry > 2 {
            return Err(FrameError::Malformed);
        }
        Ok(Bye { code, retry, delay_ms: self.u32()?, committed: self.u64()?, text: self.text()? })
    }
}
