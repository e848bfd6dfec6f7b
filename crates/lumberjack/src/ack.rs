//! Reading acknowledgements: the client's parser. Bytes in, sequences out; it keeps at most five bytes.

use crate::frame::{ACK, ProtocolError, SHORT_FRAME, V2};

/// Reads acknowledgement frames from bytes that come in pieces.
#[derive(Clone, Debug, Default)]
pub struct AckDecoder {
    kept: [u8; SHORT_FRAME],
    len: usize,
}

impl AckDecoder {
    /// Takes bytes from the front of `bytes` until a frame is complete, and returns its sequence (0 is a keep-alive);
    /// `None` when all bytes are taken.
    ///
    /// # Errors
    /// When the bytes aren't an acknowledgement; the stream can't be read on.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<u32>, ProtocolError> {
        while let Some((byte, rest)) = bytes.split_first() {
            *bytes = rest;
            match self.len {
                0 if *byte != V2 => return Err(ProtocolError::Version(*byte)),
                1 if *byte != ACK => return Err(ProtocolError::FrameType(*byte)),
                _ => {}
            }
            if let Some(place) = self.kept.get_mut(self.len) {
                *place = *byte;
            }
            self.len += 1;
            if self.len == SHORT_FRAME {
                self.len = 0;
                let [_, _, a, b, c, d] = self.kept;
                return Ok(Some(u32::from_be_bytes([a, b, c, d])));
            }
        }
        Ok(None)
    }
}

/// For fuzzing: reads acknowledgements from pieces of any kind.
#[doc(hidden)]
pub fn fuzz_acks(data: &[u8]) {
    let mut whole = AckDecoder::default();
    let (mut rest, mut at_once) = (data, Vec::new());
    let end = loop {
        match whole.next(&mut rest) {
            Ok(Some(seq)) => at_once.push(seq),
            Ok(None) => break None,
            Err(e) => break Some(e),
        }
    };
    let (mut pieces, mut one_by_one) = (AckDecoder::default(), Vec::new());
    for byte in data {
        match pieces.next(&mut std::slice::from_ref(byte)) {
            Ok(seq) => one_by_one.extend(seq),
            Err(e) => {
                assert_eq!(end, Some(e));
                break;
            }
        }
    }
    assert_eq!(at_once, one_by_one);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_in_pieces() {
        fuzz_acks(b"2A\0\0\0\x002A\0\0\x01\x012A\0");
        let mut d = AckDecoder::default();
        let mut bytes: &[u8] = b"2A\0\0\0\x002A\0\0\x01\x012A\0";
        assert_eq!(d.next(&mut bytes), Ok(Some(0)));
        assert_eq!(d.next(&mut bytes), Ok(Some(257)));
        assert_eq!(d.next(&mut bytes), Ok(None));
        assert_eq!(d.next(&mut &b"\0\0\x07"[..]), Ok(Some(7)));
    }

    #[test]
    fn what_is_no_acknowledgement() {
        for (bytes, error) in [
            (&b"HTTP/1.1"[..], ProtocolError::Version(b'H')),
            (b"1A\0\0\0\x01", ProtocolError::Version(b'1')),
            (b"2W\0\0\0\x01", ProtocolError::FrameType(b'W')),
        ] {
            assert_eq!(AckDecoder::default().next(&mut &bytes[..]), Err(error));
            fuzz_acks(bytes);
        }
    }
}
