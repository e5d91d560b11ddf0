//! What one RTMP peer may make us hold or do, each number with its reason.
//!
//! They bound memory and work per connection. How many connections there may be, and how long each may take, is the
//! listener's business, since it has the clock.
//!
//! Together they bound the memory of a connection, whatever it sends:
//!
//! | state | bytes | made of |
//! |---|---|---|
//! | not publishing | 1.5 MiB | 8 messages of 64 KiB in assembly, one read and one chunk, replies |
//! | publishing | 48 MiB | 16 MiB in assembly, in buffers that grow by doubling; a chunk of 4 MiB that has not come whole, likewise |
//!
//! Reading AMF0 takes up to 100 times the bytes of its message more, but only for a moment, so once for each worker thread. What a
//! stream keeps for its viewers is bounded apart from this, by `--retain` and `--retain-bytes`.

/// Chunk streams per connection. Encoders use three to six; the state of one is about 60 bytes.
pub const MAX_CHUNK_STREAMS: usize = 64;

/// Messages in assembly at once. Legal interleaving needs one per audio, video, data and command stream.
pub const MAX_OPEN_MESSAGES: usize = 8;

/// Bytes of one audio, video or aggregate message. A 4K key frame at 100 Mb/s with a one second GOP stays below it. Of one data message too:
/// the metadata of a long file has the place of each key frame, and a publisher that sends them along means no harm. They are not read then.
pub const MAX_MEDIA_MESSAGE: usize = 4 << 20;

/// Audio and video tags in one aggregate message. Senders put a second of media into one at the most; the rest is left out.
pub const MAX_AGGREGATE_TAGS: usize = 1024;

/// Bytes of one message of any other kind, of media and data while nothing is being published, and of AMF0 that is read. A `connect` is below 2 KiB, metadata seldom over 4 KiB.
pub const MAX_OTHER_MESSAGE: usize = 64 << 10;

/// Bytes in messages that are not complete yet, per connection: four of the longest.
pub const MAX_OPEN_BYTES: usize = 16 << 20;

/// Memory taken ahead of the bytes that have arrived, when a message's assembly begins. What a peer merely announces is
/// never reserved.
pub const ASSEMBLY_STEP: usize = 64 << 10;

/// Objects and arrays inside one another in AMF0. Real metadata needs three; the decoder recurses once per level.
pub const MAX_AMF_DEPTH: usize = 16;

/// Characters of the application's name, and of the stream's, each. `%`-escapes and all still fit a URL path of 2 KiB.
pub const MAX_NAME: usize = 255;

/// Characters of the query given with a name. Signed tokens live here; FFmpeg cuts its URL at 1024.
pub const MAX_QUERY: usize = 4096;

/// Message streams (`createStream`) one connection may hold at once. A publisher needs one.
pub const MAX_MESSAGE_STREAMS: u32 = 16;

/// Messages in a row that are not media of a running publish. A publisher needs about ten before its first picture; what
/// sends hundreds is broken or means harm.
pub const MAX_MESSAGES_WITHOUT_MEDIA: u32 = 1000;

/// Bytes of replies waiting to be sent. One read's worth of honest commands is answered in a few hundred.
pub const MAX_PENDING_OUTPUT: usize = 64 << 10;
