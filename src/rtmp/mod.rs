//! RTMP: bytes in, events and replies out.
