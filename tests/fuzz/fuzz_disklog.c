/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes what recovery finds on the backup's disk: a file of any content, and a ring of
 * records that are right but for what the input says. What the scan accepts must lie within
 * its ring, be in order, and fit the disks, whatever the bytes.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#include "base/cursor.h"
#include "disk-replica/log.h"
#include "disk-replica/log_file.h"
#include "disk-replica/recover.h"
#include "disk-replica/recover_read.h"

#define DISK_BYTES 65536u

static char dir[] = "/dev/shm/fuzz_disklog.XXXXXX";
static int file_fd, ring_fd;
static struct log_reader at;
static struct disk_info disks[DISK_MAX];

/* All that recovery would apply, once more and one by one. */
static void check(const struct log_file *f, const struct log_scan *s)
{
	uint64_t epoch = f->tail.epoch, changes = 0;
	struct disk_record r;

	if (s->end < f->tail.position || s->broken < s->end ||
	    s->broken > f->tail.position + f->info.limit)
		abort();
	for (uint64_t pos = f->tail.position; pos < s->end; pos += at.record.size) {
		if (recover_read(f, pos, &at) || at.record.epoch != epoch + 1)
			abort();
		epoch += at.record.kind == LOG_SEAL;
		if (!log_record_is_change(&at.record))
			continue;
		r = recover_change(&at);
		if (disk_record_check(&r, disks, f->info.nr_disks, NULL))
			abort();
		changes++;
	}
	if (epoch != s->epoch || s->epochs != epoch - f->tail.epoch || changes != s->changes)
		abort();
}

static void scan(const struct log_file *f)
{
	struct log_scan s;
	struct reason why;

	for (unsigned int i = 0; i < f->info.nr_disks; i++)
		disks[i].bytes = MIN(f->info.bytes[i], (uint64_t)DISK_BYTES);
	if (!recover_scan(f, disks, &s, &why))
		check(f, &s);
}

static void fuzz_file(const uint8_t *data, size_t len)
{
	struct log_file *f;

	if (ftruncate(file_fd, 0) || pwrite(file_fd, data, len, 0) != (ssize_t)len ||
	    ftruncate(file_fd, (off_t)(LOG_FILE_DATA + DISK_LOG_MIN)))
		abort();
	if (log_file_open(dir, &f, NULL))
		return;
	if (f->info.limit == DISK_LOG_MIN)
		scan(f);
	log_file_close(f);
}

/* 0 most of the time, so that some of what is made is right. */
static uint64_t error_of(struct cursor *c)
{
	uint8_t what = cursor_get_u8(c);

	return what < 200 ? 0 : what < 240 ? what - 199u : cursor_get_u64(c);
}

static uint64_t put_record(struct log_file *f, struct cursor *c, uint64_t pos, uint64_t epoch)
{
	static const uint8_t kinds[] = { 1, 1, 2, 3, 4, LOG_SEAL, LOG_SEAL, LOG_PAD };
	static uint8_t bytes[LOG_RECORD_MAX];
	struct log_record r = { .kind = kinds[cursor_get_u8(c) % sizeof(kinds)] };
	uint64_t data = 0;

	r.disk = (uint16_t)error_of(c);
	r.generation = f->info.generation + error_of(c);
	r.epoch = epoch + error_of(c);
	r.position = pos + error_of(c);
	r.offset = r.kind == LOG_SEAL ? cursor_get_u8(c) % 4 : cursor_get_u16(c) & 0x7fff;
	r.length = r.kind == LOG_SEAL ? error_of(c) : cursor_get_u16(c) & 0x1ff;
	if (r.kind == CONTROL_DISK_FLUSH)
		r.offset = r.length = 0;
	if (r.kind == CONTROL_DISK_WRITE)
		data = (r.length + LOG_RECORD_UNIT - 1) / LOG_RECORD_UNIT * LOG_RECORD_UNIT;
	r.size = r.kind == LOG_PAD ? f->info.limit - pos % f->info.limit : LOG_RECORD_UNIT + data;
	r.size += error_of(c);
	if (log_file_write(f, pos, bytes, LOG_RECORD_UNIT + data, true))
		abort();
	/* The encoder sums up what the size says lies behind the head. */
	if (r.kind != CONTROL_DISK_WRITE || r.size == LOG_RECORD_UNIT + data)
		log_record_encode(&r, bytes + LOG_RECORD_UNIT, &f->info.key, bytes);
	bytes[cursor_get_u8(c) % LOG_RECORD_UNIT] ^= (uint8_t)error_of(c);
	if (log_file_write(f, pos, bytes, LOG_RECORD_UNIT, true))
		abort();
	return r.kind == LOG_PAD ? f->info.limit - pos % f->info.limit : LOG_RECORD_UNIT + data;
}

static void fuzz_ring(const uint8_t *data, size_t len)
{
	struct cursor c = cursor_over(data, len);
	struct log_file f = { .fd = ring_fd,
			      .info = { .generation = 3,
					.key = 77,
					.limit = DISK_LOG_MIN,
					.nr_disks = 2,
					.bytes = { DISK_BYTES, DISK_BYTES } } };
	uint64_t pos, epoch = 2;

	/* Near the end of the ring, so that it is gone around; at times in a later lap. */
	f.tail.position = DISK_LOG_MIN * (cursor_get_u8(&c) % 3 + 1) - cursor_get_u8(&c) % 64 * 64;
	f.tail.epoch = 1;
	pos = f.tail.position;
	if (ftruncate(ring_fd, 0) || ftruncate(ring_fd, (off_t)(LOG_FILE_DATA + f.info.limit)))
		abort();
	for (unsigned int i = 0; cursor_left(&c) && i < 64; i++) {
		uint64_t to_end = f.info.limit - pos % f.info.limit;

		if (to_end < 1024)
			pos += to_end; /* a gap: nothing may be found behind it */
		pos += put_record(&f, &c, pos, epoch);
		epoch += cursor_get_u8(&c) % 4 == 0;
	}
	scan(&f);
}

static void remove_all(void)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/%s", dir, LOG_FILE_NAME);
	unlink(path);
	rmdir(dir);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	char path[64];

	(void)argc, (void)argv;
	if (!mkdtemp(dir))
		return -1;
	atexit(remove_all);
	snprintf(path, sizeof(path), "%s/%s", dir, LOG_FILE_NAME);
	file_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ring_fd = memfd_create("ring", MFD_CLOEXEC);
	return file_fd < 0 || ring_fd < 0 ? -1 : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (len && data[0] % 4 == 0)
		fuzz_file(data + 1, len - 1);
	else if (len)
		fuzz_ring(data + 1, len - 1);
	return 0;
}
