//! A session in few bytes: for backends that keep it as one piece. Numbers take as many bytes as they need.

use crate::refusal::{Refusal, RefusalCode};
use crate::seat::Ticket;
use crate::session::Session;

/// What is there, as bits of the first byte.
const PREVIOUS: u8 = 1;
const EXPIRES: u8 = 2;
const CONNECTION: u8 = 4;
const LOST: u8 = 8;
/// How many bits of a number a byte has; the highest says that there are more.
const BITS: u32 = 7;
const MORE: u8 = 1 << BITS;

/// A session that nobody uses now.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Packed(Box<[u8]>);

impl Packed {
    /// Packs a session.
    pub(crate) fn new(session: &Session) -> Self {
        let bit = |is_there, bit| if is_there { bit } else { 0 };
        let mut bytes = vec![
            bit(session.previous.is_some(), PREVIOUS)
                | bit(session.expires_ms.is_some(), EXPIRES)
                | bit(session.connection.is_some(), CONNECTION)
                | bit(session.lost.is_some(), LOST),
        ];
        bytes.extend(session.token);
        bytes.extend(session.previous.unwrap_or_default().iter().filter(|_| session.previous.is_some()));
        // As one number, since networks have high bits and addresses low ones.
        write(&mut bytes, session.source.cast_unsigned());
        write_numbers(session, &mut bytes);
        if let Some(expires_ms) = session.expires_ms {
            write(&mut bytes, expires_ms);
        }
        if let Some(ticket) = session.connection {
            write(&mut bytes, (ticket >> 64) as u64);
            write(&mut bytes, ticket as u64);
        }
        if let Some((first, last)) = session.lost {
            write(&mut bytes, first);
            write(&mut bytes, last);
        }
        write(&mut bytes, session.refusals.len() as u64);
        for refusal in &session.refusals {
            write(&mut bytes, refusal.number);
            write(&mut bytes, refusal.code as u64);
        }
        bytes.extend(session.client.as_bytes());
        Self(bytes.into())
    }

    /// The session as it was.
    pub(crate) fn unpack(&self) -> Session {
        let mut rest = Reader(&self.0);
        let [there] = rest.array();
        let mut session = Session { token: rest.array(), ..Session::default() };
        session.previous = (there & PREVIOUS > 0).then(|| rest.array());
        session.source = rest.number().cast_signed();
        read_numbers(&mut session, &mut rest);
        session.expires_ms = (there & EXPIRES > 0).then(|| rest.number());
        session.connection =
            (there & CONNECTION > 0).then(|| Ticket::from(rest.number()) << 64 | Ticket::from(rest.number()));
        session.lost = (there & LOST > 0).then(|| (rest.number(), rest.number()));
        let count = rest.number();
        let refusals = (0..count).filter_map(|_| {
            let (number, code) = (rest.number(), rest.number());
            let code = RefusalCode::from_code(u16::try_from(code).ok()?)?;
            Some(Refusal { number, code })
        });
        session.refusals = refusals.collect();
        session.client = String::from_utf8_lossy(rest.0).into();
        session
    }
}

/// The numbers that every session has, written and read in this order.
macro_rules! numbers {
    ($($($field:ident).+),+ $(,)?) => {
        fn write_numbers(session: &Session, into: &mut Vec<u8>) {
            $(write(into, session.$($field).+.into());)+
        }

        fn read_numbers(session: &mut Session, rest: &mut Reader<'_>) {
            // What was written fits again.
            $(session.$($field).+ = rest.number().try_into().unwrap_or_default();)+
        }
    };
}

numbers! {
    cursor.epoch,
    cursor.committed,
    floor,
    out_last,
    out_committed,
    out_bytes,
    quota_from_ms,
    quota_bytes,
    created_ms,
    last_seen_ms,
    ttl_ms,
    message_bytes,
    message_bytes_max,
    told_bytes_max,
}

fn write(into: &mut Vec<u8>, mut number: u64) {
    while number >= u64::from(MORE) {
        into.push(number as u8 | MORE);
        number >>= BITS;
    }
    into.push(number as u8);
}

/// What is left to be read. Everything was written here: nothing is missing.
struct Reader<'p>(&'p [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let Some((array, rest)) = self.0.split_first_chunk() else { return [0; N] };
        self.0 = rest;
        *array
    }

    fn number(&mut self) -> u64 {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(BITS as usize) {
            let [byte] = self.array();
            number |= u64::from(byte & !MORE) << shift;
            if byte < MORE {
                break;
            }
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulsegate_core::exchange::Cursor;

    #[test]
    fn a_session_is_unpacked_as_it_was() {
        let plain = Session {
            client: "a client of 16 B".into(),
            token: [7; 16],
            previous: None,
            cursor: Cursor { epoch: 1, committed: 0 },
            floor: 0,
            out_last: 0,
            out_committed: 0,
            out_bytes: 0,
            quota_from_ms: 0,
            quota_bytes: 0,
            created_ms: 1_800_000_000_000,
            last_seen_ms: 1_800_000_000_000,
            ttl_ms: 3_600_000,
            expires_ms: None,
            connection: Some(Ticket::MAX / 3),
            source: 0x7f00_0001,
            message_bytes: 0,
            message_bytes_max: 65_536,
            told_bytes_max: 65_536,
            lost: None,
            refusals: Vec::new(),
        };
        let highest = Session {
            client: "\u{1f980}".into(),
            previous: Some([9; 16]),
            cursor: Cursor { epoch: u64::MAX, committed: u64::MAX - 1 },
            expires_ms: Some(0),
            connection: None,
            source: -1,
            message_bytes_max: u32::MAX,
            lost: Some((1, u64::MAX)),
            refusals: vec![
                Refusal { number: 3, code: RefusalCode::TooLarge },
                Refusal { number: 4, code: RefusalCode::OverQuota },
            ],
            ..plain.clone()
        };
        for session in [&plain, &highest] {
            assert_eq!(Packed::new(session).unpack(), *session);
        }
        assert!(Packed::new(&plain).0.len() < 100, "{} bytes", Packed::new(&plain).0.len());
    }
}
