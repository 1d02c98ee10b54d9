//! WebSocket frames as the shim reads and writes them: pure, no I/O.

use bytes::{BufMut as _, BytesMut};

const FINAL_TEXT: u8 = 0x81;
const FINAL_CLOSE: u8 = 0x88;
const MASKED: u8 = 0x80;

/// The lengths of a frame's header and of its payload, as soon as its first bytes tell them.
fn measure(bytes: &[u8]) -> Option<(usize, usize)> {
    let second = *bytes.get(1)?;
    let (header, payload) = match second & !MASKED {
        126 => (4, u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?) as usize),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        short => (2, short as usize),
    };
    Some((header + if second & MASKED == 0 { 0 } else { 4 }, payload))
}

/// The length of the frame that begins here, as soon as its first bytes tell it.
pub fn length(bytes: &[u8]) -> Option<usize> {
    measure(bytes).and_then(|(header, payload)| header.checked_add(payload))
}

/// The payload of a whole unmasked text frame.
pub fn text(frame: &[u8]) -> Option<&[u8]> {
    let (header, _) = measure(frame)?;
    (frame[0] == FINAL_TEXT && frame[1] & MASKED == 0).then(|| &frame[header..])
}

/// The payload of a whole masked text frame, as clients send them.
pub fn masked_text(frame: &[u8]) -> Option<Vec<u8>> {
    let (header, _) = measure(frame)?;
    if frame[0] != FINAL_TEXT || frame[1] & MASKED == 0 {
        return None;
    }
    let mask = &frame[header - 4..header];
    Some(frame[header..].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect())
}

/// Begins an unmasked text frame; its payload of this length is written behind.
pub fn begin_text(out: &mut BytesMut, length: usize) {
    out.put_u8(FINAL_TEXT);
    match length {
        0..126 => out.put_u8(length as u8),
        126..=0xffff => {
            out.put_u8(126);
            out.put_u16(length as u16);
        }
        _ => {
            out.put_u8(127);
            out.put_u64(length as u64);
        }
    }
}

/// A frame that says goodbye with a code (RFC 6455, section 7.4).
pub fn close(code: u16) -> [u8; 4] {
    let [high, low] = code.to_be_bytes();
    [FINAL_CLOSE, 2, high, low]
}

/// Cuts a stream of bytes into frames, however it is chunked.
#[derive(Debug, Default)]
pub struct Splitter {
    /// The beginning of a frame whose rest has not come.
    partial: Vec<u8>,
}

impl Splitter {
    /// Takes the next bytes, and hands each frame that is whole now to `each`.
    pub fn push(&mut self, mut chunk: &[u8], mut each: impl FnMut(&[u8])) {
        while !self.partial.is_empty() && !chunk.is_empty() {
            // Byte by byte through the header, then at once.
            let missing = length(&self.partial).map_or(1, |length| length - self.partial.len());
            let (now, later) = chunk.split_at(missing.min(chunk.len()));
            self.partial.extend_from_slice(now);
            chunk = later;
            if length(&self.partial) == Some(self.partial.len()) {
                each(&self.partial);
                self.partial = Vec::new();
            }
        }
        while let Some(whole) = length(chunk).filter(|length| *length <= chunk.len()) {
            each(&chunk[..whole]);
            chunk = &chunk[whole..];
        }
        self.partial.extend_from_slice(chunk);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text_frame(payload: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        begin_text(&mut out, payload.len());
        out.extend_from_slice(payload);
        out.to_vec()
    }

    fn split<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, usize) {
        let (mut splitter, mut frames) = (Splitter::default(), Vec::new());
        for chunk in chunks {
            splitter.push(chunk, |frame| frames.push(frame.to_vec()));
        }
        (frames, splitter.partial.len())
    }

    #[test]
    fn joined_frames_are_taken_apart_and_split_ones_put_together() {
        let frames =
            [text_frame(b"2"), close(1012).to_vec(), text_frame(&[b'x'; 300]), text_frame(&[b'y'; 70_000])];
        let bytes = frames.concat();
        assert_eq!(split([&bytes[..]]), (frames.to_vec(), 0));
        assert_eq!(split(bytes.chunks(1)), (frames.to_vec(), 0));
        assert_eq!(split([&bytes[..bytes.len() - 1]]), (frames[..3].to_vec(), frames[3].len() - 1));
    }

    #[test]
    fn text_is_read_masked_and_unmasked_and_nothing_else_is() {
        assert_eq!(text(&text_frame(b"40{}")), Some(&b"40{}"[..]));
        assert_eq!(text(&close(1000)), None);
        let probe = [0x81, 0x86, 1, 2, 3, 4, b'2' ^ 1, b'p' ^ 2, b'r' ^ 3, b'o' ^ 4, b'b' ^ 1, b'e' ^ 2];
        assert_eq!(length(&probe), Some(12));
        assert_eq!(masked_text(&probe).as_deref(), Some(&b"2probe"[..]));
        assert_eq!(masked_text(&text_frame(b"2probe")), None);
        assert_eq!(text(&probe), None);
    }

    #[test]
    fn a_length_that_no_memory_holds_is_no_frame_yet() {
        let mut bytes = vec![0x82, 127];
        bytes.extend(u64::MAX.to_be_bytes());
        assert_eq!(length(&bytes), None);
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_frames(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..400), 0..12),
            cuts in proptest::collection::vec(1usize..97, 1..40),
        ) {
            let frames: Vec<Vec<u8>> = payloads.iter().map(|payload| text_frame(payload)).collect();
            let bytes = frames.concat();
            let mut rest = &bytes[..];
            let mut chunks = Vec::new();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                chunks.push(now);
                rest = later;
            }
            prop_assert_eq!(split(chunks), (frames, 0));
        }
    }
}
