//! A checker of transport streams (ISO/IEC 13818-1) that shares no code with the muxer. It panics at the first fault, with the
//! segment and the packet it is in.
//!
//! Over all segments together: sync bytes, continuity of every PID, PCRs present, rising and at most 100 ms apart, DTS strictly
//! rising, PTS not before DTS, decoding not before the clock. In every segment: PAT then PMT first, CRCs, no PES across its edge, PES
//! lengths, adaptation field sizes; and, where asked for, a first picture that a decoder can start with. In the end the `mpeg2ts`
//! crate's reader has to get through the same bytes.

use std::collections::BTreeMap;

use mpeg2ts::ts::{ReadTsPacket, TsPacketReader};

/// What the segments hold.
#[derive(Debug, Default)]
pub(crate) struct Programme {
    pub(crate) video: Vec<Unit>,
    pub(crate) audio: Vec<Unit>,
    /// `stream_type` of each elementary stream in the last PMT, by PID.
    pub(crate) stream_types: BTreeMap<u16, u8>,
}

/// One PES.
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    pub(crate) pts: i64,
    pub(crate) dts: i64,
    pub(crate) segment: usize,
    pub(crate) payload: Vec<u8>,
}

impl Unit {
    /// The NAL units of a picture, without start codes.
    pub(crate) fn nal_units(&self) -> Vec<&[u8]> {
        let data = &self.payload;
        let starts: Vec<usize> = (0..data.len().saturating_sub(2))
            .filter(|&at| data[at..at + 3] == [0, 0, 1])
            .map(|at| at + 3)
            .collect();
        let ends = starts.iter().skip(1).map(|&next| next - 3);
        let ends = ends.chain([data.len()]);
        starts
            .iter()
            .zip(ends)
            .map(|(&start, end)| {
                let unit = &data[start..end];
                let padding = unit.iter().rev().take_while(|&&byte| byte == 0).count();
                &unit[..unit.len() - padding]
            })
            .collect()
    }

    fn nal_types(&self) -> Vec<u8> {
        self.nal_units().iter().map(|unit| unit[0] & 0x1f).collect()
    }
}

impl Programme {
    /// Checks that a segment lasts as long as its EXTINF says: to the next one's first picture.
    pub(crate) fn check_duration(&self, segment: usize, seconds: f64) {
        let deciding = if self.video.is_empty() {
            &self.audio
        } else {
            &self.video
        };
        let first_of = |segment| {
            deciding
                .iter()
                .filter(move |unit| unit.segment == segment)
                .map(|unit| unit.pts)
                .min()
        };
        if let (Some(start), Some(end)) = (first_of(segment), first_of(segment + 1)) {
            let lasts = (end - start) as f64 / 90_000.0;
            assert!(
                (lasts - seconds).abs() < 0.001,
                "segment {segment} lasts {lasts} s, EXTINF says {seconds}"
            );
        }
    }
}

/// Checks consecutive segments. With `independent`, each must start with a picture that needs none before it.
pub(crate) fn check(segments: &[&[u8]], independent: bool) -> Programme {
    check_late(segments, independent, 0)
}

/// The same for a publisher whose sound comes up to `late` ms after the pictures of its time, or its pictures after the sound. What is late
/// keeps its time, by which players bring the two together, and so is due before the clock.
pub(crate) fn check_late(segments: &[&[u8]], independent: bool, late: i64) -> Programme {
    let mut checker = Checker {
        late: late * 90,
        ..Checker::default()
    };
    let mut with_video = Vec::new();
    for (index, segment) in segments.iter().enumerate() {
        checker.segment(index, segment);
        // A publisher that comes back without its pictures goes on as sound alone, and says so in its tables.
        if checker
            .programme
            .stream_types
            .values()
            .any(|&kind| kind == 0x1b)
        {
            with_video.push(index);
        }
    }
    checker.programme.check_times();
    if independent {
        checker.programme.check_starts(&with_video, late > 0);
    }
    let all = segments.concat();
    let mut reader = TsPacketReader::new(&all[..]);
    let mut packets = 0;
    while let Some(_packet) = reader.read_ts_packet().expect("readable by mpeg2ts") {
        packets += 1;
    }
    assert_eq!(packets, all.len() / 188);
    checker.programme
}

#[derive(Default)]
struct Checker {
    programme: Programme,
    continuity: BTreeMap<u16, u8>,
    pmt_pid: Option<u16>,
    pcr_pid: u16,
    /// PID 0x100 is video or audio: what the PMT says of it.
    open: BTreeMap<u16, OpenPes>,
    last_pcr: Option<i64>,
    /// How long before the clock access units may be due, ticks.
    late: i64,
    /// Unwrapped times come out relative to this.
    clock: Option<i64>,
    place: String,
}

struct OpenPes {
    bytes: Vec<u8>,
    segment: usize,
    pcr: Option<i64>,
}

impl Checker {
    fn segment(&mut self, index: usize, bytes: &[u8]) {
        assert_eq!(bytes.len() % 188, 0, "segment {index} is not whole packets");
        assert!(!bytes.is_empty(), "segment {index} is empty");
        let mut had_pcr = false;
        for (number, packet) in bytes.chunks(188).enumerate() {
            self.place = format!("segment {index}, packet {number}");
            had_pcr |= self.packet(index, number, packet);
        }
        for (pid, pes) in std::mem::take(&mut self.open) {
            self.finish_pes(pid, pes);
        }
        assert!(had_pcr, "segment {index} has no PCR");
    }

    /// True if it has a PCR.
    fn packet(&mut self, segment: usize, number: usize, packet: &[u8]) -> bool {
        let place = self.place.clone();
        assert_eq!(packet[0], 0x47, "{place}: no sync byte");
        assert_eq!(packet[1] & 0x80, 0, "{place}: transport error");
        assert_eq!(packet[3] & 0xc0, 0, "{place}: scrambled");
        let starts = packet[1] & 0x40 != 0;
        let pid = u16::from_be_bytes([packet[1] & 0x1f, packet[2]]);
        let (has_adaptation, has_payload) = (packet[3] & 0x20 != 0, packet[3] & 0x10 != 0);
        match number {
            0 => assert_eq!(pid, 0, "{place}: the PAT is not first"),
            1 => assert_eq!(Some(pid), self.pmt_pid, "{place}: the PMT is not second"),
            _ => {}
        }
        assert!(has_adaptation || has_payload, "{place}: reserved packet");

        let counter = packet[3] & 0x0f;
        if let Some(&last) = self.continuity.get(&pid) {
            let expected = if has_payload { (last + 1) & 0x0f } else { last };
            assert_eq!(counter, expected, "{place}: continuity of PID {pid:#x}");
        }
        self.continuity.insert(pid, counter);

        let mut at = 4;
        let mut pcr = None;
        if has_adaptation {
            let length = usize::from(packet[4]);
            let limit = if has_payload { 182 } else { 183 };
            assert!(
                length <= limit && (has_payload || length == 183),
                "{place}: adaptation field of {length} bytes"
            );
            pcr = self.adaptation(&packet[5..5 + length]);
            if let Some(pcr) = pcr {
                assert_eq!(pid, self.pcr_pid, "{place}: PCR on another PID");
                self.clock(pcr);
            }
            at = 5 + length;
        }
        if has_payload {
            self.payload(segment, pid, starts, &packet[at..], pcr);
        }
        pcr.is_some()
    }

    /// The PCR of an adaptation field, 90 kHz.
    fn adaptation(&self, field: &[u8]) -> Option<i64> {
        let place = &self.place;
        let flags = *field.first()?;
        assert_eq!(flags & 0x0f, 0, "{place}: a field nobody writes");
        let has_pcr = flags & 0x10 != 0;
        let used = if has_pcr { 7 } else { 1 };
        assert!(field.len() >= used, "{place}: adaptation field too short");
        assert!(
            field[used..].iter().all(|&byte| byte == 0xff),
            "{place}: stuffing is not 0xff"
        );
        has_pcr.then(|| {
            let base = field[1..6]
                .iter()
                .fold(0_i64, |value, &byte| value << 8 | i64::from(byte))
                >> 7;
            self.unwrap(base)
        })
    }

    fn clock(&mut self, pcr: i64) {
        let place = &self.place;
        if let Some(last) = self.last_pcr {
            assert!(pcr > last, "{place}: PCR goes back by {}", last - pcr);
            assert!(
                pcr - last <= 9000,
                "{place}: {} ms between PCRs",
                (pcr - last) / 90
            );
        }
        self.last_pcr = Some(pcr);
        self.clock = Some(pcr);
    }

    /// A 33-bit time as the nearest to the clock.
    fn unwrap(&self, time: i64) -> i64 {
        let Some(clock) = self.clock else { return time };
        let distance = (time - clock) & 0x1_ffff_ffff;
        clock
            + if distance >= 1 << 32 {
                distance - (1 << 33)
            } else {
                distance
            }
    }

    fn payload(
        &mut self,
        segment: usize,
        pid: u16,
        starts: bool,
        payload: &[u8],
        pcr: Option<i64>,
    ) {
        let place = self.place.clone();
        if pid == 0 {
            let section = section(&place, starts, payload);
            assert_eq!(section[0], 0, "{place}: table id of the PAT");
            assert_eq!(section.len(), 12 + 4, "{place}: one programme");
            self.pmt_pid = Some(u16::from_be_bytes([section[10] & 0x1f, section[11]]));
        } else if Some(pid) == self.pmt_pid {
            let section = section(&place, starts, payload);
            assert_eq!(section[0], 2, "{place}: table id of the PMT");
            self.pcr_pid = u16::from_be_bytes([section[8] & 0x1f, section[9]]);
            let info = usize::from(u16::from_be_bytes([section[10] & 0x0f, section[11]]));
            let mut entries = &section[12 + info..section.len() - 4];
            self.programme.stream_types.clear();
            while let [kind, high, low, info_high, info_low, rest @ ..] = entries {
                let pid = u16::from_be_bytes([high & 0x1f, *low]);
                self.programme.stream_types.insert(pid, *kind);
                let info = usize::from(u16::from_be_bytes([info_high & 0x0f, *info_low]));
                entries = &rest[info..];
            }
            assert!(
                entries.is_empty(),
                "{place}: the PMT's loop does not add up"
            );
        } else {
            assert!(
                self.programme.stream_types.contains_key(&pid),
                "{place}: PID {pid:#x} is not in the PMT"
            );
            if starts {
                let pes = OpenPes {
                    bytes: payload.to_vec(),
                    segment,
                    pcr: pcr.or(self.clock),
                };
                if let Some(before) = self.open.insert(pid, pes) {
                    self.finish_pes(pid, before);
                }
            } else {
                let open = self.open.get_mut(&pid);
                let open =
                    open.unwrap_or_else(|| panic!("{place}: a PES from before the segment's edge"));
                open.bytes.extend_from_slice(payload);
            }
        }
    }

    fn finish_pes(&mut self, pid: u16, pes: OpenPes) {
        let place = &self.place;
        let bytes = &pes.bytes;
        assert_eq!(bytes[..3], [0, 0, 1], "{place}: no PES start code");
        let is_video = match self.programme.stream_types.get(&pid) {
            Some(0x1b) => true,
            Some(0x0f | 0x03 | 0x04) => false,
            other => panic!("{place}: stream type {other:?} on PID {pid:#x}"),
        };
        let stream_ids = if is_video { 0xe0..=0xef } else { 0xc0..=0xdf };
        assert!(stream_ids.contains(&bytes[3]), "{place}: stream id");
        let length = usize::from(u16::from_be_bytes([bytes[4], bytes[5]]));
        if length == 0 {
            assert!(
                is_video && bytes.len() - 6 > 0xffff,
                "{place}: PES without length although it would fit"
            );
        } else {
            assert_eq!(bytes.len() - 6, length, "{place}: PES_packet_length");
        }
        let header = usize::from(bytes[8]);
        let time = |at: usize| {
            let field = &bytes[at..at + 5];
            assert!(
                field[0] & field[2] & field[4] & 1 == 1,
                "{place}: marker bits"
            );
            let high = i64::from(field[0] >> 1 & 7) << 30;
            let middle = i64::from(u16::from_be_bytes([field[1], field[2]]) >> 1) << 15;
            let low = i64::from(u16::from_be_bytes([field[3], field[4]]) >> 1);
            self.unwrap(high | middle | low)
        };
        let (pts, dts) = match bytes[7] >> 6 {
            2 => (time(9), time(9)),
            3 => (time(9), time(14)),
            flags => panic!("{place}: PTS_DTS_flags {flags}"),
        };
        assert!(pts >= dts, "{place}: PTS before DTS");
        if let Some(pcr) = pes.pcr {
            assert!(
                dts >= pcr - self.late,
                "{place}: due {} ms ago",
                (pcr - dts) / 90
            );
            assert!(dts - pcr < 90_000, "{place}: a second ahead of the clock");
        }
        let unit = Unit {
            pts,
            dts,
            segment: pes.segment,
            payload: bytes[9 + header..].to_vec(),
        };
        if is_video {
            self.programme.video.push(unit);
        } else {
            self.programme.audio.push(unit);
        }
    }
}

impl Programme {
    fn check_times(&self) {
        for (name, units) in [("video", &self.video), ("audio", &self.audio)] {
            for pair in units.windows(2) {
                assert!(
                    pair[1].dts > pair[0].dts,
                    "{name} DTS {} after {} in segment {}",
                    pair[1].dts,
                    pair[0].dts,
                    pair[1].segment
                );
            }
        }
    }

    /// `stalls`: whether pictures may have stayed away while sound went on, which then has segments of its own.
    fn check_starts(&self, with_video: &[usize], stalls: bool) {
        for &segment in with_video {
            let first = self.video.iter().find(|unit| unit.segment == segment);
            // At the very end there may be the sound of a picture that never came.
            if first.is_none() && segment > 0 && (stalls || Some(&segment) == with_video.last()) {
                let sounds = self.audio.iter().filter(|unit| unit.segment == segment);
                let most = if stalls { usize::MAX } else { 3 };
                assert!((1..=most).contains(&sounds.count()), "segment {segment}");
                continue;
            }
            let first = first.unwrap_or_else(|| panic!("segment {segment} has no picture"));
            let types = first.nal_types();
            let position = |kind: u8| types.iter().position(|&other| other == kind);
            assert!(
                types.first() == Some(&9)
                    && position(7) < position(8)
                    && position(8) < position(5)
                    && position(7).is_some(),
                "segment {segment} starts with NAL units {types:?}, not with AUD, SPS, PPS, IDR"
            );
        }
        for unit in &self.video {
            assert_eq!(unit.nal_types()[0], 9, "a picture without delimiter");
        }
    }
}

/// A section that lies in one packet, its CRC checked.
fn section<'a>(place: &str, starts: bool, payload: &'a [u8]) -> &'a [u8] {
    assert!(starts, "{place}: a table over several packets");
    let payload = &payload[1 + usize::from(payload[0])..];
    let length = 3 + usize::from(u16::from_be_bytes([payload[1] & 0x0f, payload[2]]));
    assert_eq!(crc(&payload[..length]), 0, "{place}: CRC");
    assert!(
        payload[length..].iter().all(|&byte| byte == 0xff),
        "{place}: stuffing behind a table"
    );
    &payload[..length]
}

/// CRC-32/MPEG-2; 0 over a section with its own CRC.
fn crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte) << 24, |crc, _| {
            crc << 1 ^ if crc >> 31 == 1 { 0x04c1_1db7 } else { 0 }
        })
    })
}
