//! FLV tags, as RTMP carries them, into codec configurations and access units.
//!
//! [`Demuxer`] takes the bodies of RTMP audio and video messages (types 8 and 9), which are FLV tag bodies, and gives
//! out what a stream is made of: a configuration when there is a new or a changed one, and frames in the publisher's own
//! time. What encoders in the field do wrong and players forgive is forgiven here; what cannot be carried is refused by
//! name. Headers are `tag`'s business, the bitstreams' are [`crate::codec`]'s.
//!
//! It does not touch times ([`crate::time`] does), does not read `onMetaData` (which is wrong too often to be believed),
//! and does not copy payload.

mod tag;
pub mod write;

use bytes::Bytes;

use self::tag::{AudioTag, TagError, VideoTag};
use crate::codec::h264::{NalUnits, ParameterSets, Record, nal};
use crate::codec::{aac, h264, mp3};
use crate::media::{AudioConfig, Payload, Track, VideoConfig};

/// What to do about a tag that gave nothing to play.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The publisher sends something that cannot be carried; the run cannot go on.
    #[error("{codec} is not supported: {instead}")]
    Unsupported {
        /// The usual name of the codec or feature.
        codec: String,
        /// What to set in the encoder.
        instead: &'static str,
    },
    /// This tag is dropped and counted; the run goes on.
    #[error("{} tag at {timestamp} ms dropped: {reason}", name(*track))]
    Malformed {
        /// The kind of tag.
        track: Track,
        /// Its RTMP timestamp.
        timestamp: u32,
        /// What is wrong with it.
        reason: String,
    },
}

/// What comes out of the demuxer.
#[derive(Debug, Clone)]
pub enum Event {
    /// The first configuration of the video, or one that differs from the one before.
    Video(VideoConfig),
    /// The first configuration of the audio, or one that differs from the one before.
    Audio(AudioConfig),
    /// Something to play, after the configuration it needs.
    Frame(Frame),
}

/// An access unit in the publisher's time.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The elementary stream it belongs to.
    pub track: Track,
    /// RTMP timestamp in ms: decoding time, wrapping at 32 bits (or earlier, as the encoder likes).
    pub timestamp: u32,
    /// Presentation minus decoding time in ms; 0 for audio. Some encoders send negative ones.
    pub composition: i32,
    /// Whether decoding can start here. Always true for audio.
    pub key: bool,
    /// The coded bytes, shared with the tag.
    pub payload: Payload,
    /// Audio: duration in samples; 0 for video.
    pub samples: u32,
    /// Audio: samples per second; 0 for video.
    pub sample_rate: u32,
}

/// Demultiplexes one run of a publisher.
#[derive(Debug, Default)]
pub struct Demuxer {
    video: Video,
    audio: Audio,
}

#[derive(Debug, Default)]
struct Video {
    /// Last configuration record, to see whether the next is a repeat.
    record: Bytes,
    /// From the configuration record, which may come without parameter sets.
    nal_length_size: Option<u8>,
    /// Parameter sets seen while there is no configuration yet.
    pending: ParameterSets,
    config: Option<h264::Config>,
}

#[derive(Debug, Default)]
enum Audio {
    #[default]
    Unknown,
    Aac(aac::Config),
    Mp3(mp3::Config),
}

impl Demuxer {
    /// A demuxer for a new run.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the body of a video message and adds what is in it to `out`.
    pub fn video(&mut self, timestamp: u32, tag: Bytes, out: &mut Vec<Event>) -> Result<(), Error> {
        let malformed = |reason: String| Error::Malformed {
            track: Track::Video,
            timestamp,
            reason,
        };
        match tag::parse_video(tag) {
            Ok(VideoTag::AvcConfig(record)) => self
                .video
                .configure(record, out)
                .map_err(|error| malformed(error.to_string())),
            Ok(VideoTag::AvcFrame {
                composition,
                key,
                data,
            }) => {
                let Some((payload, key)) =
                    self.video.access_unit(data, key, out).map_err(malformed)?
                else {
                    return Ok(());
                };
                out.push(Event::Frame(Frame {
                    track: Track::Video,
                    timestamp,
                    composition,
                    key,
                    payload: Payload::H264(payload),
                    samples: 0,
                    sample_rate: 0,
                }));
                Ok(())
            }
            Ok(VideoTag::Nothing) => Ok(()),
            Err(TagError::Unsupported(codec)) => Err(Error::Unsupported {
                codec,
                instead: "set the encoder to a single H.264 (AVC) video track",
            }),
            Err(TagError::Truncated) => Err(malformed("the tag ends within its header".to_owned())),
        }
    }

    /// Takes the body of an audio message and adds what is in it to `out`.
    pub fn audio(&mut self, timestamp: u32, tag: Bytes, out: &mut Vec<Event>) -> Result<(), Error> {
        let malformed = |reason: String| Error::Malformed {
            track: Track::Audio,
            timestamp,
            reason,
        };
        match tag::parse_audio(tag) {
            Ok(AudioTag::AacConfig(asc)) => match self.audio.configure_aac(&asc, out) {
                Err(aac::Error::Unsupported { name }) => Err(unsupported_audio(name)),
                result => result.map_err(|error| malformed(error.to_string())),
            },
            Ok(AudioTag::AacFrame(data)) => self.audio.aac(timestamp, data, out).map_err(malformed),
            Ok(AudioTag::Mp3(data)) => match self.audio.mp3(timestamp, data, out) {
                Err(error @ mp3::Error::Layer(_)) => Err(unsupported_audio(error.to_string())),
                result => result.map_err(|error| malformed(error.to_string())),
            },
            Ok(AudioTag::Nothing) => Ok(()),
            Err(TagError::Unsupported(codec)) => Err(unsupported_audio(codec)),
            Err(TagError::Truncated) => Err(malformed("the tag ends within its header".to_owned())),
        }
    }
}

impl Video {
    fn configure(&mut self, record: Bytes, out: &mut Vec<Event>) -> Result<(), h264::Error> {
        // Some encoders repeat the record in front of every key frame.
        if record.is_empty() || (record == self.record && self.nal_length_size.is_some()) {
            return Ok(());
        }
        let parsed = Record::parse(&record)?;
        if parsed.sps.is_empty() {
            // Legal (`avc3`): the parameter sets come with the key frames.
            self.nal_length_size = Some(parsed.nal_length_size);
            if let Some(config) = &mut self.config {
                config.nal_length_size = parsed.nal_length_size;
            }
        } else if parsed.pps.is_empty() {
            self.pending = ParameterSets {
                sps: parsed.sps,
                pps: Vec::new(),
            };
            self.nal_length_size = Some(parsed.nal_length_size);
        } else {
            let config =
                h264::Config::from_parameter_sets(parsed.sps, parsed.pps, parsed.nal_length_size)?;
            self.nal_length_size = Some(parsed.nal_length_size);
            self.adopt(config, out);
        }
        // A copy, so that the record does not keep the whole receive buffer it lies in.
        self.record = Bytes::copy_from_slice(&record);
        Ok(())
    }

    /// Takes up the parameter sets in an access unit; `None` when there is no picture in it.
    fn access_unit(
        &mut self,
        data: Bytes,
        key: bool,
        out: &mut Vec<Event>,
    ) -> Result<Option<(NalUnits, bool)>, String> {
        let size = self.nal_length_size.unwrap_or(DEFAULT_LENGTH_SIZE);
        let units = NalUnits::detect(data, size);
        let (mut picture, mut idr, mut sets, mut recovery) = (false, false, false, false);
        for unit in units.iter() {
            match nal::kind(unit) {
                nal::IDR => idr = true,
                nal::SPS | nal::PPS => sets = true,
                // Only worth a look when it can matter.
                nal::SEI if key => recovery |= nal::has_recovery_point(unit),
                _ => {}
            }
            picture |= nal::is_slice(unit);
        }
        if sets {
            self.parameter_sets(&units, out)
                .map_err(|error| error.to_string())?;
        }
        if !picture {
            return if sets || units.is_empty() || units.iter().next().is_some() {
                Ok(None)
            } else {
                Err(format!("no NAL unit in {} bytes", units.len()))
            };
        }
        if self.config.is_none() {
            return Err("video before its configuration (no SPS and PPS yet)".to_owned());
        }
        Ok(Some((units, idr || (key && recovery))))
    }

    fn parameter_sets(
        &mut self,
        units: &NalUnits,
        out: &mut Vec<Event>,
    ) -> Result<(), h264::Error> {
        if let Some(config) = &self.config {
            if let Some(updated) = config.updated(units) {
                self.adopt(updated?, out);
            }
            return Ok(());
        }
        self.pending.collect(units)?;
        if self.pending.sps.is_empty() || self.pending.pps.is_empty() {
            return Ok(());
        }
        let ParameterSets { sps, pps } = std::mem::take(&mut self.pending);
        let size = self.nal_length_size.unwrap_or(DEFAULT_LENGTH_SIZE);
        let config = h264::Config::from_parameter_sets(sps, pps, size)?;
        self.adopt(config, out);
        Ok(())
    }

    fn adopt(&mut self, config: h264::Config, out: &mut Vec<Event>) {
        if self.config.as_ref() != Some(&config) {
            out.push(Event::Video(VideoConfig::H264(config.clone())));
            self.config = Some(config);
        }
    }
}

impl Audio {
    fn configure_aac(&mut self, asc: &Bytes, out: &mut Vec<Event>) -> Result<(), aac::Error> {
        if matches!(self, Self::Aac(config) if config.raw == asc) {
            return Ok(());
        }
        let config = aac::Config::parse(asc)?;
        out.push(Event::Audio(AudioConfig::Aac(config.clone())));
        *self = Self::Aac(config);
        Ok(())
    }

    fn aac(&self, timestamp: u32, data: Bytes, out: &mut Vec<Event>) -> Result<(), String> {
        let Self::Aac(config) = self else {
            return Err("AAC before its configuration (AudioSpecificConfig)".to_owned());
        };
        if data.is_empty() {
            return Ok(());
        }
        let frame = |index: u32, data: Bytes| {
            audio_frame(
                timestamp,
                index,
                aac::SAMPLES_PER_FRAME,
                config.sample_rate,
                Payload::Aac(data),
            )
        };
        if let Some(ranges) = config.adts_frames(&data) {
            out.extend(
                (0..MAX_FRAMES)
                    .zip(ranges)
                    .map(|(index, range)| frame(index, data.slice(range))),
            );
            return Ok(());
        }
        if data.len() > aac::MAX_FRAME {
            return Err(aac::Error::FrameTooLong { len: data.len() }.to_string());
        }
        out.push(frame(0, data));
        Ok(())
    }

    fn mp3(
        &mut self,
        timestamp: u32,
        mut data: Bytes,
        out: &mut Vec<Event>,
    ) -> Result<(), mp3::Error> {
        let mut index = 0;
        while !data.is_empty() && index < MAX_FRAMES {
            let (config, length) = match mp3::Config::parse(&data) {
                Ok(parsed) => parsed,
                // Padding and tags behind the last frame are not worth an error.
                Err(_) if index > 0 => break,
                Err(error) => return Err(error),
            };
            if length > data.len() {
                return if index > 0 {
                    Ok(())
                } else {
                    Err(mp3::Error::Truncated {
                        has: data.len(),
                        needs: length,
                    })
                };
            }
            if !matches!(self, Self::Mp3(known) if known.same_format(&config)) {
                out.push(Event::Audio(AudioConfig::Mp3(config)));
                *self = Self::Mp3(config);
            }
            let payload = Payload::Mp3(data.split_to(length));
            out.push(audio_frame(
                timestamp,
                index,
                config.samples_per_frame,
                config.sample_rate,
                payload,
            ));
            index += 1;
        }
        Ok(())
    }
}

/// An audio frame that is number `index` in its tag, each of `samples`.
fn audio_frame(
    timestamp: u32,
    index: u32,
    samples: u32,
    sample_rate: u32,
    payload: Payload,
) -> Event {
    let offset = u64::from(index) * u64::from(samples) * 1000 / u64::from(sample_rate.max(1));
    Event::Frame(Frame {
        track: Track::Audio,
        timestamp: timestamp.wrapping_add(offset as u32),
        composition: 0,
        key: true,
        payload,
        samples,
        sample_rate,
    })
}

fn name(track: Track) -> &'static str {
    match track {
        Track::Video => "video",
        Track::Audio => "audio",
    }
}

fn unsupported_audio(codec: String) -> Error {
    Error::Unsupported {
        codec,
        instead: "set the encoder to a single AAC-LC, HE-AAC or MP3 audio track",
    }
}

/// Audio frames in one tag. Some encoders put two or three into one; what is beyond this is left out, for frames can be so short that a
/// tag of them would take a hundred times its own memory.
const MAX_FRAMES: u32 = 256;
/// Length size to assume when frames come without any configuration record.
const DEFAULT_LENGTH_SIZE: u8 = 4;

#[cfg(test)]
mod tests;
