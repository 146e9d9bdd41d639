//! Whether a stream has carried anything but the negotiation of its protocol.

/// Reads along what is written. Messages of multistream-select are a length, a name that begins with a slash or `na`,
/// and a line feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// Whole messages of the negotiation, or nothing at all.
    Negotiation,
    /// A message of the negotiation has begun.
    Within { left: u8, first: bool },
    /// Something that the peer should get.
    Content,
}

impl Said {
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            *self = match *self {
                Self::Content => return,
                // A name of 128 bytes and more, whose length takes two, passes for content, which is the careful side.
                Self::Negotiation if (1..128).contains(byte) => Self::Within { left: *byte, first: true },
                Self::Within { left: 1, first: false } if *byte == b'\n' => Self::Negotiation,
                Self::Within { left, first } if left > 1 && (!first || *byte == b'/' || (left, *byte) == (3, b'n')) => {
                    Self::Within { left: left - 1, first: false }
                }
                _ => Self::Content,
            };
        }
    }

    /// Whether the peer loses something when it does not get all that was written; half a message counts.
    pub(crate) fn is_content(self) -> bool {
        self != Self::Negotiation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_told_from_negotiation() {
        let cases: [(&[&[u8]], bool); 12] = [
            (&[], false),
            (&[b"\x13/multistream/1.0.0\n"], false),
            (&[b"\x13/multistr", b"eam/1.0.0\n\x03na\n", b"\x10/ipfs/kad/1.0.0", b"\n"], false),
            (&[b"\x13/multistream/1.0.0\n\x10/ipfs/kad/1.0.0\n"], false),
            (&[b"\x13/multistream/1.0.0\n", b"\x10/ipfs/kad/1.0.0\n", b"\x02\x08\x04"], true),
            (&[b"\x13/multistream/1.0.0\n\0"], true),
            (&[b"\x13/multistream/1.0.0!"], true),
            (&[b"\x13/multistream/1.0.0"], true),
            (&[b"\x04nay\n"], true),
            (&[b"\x80\x01/"], true),
            (&[b"\x01\n"], true),
            (&[b"hello"], true),
        ];
        for (writes, content) in cases {
            let mut said = Said::Negotiation;
            writes.iter().for_each(|bytes| said.write(bytes));
            assert_eq!(said.is_content(), content, "{writes:?}");
        }
    }
}
