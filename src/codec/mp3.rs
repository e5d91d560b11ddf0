//! MPEG audio layer III (ISO/IEC 11172-3 and 13818-3): frame headers.
