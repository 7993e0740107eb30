/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tools/daemon/disks.h: when another host asks, and when a VM is to run here, the region file is
 * believed only if token, sizes, marker and the disks themselves all say the same; else all is
 * copied, and why is said aloud.
 */
#include "tests/lib/test.h"

#include <fcntl.h>
#include <json-c/json.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fault.h"
#include "disk-replica/marker.h"
#include "disk-replica/regions.h"
#include "disk-replica/sources.h"
#include "tests/lib/dir.h"
#include "tests/unit/disk_files.h"
#include "tools/daemon/daemon.h"
#include "tools/daemon/disks.h"

#define R  (UINT64_C(1) << 16)
#define NR 2u

static const struct region_header ours = { .token = "ours", .peer = "b", .generation = 3 };
static struct test_dir dir;
static char state_dir[128], event[128];
static struct disk_info disks[NR];
static struct daemon d;
static struct json_object *config;

void events_add(struct daemon *daemon, const char *vm, const char *kind, const char *fmt, ...);
void events_add(struct daemon *daemon, const char *vm, const char *kind, const char *fmt, ...)
{
	va_list ap;

	(void)daemon;
	assert_string_equal(vm, "db");
	assert_string_equal(kind, "regions.dropped");
	va_start(ap, fmt);
	vsnprintf(event, sizeof(event), fmt, ap);
	va_end(ap);
}

/* The server of disk 1, where that is served. */
static struct {
	bool gone, refuses;
	unsigned int told;
} server;

bool sources_is_served(const char *name)
{
	return !strncmp(name, CONTROL_NBD_PREFIX, strlen(CONTROL_NBD_PREFIX));
}

int sources_look_up(const char *name, struct disk_info *ret, struct reason *why)
{
	if (server.gone)
		return reason_set(why, ENOTSUP, "%s has no server", name);
	*ret = disks[1];
	return 0;
}

int sources_track(const char *name, int fd, struct reason *why)
{
	assert_true(sources_is_served(name));
	if (fd < 0 || server.refuses)
		return reason_set(why, EIO, "it does not count");
	close(fd);
	server.told++;
	return 0;
}

static void make_config(void)
{
	struct json_object *list = json_object_new_array();

	json_object_put(config);
	config = json_object_new_object();
	json_object_object_add(config, "name", json_object_new_string("db"));
	for (unsigned int i = 0; i < NR; i++) {
		struct json_object *disk = json_object_new_object();

		json_object_object_add(disk, "path",
				       json_object_new_string(disks[i].served ? CONTROL_NBD_PREFIX
								      "/run/1"
									      : disks[i].path));
		json_object_array_add(list, disk);
	}
	json_object_object_add(config, "disks", list);
}

static int setup(void **state)
{
	static const uint64_t bytes[NR] = { 300 * R, 77 * R };

	(void)state;
	fault_armed = false;
	assert_int_equal(test_dir_open(&dir), 0);
	snprintf(d.conf.state_dir, sizeof(d.conf.state_dir), "%s", dir.path);
	snprintf(state_dir, sizeof(state_dir), "%s/db", dir.path);
	assert_int_equal(mkdir(state_dir, 0700), 0);
	memset(disks, 0, sizeof(disks));
	disk_files_make(dir.path, bytes, NR, disks);
	make_config();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	json_object_put(config);
	config = NULL;
	test_dir_close(&dir);
	return 0;
}

/* As a VM, or a standby, leaves it: a region of disk 1 is marked. */
static void make_regions(const struct region_header *like)
{
	uint8_t block[REGION_BLOCK_BYTES];
	uint64_t bits[8] = { 4 };
	struct regions r;
	int fd;

	assert_int_equal(regions_create(state_dir, like, disks, NR, false), 0);
	assert_int_equal(regions_read(state_dir, disks, NR, &r, NULL), 0);
	region_block_encode(&r.header, 1, 0, bits, block);
	fd = regions_open_fd(state_dir, REGIONS_OWN);
	assert_int_equal(region_block_write(fd, region_block_offset(&r.header, 1, 0), block), 0);
	regions_close(&r);
	close(fd);
}

static void make_marker(const struct apply_marker *like)
{
	struct apply_marker m = *like;

	m.state = m.state ?: APPLY_FOLLOWING;
	if (!m.token[0])
		memcpy(m.token, ours.token, sizeof(m.token));
	assert_int_equal(regions_stamp_closed(&m.stamp, disks, NR), 0);
	assert_int_equal(apply_marker_write(state_dir, &m), 0);
}

/* "same" of the answer; what else it says is looked at here. */
static bool ask(const char *token, const char *fresh, const char *reason)
{
	struct json_object *request = json_object_new_object(), *reply = json_object_new_object();
	struct json_object *o;
	char goes_by[REGION_TOKEN_TEXT] = "?";
	const char *text, *why;
	bool same;

	json_object_object_add(request, "vm", json_object_new_string("db"));
	json_object_object_add(request, "config", json_object_get(config));
	json_object_object_add(request, "disk_token", token ? json_object_new_string(token) : NULL);
	json_object_object_add(request, "disk_token_new",
			       fresh ? json_object_new_string(fresh) : NULL);
	disks_answer(&d, request, reply, goes_by);
	assert_true(json_object_object_get_ex(reply, "resync", &o));
	same = json_object_get_boolean(json_object_object_get(o, "same"));
	text = json_object_get_string(json_object_object_get(o, "regions"));
	why = json_object_get_string(json_object_object_get(o, "reason"));
	if (same) {
		struct region_sets s;

		assert_string_equal(goes_by, token);
		assert_int_equal(
			region_sets_open(&s, (uint64_t[]){ disks[0].bytes, disks[1].bytes }, NR),
			0);
		assert_int_equal(region_sets_from_text(&s, text, NULL), 0);
		assert_int_equal(region_sets_bytes(&s), R);
		assert_int_equal(s.bits[1][0], 4);
		region_sets_close(&s);
	} else {
		assert_null(text);
		assert_string_equal(goes_by, fresh && strlen(fresh) == 32 ? fresh : "");
		if (!why || !strstr(why, reason))
			fail_msg("'%s' does not say '%s'", why ? why : "nothing", reason);
	}
	json_object_put(request);
	json_object_put(reply);
	return same;
}

static const char *token_text(void)
{
	static char text[REGION_TOKEN_TEXT];

	region_token_to_text(ours.token, text);
	return text;
}

#define FRESH "ffffffffffffffffffffffffffffffff"

static void refused(const char *reason)
{
	assert_false(ask(token_text(), FRESH, reason));
}

static void test_tokens(void **state)
{
	struct region_header other = ours;

	(void)state;
	refused("no region file");
	make_regions(&ours);
	assert_true(ask(token_text(), FRESH, NULL));
	assert_true(ask(token_text(), NULL, NULL));
	assert_false(ask(NULL, FRESH, "names no token"));
	assert_false(ask("ours", FRESH, "names no token"));
	assert_false(ask(NULL, NULL, "names no token"));
	assert_false(ask("", "short", "names no token"));
	other.token[15] = 1;
	make_regions(&other);
	refused("another token: the disks were last a copy of b");
}

static void test_spoilt_file(void **state)
{
	char path[256];
	uint8_t byte = 0x55;
	int fd;

	(void)state;
	make_regions(&ours);
	snprintf(path, sizeof(path), "%s/%s", state_dir, REGIONS_NAME);
	assert_int_equal(truncate(path, 3 * REGION_BLOCK_BYTES + 5), 0);
	refused("cut short");
	make_regions(&ours);
	fd = regions_open_fd(state_dir, REGIONS_OWN);
	assert_int_equal(pwrite(fd, &byte, 1, 50), 1);
	close(fd);
	refused("damaged");
	assert_int_equal(truncate(path, 0), 0);
	refused("cannot be read");
}

/* Detected, and said aloud, each time. */
static void test_somebody_else(void **state)
{
	struct timespec later[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = 2000000000 } };

	(void)state;
	make_regions(&ours);
	make_marker(&(struct apply_marker){ 0 });
	assert_true(ask(token_text(), FRESH, NULL));
	assert_int_equal(utimensat(AT_FDCWD, disks[1].path, later, 0), 0);
	refused("disk1 was written by somebody else since");
	make_marker(&(struct apply_marker){ 0 });
	assert_true(ask(token_text(), FRESH, NULL));
	assert_int_equal(truncate(disks[0].path, 299 * R), 0);
	refused("disk0 has 19595264 bytes, it had 19660800");
	assert_int_equal(truncate(disks[0].path, 300 * R + 512), 0);
	refused("disk0 has 19661312 bytes");
	assert_int_equal(truncate(disks[0].path, 300 * R), 0);
	make_marker(&(struct apply_marker){ 0 });
	assert_true(ask(token_text(), FRESH, NULL));
	assert_int_equal(unlink(disks[1].path), 0);
	refused("disk1: No such file");
}

static void test_number_of_disks(void **state)
{
	struct json_object *list;

	(void)state;
	make_regions(&ours);
	list = json_object_object_get(config, "disks");
	json_object_array_del_idx(list, 1, 1);
	refused("there are 1 disks now, there were 2");
	for (unsigned int i = 0; i < DISK_MAX + 1; i++) {
		struct json_object *disk = json_object_new_object();

		json_object_object_add(disk, "path", json_object_new_string(disks[0].path));
		json_object_array_add(list, disk);
	}
	refused("10 disks, at most 8");
	json_object_object_add(config, "disks", json_object_new_string("none"));
	refused("there are 0 disks now");
}

static void test_marker(void **state)
{
	char path[256];

	(void)state;
	make_regions(&ours);
	make_marker(&(struct apply_marker){ .token = "another" });
	refused("a copy of something else");
	make_marker(&(struct apply_marker){ .state = APPLY_FAILED, .error = EIO });
	refused("a disk has failed: Input/output error");
	/* Space that ran out took nothing away. */
	make_marker(&(struct apply_marker){ .state = APPLY_FAILED, .error = ENOSPC });
	assert_true(ask(token_text(), FRESH, NULL));
	make_marker(&(struct apply_marker){ .state = APPLY_COPYING });
	assert_true(ask(token_text(), FRESH, NULL));
	snprintf(path, sizeof(path), "%s/%s", state_dir, APPLY_MARKER_NAME);
	assert_int_equal(truncate(path, APPLY_MARKER_BYTES - 1), 0);
	refused("marker of the standby's disks is unreadable");
}

/* --- a VM is to run here ---------------------------------------------------------- */

static bool go_on(void)
{
	char path[256], want[256];
	bool on;

	event[0] = '\0';
	on = disks_go_on(&d, config, path, sizeof(path));
	if (on) {
		snprintf(want, sizeof(want), "%s/%s", state_dir, REGIONS_NAME);
		assert_string_equal(path, want);
	}
	return on;
}

static void dropped(const char *reason)
{
	struct regions r;

	assert_false(go_on());
	if (!strstr(event, reason))
		fail_msg("'%s' does not say '%s'", event, reason);
	assert_int_equal(regions_read(state_dir, disks, NR, &r, NULL), -ENOENT);
}

static void test_go_on(void **state)
{
	struct regions r;

	(void)state;
	assert_false(go_on());
	assert_string_equal(event, "");
	make_regions(&ours);
	assert_true(go_on());
	assert_int_equal(regions_read(state_dir, disks, NR, &r, NULL), 0);
	assert_int_equal(region_sets_bytes(&r.sets), R); /* what was marked stays so */
	regions_close(&r);
	make_marker(&(struct apply_marker){ 0 });
	dropped("the disks were a standby's");
	assert_int_equal(apply_marker_remove(state_dir), 0);
	make_regions(&ours);
	assert_int_equal(truncate(disks[1].path, 78 * R), 0);
	dropped("disk1 has");
	make_regions(&ours);
	assert_int_equal(unlink(disks[1].path), 0);
	dropped("disk1");
}

static uint64_t marked(void)
{
	struct regions r;
	uint64_t bytes;

	assert_int_equal(regions_read(state_dir, disks, NR, &r, NULL), 0);
	bytes = region_sets_bytes(&r.sets);
	regions_close(&r);
	return bytes;
}

/* Its server counts before the VM writes; when it does not, that disk is copied whole. */
static void test_go_on_served(void **state)
{
	(void)state;
	memset(&server, 0, sizeof(server));
	disks[1].served = true;
	make_config();
	make_regions(&ours);
	assert_int_equal(marked(), 0); /* pollux-vmm's file has no say in it */
	assert_true(go_on());
	assert_int_equal(server.told, 1);
	server.refuses = true;
	assert_true(go_on());
	assert_non_null(strstr(event, "it does not count"));
	assert_int_equal(marked(), disks[1].bytes);
	server.gone = true;
	dropped("has no server");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_tokens),	    TEST(test_spoilt_file), TEST(test_somebody_else),
		TEST(test_number_of_disks), TEST(test_marker),	    TEST(test_go_on),
		TEST(test_go_on_served),
	};

	return test_main(tests);
}
