//! Comparing tokens in a time that says nothing about them. Knows no session.

use crate::attach::Token;
use std::hint::black_box;

/// Whether two tokens are equal, in the same time wherever they differ.
pub(crate) fn equal(one: &Token, other: &Token) -> bool {
    let differing = one.iter().zip(other).fold(0_u8, |differing, (a, b)| black_box(differing | (a ^ b)));
    black_box(differing) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_equal_if_all_their_bytes_are() {
        let token: Token = std::array::from_fn(|place| u8::try_from(place).unwrap() * 7);
        assert!(equal(&token, &token.clone()));
        for place in 0..16 {
            for bit in 0..8 {
                let mut other = token;
                other[place] ^= 1 << bit;
                assert!(!equal(&token, &other));
            }
        }
    }
}
