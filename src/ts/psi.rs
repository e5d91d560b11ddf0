//! Programme specific information: the PAT and the PMT (ISO/IEC 13818-1, 2.4.4.3 and 2.4.4.8), one packet each.
//!
//! Both are rendered once per set of tracks; writing them again only patches the continuity counter. The `mpeg2ts` crate pads
//! sections with an adaptation field in front, which is legal but unusual; here the section is followed by 0xFF, as every
//! demuxer expects. One programme, two elementary streams at most, no descriptors.

use super::{Continuity, PACKET_SIZE, PID_AUDIO, PID_PMT, PID_VIDEO};
use crate::media::{AudioConfig, Tracks, VideoConfig};

/// The PAT and PMT packets of a programme, ready to be written any number of times.
#[derive(Debug, Clone)]
pub(super) struct Psi {
    pat: [u8; PACKET_SIZE],
    pmt: [u8; PACKET_SIZE],
    pat_continuity: Continuity,
    pmt_continuity: Continuity,
    version: u8,
}

impl Psi {
    /// Tables for a programme of no elementary streams.
    pub(super) fn new() -> Self {
        let mut psi = Self {
            pat: section_packet(0, &pat_section()),
            pmt: [0; PACKET_SIZE],
            pat_continuity: Continuity::default(),
            pmt_continuity: Continuity::default(),
            version: 31,
        };
        psi.set_tracks(&Tracks::default());
        psi
    }

    /// Lists `tracks` from now on, under a new version number.
    pub(super) fn set_tracks(&mut self, tracks: &Tracks) {
        self.version = (self.version + 1) % 32;
        self.pmt = section_packet(PID_PMT, &pmt_section(tracks, self.version));
    }

    /// Appends both packets.
    pub(super) fn write(&mut self, out: &mut Vec<u8>) {
        for (packet, continuity) in
            [(&mut self.pat, &mut self.pat_continuity), (&mut self.pmt, &mut self.pmt_continuity)]
        {
            packet[3] = 0x10 | continuity.next();
            out.extend_from_slice(packet);
        }
    }
}

/// `stream_type` of ISO/IEC 13818-1 table 2-34 for the video elementary stream.
fn video_stream_type(config: &VideoConfig) -> u8 {
    match config {
        VideoConfig::H264(_) => 0x1b,
    }
}

/// `stream_type` of ISO/IEC 13818-1 table 2-34 for the audio elementary stream.
fn audio_stream_type(config: &AudioConfig) -> u8 {
    match config {
        AudioConfig::Aac(_) => 0x0f,
        // MPEG-2 audio covers the low sampling rates of MPEG-1 layer III too; 0x03 is the type players know best.
        AudioConfig::Mp3(config) if config.sample_rate >= 32_000 => 0x03,
        AudioConfig::Mp3(_) => 0x04,
    }
}

fn pat_section() -> Vec<u8> {
    let mut section = table_header(0x00, TRANSPORT_STREAM_ID, 0);
    section.extend_from_slice(&PROGRAM_NUMBER.to_be_bytes());
    section.extend_from_slice(&(0xe000 | PID_PMT).to_be_bytes());
    finish_section(section)
}

fn pmt_section(tracks: &Tracks, version: u8) -> Vec<u8> {
    let pcr_pid = match (&tracks.video, &tracks.audio) {
        (Some(_), _) => PID_VIDEO,
        (None, Some(_)) => PID_AUDIO,
        (None, None) => 0x1fff,
    };
    let mut section = table_header(0x02, PROGRAM_NUMBER, version);
    section.extend_from_slice(&(0xe000 | pcr_pid).to_be_bytes());
    section.extend_from_slice(&0xf000u16.to_be_bytes());
    let video = tracks.video.as_ref().map(|config| (video_stream_type(config), PID_VIDEO));
    let audio = tracks.audio.as_ref().map(|config| (audio_stream_type(config), PID_AUDIO));
    for (stream_type, pid) in [video, audio].into_iter().flatten() {
        section.push(stream_type);
        section.extend_from_slice(&(0xe000 | pid).to_be_bytes());
        section.extend_from_slice(&0xf000u16.to_be_bytes());
    }
    finish_section(section)
}

/// The eight bytes every table of ours starts with; the length is filled in by [`finish_section`].
fn table_header(table_id: u8, table_id_extension: u16, version: u8) -> Vec<u8> {
    let extension = table_id_extension.to_be_bytes();
    vec![table_id, 0xb0, 0, extension[0], extension[1], 0xc1 | version << 1, 0, 0]
}

/// Fills in `section_length` and appends the CRC.
fn finish_section(mut section: Vec<u8>) -> Vec<u8> {
    let length = (section.len() - 3 + 4) as u16;
    section[1..3].copy_from_slice(&(0xb000 | length).to_be_bytes());
    let crc = crc32_mpeg2(&section);
    section.extend_from_slice(&crc.to_be_bytes());
    section
}

/// A section alone in a packet, its tail filled with 0xFF.
fn section_packet(pid: u16, section: &[u8]) -> [u8; PACKET_SIZE] {
    let mut packet = [0xff; PACKET_SIZE];
    let pid = pid.to_be_bytes();
    packet[..5].copy_from_slice(&[0x47, 0x40 | pid[0], pid[1], 0x10, 0]);
    packet[5..5 + section.len()].copy_from_slice(section);
    packet
}

/// CRC-32/MPEG-2 (ISO/IEC 13818-1, annex A): polynomial 0x04C11DB7, not reflected, no final inversion.
fn crc32_mpeg2(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte) << 24, |crc, _| {
            if crc & 0x8000_0000 != 0 { crc << 1 ^ 0x04c1_1db7 } else { crc << 1 }
        })
    })
}

const TRANSPORT_STREAM_ID: u16 = 1;
const PROGRAM_NUMBER: u16 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_of_the_check_string() {
        assert_eq!(crc32_mpeg2(b"123456789"), 0x0376_e6e7);
    }

    #[test]
    fn a_section_with_its_crc_sums_to_zero() {
        assert_eq!(crc32_mpeg2(&pat_section()), 0);
        assert_eq!(crc32_mpeg2(&pmt_section(&Tracks::default(), 3)), 0);
    }

    #[test]
    fn counters_run_on_and_wrap() {
        let mut psi = Psi::new();
        let mut out = Vec::new();
        for _ in 0..17 {
            psi.write(&mut out);
        }
        let counters: Vec<u8> = out.chunks(PACKET_SIZE).step_by(2).map(|packet| packet[3] & 0x0f).collect();
        assert_eq!(counters, (0..17).map(|n| n % 16).collect::<Vec<_>>());
    }
}
