/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that is one program: a counter in memory, on two disks with a file system each,
 * and in the replies it sends. Run as /init; counters.h says how it is talked to.
 *
 * Number N+1 is counted only after N was found in memory and read back from each disk
 * (O_DIRECT: past the guest's page cache), and is answered only after both disks have it on
 * stable storage. So memory and disks that are not of the same instant are noticed at the
 * next number at the latest, by the guest itself, before it writes over the evidence.
 *
 * Files come and go beside the counters, without a sync: there is always a transaction of
 * the file systems' journals on its way. With the parameter vectors=1 the program /vectors
 * (vectors.c) runs beside it.
 *
 * One thread; one connection at a time.
 */
#include "tests/guest/counters.h"
#include "tests/guest/machine.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define PLACES	    (1 + COUNTERS_DISKS) /* 0: memory */
#define ADDRESS	    "192.168.77.101"
#define CHURN_EVERY 8u
#define CHURN_FILES 16u
#define SCAN_BLOCKS 16u
#define LINE_MAX_   64

struct counters {
	uint64_t n;
	uint64_t replied;
	uint64_t *memory; /* COUNTERS_SLOTS blocks */
	int ring[PLACES]; /* of each disk; [0] is not used */
	uint64_t *block;  /* SCAN_BLOCKS blocks, aligned for O_DIRECT */
	char broken[200]; /* what did not agree; never cleared */
};

static const char *const PLACE_NAME[PLACES] = { "memory", "disk1", "disk2" };
/* On Xen their names differ; the parameter xvd=1 says so. */
static const char *DEVICE[PLACES] = { NULL, "/dev/vda", "/dev/vdb" };
static const char *const XEN_DEVICE[PLACES] = { NULL, "/dev/xvda", "/dev/xvdb" };
static const char *const FOLDER[PLACES] = { NULL, "/disk1", "/disk2" };

__attribute__((format(printf, 2, 3))) static int breaks(struct counters *c, const char *fmt, ...)
{
	va_list ap;

	if (!c->broken[0]) {
		va_start(ap, fmt);
		vsnprintf(c->broken, sizeof(c->broken), fmt, ap);
		va_end(ap);
		printf("counters: broken %s\n", c->broken);
	}
	return -1;
}

static uint64_t *memory_at(const struct counters *c, uint64_t slot)
{
	return c->memory + slot * COUNTERS_WORDS;
}

/* Reads `count` slots of a place into c->block. */
static int read_slots(struct counters *c, int place, uint64_t slot, uint64_t count)
{
	size_t len = count * COUNTERS_BLOCK;
	ssize_t r;

	if (place == 0) {
		memcpy(c->block, memory_at(c, slot), len);
		return 0;
	}
	r = pread(c->ring[place], c->block, len, (off_t)(slot * COUNTERS_BLOCK));
	if (r == (ssize_t)len)
		return 0;
	return breaks(c, "%s: read of slot %" PRIu64 ": %s", PLACE_NAME[place], slot,
		      r < 0 ? strerror(errno) : "short");
}

static int check_block(struct counters *c, int place, uint64_t slot, const uint64_t *block)
{
	uint64_t expected = counters_expected(c->n, slot);

	if (block[0] == expected && counters_whole(block, (uint64_t)place))
		return 0;
	return breaks(c,
		      "%s: slot %" PRIu64 " has %" PRIu64 " (first), %" PRIu64
		      " (last), not %" PRIu64 "; memory=%" PRIu64 " reply=%" PRIu64,
		      PLACE_NAME[place], slot, block[0], block[COUNTERS_WORDS - 1], expected, c->n,
		      c->replied);
}

static int check_last(struct counters *c)
{
	uint64_t slot = c->n % COUNTERS_SLOTS;

	for (int place = 0; place < PLACES; place++)
		if (read_slots(c, place, slot, 1) < 0 || check_block(c, place, slot, c->block) < 0)
			return -1;
	return 0;
}

static int check_all(struct counters *c)
{
	for (int place = 0; place < PLACES; place++)
		for (uint64_t slot = 0; slot < COUNTERS_SLOTS; slot += SCAN_BLOCKS) {
			if (read_slots(c, place, slot, SCAN_BLOCKS) < 0)
				return -1;
			for (uint64_t i = 0; i < SCAN_BLOCKS; i++)
				if (check_block(c, place, slot + i, c->block + i * COUNTERS_WORDS) <
				    0)
					return -1;
		}
	return 0;
}

static int write_disk(struct counters *c, int place, uint64_t n)
{
	off_t at = (off_t)(n % COUNTERS_SLOTS * COUNTERS_BLOCK);

	counters_fill(c->block, n, (uint64_t)place);
	if (pwrite(c->ring[place], c->block, COUNTERS_BLOCK, at) != COUNTERS_BLOCK ||
	    fdatasync(c->ring[place]) < 0)
		return breaks(c, "%s: write of %" PRIu64 ": %s", PLACE_NAME[place], n,
			      strerror(errno));
	return 0;
}

/* A file of some blocks takes the place of one that was there. */
static int churn(struct counters *c, int place, uint64_t n)
{
	char part[64], path[64];
	size_t len = (n / CHURN_EVERY % 7 + 1) * 1000;
	int fd;

	snprintf(part, sizeof(part), "%s/files/part", FOLDER[place]);
	snprintf(path, sizeof(path), "%s/files/%" PRIu64, FOLDER[place],
		 n / CHURN_EVERY % CHURN_FILES);
	fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, c->memory, len) != (ssize_t)len || close(fd) < 0 ||
	    rename(part, path) < 0)
		return breaks(c, "%s: file %s: %s", PLACE_NAME[place], path, strerror(errno));
	return 0;
}

static int count(struct counters *c, uint64_t n)
{
	if (n != c->n + 1)
		return breaks(c, "asked for %" PRIu64 " after %" PRIu64, n, c->n);
	if (check_last(c) < 0)
		return -1;
	counters_fill(memory_at(c, n % COUNTERS_SLOTS), n, 0);
	for (int place = 1; place < PLACES; place++) {
		if (write_disk(c, place, n) < 0)
			return -1;
		if (n % CHURN_EVERY == 0 && churn(c, place, n) < 0)
			return -1;
	}
	c->n = n;
	c->replied = n;
	return 0;
}

/* Answers one line; the answer ends with a newline. */
static void answer(struct counters *c, const char *line, char *ret, size_t size)
{
	uint64_t found[PLACES];

	if (line[0] != '?') {
		if (!c->broken[0] && count(c, strtoull(line, NULL, 10)) == 0)
			snprintf(ret, size, "%" PRIu64 "\n", c->n);
	} else if (!c->broken[0] && check_all(c) == 0) {
		for (int place = 0; place < PLACES; place++) {
			if (read_slots(c, place, c->n % COUNTERS_SLOTS, 1) < 0)
				break;
			found[place] = c->block[0];
		}
		snprintf(ret, size,
			 "values memory=%" PRIu64 " disk1=%" PRIu64 " disk2=%" PRIu64
			 " reply=%" PRIu64 "\n",
			 found[0], found[1], found[2], c->replied);
	}
	if (c->broken[0])
		snprintf(ret, size, "broken %s\n", c->broken);
}

static void serve(struct counters *c, int fd)
{
	char in[LINE_MAX_ * 64], out[LINE_MAX_ * 4];
	size_t len = 0;
	ssize_t n;

	while ((n = read(fd, in + len, sizeof(in) - 1 - len)) > 0) {
		char *at = in, *end;

		len += (size_t)n;
		while ((end = memchr(at, '\n', len))) {
			*end = '\0';
			answer(c, at, out, sizeof(out));
			if (write(fd, out, strlen(out)) < 0)
				return;
			len -= (size_t)(end + 1 - at);
			at = end + 1;
		}
		memmove(in, at, len);
		if (len == sizeof(in) - 1)
			return;
	}
}

static int open_ring(struct counters *c, int place)
{
	char path[64];
	int fd = machine_open(DEVICE[place], O_RDONLY);

	if (fd >= 0)
		close(fd);
	mkdir(FOLDER[place], 0700);
	if (mount(DEVICE[place], FOLDER[place], "ext4", MS_NOATIME, "commit=1") < 0)
		return breaks(c, "%s: mount: %s", DEVICE[place], strerror(errno));
	snprintf(path, sizeof(path), "%s/files", FOLDER[place]);
	mkdir(path, 0700);
	snprintf(path, sizeof(path), "%s/ring", FOLDER[place]);
	c->ring[place] = open(path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0600);
	if (c->ring[place] < 0 || posix_fallocate(c->ring[place], 0, COUNTERS_RING_SIZE) != 0 ||
	    fsync(c->ring[place]) < 0)
		return breaks(c, "%s: %s", path, strerror(errno));
	return 0;
}

static int listen_here(struct counters *c)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(COUNTERS_PORT) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (machine_address(ADDRESS) < 0)
		return breaks(c, "eth0: %s", strerror(errno));
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 4) < 0)
		return breaks(c, "port %u: %s", COUNTERS_PORT, strerror(errno));
	return fd;
}

static void start_vectors(struct counters *c)
{
	pid_t child = machine_parameter("vectors", 0) ? fork() : 1;

	if (child < 0)
		breaks(c, "vectors: %s", strerror(errno));
	if (child)
		return;
	execl("/vectors", "/vectors", NULL);
	printf("counters: /vectors: %s\n", strerror(errno));
	_exit(1);
}

int main(void)
{
	static struct counters c;
	int listener, one = 1;

	machine_begin("counters");
	if (machine_parameter("xvd", 0))
		memcpy(DEVICE, XEN_DEVICE, sizeof(DEVICE));
	c.memory = mmap(NULL, COUNTERS_RING_SIZE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	c.block = aligned_alloc(COUNTERS_BLOCK, SCAN_BLOCKS * COUNTERS_BLOCK);
	if (c.memory == MAP_FAILED || !c.block)
		breaks(&c, "no memory");
	for (int place = 1; place < PLACES; place++)
		open_ring(&c, place);
	sync();
	listener = listen_here(&c);
	start_vectors(&c);
	printf("counters: ready\n");
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0) {
			sleep(1);
			continue;
		}
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		serve(&c, fd);
		close(fd);
	}
}
