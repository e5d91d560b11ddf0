//! FLV tags, as RTMP carries them, into codec configurations and access units.
