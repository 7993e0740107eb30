/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ha/resync.h against pollux-vmm's own tracking (vmm/disk_track.h): what either host says may
 * differ is in the region file before the answer is settled; whatever fails or is not what it
 * should be, the copy is a full one, and the reason is there.
 */
#include "tests/lib/test.h"

#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "base/fault.h"
#include "disk-replica/regions.h"
#include "ha/resync.h"
#include "hypervisor/vmm/disk_track.h"
#include "tests/lib/dir.h"
#include "tests/unit/disk_files.h"
#include "tests/unit/fake_sources.h"

#define R (UINT64_C(1) << 16)

static const struct region_header ours = { .token = "ours", .peer = "b", .generation = 3 };
static struct test_dir dir;
static struct resync_config config;
static struct resync_offer offer;
static struct resync result;
static struct reason why;

/* --- setting up --------------------------------------------------------------------- */

static void arm(const char *list)
{
	setenv("POLLUX_FAULT", list, 1);
	assert_int_equal(fault_open(), 0);
}

static void open_track(void)
{
	assert_int_equal(disk_track_open(&track), 0);
	for (unsigned int i = 0; i < NR; i++)
		assert_int_equal(disk_track_add(track, open(disks[i].path, O_RDWR), disks[i].bytes),
				 0);
}

static int setup(void **state)
{
	static const uint64_t bytes[NR] = { 300 * R, 1000 * R - 512 };

	(void)state;
	fault_armed = false;
	memset(&vmm, 0, sizeof(vmm));
	memset(&why, 0, sizeof(why));
	assert_int_equal(test_dir_open(&dir), 0);
	memset(disks, 0, sizeof(disks));
	disk_files_make(dir.path, bytes, NR, disks);
	config = (struct resync_config){ .run_dir = "/run/vm",
					 .state_dir = dir.path,
					 .peer = "b",
					 .generation = 5,
					 .nr_disks = NR };
	open_track();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fault_armed = false;
	disk_track_close(track);
	disk_track_close(server);
	server = NULL;
	test_dir_close(&dir);
	return 0;
}

/* Writes are counted by a file with these marks of disk 0. */
static void begin_tracked(uint64_t word)
{
	uint64_t bits[16] = { word };
	int fd;

	assert_int_equal(regions_create(dir.path, &ours, disks, NR, false), 0);
	fd = regions_open_fd(dir.path, REGIONS_OWN);
	assert_int_equal(disk_track_on(track, fd, &why), 0);
	assert_int_equal(disk_track_mark(track, 0, bits), 0);
}

/* What the other host wrote, one word of each disk. */
static char *text_of(uint64_t word0, uint64_t word1)
{
	struct region_sets s;
	char *text;

	assert_int_equal(region_sets_open(&s, (uint64_t[]){ disks[0].bytes, disks[1].bytes }, NR),
			 0);
	s.bits[0][0] = word0;
	s.bits[1][0] = word1;
	assert_int_equal(region_sets_to_text(&s, &text), 0);
	region_sets_close(&s);
	return text;
}

static void settle(const char *json)
{
	struct json_object *reply = json_tokener_parse(json);

	memset(&result, 0xff, sizeof(result));
	resync_settle(&config, &offer, reply, &result);
	json_object_put(reply);
}

static void settle_same(const char *regions)
{
	char json[4096];

	snprintf(json, sizeof(json), "{\"resync\": {\"same\": true, \"regions\": \"%s\"}}",
		 regions);
	settle(json);
}

/* The first word of each disk as a crash of this host would leave it in the file. */
static void expect_file(const uint8_t token[REGION_TOKEN_BYTES], uint64_t word0, uint64_t word1)
{
	struct regions r;

	assert_int_equal(regions_read(dir.path, disks, NR, &r, &why), 0);
	assert_memory_equal(r.header.token, token, REGION_TOKEN_BYTES);
	assert_int_equal(r.sets.bits[0][0], word0);
	assert_int_equal(r.sets.bits[1][0], word1);
	regions_close(&r);
}

static void expect_full(const char *reason, bool tracked)
{
	assert_false(result.partial);
	assert_int_equal(result.tracked, tracked);
	if (!strstr(result.reason, reason))
		fail_msg("'%s' does not say '%s'", result.reason, reason);
}

/* --- the offer ---------------------------------------------------------------------- */

static void test_offer(void **state)
{
	struct json_object *o = json_object_new_object();
	struct resync_offer second;
	char token[REGION_TOKEN_TEXT];

	(void)state;
	begin_tracked(1);
	resync_offer(&config, &offer);
	assert_true(offer.related);
	assert_memory_equal(offer.token, ours.token, REGION_TOKEN_BYTES);
	assert_string_equal(offer.reason, "");
	resync_put_offer(&offer, o);
	region_token_to_text(ours.token, token);
	assert_string_equal(json_object_get_string(json_object_object_get(o, "disk_token")), token);
	region_token_to_text(offer.fresh, token);
	assert_string_equal(json_object_get_string(json_object_object_get(o, "disk_token_new")),
			    token);
	json_object_put(o);
	resync_offer(&config, &second);
	assert_memory_not_equal(offer.fresh, second.fresh, REGION_TOKEN_BYTES);
}

static void no_offer(const char *reason)
{
	struct json_object *o = json_object_new_object();

	resync_offer(&config, &offer);
	assert_false(offer.related);
	if (!strstr(offer.reason, reason))
		fail_msg("'%s' does not say '%s'", offer.reason, reason);
	resync_put_offer(&offer, o);
	assert_null(json_object_object_get(o, "disk_token"));
	assert_non_null(json_object_object_get(o, "disk_token_new"));
	json_object_put(o);
}

static void test_no_offer(void **state)
{
	(void)state;
	no_offer("nobody has kept count");
	begin_tracked(1);
	vmm.gone = true;
	no_offer("does not answer");
	vmm.gone = false;
	/* pollux-vmm may be in the hands of its guest. */
	for (vmm.cut = 1; vmm.cut < 60; vmm.cut++)
		no_offer("no token");
	vmm.cut = SIZE_MAX;
	no_offer("no token");
	vmm.cut = 0;
	vmm.more_bytes = 512;
	no_offer("no token");
	vmm.more_bytes = 0;
	vmm.op = CONTROL_TRACK_READ;
	vmm.error = -EIO;
	no_offer("cannot be written");
	vmm.error = 0;
	config.nr_disks = 0;
	no_offer("");
	config.nr_disks = NR;
}

/* --- the answer --------------------------------------------------------------------- */

static void test_same(void **state)
{
	cleanup_free char *text = text_of(0xf0, 0x300);

	(void)state;
	begin_tracked(0x11);
	resync_offer(&config, &offer);
	settle_same(text);
	assert_true(result.partial);
	assert_true(result.tracked);
	expect_file(ours.token, 0xf1, 0x300);
}

/* However often the link breaks right then: no mark is ever lost. */
static void test_interrupted_ten_times(void **state)
{
	uint64_t marked = 1;

	(void)state;
	begin_tracked(1);
	for (unsigned int i = 1; i <= 10; i++) {
		cleanup_free char *text = text_of(UINT64_C(1) << i, 0);

		arm(i % 3 == 0 ? "resync.settle" : i % 3 == 1 ? "resync.marked" : "other");
		resync_offer(&config, &offer);
		assert_true(offer.related);
		settle_same(text);
		assert_int_equal(result.partial, i % 3 == 2);
		if (i % 3)
			marked |= UINT64_C(1) << i;
		expect_file(ours.token, marked, 0);
	}
}

static void test_other(void **state)
{
	struct regions r;

	(void)state;
	begin_tracked(0x11);
	resync_offer(&config, &offer);
	settle("{\"resync\": {\"same\": false, \"reason\": \"the disks are of another VM\"}}");
	expect_full("of another VM", true);
	expect_file(offer.fresh, UINT64_MAX, UINT64_MAX);
	assert_int_equal(regions_read(dir.path, disks, NR, &r, &why), 0);
	assert_int_equal(region_sets_bytes(&r.sets), disks[0].bytes + disks[1].bytes);
	assert_int_equal(r.header.generation, 5);
	regions_close(&r);
	/* It is what pollux-vmm goes by now. */
	resync_offer(&config, &offer);
	assert_true(offer.related);
	expect_file(offer.token, UINT64_MAX, UINT64_MAX);
}

/* P4: the other host says "same" and has nothing of the kind. */
static void test_lies(void **state)
{
	static const char *const not_same[] = {
		"{}",
		"null",
		"[]",
		"{\"resync\": 7}",
		"{\"resync\": [true]}",
		"{\"resync\": {}}",
		"{\"resync\": {\"same\": \"false\"}}",
		"{\"resync\": {\"same\": 1, \"regions\": \"\"}}",
		"{\"resync\": {\"same\": {\"a\": 1}}}",
		"{\"resync\": {\"same\": null, \"reason\": [1]}}",
	};
	static const char *const no_regions[] = {
		"{\"resync\": {\"same\": true}}",
		"{\"resync\": {\"same\": true, \"regions\": null}}",
		"{\"resync\": {\"same\": true, \"regions\": 5}}",
		"{\"resync\": {\"same\": true, \"regions\": \"\"}}",
		"{\"resync\": {\"same\": true, \"regions\": \"AAAA\"}}",
		"{\"resync\": {\"same\": true, \"regions\": \"eJwDAAAAAAE=\"}}",
	};
	cleanup_free char *text = text_of(2, 2);

	(void)state;
	begin_tracked(0x11);
	resync_offer(&config, &offer);
	for (unsigned int i = 0; i < ARRAY_SIZE(no_regions); i++) {
		settle(no_regions[i]);
		expect_full("", false);
		assert_true(result.reason[0]);
		expect_file(ours.token, 0x11, 0);
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(not_same); i++) {
		settle(not_same[i]);
		expect_full("the other host does not say", true);
		expect_file(offer.fresh, UINT64_MAX, UINT64_MAX);
	}
	/* "Same" as what? There was no token. */
	offer.related = false;
	strcpy(offer.reason, "no token");
	settle_same(text);
	expect_full("no token", true);
	expect_file(offer.fresh, UINT64_MAX, UINT64_MAX);
}

/* Of disks of another size: nothing is marked by half. */
static void test_other_disks(void **state)
{
	cleanup_free char *text = NULL;
	uint64_t was = disks[1].bytes;

	(void)state;
	begin_tracked(0x11);
	disks[1].bytes = 2000 * R;
	text = text_of(0xff00, 1);
	disks[1].bytes = was;
	resync_offer(&config, &offer);
	settle_same(text);
	expect_full("not that of such disks", false);
	expect_file(ours.token, 0x11, 0);
}

/* --- what fails --------------------------------------------------------------------- */

static void test_cannot_mark(void **state)
{
	static const int errors[] = { -EIO, -ENOSPC, -ENODATA };
	cleanup_free char *text = text_of(2, 2);

	(void)state;
	begin_tracked(0x11);
	resync_offer(&config, &offer);
	vmm.op = CONTROL_TRACK_MARK;
	for (unsigned int i = 0; i < ARRAY_SIZE(errors); i++) {
		vmm.error = errors[i];
		settle_same(text);
		expect_full("as the test wants", false);
	}
	vmm.op = CONTROL_TRACK_READ;
	settle_same(text);
	expect_full("cannot be read", false);
	vmm.gone = true;
	settle_same(text);
	expect_full("", false);
	assert_true(result.reason[0]);
	/* The file itself: spoilt, so that nobody believes it. */
	vmm.gone = false;
	vmm.error = 0;
	arm("track.sync");
	settle_same(text);
	expect_full("", false);
	fault_armed = false;
	assert_int_equal(regions_read(dir.path, disks, NR, &(struct regions){ 0 }, &why), -EBADMSG);
	no_offer("cannot be written");
}

/* A new file that cannot be had: none is left that might be taken for one. */
static void test_cannot_begin(void **state)
{
	static const char *const faults[] = { "regions.create", "regions.rename", "resync.marked" };
	uint64_t word;

	(void)state;
	for (unsigned int i = 0; i <= ARRAY_SIZE(faults); i++) {
		begin_tracked(0x11);
		resync_offer(&config, &offer);
		vmm.op = CONTROL_DISK_TRACK;
		vmm.error = i == ARRAY_SIZE(faults) ? -EIO : 0;
		if (!vmm.error)
			arm(faults[i]);
		settle("{\"resync\": {\"same\": false}}");
		fault_armed = false;
		vmm.error = 0;
		expect_full("", false);
		assert_int_equal(regions_read(dir.path, disks, NR, &(struct regions){ 0 }, &why),
				 -ENOENT);
		if (i < ARRAY_SIZE(faults))
			assert_int_equal(disk_track_read(track, 0, &word), -ENODATA);
	}
	arm("resync.settle");
	begin_tracked(0x11);
	settle("{\"resync\": {\"same\": false}}");
	expect_full("", false);
	expect_file(ours.token, 0x11, 0); /* as it was: nothing is done */
}

static void test_long_reason(void **state)
{
	char json[2048], text[1000];

	(void)state;
	begin_tracked(1);
	resync_offer(&config, &offer);
	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	snprintf(json, sizeof(json), "{\"resync\": {\"same\": false, \"reason\": \"%s\"}}", text);
	settle(json);
	assert_int_equal(strlen(result.reason), sizeof(result.reason) - 1);
}

/* --- a served disk ------------------------------------------------------------------ */

/* Disk 1 has a server, which counts by a file of its own. */
static void begin_served(uint64_t word0, uint64_t word1)
{
	uint64_t bits[16] = { word1 };

	disks[1].served = true;
	assert_int_equal(disk_track_open(&server), 0);
	assert_int_equal(disk_track_add(server, open(disks[1].path, O_RDWR), disks[1].bytes), 0);
	begin_tracked(word0);
	assert_int_equal(disk_track_on(server, regions_open_fd(dir.path, 1), &why), 0);
	assert_int_equal(disk_track_mark(server, 0, bits), 0);
}

static void test_served(void **state)
{
	cleanup_free char *text = text_of(0xf0, 0x300);
	struct sources s = { 0 };
	struct region_sets sets;

	(void)state;
	begin_served(0x11, 0x22);
	resync_offer(&config, &offer);
	assert_memory_equal(offer.token, ours.token, REGION_TOKEN_BYTES);
	settle_same(text);
	assert_true(result.partial && result.tracked);
	expect_file(ours.token, 0xf1, 0x322);
	assert_int_equal(sources_connect(config.run_dir, &s, &why), 0);
	assert_int_equal(resync_read_sets(&s, &sets), 0);
	assert_int_equal(sets.bits[0][0], 0xf1);
	assert_int_equal(sets.bits[1][0], 0x322);
	region_sets_close(&sets);
}

/* What was written since it was started anew nobody knows; from here on it counts. */
static void test_server_anew(void **state)
{
	cleanup_free char *text = text_of(0xf0, 0x300);
	uint64_t bits[16];

	(void)state;
	begin_served(0x11, 0x22);
	disk_track_off(server);
	resync_offer(&config, &offer);
	settle_same(text);
	assert_true(result.partial && result.tracked);
	expect_file(ours.token, 0xf1, UINT64_MAX);
	assert_int_equal(disk_track_read(server, 0, bits), 0);
	assert_int_equal(bits[0], UINT64_MAX);
	/* Its file is gone, or that of another copy: likewise. */
	assert_int_equal(regions_remove_served(dir.path, 1), 0);
	expect_file(ours.token, 0xf1, UINT64_MAX);
	settle("{\"resync\": {\"same\": false}}");
	expect_full("", true);
	expect_file(offer.fresh, UINT64_MAX, UINT64_MAX);
	assert_int_equal(disk_track_read(server, 0, bits), 0);
}

/* Nobody but the servers counts: then the VM's own file must be there, too. */
static void test_all_served(void **state)
{
	(void)state;
	begin_served(0, 0x22);
	disks[0].served = true; /* by the same, here */
	disk_track_off(track);
	resync_offer(&config, &offer);
	assert_true(offer.related);
	assert_memory_equal(offer.token, ours.token, REGION_TOKEN_BYTES);
	assert_int_equal(regions_remove(dir.path), 0);
	no_offer("nobody has kept count");
	disks[0].served = false;
	no_offer("nobody has kept count"); /* pollux-vmm does not */
}

static void test_served_here(void **state)
{
	uint64_t bits[16] = { 1 };

	(void)state;
	begin_served(0, 0);
	disk_track_off(track);
	disk_track_off(server);
	assert_int_equal(resync_count_here(NULL, dir.path, &why), 0);
	assert_int_equal(disk_track_mark(server, 0, bits), 0);
	expect_file(ours.token, 0, 1);
}

/* --- takeover ----------------------------------------------------------------------- */

static void test_count_here(void **state)
{
	uint64_t bits[16];

	(void)state;
	assert_int_equal(resync_count_here(NULL, dir.path, &why), -ENOENT);
	assert_non_null(strstr(why.text, "no region file"));
	assert_int_equal(regions_create(dir.path, &ours, disks, NR, false), 0);
	assert_int_equal(resync_count_here(NULL, dir.path, &why), 0);
	assert_int_equal(disk_track_read(track, 1, bits), 0);
	/* Of other disks: then it would tell of too little. */
	disk_track_off(track);
	disks[1].bytes += R;
	assert_int_equal(regions_create(dir.path, &ours, disks, NR, false), 0);
	assert_int_equal(resync_count_here(NULL, dir.path, &why), -EINVAL);
	assert_int_equal(regions_read(dir.path, disks, NR, &(struct regions){ 0 }, &why), -ENOENT);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_offer),	 TEST(test_no_offer),
		TEST(test_same),	 TEST(test_interrupted_ten_times),
		TEST(test_other),	 TEST(test_lies),
		TEST(test_other_disks),	 TEST(test_cannot_mark),
		TEST(test_cannot_begin), TEST(test_long_reason),
		TEST(test_served),	 TEST(test_server_anew),
		TEST(test_all_served),	 TEST(test_served_here),
		TEST(test_count_here),
	};

	return test_main(tests);
}
