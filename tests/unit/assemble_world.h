/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A backup as ha/backup.c makes it (link, assembler, pending, commit, the disks' log in a file,
 * `commit = disk`) but for its engine and its VM, whose memory is an array; and a primary that
 * writes its frames itself, so that they may be wrong.
 *
 *	frames -> near (TLS or not) -> tap: what lies on the wire, for the test to damage
 *	       -> wire -> the link's bulk connection
 */
#ifndef POLLUX_TESTS_ASSEMBLE_WORLD_H
#define POLLUX_TESTS_ASSEMBLE_WORLD_H

#include "tests/unit/pair.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include "disk-replica/apply.h"
#include "disk-replica/log_file.h"
#include "disk-replica/recover.h"
#include "ha/assemble.h"
#include "ha/check.h"
#include "ha/commit.h"
#include "ha/encode.h"
#include "ha/harden.h"
#include "ha/link.h"
#include "ha/mailbox.h"
#include "ha/pending.h"
#include "ha/platform.h"
#include "tests/unit/disk_files.h"

#define GFNS	    48u
#define HOLE	    40u /* no memory here */
#define PAGE	    PLATFORM_PAGE_BYTES
#define NR_DISKS    2u
#define DISK_BYTES  (UINT64_C(256) << 10)
#define PIECE	    (UINT64_C(64) << 10)
#define STATE_BYTES 5000u
#define SESSION	    UINT64_C(0x5e55)
#define GENERATION  UINT64_C(7)
#define COMMITTED   UINT64_C(3) /* epochs, when a test begins */

struct guest {
	uint8_t memory[GFNS][PAGE];
	uint8_t disk[NR_DISKS][DISK_BYTES];
	uint8_t state[STATE_BYTES];
};

/* What an epoch is sent as. From the second one on the messages have these places. */
enum { AT_WRITE, AT_WRITE2, AT_ZEROES, AT_FLUSH, AT_PAGES, AT_PAGES2, AT_STATE, AT_STATE2 };
enum { AT_HASH = AT_STATE2 + 1, AT_END };
struct plan {
	uint64_t epoch;
	unsigned int nr;
	struct message m[32];
	uint64_t pages, disk_ops;
};

struct packet {
	uint8_t *bytes;
	size_t len;
};

static struct {
	const char *name; /* of what is done to it */
	char dir[64];
	struct disk_info disks[NR_DISKS];
	struct reason why;
	uint64_t random;
	uint8_t arena[8 << 20]; /* what plans and packets point to */
	size_t arena_used;

	/* The primary. `was`: at the end of the last epoch that is committed. */
	struct guest guest, was;
	struct platform vm;
	struct encoder *encoder;
	struct plan *plan; /* of the epoch that is being encoded */
	struct plan plans[COMMITTED + 1];
	struct packet sent[COMMITTED + 1][32]; /* of each, as it lay on the wire */
	struct frame_stream out, heart_out;
	struct tls_conn *near;
	int tap, wire, heart;

	/* The backup. */
	struct guest there; /* but for the disks, which are files */
	struct platform standby;
	struct pending *pending;
	struct disk_log *log;
	struct apply *apply;
	struct harden *harden;
	struct check *check;
	struct commit *commit;
	struct assembler *assembler;
	struct mailbox *mailbox;
	struct link *link;
} world;

static inline uint32_t world_random(uint32_t below)
{
	world.random = world.random * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(world.random >> 33) % below;
}

static inline void *world_room(size_t len)
{
	void *at = world.arena + world.arena_used;

	assert_true(len <= sizeof(world.arena) - world.arena_used);
	world.arena_used += len;
	return at;
}

static inline void *world_noise(void *ret, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((uint8_t *)ret)[i] = (uint8_t)world_random(256);
	return ret;
}

/* --- the guest, and its epochs as messages ---------------------------------------------- */

static inline const void *world_page(struct platform *p, uint64_t gfn)
{
	struct guest *g = p->priv;

	return gfn < GFNS && gfn != HOLE ? g->memory[gfn] : NULL;
}

static const struct platform_ops world_ops = { .name = "test", .page = world_page };

static inline struct message *plan_add(struct plan *p, enum proto_type type, const void *tail,
				       size_t len)
{
	struct message *m = &p->m[p->nr++];

	assert_true(p->nr <= ARRAY_SIZE(p->m));
	*m = (struct message){ .type = type, .epoch = p->epoch, .tail_len = (uint32_t)len };
	if (len)
		m->tail = memcpy(world_room(len), tail, len);
	p->disk_ops += type >= PROTO_DISK_DATA && type <= PROTO_DISK_ZEROES;
	return m;
}

static inline void plan_disk(struct plan *p, enum proto_type type, uint16_t disk, uint64_t offset,
			     uint64_t len)
{
	uint8_t *at = world.guest.disk[disk] + offset;
	bool carries = type == PROTO_DISK_WRITE || type == PROTO_DISK_DATA;

	if (carries)
		world_noise(at, len);
	else
		memset(at, 0, len);
	plan_add(p, type, at, carries ? len : 0)->disk =
		(struct proto_disk){ .disk = disk, .offset = offset, .length = len };
}

static inline int plan_payload(void *opaque, const void *payload, uint32_t len,
			       unsigned int records)
{
	(void)opaque;
	plan_add(world.plan, PROTO_PAGES, payload, len);
	world.plan->pages += records;
	return 0;
}

static inline void plan_page(uint64_t gfn)
{
	assert_int_equal(encode_page(world.encoder, gfn, world.guest.memory[gfn]), 0);
}

/* Every page and both disks. */
static inline void plan_copy(struct plan *p)
{
	for (uint16_t disk = 0; disk < NR_DISKS; disk++)
		for (uint64_t at = 0; at < DISK_BYTES; at += PIECE)
			plan_disk(p, PROTO_DISK_DATA, disk, at, PIECE);
	plan_disk(p, PROTO_DISK_WRITE, 0, 1000, 512);
	for (uint64_t gfn = 0; gfn < GFNS; gfn++) {
		if (gfn == HOLE)
			continue;
		if (gfn % 5)
			world_noise(world.guest.memory[gfn], PAGE);
		plan_page(gfn);
		if (gfn % 8 == 7)
			assert_int_equal(encode_flush(world.encoder), 0);
	}
	assert_int_equal(encode_flush(world.encoder), 0);
}

/* Two frames of pages: a new one, one that becomes zero, and deltas. */
static inline void plan_changes(struct plan *p)
{
	uint32_t at = world_random(8) * 4096;

	plan_disk(p, PROTO_DISK_WRITE, 0, at, 4096);
	plan_disk(p, PROTO_DISK_WRITE, 1, at + 100, 3000);
	plan_disk(p, PROTO_DISK_ZEROES, 0, at + 1024, 512);
	plan_disk(p, PROTO_DISK_FLUSH, 0, 0, 0);
	for (unsigned int i = 0; i < 2; i++) {
		uint64_t first = i * 20 + world_random(4) * 4;

		world_noise(world.guest.memory[first], PAGE);
		memset(world.guest.memory[first + 1], 0, PAGE);
		world_noise(world.guest.memory[first + 2] + 700, 100);
		world_noise(world.guest.memory[first + 3] + 90, 10);
		for (uint64_t gfn = first; gfn < first + 4; gfn++)
			plan_page(gfn);
		assert_int_equal(encode_flush(world.encoder), 0);
	}
}

/* The guest goes on for an epoch. Its messages come in the order of ha/send.c. */
static inline void plan_epoch(struct plan *p, uint64_t epoch)
{
	*p = (struct plan){ .epoch = epoch };
	world.plan = p;
	if (epoch == 1)
		plan_copy(p);
	else
		plan_changes(p);
	world_noise(world.guest.state, STATE_BYTES);
	for (uint32_t at = 0; at < STATE_BYTES; at += STATE_BYTES / 2)
		plan_add(p, PROTO_STATE, world.guest.state + at, STATE_BYTES / 2)->state =
			(struct proto_state){ .offset = at, .total = STATE_BYTES };
	plan_add(p, PROTO_HASH, NULL, 0)->hash =
		(struct proto_hash){ .epoch = epoch, .hash = platform_hash(&world.vm, NULL) };
	plan_add(p, PROTO_EPOCH_END, NULL, 0)->end = (struct proto_epoch_end){
		.pages = p->pages, .disk_ops = p->disk_ops, .state_bytes = STATE_BYTES
	};
	assert_true(epoch == 1 || p->nr == AT_END + 1);
}

/* --- frames ----------------------------------------------------------------------------- */

static inline struct packet frame_of(struct frame_stream *s, const struct frame *like,
				     const struct frame_body *body)
{
	struct packet p = { .len = PROTO_HEADER_BYTES + body->head_len + body->tail_len };
	struct frame f = *like;

	p.bytes = world_room(p.len);
	f.generation = f.generation ? f.generation : GENERATION;
	assert_int_equal(frame_encode(s, &f, body, p.bytes, &(struct refusal){ 0 }), 0);
	if (body->head_len)
		memcpy(p.bytes + PROTO_HEADER_BYTES, body->head, body->head_len);
	if (body->tail_len)
		memcpy(p.bytes + PROTO_HEADER_BYTES + body->head_len, body->tail, body->tail_len);
	return p;
}

/* EPOCH_END has the digest of what went before it, unless it has another already. */
static inline struct packet message_frame(struct frame_stream *s, const struct message *m)
{
	struct frame f = { .type = m->type, .generation = m->generation, .epoch = m->epoch };
	struct frame_digest d = frame_stream_digest(s, m->epoch);
	uint8_t head[MESSAGE_HEAD_MAX];
	struct message copy = *m;
	struct frame_body body;

	if (m->type == PROTO_EPOCH_END && !m->end.frames) {
		copy.end.frames = d.frames;
		copy.end.digest = d.value;
	}
	assert_int_equal(message_encode(&copy, head, &body, NULL), 0);
	return frame_of(s, &f, &body);
}

/* As the bytes lie on the wire. */
static inline struct packet tapped(struct packet frame)
{
	struct packet p = { .bytes = world.arena + world.arena_used };
	ssize_t n;

	assert_int_equal(tls_write(world.near, frame.bytes, frame.len, SOON, NULL), 0);
	while ((n = recv(world.tap, p.bytes + p.len, sizeof(world.arena) - world.arena_used - p.len,
			 MSG_DONTWAIT)) > 0)
		p.len += (size_t)n;
	world_room(p.len);
	return p;
}

static inline void wire_send(struct packet p)
{
	while (p.len) {
		struct pollfd room = { .fd = world.wire, .events = POLLOUT };
		ssize_t n = send(world.wire, p.bytes, p.len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && poll(&room, 1, 10000) != 1)
			fail_msg("%s: the link does not read", world.name);
		p.bytes += MAX(n, 0);
		p.len -= (size_t)MAX(n, 0);
	}
}

static inline void say(const struct message *m)
{
	wire_send(tapped(message_frame(&world.out, m)));
}

static inline void say_plan(const struct plan *p, unsigned int from, unsigned int to)
{
	for (unsigned int i = from; i < to; i++)
		say(&p->m[i]);
}

static inline void say_raw(enum proto_type type, const void *payload, uint32_t len)
{
	const struct frame f = { .type = type, .epoch = COMMITTED + 1 };
	const struct frame_body body = { .tail = payload, .tail_len = len };

	wire_send(tapped(frame_of(&world.out, &f, &body)));
}

/* --- the backup ------------------------------------------------------------------------- */

static inline struct letter await(void)
{
	struct pollfd p = { .fd = mailbox_fd(world.mailbox), .events = POLLIN };
	struct letter l;

	while (!mailbox_take(world.mailbox, &l))
		if (poll(&p, 1, 10000) != 1)
			fail_msg("%s: nothing is heard of the link", world.name);
	return l;
}

/* The epoch arrives whole, is sealed as the role does it, and committed; the oracle agrees. */
static inline void await_commit(uint64_t epoch)
{
	struct letter l = await();

	if (l.kind != LETTER_EPOCH_WHOLE)
		fail_msg("epoch %llu: letter %d, %s", (unsigned long long)epoch, l.kind,
			 l.why.text);
	assert_int_equal(l.epoch, epoch);
	assert_true(pending_seal(world.pending, epoch));
	l = await();
	assert_int_equal(l.kind, LETTER_COMMITTED);
	assert_int_equal(l.epoch, epoch);
	assert_true(l.active);
	assert_int_equal(l.value, 0);
	world.was = world.guest;
}

static inline void world_disks_open(void)
{
	struct log_file_info info = { .generation = GENERATION,
				      .limit = DISK_LOG_MIN,
				      .nr_disks = NR_DISKS,
				      .bytes = { DISK_BYTES, DISK_BYTES } };
	struct apply_config config = { .disks = world.disks,
				       .nr_disks = NR_DISKS,
				       .state_dir = world.dir,
				       .generation = GENERATION };
	struct harden_config harden = { .mailbox = world.mailbox };
	struct log_file *file;

	disk_files_make(world.dir, info.bytes, NR_DISKS, world.disks);
	assert_int_equal(log_file_create(world.dir, &info, &file, &world.why), 0);
	assert_int_equal(disk_log_open(info.limit, file, &world.log, &world.why), 0);
	config.log_key = disk_log_key(world.log);
	assert_int_equal(apply_open(&config, &world.apply, &world.why), 0);
	harden.log = world.log;
	harden.apply = world.apply;
	assert_int_equal(harden_open(&harden, &world.harden), 0);
}

static inline void *world_accept(void *arg)
{
	struct tls_open_options o = { .side = TLS_SERVER, .deadline_ns = SOON, .interrupt_fd = -1 };
	struct ends *e = arg;

	e->far_r = transport_accept(&e->far, e->server->ctx, e->listener, &o, &e->far_why);
	return NULL;
}

/* After the handshake the near end's descriptor is another one, which is read by the test. */
static inline struct transport *world_connect(bool encrypted)
{
	struct tls_open_options o = { .peer_name = "beta",
				      .deadline_ns = SOON,
				      .interrupt_fd = -1 };
	struct ends e = { .server = encrypted ? &beta : &bare };
	pthread_t t;
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	e.listener = fd[1];
	assert_int_equal(pthread_create(&t, NULL, world_accept, &e), 0);
	assert_int_equal(tls_open(&world.near, encrypted ? alpha.ctx : bare.ctx, fd[0], &o, NULL),
			 0);
	pthread_join(t, NULL);
	assert_int_equal(e.far_r, 0);
	world.wire = dup(fd[0]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	world.tap = fd[0];
	assert_true(dup2(fd[1], tls_fd(world.near)) >= 0);
	close(fd[1]);
	return e.far;
}

static inline void world_link(bool encrypted)
{
	struct assemble_config assemble = { .platform = &world.standby,
					    .pending = world.pending,
					    .log = world.log,
					    .apply = world.apply,
					    .harden = world.harden,
					    .disks = world.disks,
					    .nr_disks = NR_DISKS,
					    .mailbox = world.mailbox,
					    .session = 1,
					    .generation = GENERATION,
					    .delta = true,
					    .codecs = 1u << CODEC_NONE | 1u << CODEC_LZ4 };
	struct link_config link = { .mailbox = world.mailbox,
				    .session = 1,
				    .generation = GENERATION,
				    .sink = assemble_frame };
	struct ends heart = { .server = &bare };
	int fd[2];

	link.bulk = world_connect(encrypted);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	heart.listener = fd[1];
	world.heart = fd[0];
	world_accept(&heart);
	link.heart = heart.far;
	transport_set_session(link.bulk, SESSION);
	transport_set_session(link.heart, SESSION);
	transport_expect_generation(link.bulk, GENERATION);
	transport_expect_generation(link.heart, GENERATION);
	transport_start_epochs(link.bulk, 1);
	assert_int_equal(assemble_open(&assemble, &world.assembler), 0);
	link.opaque = world.assembler;
	assert_int_equal(link_open(&link, &world.link), 0);
}

static inline void world_streams(void)
{
	struct encode_options o = {
		.codec = CODEC_LZ4, .delta = true, .cache_bytes = 1 << 20, .emit = plan_payload
	};

	assert_int_equal(encode_open(&world.encoder, &o), 0);
	frame_stream_init(&world.out);
	frame_stream_init(&world.heart_out);
	frame_stream_start(&world.out, 1);
	world.out.seed = world.heart_out.seed = SESSION;
}

/* A pair that has come as far as epoch COMMITTED. */
static inline void world_open(bool encrypted)
{
	struct pending_config pending = { .memory_bytes = 8 << 20, .dir = "/tmp" };
	struct check_config check = { 0 }; /* nothing is asked of it */
	struct commit_config commit = { 0 };

	world.arena_used = 0;
	world.guest = (struct guest){ 0 };
	memset(&world.there, 0xa5, sizeof(world.there));
	world.vm = (struct platform){ .ops = &world_ops, .nr_gfns = GFNS, .priv = &world.guest };
	world.standby =
		(struct platform){ .ops = &world_ops, .nr_gfns = GFNS, .priv = &world.there };
	snprintf(world.dir, sizeof(world.dir), "/dev/shm/test_assemble.XXXXXX");
	assert_non_null(mkdtemp(world.dir));
	assert_int_equal(mailbox_open(&world.mailbox), 0);
	assert_int_equal(pending_open(&pending, &world.pending), 0);
	world_disks_open();
	assert_int_equal(check_open(&check, &world.check), 0);
	commit.check = world.check;
	commit.platform = &world.standby;
	commit.pending = world.pending;
	commit.log = world.log;
	commit.apply = world.apply;
	commit.mailbox = world.mailbox;
	assert_int_equal(commit_open(&commit, &world.commit), 0);
	world_link(encrypted);
	world_streams();
	for (uint64_t epoch = 1; epoch <= COMMITTED; epoch++) {
		struct plan *p = &world.plans[epoch];

		plan_epoch(p, epoch);
		for (unsigned int i = 0; i < p->nr; i++) {
			world.sent[epoch][i] = tapped(message_frame(&world.out, &p->m[i]));
			wire_send(world.sent[epoch][i]);
		}
		await_commit(epoch);
	}
}

/* As backup_drop_link(): nothing touches the standby any more but what is sealed. */
static inline void world_drop_link(void)
{
	pending_drop_unsealed(world.pending);
	link_close(world.link);
	world.link = NULL;
}

static inline void world_close(void)
{
	char command[128];

	pending_drop_all(world.pending);
	link_close(world.link);
	world.link = NULL;
	assemble_close(world.assembler);
	harden_close(world.harden);
	commit_close(world.commit);
	check_close(world.check);
	pending_close(world.pending);
	apply_close(world.apply);
	disk_log_close(world.log);
	mailbox_close(world.mailbox);
	encode_close(world.encoder);
	tls_close(world.near);
	close(world.tap);
	close(world.wire);
	close(world.heart);
	free(world.standby.state);
	snprintf(command, sizeof(command), "rm -r %s", world.dir);
	assert_int_equal(system(command), 0);
}

#endif
