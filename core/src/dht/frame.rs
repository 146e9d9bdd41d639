//! Frames: every message is preceded by its length as an unsigned varint.

use core::ops::Range;

use super::message::MessageError;
use super::wire::Fields;

/// A message with its length in front.
pub fn encode(message: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(message.len() + 4);
    let mut rest = message.len();
    while rest >= 0x80 {
        framed.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    framed.push(rest as u8);
    framed.extend_from_slice(message);
    framed
}

/// Where the first message of `buffer` stands; `None` while it is not complete. The next frame begins at the end
/// of the range. The length is judged as soon as it is read, so that nobody waits, or buffers, for too much.
///
/// # Errors
/// When the length is no varint or above `limit`.
pub fn decode(buffer: &[u8], limit: usize) -> Result<Option<Range<usize>>, MessageError> {
    let mut fields = Fields(buffer);
    let Some(size) = fields.varint() else {
        let complete = buffer.iter().take(10).any(|byte| byte & 0x80 == 0);
        return if complete || buffer.len() >= 10 { Err(MessageError::Malformed) } else { Ok(None) };
    };
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if size > limit {
        return Err(MessageError::TooLarge { size, limit });
    }
    let start = buffer.len() - fields.0.len();
    Ok((fields.0.len() >= size).then_some(start..start + size))
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};
    use crate::dht::message::MessageError;
    use proptest::prelude::*;

    #[test]
    fn frames() {
        for size in [0, 1, 127, 128, 300, 70_000] {
            let message = vec![7; size];
            let mut framed = encode(&message);
            framed.extend([1, 2, 3]);
            let range = decode(&framed, 100_000).unwrap().unwrap();
            assert_eq!(&framed[range.clone()], message);
            for cut in 0..range.end.min(200) {
                assert_eq!(decode(&framed[..cut.min(range.end - 1)], 100_000).unwrap(), None);
            }
        }
        assert_eq!(decode(&encode(&[0; 200]), 199).unwrap_err().code(), "message_too_large");
        assert_eq!(decode(&[0xff; 10], 199).unwrap_err(), MessageError::Malformed);
        assert_eq!(decode(&[0xff; 9], 199).unwrap(), None);
        assert_eq!(
            decode(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], 9).unwrap_err(),
            MessageError::Malformed
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(Some(range)) = decode(&bytes, 100) {
                prop_assert!(range.end <= bytes.len());
            }
        }
    }
}
