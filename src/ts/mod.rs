//! MPEG-TS muxer (ISO/IEC 13818-1): access units in, 188-byte packets out.
//!
//! One programme with PCR on the video PID, or on the audio PID when there is no video. Continuity counters run on for the
//! muxer's whole life, over segments and over runs. When to write the tables, and when to repeat the parameter sets, is the
//! caller's decision ([`crate::hls`]): the muxer knows neither segments nor parts.

mod decoding;
mod pes;
mod psi;

use self::decoding::DecodingTimes;
use self::pes::{Header, Packetizer};
use self::psi::Psi;
use crate::codec::{aac, h264, h264::nal};
use crate::media::{AccessUnit, AudioConfig, Payload, Track, Tracks, VideoConfig};
use crate::time::Ticks;

/// Why an access unit could not be written. The output stays whole: nothing of the access unit is in it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A frame of a track whose configuration has not been given.
    #[error("a frame of the {0:?} track came before its codec configuration")]
    UnknownTrack(Track),
    /// The AAC frame cannot be framed as ADTS.
    #[error(transparent)]
    Aac(#[from] aac::Error),
    /// The packet writer refused a value; a bug of ours.
    #[error("packet writer: {0}")]
    Packet(#[from] mpeg2ts::Error),
}

/// Writes access units as transport stream packets.
#[derive(Debug)]
pub struct Muxer {
    tracks: Tracks,
    psi: Psi,
    video_continuity: Continuity,
    audio_continuity: Continuity,
    last_pcr: Option<Ticks>,
    decoding: DecodingTimes,
}

impl Muxer {
    /// A muxer that knows no tracks yet.
    pub fn new() -> Self {
        Self {
            tracks: Tracks::default(),
            psi: Psi::new(),
            video_continuity: Continuity::default(),
            audio_continuity: Continuity::default(),
            last_pcr: None,
            decoding: DecodingTimes::default(),
        }
    }

    /// The tracks as last set.
    pub fn tracks(&self) -> &Tracks {
        &self.tracks
    }

    /// Changes the tracks from the next access unit on. The caller writes the tables again when the change is of a kind a player
    /// has to know ([`Muxer::write_tables`]).
    pub fn set_tracks(&mut self, tracks: Tracks) {
        if self.tracks != tracks {
            self.psi.set_tracks(&tracks);
            self.tracks = tracks;
        }
    }

    /// Appends PAT and PMT, two packets.
    pub fn write_tables(&mut self, out: &mut Vec<u8>) {
        self.psi.write(out);
    }

    /// The tables and two packets of nothing: a transport stream without media. The counters do not run on.
    pub fn filler(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 * PACKET_SIZE);
        self.psi.clone().write(&mut out);
        for _ in 0..2 {
            // PID 0x1FFF, a null packet (2.4.1).
            out.extend_from_slice(&[0x47, 0x1f, 0xff, 0x10]);
            out.resize(out.len() + PAYLOAD_SIZE, 0xff);
        }
        out
    }

    /// Appends the packets of one access unit. With `parameter_sets`, video carries SPS and PPS even where the publisher sent none.
    ///
    /// # Errors
    /// When the track is not configured, or the frame cannot be carried. `out` is then as before.
    pub fn write(
        &mut self,
        unit: &AccessUnit,
        parameter_sets: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let before = out.len();
        let result = match (&unit.payload, unit.track) {
            (Payload::H264(units), _) => self.write_h264(unit, units, parameter_sets, out),
            (Payload::Aac(frame), _) => self.write_aac(unit, frame, out),
            (Payload::Mp3(frame), _) => self.write_audio(unit, &[frame], out),
        };
        if result.is_err() {
            out.truncate(before);
        }
        result
    }

    fn write_h264(
        &mut self,
        unit: &AccessUnit,
        units: &h264::NalUnits,
        parameter_sets: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        if self.tracks.video.is_none() {
            return Err(Error::UnknownTrack(Track::Video));
        }
        let dts = self.decoding.next(unit.dts);
        self.bridge_pcr(dts, PID_VIDEO, self.video_continuity, out)?;
        // Where pictures have fallen so far behind the sound that the clock went on without them, they do not set it back.
        // But each segment has to have a PCR, and starts with a picture that has parameter sets.
        let clock = Some(self.clock_at(dts)).filter(|&clock| parameter_sets || clock == dts);
        self.last_pcr = clock.or(self.last_pcr);
        let Some(VideoConfig::H264(config)) = &self.tracks.video else {
            return Err(Error::UnknownTrack(Track::Video));
        };
        let header = Header {
            pid: PID_VIDEO,
            stream_id: 0xe0,
            pts: unit.pts,
            dts,
            random_access: unit.key,
            pcr: clock.map(pcr_of),
        };
        // The access unit is walked twice, for its length and for its bytes, so that nothing is gathered in between.
        let mut length = 0;
        for_each_fragment(config, units, parameter_sets, |fragment| {
            length += fragment.len();
            Ok(())
        })?;
        reserve_packets(out, length);
        let mut packetizer = Packetizer::new(header, length, &mut self.video_continuity, out);
        for_each_fragment(config, units, parameter_sets, |fragment| {
            packetizer.push(fragment)
        })?;
        packetizer.finish()
    }

    fn write_aac(
        &mut self,
        unit: &AccessUnit,
        frame: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let Some(AudioConfig::Aac(config)) = &self.tracks.audio else {
            return Err(Error::UnknownTrack(Track::Audio));
        };
        let header = config.adts_header(frame.len())?;
        self.write_audio(unit, &[&header, frame], out)
    }

    fn write_audio(
        &mut self,
        unit: &AccessUnit,
        fragments: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        if self.tracks.audio.is_none() {
            return Err(Error::UnknownTrack(Track::Audio));
        }
        let pcr = if self.tracks.video.is_some() {
            self.bridge_pcr(
                unit.dts - LATE_PICTURES,
                PID_VIDEO,
                self.video_continuity,
                out,
            )?;
            None
        } else {
            self.bridge_pcr(unit.dts, PID_AUDIO, self.audio_continuity, out)?;
            // The pictures that there were before may have set the clock further ahead than the sound is.
            let clock = self.clock_at(unit.dts);
            self.last_pcr = Some(clock);
            Some(pcr_of(clock))
        };
        let header = Header {
            pid: PID_AUDIO,
            stream_id: 0xc0,
            pts: unit.pts,
            dts: unit.pts,
            random_access: pcr.is_some(),
            pcr,
        };
        let length = fragments.iter().map(|fragment| fragment.len()).sum();
        reserve_packets(out, length);
        let mut packetizer = Packetizer::new(header, length, &mut self.audio_continuity, out);
        for fragment in fragments {
            packetizer.push(fragment)?;
        }
        packetizer.finish()
    }

    /// Writes a packet of nothing but the clock as it is at `dts`, or as near to that as it may go on, for a segment that will have no picture
    /// to carry it.
    ///
    /// # Errors
    /// When there is no room for it, which memory has to be short for.
    pub fn write_clock(&mut self, dts: Ticks, out: &mut Vec<u8>) -> Result<(), Error> {
        let clock = self.clock_at(dts);
        let clock = self
            .last_pcr
            .map_or(clock, |last| clock.min(last + PCR_INTERVAL));
        self.last_pcr = Some(clock);
        pes::write_pcr_packet(out, PID_VIDEO, self.video_continuity.last(), pcr_of(clock))
    }

    /// The clock at `dts`, or where that is behind it already, the least it may go on by.
    fn clock_at(&self, dts: Ticks) -> Ticks {
        self.last_pcr
            .map_or(dts, |last| dts.max(last + Ticks::new(1)))
    }

    /// Writes packets of nothing but a PCR where access units are further apart than the PCR may be.
    fn bridge_pcr(
        &mut self,
        until: Ticks,
        pid: u16,
        continuity: Continuity,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let Some(mut last) = self.last_pcr else {
            return Ok(());
        };
        for _ in 0..MAX_BRIDGE_PACKETS {
            if until - last <= PCR_INTERVAL {
                break;
            }
            last += PCR_INTERVAL;
            pes::write_pcr_packet(out, pid, continuity.last(), pcr_of(last))?;
            self.last_pcr = Some(last);
        }
        Ok(())
    }
}

impl Default for Muxer {
    fn default() -> Self {
        Self::new()
    }
}

/// The four-bit counter of a PID's packets that carry payload.
#[derive(Debug, Clone, Copy, Default)]
struct Continuity(u8);

impl Continuity {
    fn next(&mut self) -> u8 {
        let now = self.0;
        self.0 = (now + 1) & 0x0f;
        now
    }

    fn last(self) -> u8 {
        self.0.wrapping_sub(1) & 0x0f
    }
}

/// Calls `emit` with the byte stream (ISO/IEC 14496-10, annex B) of one coded picture, piece by piece: access unit delimiter,
/// parameter sets where wanted, then the publisher's NAL units less what has been written already or nobody needs.
fn for_each_fragment(
    config: &h264::Config,
    units: &h264::NalUnits,
    parameter_sets: bool,
    mut emit: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    emit(&ACCESS_UNIT_DELIMITER)?;
    if parameter_sets {
        for set in config.sps.iter().chain(&config.pps) {
            emit(&START_CODE)?;
            emit(set)?;
        }
    }
    for unit in units.iter() {
        match nal::kind(unit) {
            nal::AUD | nal::FILLER | nal::END_OF_SEQUENCE | nal::END_OF_STREAM => continue,
            // The configuration follows in-band changes, so what is in the access unit is what has just been written.
            nal::SPS | nal::PPS if parameter_sets => continue,
            _ => {}
        }
        emit(&START_CODE)?;
        emit(unit)?;
    }
    Ok(())
}

/// The programme clock at the moment the access unit with this decoding time is complete: a little earlier than it, so that audio
/// that rides behind its video is not late for a strict decoder.
fn pcr_of(dts: Ticks) -> Ticks {
    dts - PCR_LEAD
}

fn reserve_packets(out: &mut Vec<u8>, length: usize) {
    // One packet more for the PES header and adaptation field.
    out.reserve((length / PAYLOAD_SIZE + 2) * PACKET_SIZE);
}

/// Size of a transport stream packet, bytes.
pub const PACKET_SIZE: usize = 188;
const PAYLOAD_SIZE: usize = PACKET_SIZE - 4;
const PID_PMT: u16 = 0x1000;
const PID_VIDEO: u16 = 0x100;
const PID_AUDIO: u16 = 0x101;
const START_CODE: [u8; 4] = [0, 0, 0, 1];
/// `primary_pic_type` 7: any slice type.
const ACCESS_UNIT_DELIMITER: [u8; 6] = [0, 0, 0, 1, 0x09, 0xf0];
/// 2.7.2 allows 100 ms between PCRs; a tenth less leaves room for rounding.
const PCR_INTERVAL: Ticks = Ticks::from_millis(90);
/// Pictures that arrive this much later than the sound of their time are not late yet: until then sound does not push the clock on.
const LATE_PICTURES: Ticks = Ticks::from_millis(500);
const PCR_LEAD: Ticks = Ticks::from_millis(100);
/// Bounds what a gap in the publisher's times can make us write: 20 s of PCRs, 42 kB.
const MAX_BRIDGE_PACKETS: usize = 222;

#[cfg(test)]
mod tests;
