//! Every bound that the kernel side keeps, in one place; what happens at each is said beside it.

/// Bytes of the ring buffer. A full ring loses the record and counts it. 16 MiB would show as 32 MiB of resident memory
/// on 6.12 and later, where the ring is mapped twice.
pub const RING_BYTES: u32 = 2 << 20;

/// Pending bytes at which the kernel side wakes the reader; below, the reader's own slow timer finds the records.
/// Waking it for every record costs twenty times the reader itself.
pub const WAKE_BYTES: u64 = 64 << 10;

/// Payload bytes of the smaller record that a call's first piece may take.
pub const SMALL_PIECE: usize = 256;

/// Payload bytes of a call's first record at most: most heads are shorter.
pub const PIECE: usize = 1024;

/// Payload bytes of a further record of a call that holds all the rest: buffers of 4 KiB are common.
pub const MEDIUM_PIECE: usize = 4 << 10;

/// Payload bytes of each further record of a call, which carry a long head or pipelined messages on.
pub const LARGE_PIECE: usize = 16 << 10;

/// Bytes of one message's head that are copied at most. Past it the head is `truncated`.
pub const HEAD_BYTES: u32 = 64 << 10;

/// Records with payload that one call makes at most after its first: [`HEAD_BYTES`] in one buffer.
pub const PIECES_PER_CALL: u32 = 4;

/// Payload bytes copied after a response's first chunk when that did not end at the end of its head: enough for a head
/// that is written in many small pieces, little of a body.
pub const SOFT_HEAD_BYTES: u32 = 4096;

/// Payload bytes of a record of frames, and what of a call is looked at at once. A power of two less one.
pub const FRAMES_PIECE: usize = 1023;

/// Contents of a stream (DATA of HTTP/2) up to which a frame that goes on behind a piece is copied: a further record costs more.
pub const SHORT_CONTENT: u64 = 256;

/// Bytes copied of a longer frame behind its header: the length of the padding, and how a gRPC message begins.
pub const CONTENT_START: u64 = 16;

/// Pieces of frames that one call makes at most: the kernel lets programs call each other 33 times, and each time makes three.
pub const FRAMES_PIECES: u64 = 93;

/// Pieces of one call before which messages are followed within long contents. Later ones follow frames alone: of those none may
/// be missed.
pub const MESSAGE_PIECES: u64 = 48;

/// Buffers of a vectored call that one piece of frames takes at most.
pub const FRAMES_BUFFERS: u32 = 32;

/// Frames, and messages within them, that one piece takes at most; it ends before the next. Most frames are longer than a piece's
/// share, and each costs the verifier as much as it costs a call.
pub const FRAMES_PER_PIECE: u32 = 48;

/// Looks at buffers that one record of parts of long contents takes at most: each part takes one, and another for each buffer that
/// it begins or ends in.
pub const RUN_ROUNDS: u32 = 32;

/// Payload bytes of a record of chunks (RFC 9112, section 7.1), which may be shorter than any frame.
pub const CHUNKS_PIECE: u64 = 255;

/// Chunks that one such piece takes at most: the smallest has six bytes.
pub const CHUNKS_PER_PIECE: u32 = (CHUNKS_PIECE as u32 + 8).div_ceil(6);

/// Runs of one direction without a response among them (unknown bytes, or what looks like requests that nobody answers)
/// before the connection is left alone for good.
pub const LOOKS: u16 = 64;

/// Calls of a connection of which nothing is known that are looked at wherever in a run they stand.
pub const EAGER_LOOKS: u16 = 16;

/// Buffers of a vectored call that are read for payload. Bytes in later ones count and are not copied.
pub const IOVECS: usize = 64;

/// Buffers of a vectored call that one record takes at most: the lines of a head.
pub const GATHERED: u32 = 32;

/// Messages of one sendmmsg or recvmmsg that `syscalls` looks at by themselves; the last stands for all that follow, as a
/// length. The kernel lets programs call each other 33 times, and a message of a body takes three.
pub const MESSAGES_PER_CALL: u64 = 10;

/// Connections with state in the hash of the `syscalls` family (`lengths` keeps it in socket storage, bounded by the
/// sockets themselves). At the limit the least recently used entry goes; its connection is then joined anew.
pub const CONNECTIONS: u32 = 65_536;

/// Bytes of a unix socket's path, `sun_path` of unix(7).
pub const UNIX_PATH: usize = 108;
