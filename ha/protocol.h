/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What two pollux-ha processes say to each other: every layout, limit, code and
 * timeout of the wire. docs/protocol.md is the specification; it changes with this
 * file. Numbers are little-endian, read and written by base/cursor only.
 *
 * Two connections join the pair: `bulk` (memory, disks, epochs, acknowledgements on
 * its way back) and `heart` (heartbeats alone, so that a resync cannot starve them).
 * The primary dials both.
 *
 * FRAME: a header of 48 bytes and `length` bytes of payload.
 *
 *	 0  u32  magic        PROTO_MAGIC
 *	 4  u16  version      PROTO_VERSION
 *	 6  u16  type         enum proto_type
 *	 8  u32  flags        0 in this version
 *	12  u32  length       of the payload, at most PROTO_PAYLOAD_MAX
 *	16  u64  generation   the sender's
 *	24  u64  epoch        which epoch the frame belongs to; 0 where it belongs to none
 *	32  u64  sequence     1, 2, 3... per connection and direction
 *	40  u64  checksum     XXH3-64, seeded with the session id, over the header (this
 *	                      field zero) and the payload
 */
#ifndef POLLUX_HA_PROTOCOL_H
#define POLLUX_HA_PROTOCOL_H

#include "base/err.h"

#include <stdint.h>

#define PROTO_MAGIC	   UINT32_C(0x50584c50) /* the bytes "PLXP" */
#define PROTO_VERSION	   1u
#define PROTO_VERSION_MIN  1u /* the oldest that this program speaks */
#define PROTO_HEADER_BYTES 48u
#define PROTO_CHECKSUM_AT  40u
#define PROTO_PAYLOAD_MAX  (1u << 20)
#define PROTO_PAGE_BYTES   4096u
#define PROTO_PAGES_HEAD   8u	 /* codec u8, zero u8, count u16, raw_len u32 */
#define PROTO_BATCH_PAGES  256u	 /* records in one PAGES frame */
#define PROTO_DELTA_MAX	   3072u /* a delta that is larger does not pay: send the page */
#define PROTO_NAME_MAX	   64u
#define PROTO_UUID_BYTES   16u
#define PROTO_TEXT_MAX	   1024u       /* text of REFUSE, HANDOVER, BYE */
#define PROTO_STATE_MAX	   (64u << 20) /* state of one epoch, all frames together */
#define PROTO_DISKS_MAX	   8u
#define PROTO_HASH_BYTES   16u	  /* XXH3-128 of a page, seeded with the session id */
#define PROTO_HASHES_MAX   4096u  /* pages in one PAGE_HASHES */
#define PROTO_HASHES_OPEN  8u	  /* PAGE_HASHES that may wait for their PAGES_LACKED */
#define PROTO_CHUNK_BYTES  65536u /* of a disk, in DISK_HASHES */
#define PROTO_CHUNKS_MAX   256u	  /* of them in one */
#define PROTO_EPOCHS_OPEN  8u	  /* epochs that may have frames before EPOCH_END of the first */
#define PROTO_MEMORY_MAX   (UINT64_C(1) << 40)
#define PROTO_REQUEST_MAX  (1u << 20) /* JSON of the exchange that prepares a standby */

#define PROTO_CONNECT_NS  (UINT64_C(5) * 1000000000)  /* TCP connect and TLS handshake */
#define PROTO_HELLO_NS	  (UINT64_C(5) * 1000000000)  /* HELLO to WELCOME or REFUSE */
#define PROTO_SEND_NS	  (UINT64_C(20) * 1000000000) /* one send; the link is dead after it */
#define PROTO_REQUEST_NS  (UINT64_C(30) * 1000000000) /* prepare, standby creation included */
#define PROTO_KEEPALIVE_S 5

/* Direction: P primary to backup, B backup to primary. "data" counts into EPOCH_END. */
enum proto_type {
	PROTO_HELLO = 1,	    /* P  first frame of a connection; session seed 0 */
	PROTO_WELCOME = 2,	    /* B  its answer; session seed 0 */
	PROTO_REFUSE = 3,	    /* B  instead of WELCOME, or at any time; then the end */
	PROTO_PAGES = 16,	    /* P  data */
	PROTO_DISK_DATA = 17,	    /* P  data: initial copy or resync of a region */
	PROTO_DISK_WRITE = 18,	    /* P  data */
	PROTO_DISK_FLUSH = 19,	    /* P  data */
	PROTO_DISK_DISCARD = 20,    /* P  data */
	PROTO_DISK_ZEROES = 21,	    /* P  data */
	PROTO_STATE = 22,	    /* P  data: processors and devices, opaque */
	PROTO_EPOCH_END = 23,	    /* P  the epoch is complete; counts and digest */
	PROTO_ACK = 32,		    /* B  the whole epoch is held in memory (P1) */
	PROTO_DURABLE = 33,	    /* B  on heart: what is on stable storage; a feature */
	PROTO_SETTLED = 34,	    /* P  on heart: what need not be kept of disks on DRBD */
	PROTO_HEARTBEAT = 48,	    /* P  on heart */
	PROTO_HEARTBEAT_REPLY = 49, /* B  on heart */
	PROTO_HANDOVER = 50,	    /* B  the solo right goes to the primary */
	PROTO_BYE = 51,		    /* both  orderly end */
	PROTO_LEAVE = 52,	    /* P  asks for a hand-over: unprotect, or it cannot go on */
	PROTO_YIELD = 53,	    /* P  has stopped its VM for good: take over at once */
	PROTO_YIELD_REQUEST = 54,   /* B  its operator asks for that */
	PROTO_HASH = 64,	    /* P  memory oracle; before EPOCH_END of its epoch */
	PROTO_PAGE_HASHES = 65,	    /* P  what pages hold: in the first round, or to verify */
	PROTO_PAGES_LACKED = 66,    /* B  its answer: in which of them the backup's differ */
	PROTO_DISK_HASHES = 67,	    /* P  what chunks of a disk hold: to verify */
	PROTO_DISK_DIFFERS = 68,    /* B  its answer */
};

enum proto_kind {
	PROTO_KIND_BULK = 1,
	PROTO_KIND_HEART = 2,
};

/* HELLO.features, WELCOME.features: offered, and chosen out of the offer. */
#define PROTO_FEATURE_DELTA   UINT64_C(1)  /* delta records in PAGES */
#define PROTO_FEATURE_KEPT    UINT64_C(2)  /* the standby has memory of this VM: PAGE_HASHES */
#define PROTO_FEATURE_ZEROED  UINT64_C(4)  /* the standby's memory is zeroes */
#define PROTO_FEATURE_DURABLE UINT64_C(8)  /* DURABLE is sent */
#define PROTO_FEATURE_VERIFY  UINT64_C(16) /* hashes are compared at the end of an epoch */
#define PROTO_FEATURES_KNOWN                                                                       \
	(PROTO_FEATURE_DELTA | PROTO_FEATURE_KEPT | PROTO_FEATURE_ZEROED | PROTO_FEATURE_DURABLE | \
	 PROTO_FEATURE_VERIFY)

/* HELLO.codecs is a set of bits `1 << codec`; every peer has CODEC_NONE. */

/*
 * HELLO: u16 version_min, u16 version_max, u64 features, u32 codecs, u8 kind,
 * u64 session, u64 memory_bytes, u64 generation, u64 epoch_limit, u32 page_bytes,
 * u16 nr_disks, 16 bytes uuid, u16 length and that many bytes of VM name.
 */
struct proto_hello {
	uint16_t version_min;
	uint16_t version_max;
	uint64_t features;
	uint32_t codecs;
	uint8_t kind;	  /* enum proto_kind */
	uint64_t session; /* random, the same on both connections; not 0 */
	uint64_t memory_bytes;
	uint64_t generation;  /* the one the primary runs by */
	uint64_t epoch_limit; /* bytes of one epoch the primary may send */
	uint32_t page_bytes;
	uint16_t nr_disks;
	uint8_t uuid[PROTO_UUID_BYTES];
	char vm[PROTO_NAME_MAX + 1];
};

/* WELCOME: u16 version, u64 features, u8 codec, u64 session, u64 generation, u64 epoch_limit. */
struct proto_welcome {
	uint16_t version;
	uint64_t features;
	uint8_t codec;
	uint64_t session;     /* HELLO's, sent back */
	uint64_t generation;  /* the one both go on with */
	uint64_t epoch_limit; /* what the backup can hold; not above HELLO's */
};

/* REFUSE: u16 code, u64 generation; the rest is UTF-8 text. */
struct proto_refuse {
	uint16_t code;	     /* enum proto_code */
	uint64_t generation; /* the backup's: why a primary must stop for good */
};

/* DISK_DATA, DISK_WRITE, DISK_FLUSH, DISK_DISCARD, DISK_ZEROES: u16 disk, u64 offset,
 * u64 length; then exactly `length` bytes for DATA and WRITE, none for the others.
 * FLUSH has offset and length 0. */
struct proto_disk {
	uint16_t disk;
	uint64_t offset;
	uint64_t length;
};

/* STATE: u32 offset, u32 total; the rest is that part of the state. In order, no gaps. */
struct proto_state {
	uint32_t offset;
	uint32_t total;
};

/* EPOCH_END: u64 frames, u64 digest, u64 pages, u64 disk_ops, u64 state_bytes, u64 sent_ns. */
struct proto_epoch_end {
	uint64_t frames;      /* data frames of the epoch; filled by transport_send() */
	uint64_t digest;      /* frame.h, frame_digest; filled by transport_send() */
	uint64_t pages;	      /* records in all PAGES frames */
	uint64_t disk_ops;    /* DISK_WRITE, FLUSH, DISCARD, ZEROES and DATA frames */
	uint64_t state_bytes; /* 0: an epoch that carries no state cannot be committed */
	uint64_t sent_ns;     /* sender's clock, echoed by nobody: for traces */
};

/* ACK: u64 epoch, u64 digest (EPOCH_END's, so that an acknowledgement names content). */
struct proto_ack {
	uint64_t epoch;
	uint64_t digest;
};

/* DURABLE: u64 epoch, u64 disk_ops. Neither ever goes down. */
struct proto_durable {
	uint64_t epoch;	   /* every disk change up to its end is on stable storage; 0: none */
	uint64_t disk_ops; /* so many disk frames of the first epoch are, in the order of sending */
};

/* SETTLED: u64 epoch: every change up to its end of a disk on DRBD is on stable storage there. */
struct proto_settled {
	uint64_t epoch;
};

#define PROTO_NO_EPOCH UINT64_MAX /* "none yet" where an epoch is reported */

/* HEARTBEAT: u64 sent_ns, u64 committed_epoch, u64 age_ns, u8 active. */
struct proto_heartbeat {
	uint64_t sent_ns;	  /* sender's clock; only the sender reads it */
	uint64_t committed_epoch; /* last the primary saw acknowledged */
	uint64_t age_ns;
	uint8_t active; /* 1: the sender holds the solo right; 0: it does not */
};

/* HEARTBEAT_REPLY: u64 echo_ns, u64 committed_epoch, u64 age_ns, u8 active. The age is
 * measured on the backup: the evidence behind the word `protected` (P5). */
struct proto_heartbeat_reply {
	uint64_t echo_ns;
	uint64_t committed_epoch;
	uint64_t age_ns;
	uint8_t active; /* 1: the sender runs the VM; 0: it stands by */
};

/* HANDOVER: u16 code, u64 generation (raised, in the primary's favour); then text. */
struct proto_handover {
	uint16_t code;
	uint64_t generation;
};

/* BYE, LEAVE, YIELD_REQUEST: u16 code; then text. */
struct proto_bye {
	uint16_t code;
};

/* YIELD: u16 code, u64 acked_ns, u64 still_ns; then text. Two spans of the sender's clock, 0 when
 * the guest was not stopped for a switchover: what they bound is in docs/protocol.md. */
struct proto_yield {
	uint16_t code;
	uint64_t acked_ns; /* told to stop, until the acknowledgement of its last epoch was read */
	uint64_t still_ns; /* stood still, until this is sent */
};

#define PROTO_YIELD_NS_MAX (UINT64_C(600) * 1000000000)

/* HASH: u64 epoch, u64 hash: XXH3-64, seed 0, of all guest memory at the end of that epoch, in
 * the order of guest frame numbers. The backup compares it with its own once it has committed. */
struct proto_hash {
	uint64_t epoch;
	uint64_t hash;
};

/*
 * PAGE_HASHES: u64 gfn, u32 count (1 to PROTO_HASHES_MAX), then `count` hashes of
 * PROTO_HASH_BYTES, of the pages from gfn on: low half, high half, u64 each.
 * PAGES_LACKED: the same gfn and count, then (count + 7) / 8 bytes: bit i (of byte i / 8, from
 * the lowest) is set if the backup's page gfn + i is another; bits beyond count are 0.
 * Answers come in the order of the questions. Before the first epoch has ended they compare with
 * what the standby was; later, with PROTO_FEATURE_VERIFY, with what it is once the epoch that
 * they are sent in is committed, and one question at a time is open.
 */
struct proto_pages {
	uint64_t gfn;
	uint32_t count;
};

/*
 * DISK_HASHES: u16 disk, u64 offset (whole chunks), u32 count (1 to PROTO_CHUNKS_MAX), then
 * `count` hashes as above, of the chunks of PROTO_CHUNK_BYTES from there on; the last one of a
 * disk may be shorter. DISK_DIFFERS: the same three, then bits as in PAGES_LACKED. With
 * PROTO_FEATURE_VERIFY, and as PAGE_HASHES then.
 */
struct proto_chunks {
	uint16_t disk;
	uint64_t offset;
	uint32_t count;
};

/*
 * PAGES: u8 codec, u8 zero, u16 count, u32 raw_len, then raw_len bytes of records
 * compressed by that codec (the rest of the payload). One record:
 *
 *	u8      kind
 *	varint  gfn    zigzag(gfn - gfn of the record before - 1); before the first: -1
 *	u16     len    0 for ZERO, 4096 for WHOLE, 1 to PROTO_DELTA_MAX for DELTA
 *	len bytes
 */
enum proto_page_kind {
	PROTO_PAGE_ZERO = 0,
	PROTO_PAGE_WHOLE = 1,
	PROTO_PAGE_DELTA = 2, /* against the last record sent for that gfn; see delta.h */
};

/* Why a frame, a connection or a peer was refused. Numbers and names are stable. */
enum proto_code {
	PROTO_OK = 0,
	PROTO_BAD_MAGIC = 1,
	PROTO_BAD_VERSION = 2,
	PROTO_BAD_TYPE = 3,
	PROTO_BAD_FLAGS = 4,
	PROTO_TOO_LARGE = 5,
	PROTO_BAD_CHECKSUM = 6,
	PROTO_BAD_SEQUENCE = 7,
	PROTO_STALE_GENERATION = 8,
	PROTO_NEWER_GENERATION = 9, /* the receiver's own VM must stop (P3) */
	PROTO_BAD_EPOCH = 10,
	PROTO_BAD_DIGEST = 11,
	PROTO_BAD_PAYLOAD = 12,
	PROTO_BAD_PAGES = 13,
	PROTO_BAD_CODEC = 14,
	PROTO_TRUNCATED = 15,
	PROTO_BAD_HELLO = 16,
	PROTO_BAD_SESSION = 17,
	PROTO_UNEXPECTED = 18, /* a frame that this side or this moment does not allow */
	PROTO_EPOCH_TOO_LARGE = 19,
	PROTO_NO_MEMORY = 20,
	PROTO_DISK_FAILED = 21,
	PROTO_VM_UNKNOWN = 22,
	PROTO_VM_BUSY = 23,
	PROTO_IS_ACTIVE = 24, /* the VM already runs here, at a higher generation */
	PROTO_LEAVING = 25,
	PROTO_INTERNAL = 26,
	PROTO_CONNECT_FAILED = 32,
	PROTO_CLOSED = 33,
	PROTO_TIMED_OUT = 34,
	PROTO_INTERRUPTED = 35,
	PROTO_TLS_CONFIG = 48,
	PROTO_TLS_FAILED = 49,
	PROTO_TLS_BAD_CERTIFICATE = 50,
	PROTO_TLS_BAD_NAME = 51,
	PROTO_TLS_NOT_SPOKEN = 52, /* plaintext, or garbage, where TLS was expected */
};

/* A refusal with its stable code. why.text starts with the code's name. */
struct refusal {
	enum proto_code code;
	struct reason why;
};

/* "BAD_CHECKSUM" and so on; "UNKNOWN" for a number that is none. */
const char *proto_code_name(unsigned code);
const char *proto_type_name(unsigned type);
/* Fills `why` (may be NULL) and returns the negative errno that goes with the code. */
__attribute__((format(printf, 3, 4))) int refusal_set(struct refusal *why, enum proto_code code,
						      const char *fmt, ...);

#endif
