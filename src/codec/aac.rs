//! AAC (ISO/IEC 14496-3): AudioSpecificConfig and ADTS headers.
