/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A backup's disks and its log on disk, with a model beside them that knows what the disks
 * must be at the end of each epoch; and power cuts, which lose an arbitrary part of what was
 * written to the disks and not flushed.
 */
#ifndef POLLUX_TEST_DISK_POWER_H
#define POLLUX_TEST_DISK_POWER_H

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "base/fault.h"
#include "disk-replica/apply.h"
#include "disk-replica/log_file.h"
#include "disk-replica/log_record.h"
#include "disk-replica/recover.h"

#define NR_DISKS   2u
#define DISK_BYTES (UINT64_C(256) << 10)
#define SECTOR	   512u
#define KEPT	   128u /* epochs whose image is remembered */

static const uint8_t uuid[16] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 };

static struct {
	char dir[64];
	struct disk_info disks[NR_DISKS];
	struct disk_log *log;
	struct apply *apply;
	struct reason why;
	uint64_t generation;
	uint64_t sealed, applied, flushed;	   /* epochs */
	uint8_t image[KEPT][NR_DISKS][DISK_BYTES]; /* [epoch % KEPT] */
	uint64_t random;
} power;

static inline uint32_t power_random(uint32_t below)
{
	power.random = power.random * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(power.random >> 33) % below;
}

/* SEED=number in the environment repeats a run. */
static inline void power_seed(void)
{
	const char *text = getenv("SEED");

	power.random = text ? strtoull(text, NULL, 0) : 1;
	print_message("SEED=%llu\n", (unsigned long long)power.random);
}

static inline void power_path(char *ret, const char *name)
{
	snprintf(ret, DISK_PATH_MAX, "%s/%s", power.dir, name);
}

static inline void power_arm(const char *list)
{
	setenv("POLLUX_FAULT", list, 1);
	assert_int_equal(fault_open(), 0);
}

static inline int power_open_log(void)
{
	struct log_file_info info = { .generation = power.generation,
				      .limit = DISK_LOG_MIN,
				      .nr_disks = NR_DISKS,
				      .bytes = { DISK_BYTES, DISK_BYTES } };
	struct log_file *file = NULL;
	int err;

	memcpy(info.uuid, uuid, sizeof(uuid));
	memset(&power.why, 0, sizeof(power.why));
	err = log_file_create(power.dir, &info, &file, &power.why);
	return err ? err : disk_log_open(info.limit, file, &power.log, &power.why);
}

/* From the log to the first whole epoch, which is 1. */
static inline int power_on(void)
{
	struct apply_config config = { .disks = power.disks,
				       .nr_disks = NR_DISKS,
				       .state_dir = power.dir,
				       .generation = power.generation };
	int err = power_open_log();

	if (err)
		return err;
	config.log_key = disk_log_key(power.log);
	err = apply_open(&config, &power.apply, &power.why);
	if (!err)
		err = apply_sync(power.apply, &power.why);
	power.sealed = power.applied = power.flushed = 1;
	memset(power.image[1], 0, sizeof(power.image[1]));
	return err;
}

static inline int power_setup(void **state)
{
	(void)state;
	fault_armed = false;
	power.generation = 5;
	power.log = NULL;
	power.apply = NULL;
	snprintf(power.dir, sizeof(power.dir), "/dev/shm/test_disk_power.XXXXXX");
	assert_non_null(mkdtemp(power.dir));
	for (unsigned int i = 0; i < NR_DISKS; i++) {
		struct disk_info *d = &power.disks[i];
		int fd;

		d->bytes = DISK_BYTES;
		power_path(d->path, i ? "b.img" : "a.img");
		fd = open(d->path, O_RDWR | O_CREAT | O_TRUNC, 0600);
		assert_true(fd >= 0);
		assert_int_equal(ftruncate(fd, DISK_BYTES), 0);
		close(fd);
	}
	return power_on();
}

/* The processes are gone; what they had written is still there. */
static inline void power_kill(void)
{
	apply_close(power.apply);
	disk_log_close(power.log);
	power.apply = NULL;
	power.log = NULL;
}

static inline int power_teardown(void **state)
{
	char command[128];

	(void)state;
	fault_armed = false;
	power_kill();
	snprintf(command, sizeof(command), "rm -rf %s", power.dir);
	return system(command) ? -1 : 0;
}

/* One random change: to the log, and to the model's next image. */
static inline int power_change(uint32_t max_bytes)
{
	static uint8_t bytes[DISK_DATA_MAX];
	uint64_t epoch = power.sealed + 1;
	unsigned int disk = power_random(NR_DISKS), kind = power_random(10);
	uint8_t *image = power.image[epoch % KEPT][disk];
	struct disk_record r = { .disk = (uint16_t)disk, .op = CONTROL_DISK_WRITE };

	r.length = 1 + power_random(max_bytes);
	r.offset = power_random((uint32_t)(DISK_BYTES - r.length) + 1);
	if (kind == 0) {
		r = (struct disk_record){ CONTROL_DISK_FLUSH, (uint16_t)disk, 0, 0, NULL };
	} else if (kind <= 2) {
		r.op = kind == 1 ? CONTROL_DISK_DISCARD : CONTROL_DISK_ZEROES;
		memset(image + r.offset, 0, r.length);
	} else {
		for (uint64_t i = 0; i < r.length; i++)
			bytes[i] = (uint8_t)(power.random >> (i % 5 * 8));
		bytes[0] = (uint8_t)epoch;
		memcpy(image + r.offset, bytes, r.length);
		r.data = bytes;
	}
	return disk_log_append(power.log, epoch, &r, &power.why);
}

static inline void power_begin(void)
{
	memcpy(power.image[(power.sealed + 1) % KEPT], power.image[power.sealed % KEPT],
	       sizeof(power.image[0]));
}

static inline int power_epoch(unsigned int changes, uint32_t max_bytes, bool sync)
{
	int err = 0;

	power_begin();
	while (changes-- && !err)
		err = power_change(max_bytes);
	if (!err)
		err = disk_log_seal(power.log, power.sealed + 1, &power.why);
	if (err)
		return err;
	power.sealed++;
	return sync ? disk_log_sync(power.log, &power.why) : 0;
}

static inline int power_apply(void)
{
	uint64_t before = disk_log_used(power.log);
	int err = apply_epoch(power.apply, power.log, power.applied + 1, &power.why);

	if (err)
		return err;
	if (disk_log_used(power.log) < before) /* reclaimed first, so flushed */
		power.flushed = power.applied;
	power.applied++;
	return 0;
}

/* Each sector of the disks is what it was at the last flush, or what it is now. */
static inline void power_cut(void)
{
	power_kill();
	for (unsigned int i = 0; i < NR_DISKS; i++) {
		int fd = open(power.disks[i].path, O_RDWR);

		for (uint64_t at = 0; at < DISK_BYTES; at += SECTOR)
			if (power_random(2))
				assert_int_equal(pwrite(fd,
							power.image[power.flushed % KEPT][i] + at,
							SECTOR, (off_t)at),
						 SECTOR);
		close(fd);
	}
}

static inline int power_recover(struct recovered *ret)
{
	struct recover_config config = { .state_dir = power.dir,
					 .disks = power.disks,
					 .nr_disks = NR_DISKS };

	memcpy(config.uuid, uuid, sizeof(uuid));
	memset(&power.why, 0, sizeof(power.why));
	return recover_disks(&config, ret, &power.why);
}

static inline bool power_disks_are(uint64_t epoch)
{
	static uint8_t bytes[DISK_BYTES];
	bool same = true;

	for (unsigned int i = 0; i < NR_DISKS; i++) {
		int fd = open(power.disks[i].path, O_RDONLY);

		assert_int_equal(pread(fd, bytes, DISK_BYTES, 0), DISK_BYTES);
		same &= !memcmp(bytes, power.image[epoch % KEPT][i], DISK_BYTES);
		close(fd);
	}
	return same;
}

/* Recovers, and expects exactly this epoch. */
static inline void power_expect(uint64_t epoch)
{
	struct recovered done;
	int err = power_recover(&done);

	if (err)
		print_message("%s\n", power.why.text);
	assert_int_equal(err, 0);
	assert_true(done.consistent);
	assert_int_equal(done.generation, power.generation);
	assert_int_equal(done.epoch, epoch);
	assert_true(power_disks_are(epoch));
}

static inline int power_log_fd(void)
{
	char path[DISK_PATH_MAX];
	int fd;

	power_path(path, LOG_FILE_NAME);
	fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	return fd;
}

#endif
