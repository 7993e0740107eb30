/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tools/daemon/salvage.h: what an operator is told of the disks of a VM that this host was the
 * backup of; what the log holds is applied first, and what is wrong with it is said.
 */
#include "tests/unit/disk_power.h"

#include <json-c/json.h>

#include "disk-replica/marker.h"
#include "disk-replica/regions.h"
#include "tools/daemon/daemon.h"
#include "tools/daemon/salvage.h"

#define UUID "01020304-0506-0708-090A-0b0c0d0e0f10"

static struct daemon d;
static struct json_object *config;
static char sentence[1024], event[64];

void events_add(struct daemon *daemon, const char *vm, const char *kind, const char *fmt, ...);
void events_add(struct daemon *daemon, const char *vm, const char *kind, const char *fmt, ...)
{
	(void)daemon;
	(void)fmt;
	assert_string_equal(vm, strrchr(power.dir, '/') + 1);
	snprintf(event, sizeof(event), "%s", kind);
}

static void make_config(const char *uuid_text)
{
	struct json_object *list = json_object_new_array();

	json_object_put(config);
	config = json_object_new_object();
	json_object_object_add(config, "name", json_object_new_string(strrchr(power.dir, '/') + 1));
	json_object_object_add(config, "uuid", json_object_new_string(uuid_text));
	for (unsigned int i = 0; i < NR_DISKS; i++) {
		struct json_object *disk = json_object_new_object();

		json_object_object_add(disk, "path", json_object_new_string(power.disks[i].path));
		json_object_array_add(list, disk);
	}
	json_object_object_add(config, "disks", list);
}

static int setup(void **state)
{
	int err = power_setup(state);

	snprintf(d.conf.state_dir, sizeof(d.conf.state_dir), "/dev/shm");
	make_config(UUID);
	return err;
}

static int teardown(void **state)
{
	json_object_put(config);
	config = NULL;
	return power_teardown(state);
}

static void expect(bool says, const char *text, const char *kind)
{
	event[0] = sentence[0] = '\0';
	assert_int_equal(salvage_disks(&d, config, sentence, sizeof(sentence)), says);
	if (!strstr(sentence, text))
		fail_msg("'%s' does not say '%s'", sentence, text);
	assert_string_equal(event, kind);
}

static void some_epochs(void)
{
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(power_epoch(3, 5000, true), 0);
	assert_int_equal(power_apply(), 0);
}

static void test_recovered(void **state)
{
	(void)state;
	some_epochs();
	power_cut();
	expect(true, "exactly as they were at the end of epoch 5, generation 5", "disks.recovered");
	assert_true(power_disks_are(5));
	/* Said again as often as it is asked, and nothing is done for it. */
	expect(true, "end of epoch 5", "");
	assert_true(power_disks_are(5));
}

static void test_own_disks(void **state)
{
	(void)state;
	some_epochs();
	while (power.applied < power.sealed)
		assert_int_equal(power_apply(), 0);
	assert_int_equal(apply_finish(power.apply, &power.why), 0);
	power.apply = NULL;
	power_kill();
	expect(false, "", "");
}

/* Whatever the log is, the disks stay as they are, and the sentence says why. */
static void test_not_recovered(void **state)
{
	struct timespec later[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = 2000000000 } };
	struct apply_marker good, m;
	char path[DISK_PATH_MAX];
	uint8_t byte = 0;
	int fd;

	(void)state;
	some_epochs();
	power_kill();
	assert_int_equal(apply_marker_read(power.dir, &good), 0);
	make_config("11020304-0506-0708-090a-0b0c0d0e0f10");
	expect(true, "of another VM: check the filesystems", "disks.not-recovered");
	make_config(UUID);
	m = good;
	m.generation = 4; /* an older one */
	assert_int_equal(apply_marker_write(power.dir, &m), 0);
	expect(true, "of generation 5, the disks of 4", "disks.not-recovered");
	m = good;
	assert_int_equal(regions_stamp_closed(&m.stamp, power.disks, NR_DISKS), 0);
	assert_int_equal(apply_marker_write(power.dir, &m), 0);
	assert_int_equal(utimensat(AT_FDCWD, power.disks[1].path, later, 0), 0);
	expect(true, "b.img was written by somebody else", "disks.not-recovered");
	m = good;
	m.state = APPLY_FAILED;
	m.error = EIO;
	assert_int_equal(apply_marker_write(power.dir, &m), 0);
	expect(true, "between two epochs: check", "");
	assert_int_equal(apply_marker_write(power.dir, &good), 0);
	fd = power_log_fd();
	assert_int_equal(pread(fd, &byte, 1, LOG_FILE_DATA + 70), 1);
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, LOG_FILE_DATA + 70), 1);
	close(fd);
	expect(true, "check the filesystems", "disks.not-recovered");
	power_path(path, LOG_FILE_NAME);
	assert_int_equal(truncate(path, LOG_FILE_DATA + 100), 0);
	expect(true, "truncated", "disks.not-recovered");
	assert_int_equal(unlink(path), 0);
	expect(true, "check the filesystems", "disks.not-recovered");
	power_path(path, APPLY_MARKER_NAME);
	assert_int_equal(truncate(path, 10), 0);
	expect(true, "check the filesystems", "disks.not-recovered");
	assert_true(power_disks_are(2)); /* what had been applied before, and no more */
}

/* A disk that fails in the middle: next time it is done from the start. */
static void test_fails_half_way(void **state)
{
	static const char *const faults[] = { "recover.begin", "recover.apply:3", "disk.apply:2",
					      "disk.space",    "recover.flush",	  "disk.flush",
					      "marker.write",  "recover.mark",	  "marker.rename" };

	(void)state;
	some_epochs();
	power_cut();
	for (unsigned int i = 0; i < ARRAY_SIZE(faults); i++) {
		power_arm(faults[i]);
		expect(true, "between two epochs", "disks.not-recovered");
		fault_armed = false;
	}
	expect(true, "end of epoch 5", "disks.recovered");
	assert_true(power_disks_are(5));
}

static void test_forget(void **state)
{
	struct log_file *f;
	const char *name = strrchr(power.dir, '/') + 1;

	(void)state;
	some_epochs();
	salvage_forget(&d, name); /* a standby's engine has it open */
	assert_int_equal(log_file_open(power.dir, &f, &power.why), -EBUSY);
	power_kill();
	salvage_forget(&d, name);
	assert_int_equal(log_file_open(power.dir, &f, &power.why), -ENOENT);
	salvage_forget(&d, name); /* none there */
}

/* What is cut off is cut off: no more is written than there is room for. */
static void test_room(void **state)
{
	char room[20];

	(void)state;
	some_epochs();
	power_kill();
	memset(room, 'x', sizeof(room));
	assert_true(salvage_disks(&d, config, room, 10));
	assert_int_equal(strlen(room), 9);
	assert_int_equal(room[10], 'x');
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_recovered),	   TEST(test_own_disks), TEST(test_not_recovered),
		TEST(test_fails_half_way), TEST(test_forget),	 TEST(test_room),
	};

	power_seed();
	return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
