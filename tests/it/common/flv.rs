//! FLV files, tag by tag (Adobe's FLV specification, annex E).

use std::path::Path;

use bytes::Bytes;

/// One tag.
#[derive(Debug, Clone)]
pub(crate) struct Tag {
    /// 8 audio, 9 video, 18 script: as in RTMP.
    pub(crate) kind: u8,
    pub(crate) timestamp: u32,
    pub(crate) body: Bytes,
}

impl Tag {
    /// Codec configuration and not media.
    pub(crate) fn is_header(&self) -> bool {
        match self.kind {
            9 => self.body[1] == 0,
            8 => self.body[0] >> 4 == 10 && self.body[1] == 0,
            _ => true,
        }
    }

    /// ffmpeg ends its video with a tag that says so and holds nothing.
    fn is_end_of_sequence(&self) -> bool {
        self.kind == 9 && self.body[1] == 2
    }

    /// Presentation less decoding time, milliseconds.
    pub(crate) fn composition(&self) -> i32 {
        let field = [self.body[2], self.body[3], self.body[4], 0];
        i32::from_be_bytes(field) >> 8
    }
}

/// All tags of a file.
pub(crate) fn read(path: &Path) -> Vec<Tag> {
    let file = Bytes::from(std::fs::read(path).unwrap());
    assert_eq!(&file[..3], b"FLV");
    let mut tags = Vec::new();
    let mut rest = file.slice(13..);
    while rest.len() >= 11 {
        let length = u32::from_be_bytes([0, rest[1], rest[2], rest[3]]) as usize;
        let tag = Tag {
            kind: rest[0],
            timestamp: u32::from_be_bytes([rest[7], rest[4], rest[5], rest[6]]),
            body: rest.slice(11..11 + length),
        };
        rest = rest.slice(11 + length + 4..);
        if !tag.is_end_of_sequence() {
            tags.push(tag);
        }
    }
    tags
}
