//! The FLV demuxer: a run of audio and video tags. A frame comes only after the configuration it needs, and lies within its tag.

use bytes::Bytes;
use lhls::flv::{Demuxer, Event};
use lhls::media::{Payload, Track};

use super::script::Script;

/// A tag may hold one MP3 frame in every four bytes or one ADTS frame in every eight, and each is an event of some hundred bytes.
pub fn memory_bound(length: usize) -> usize {
    128 * length + (64 << 10)
}

/// Tags: one byte for kind and step in time, two for the length, and the body.
pub fn run(data: &[u8]) {
    let mut script = Script(data);
    let mut demuxer = Demuxer::new();
    let mut timestamp = 0_u32;
    let (mut video, mut audio) = (false, false);
    let mut events = Vec::new();
    while !script.is_over() {
        let head = script.byte();
        timestamp = timestamp.wrapping_add(u32::from(head >> 1) * 7);
        let body = Bytes::copy_from_slice(script.long());
        let length = body.len();
        // Both errors are verdicts on the tag; what came out before them counts.
        let _ = if head & 1 == 0 {
            demuxer.video(timestamp, body, &mut events)
        } else {
            demuxer.audio(timestamp, body, &mut events)
        };
        let mut bytes = 0;
        for event in events.drain(..) {
            match event {
                Event::Video(_) => video = true,
                Event::Audio(_) => audio = true,
                Event::Frame(frame) => {
                    assert!(if frame.track == Track::Video {
                        video
                    } else {
                        audio
                    });
                    assert!(frame.key || frame.track == Track::Video);
                    assert_eq!(frame.sample_rate > 0, frame.track == Track::Audio);
                    bytes += match &frame.payload {
                        Payload::H264(units) => units.iter().map(<[u8]>::len).sum(),
                        Payload::Aac(data) | Payload::Mp3(data) => data.len(),
                    };
                }
            }
        }
        assert!(bytes <= length, "{bytes} bytes out of a tag of {length}");
    }
}
