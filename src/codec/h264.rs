//! H.264 / AVC (ISO/IEC 14496-10): configuration record, parameter sets and NAL unit framing.
