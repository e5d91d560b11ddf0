//! Splitting one access unit into the packets of a PES (ISO/IEC 13818-1, 2.4.3.6).
//!
//! The access unit comes as fragments (start codes, parameter sets, NAL units, an ADTS header …) that are copied exactly once,
//! into the packets. Headers, adaptation fields and stuffing are the `mpeg2ts` crate's; the full packets in between, which carry
//! nothing but payload, are four bytes of header and 184 bytes of copy and are written here.

use mpeg2ts::es::StreamId;
use mpeg2ts::pes::PesHeader;
use mpeg2ts::time::{ClockReference, Timestamp};
use mpeg2ts::ts::payload::{Bytes, Pes};
use mpeg2ts::ts::{
    AdaptationField, ContinuityCounter, Pid, TransportScramblingControl, TsHeader, TsPacket, TsPacketWriter, TsPayload,
    WriteTsPacket,
};

use super::{Continuity, Error, PACKET_SIZE, PAYLOAD_SIZE};
use crate::time::Ticks;

/// What the header of a PES, and the adaptation field in front of it, say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) pid: u16,
    pub(super) stream_id: u8,
    pub(super) pts: Ticks,
    /// Written only where it differs from `pts`.
    pub(super) dts: Ticks,
    pub(super) random_access: bool,
    pub(super) pcr: Option<Ticks>,
}

/// Packs one PES: created with its header and total payload length, fed with the fragments of exactly that length.
#[derive(Debug)]
pub(super) struct Packetizer<'a> {
    out: &'a mut Vec<u8>,
    continuity: &'a mut Continuity,
    header: Header,
    /// Payload bytes not yet in a packet, those in `buffer` included.
    remaining: usize,
    /// Payload capacity of the packet being filled.
    capacity: usize,
    started: bool,
    buffer: [u8; PAYLOAD_SIZE],
    filled: usize,
    pes_packet_length: u16,
}

impl<'a> Packetizer<'a> {
    /// Starts a PES of `length` payload bytes (PES header not counted).
    pub(super) fn new(
        header: Header,
        length: usize,
        continuity: &'a mut Continuity,
        out: &'a mut Vec<u8>,
    ) -> Self {
        let optional_header = 3 + if header.dts == header.pts { 5 } else { 10 };
        let adaptation = match (header.pcr, header.random_access) {
            (Some(_), _) => 8,
            (None, true) => 2,
            (None, false) => 0,
        };
        Self {
            out,
            continuity,
            header,
            remaining: length,
            capacity: PAYLOAD_SIZE - adaptation - 6 - optional_header,
            started: false,
            buffer: [0; PAYLOAD_SIZE],
            filled: 0,
            // 0 means "until the next PES", which is all that video longer than 64 kB can say.
            pes_packet_length: u16::try_from(length + optional_header).unwrap_or(0),
        }
    }

    /// Adds the next fragment of the payload.
    pub(super) fn push(&mut self, mut fragment: &[u8]) -> Result<(), Error> {
        while !fragment.is_empty() {
            if self.started && self.filled == 0 && fragment.len() >= PAYLOAD_SIZE {
                let (payload, rest) = fragment.split_at(PAYLOAD_SIZE);
                let pid = self.header.pid.to_be_bytes();
                self.out.extend_from_slice(&[0x47, pid[0], pid[1], 0x10 | self.continuity.next()]);
                self.out.extend_from_slice(payload);
                self.remaining = self.remaining.saturating_sub(PAYLOAD_SIZE);
                fragment = rest;
                continue;
            }
            let (now, rest) = fragment.split_at(fragment.len().min(self.capacity - self.filled));
            self.buffer[self.filled..self.filled + now.len()].copy_from_slice(now);
            self.filled += now.len();
            fragment = rest;
            if self.filled == self.capacity {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Writes the last packet.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        if self.filled > 0 || !self.started {
            self.flush()?;
        }
        debug_assert_eq!(self.remaining, 0, "the fragments were of another length than announced");
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        let data = Bytes::new(&self.buffer[..self.filled])?;
        self.remaining = self.remaining.saturating_sub(self.filled);
        let (adaptation_field, payload) = if self.started {
            (None, TsPayload::PesContinuation(data))
        } else {
            let Header { pts, dts, random_access, pcr, stream_id, .. } = self.header;
            let header = PesHeader {
                stream_id: StreamId::new(stream_id),
                priority: false,
                data_alignment_indicator: true,
                copyright: false,
                original_or_copy: false,
                pts: Some(Timestamp::new(pts.to_pts33())?),
                dts: if dts == pts { None } else { Some(Timestamp::new(dts.to_pts33())?) },
                escr: None,
            };
            let field = if pcr.is_some() || random_access { Some(adaptation(pcr, random_access)?) } else { None };
            (field, TsPayload::PesStart(Pes { header, pes_packet_len: self.pes_packet_length, data }))
        };
        let has_pcr = adaptation_field.as_ref().is_some_and(|field| field.pcr.is_some());
        write_packet(self.out, self.header.pid, self.continuity.next(), adaptation_field, Some(payload), has_pcr)?;
        self.started = true;
        self.capacity = PAYLOAD_SIZE;
        self.filled = 0;
        Ok(())
    }
}

/// Writes a packet of nothing but a PCR. It carries no payload, so the continuity counter stays (2.4.3.3): `last` is the counter
/// of the packet before it.
pub(super) fn write_pcr_packet(out: &mut Vec<u8>, pid: u16, last: u8, pcr: Ticks) -> Result<(), Error> {
    write_packet(out, pid, last, Some(adaptation(Some(pcr), false)?), None, true)
}

fn adaptation(pcr: Option<Ticks>, random_access: bool) -> Result<AdaptationField, Error> {
    let pcr = pcr.map(|ticks| ClockReference::new(ticks.to_pts33() * 300)).transpose()?;
    Ok(AdaptationField {
        discontinuity_indicator: false,
        random_access_indicator: random_access,
        es_priority_indicator: false,
        pcr,
        opcr: None,
        splice_countdown: None,
        transport_private_data: Vec::new(),
        extension: None,
    })
}

fn write_packet(
    out: &mut Vec<u8>,
    pid: u16,
    continuity: u8,
    adaptation_field: Option<AdaptationField>,
    payload: Option<TsPayload>,
    has_pcr: bool,
) -> Result<(), Error> {
    let start = out.len();
    let header = TsHeader {
        transport_error_indicator: false,
        transport_priority: false,
        pid: Pid::new(pid)?,
        transport_scrambling_control: TransportScramblingControl::NotScrambled,
        continuity_counter: ContinuityCounter::from_u8(continuity)?,
    };
    TsPacketWriter::new(&mut *out).write_ts_packet(&TsPacket { header, adaptation_field, payload })?;
    debug_assert_eq!(out.len() - start, PACKET_SIZE);
    if has_pcr {
        // The crate writes the six reserved bits between PCR base and extension as 0; 2.4.3.4 wants them 1.
        out[start + PCR_RESERVED_BITS] |= 0x7e;
    }
    Ok(())
}

/// Offset in a packet of the byte that holds the PCR's reserved bits, when the PCR is the adaptation field's first item.
const PCR_RESERVED_BITS: usize = 10;
