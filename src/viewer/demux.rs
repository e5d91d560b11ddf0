//! MPEG-TS in, access units out (ISO/IEC 13818-1), as far as a viewer needs it to tell what came when.
//!
//! Tolerant of other people's streams: lost sync is found again, anything unknown is skipped, oddities are counted. An access unit is
//! taken to be a PES packet: true of video everywhere; of audio, some muxers put several frames into one, and they count as one.
//! Not here: anything but the first programme, scrambling, check sums of tables.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::media::Track;
use crate::time::Ticks;

/// When bytes came, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// On the clock that never jumps.
    pub instant: Instant,
    /// Microseconds since 1970.
    pub unix_micros: i64,
}

/// An access unit that is complete.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// Video or audio.
    pub track: Track,
    /// Presentation time, unwrapped.
    pub pts: Ticks,
    /// Decoding time, unwrapped.
    pub dts: Ticks,
    /// Whether decoding can begin here.
    pub key: bool,
    /// When its last byte came.
    pub arrival: Arrival,
    /// Its bytes: all of them if asked for, else at most the first [`HEAD`].
    pub data: Vec<u8>,
}

/// What was wrong with the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// Continuity counters that jumped: packets are missing.
    pub continuity_gaps: u64,
    /// Packets that came a second time.
    pub repeats: u64,
    /// Places where bytes were no packets.
    pub sync_losses: u64,
}

/// Takes a transport stream apart.
#[derive(Debug)]
pub struct Demuxer {
    /// Whether whole access units are wanted.
    whole: bool,
    partial: Vec<u8>,
    in_sync: bool,
    programme_map: Option<u16>,
    sections: BTreeMap<u16, Vec<u8>>,
    streams: BTreeMap<u16, Stream>,
    continuity: BTreeMap<u16, u8>,
    last_time: Option<Ticks>,
    faults: Faults,
}

/// One elementary stream.
#[derive(Debug)]
struct Stream {
    track: Track,
    h264: bool,
    open: Option<Open>,
}

/// An access unit that is being received.
#[derive(Debug)]
struct Open {
    unit: Unit,
    /// Header bytes yet to come before the unit's own, with what there is of them.
    header: Option<Vec<u8>>,
    /// Bytes of the whole PES packet as it says; 0 if it does not.
    expected: usize,
    received: usize,
    timed: bool,
}

impl Demuxer {
    /// A demuxer; with `whole`, the units carry all their bytes.
    pub fn new(whole: bool) -> Self {
        Self {
            whole,
            partial: Vec::with_capacity(PACKET),
            in_sync: true,
            programme_map: None,
            sections: BTreeMap::new(),
            streams: BTreeMap::new(),
            continuity: BTreeMap::new(),
            last_time: None,
            faults: Faults::default(),
        }
    }

    /// Stops or starts handing out whole access units.
    pub fn set_whole(&mut self, whole: bool) {
        self.whole = whole;
    }

    /// Whether there is video, as far as known.
    pub fn has_video(&self) -> bool {
        self.streams.values().any(|s| s.track == Track::Video)
    }

    /// What was wrong so far.
    pub fn faults(&self) -> Faults {
        self.faults
    }

    /// Takes bytes that came at `arrival`; complete access units are added to `units`.
    pub fn push(&mut self, mut bytes: &[u8], arrival: Arrival, units: &mut Vec<Unit>) {
        while !bytes.is_empty() {
            if self.partial.is_empty() && bytes.first() != Some(&SYNC) {
                if std::mem::take(&mut self.in_sync) {
                    self.faults.sync_losses += 1;
                }
                let next = bytes.iter().position(|&byte| byte == SYNC);
                bytes = &bytes[next.unwrap_or(bytes.len())..];
                continue;
            }
            let taken = (PACKET - self.partial.len()).min(bytes.len());
            let (now, later) = bytes.split_at(taken);
            self.partial.extend_from_slice(now);
            bytes = later;
            if self.partial.len() == PACKET {
                let packet = std::mem::take(&mut self.partial);
                // A sync byte alone proves little when sync was just lost; a payload that is none shows as a lost sync again.
                self.in_sync = true;
                self.packet(&packet, arrival, units);
                self.partial = packet;
                self.partial.clear();
            }
        }
    }

    /// The bytes so far were all of a segment or part: what is open is complete.
    pub fn end_resource(&mut self, units: &mut Vec<Unit>) {
        if !self.partial.is_empty() {
            self.faults.sync_losses += 1;
            self.partial.clear();
        }
        for stream in self.streams.values_mut() {
            stream.close(units);
        }
    }

    /// What comes next does not follow on what came last.
    pub fn discontinuity(&mut self) {
        self.continuity.clear();
        self.last_time = None;
        self.streams
            .values_mut()
            .for_each(|stream| stream.open = None);
    }

    fn packet(&mut self, packet: &[u8], arrival: Arrival, units: &mut Vec<Unit>) {
        let [_, b1, b2, b3, rest @ ..] = packet else {
            return;
        };
        let pid = u16::from(b1 & 0x1f) << 8 | u16::from(*b2);
        let (start, has_payload, counter) = (b1 & 0x40 != 0, b3 & 0x10 != 0, b3 & 0x0f);
        let mut payload = rest;
        let mut flags = 0;
        if b3 & 0x20 != 0 {
            let Some((&length, after)) = rest.split_first() else {
                return;
            };
            let Some(after_field) = after.get(usize::from(length)..) else {
                return;
            };
            flags = if length > 0 { after[0] } else { 0 };
            payload = after_field;
        }
        if pid == NULL_PID || !has_payload || !self.continues(pid, counter, flags & 0x80 != 0) {
            return;
        }
        if pid == 0 || Some(pid) == self.programme_map {
            self.section(pid, start, payload);
            return;
        }
        let (whole, last_time) = (self.whole, self.last_time);
        let Some(stream) = self.streams.get_mut(&pid) else {
            return;
        };
        if start {
            stream.close(units);
            stream.open = Some(Open::new(stream.track, flags & 0x40 != 0, arrival));
        }
        if let Some(open) = &mut stream.open {
            open.push(payload, arrival, whole, last_time);
            if open.timed {
                self.last_time = Some(open.unit.dts);
            }
            if open.expected > 0 && open.received >= open.expected {
                stream.close(units);
            }
        }
    }

    /// Checks the continuity counter; false for a packet that was there before.
    fn continues(&mut self, pid: u16, counter: u8, announced: bool) -> bool {
        let last = self.continuity.insert(pid, counter);
        match last {
            Some(last) if last == counter && !announced => {
                self.faults.repeats += 1;
                false
            }
            Some(last) if (last + 1) & 0x0f != counter && !announced => {
                self.faults.continuity_gaps += 1;
                true
            }
            _ => true,
        }
    }

    fn section(&mut self, pid: u16, start: bool, payload: &[u8]) {
        let buffer = self.sections.entry(pid).or_default();
        if start {
            buffer.clear();
            let Some((&pointer, rest)) = payload.split_first() else {
                return;
            };
            buffer.extend_from_slice(rest.get(usize::from(pointer)..).unwrap_or_default());
        } else if !buffer.is_empty() && buffer.len() < MAX_SECTION {
            buffer.extend_from_slice(payload);
        }
        let [table, b1, b2, ..] = buffer[..] else {
            return;
        };
        let length = usize::from(b1 & 0x0f) << 8 | usize::from(b2);
        let Some(section) = buffer.get(3..3 + length) else {
            return;
        };
        // Without the five bytes of the long header in front, and the check sum behind.
        let end = section.len().saturating_sub(4);
        let body = section.get(5..end).unwrap_or_default().to_vec();
        buffer.clear();
        match (pid, table) {
            (0, 0x00) => self.association(&body),
            (_, 0x02) => self.map(&body),
            _ => {}
        }
    }

    fn association(&mut self, body: &[u8]) {
        let programme = body
            .chunks_exact(4)
            .find(|entry| entry[0] != 0 || entry[1] != 0);
        if let Some(&[_, _, high, low]) = programme {
            self.programme_map = Some(u16::from(high & 0x1f) << 8 | u16::from(low));
        }
    }

    fn map(&mut self, body: &[u8]) {
        let skip = match body {
            [_, _, high, low, ..] => 4 + (usize::from(high & 0x0f) << 8 | usize::from(*low)),
            _ => return,
        };
        let mut rest = body.get(skip..).unwrap_or_default();
        while let [kind, b1, b2, b3, b4, after @ ..] = rest {
            let pid = u16::from(b1 & 0x1f) << 8 | u16::from(*b2);
            let length = usize::from(b3 & 0x0f) << 8 | usize::from(*b4);
            let track = match kind {
                0x01 | 0x02 | 0x10 | 0x1b | 0x24 | 0x33 => Some(Track::Video),
                0x03 | 0x04 | 0x0f | 0x11 | 0x81 | 0x87 => Some(Track::Audio),
                _ => None,
            };
            if let Some(track) = track
                && self.streams.len() < MAX_STREAMS
            {
                let new = || Stream {
                    track,
                    h264: *kind == 0x1b,
                    open: None,
                };
                let stream = self.streams.entry(pid).or_insert_with(new);
                (stream.track, stream.h264) = (track, *kind == 0x1b);
            }
            rest = after.get(length..).unwrap_or_default();
        }
    }
}

impl Stream {
    fn close(&mut self, units: &mut Vec<Unit>) {
        let Some(mut open) = self.open.take() else {
            return;
        };
        if open.timed && open.header.is_none() {
            open.unit.key |= match self.track {
                Track::Video => self.h264 && has_idr(&open.unit.data),
                Track::Audio => true,
            };
            units.push(open.unit);
        }
    }
}

impl Open {
    fn new(track: Track, key: bool, arrival: Arrival) -> Self {
        Self {
            unit: Unit {
                track,
                pts: Ticks::ZERO,
                dts: Ticks::ZERO,
                key,
                arrival,
                data: Vec::new(),
            },
            header: Some(Vec::new()),
            expected: 0,
            received: 0,
            timed: false,
        }
    }

    fn push(&mut self, payload: &[u8], arrival: Arrival, whole: bool, last: Option<Ticks>) {
        self.unit.arrival = arrival;
        self.received = self.received.saturating_add(payload.len());
        match &mut self.header {
            None => self.append(payload, whole),
            Some(header) => {
                header.extend_from_slice(payload);
                let header = std::mem::take(header);
                self.header = self.read_header(header, whole, last);
            }
        }
    }

    /// Reads the PES header (2.4.3.6) if it is all there, else gives it back.
    fn read_header(&mut self, bytes: Vec<u8>, whole: bool, last: Option<Ticks>) -> Option<Vec<u8>> {
        let [p0, p1, p2, _, l0, l1, _, flags, length, rest @ ..] = &bytes[..] else {
            return Some(bytes);
        };
        if [*p0, *p1, *p2] != [0, 0, 1] {
            // No PES packet: never timed, so never handed out.
            return None;
        }
        let Some((fields, data)) = rest.split_at_checked(usize::from(*length)) else {
            return Some(bytes);
        };
        self.expected = match usize::from(*l0) << 8 | usize::from(*l1) {
            0 => 0,
            length => length + 6,
        };
        let pts = (flags & 0x80 != 0).then(|| time(fields)).flatten();
        let dts = (flags & 0x40 != 0)
            .then(|| time(fields.get(5..).unwrap_or_default()))
            .flatten();
        if let Some(pts) = pts {
            let dts_bits = dts.unwrap_or(pts);
            let dts = match last {
                Some(last) => last.nearest_pts33(dts_bits),
                None => Ticks::new(dts_bits as i64),
            };
            self.unit.dts = dts;
            self.unit.pts = dts.nearest_pts33(pts);
            self.timed = true;
        }
        let data = data.to_vec();
        self.append(&data, whole);
        None
    }

    fn append(&mut self, payload: &[u8], whole: bool) {
        let room = if whole { MAX_UNIT } else { HEAD };
        let taken = room.saturating_sub(self.unit.data.len()).min(payload.len());
        self.unit.data.extend_from_slice(&payload[..taken]);
    }
}

/// NAL units of an Annex B stream (ITU-T H.264, annex B), without their start codes.
pub fn nal_units(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = after_start_code(data);
    std::iter::from_fn(move || {
        let unit = rest?;
        let next = after_start_code(unit);
        rest = next;
        let end = next.map_or(unit.len(), |next| unit.len() - next.len() - 3);
        Some(&unit[..end])
    })
}

fn after_start_code(data: &[u8]) -> Option<&[u8]> {
    let at = data.windows(3).position(|window| window == [0, 0, 1])?;
    data.get(at + 3..)
}

fn has_idr(data: &[u8]) -> bool {
    nal_units(data).any(|unit| unit.first().is_some_and(|header| header & 0x1f == 5))
}

/// The 33 bits of a time stamp.
fn time(field: &[u8]) -> Option<u64> {
    let &[a, b, c, d, e, ..] = field else {
        return None;
    };
    let [a, b, c, d, e] = [a, b, c, d, e].map(u64::from);
    Some((a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1)
}

/// Bytes of an access unit that are kept when not all of them are wanted: enough for parameter sets, SEI and a slice's header.
pub const HEAD: usize = 1024;
const PACKET: usize = 188;
const SYNC: u8 = 0x47;
const NULL_PID: u16 = 0x1fff;
/// The largest a section can be (2.4.4), with the rest of its last packet.
const MAX_SECTION: usize = 4096;
/// More than any real programme has.
const MAX_STREAMS: usize = 32;
/// More than any picture takes.
const MAX_UNIT: usize = 16 << 20;

#[cfg(test)]
pub(super) mod tests;
