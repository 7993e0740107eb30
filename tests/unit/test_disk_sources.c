/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM with a disk of its own between two that others serve: whose is which, one boundary over
 * all their rings, and a server that goes.
 */
#include "tests/lib/test.h"

#include <fcntl.h>
#include <string.h>

#include "disk-replica/mirror.h"
#include "disk-replica/nbd/source.h"
#include "hypervisor/control/server.h"
#include "hypervisor/vmm/disk_mirror.h"
#include "tests/lib/dir.h"

#define BYTES (UINT64_C(1) << 20)
#define OWN   1u /* the VM's own disk */

struct fixture {
	struct test_dir dir;
	char name[3][DISK_PATH_MAX]; /* as the VM has them */
	char path[3][DISK_PATH_MAX]; /* where they are */
	uint64_t told_bytes;	     /* of the served ones, by the VM */
	struct source *served[3];
	struct disk_mirror *own;
	struct control_server *server;
	struct control *control;
	struct sources sources;
	struct mirror *mirror;
	struct reason why;
};

/* pollux-vmm, as far as its disks go. */
static int vm_execute(void *opaque, uint32_t op, struct control_work *work)
{
	struct fixture *f = opaque;
	uint8_t on;
	int err;

	if (op == CONTROL_DISK_LIST) {
		cursor_put_u16(&work->out, 3);
		for (unsigned int i = 0; i < 3; i++) {
			cursor_put_u64(&work->out, i == OWN ? BYTES : f->told_bytes);
			cursor_put_u8(&work->out, 0);
			cursor_put_u16(&work->out, (uint16_t)strlen(f->name[i]));
			cursor_put_bytes(&work->out, f->name[i], strlen(f->name[i]));
		}
		return 0;
	}
	on = cursor_get_u8(&work->in);
	err = disk_mirror_set(f->own, on, cursor_get_u64(&work->in), on ? work->fds : NULL);
	work->nr_fds = on && !err ? 3 : 0;
	return err;
}

static void serve(struct fixture *f, unsigned int i)
{
	char run_dir[DISK_PATH_MAX];

	snprintf(run_dir, sizeof(run_dir), "%s/%u", f->dir.path, i);
	assert_int_equal(source_open(f->path[i], run_dir, &f->served[i], &f->why), 0);
	assert_int_equal(source_start(f->served[i]), 0);
	source_attach(f->served[i]);
}

static void end_serving(struct fixture *f, unsigned int i)
{
	if (!f->served[i])
		return;
	source_detach(f->served[i]);
	source_close(f->served[i]);
	f->served[i] = NULL;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct control_server_config config = { .opaque = f, .execute = vm_execute };

	assert_int_equal(test_dir_open(&f->dir), 0);
	config.run_dir = f->dir.path;
	f->told_bytes = BYTES;
	for (unsigned int i = 0; i < 3; i++) {
		int fd;

		snprintf(f->path[i], DISK_PATH_MAX, "%s/disk%u", f->dir.path, i);
		snprintf(f->name[i], DISK_PATH_MAX, CONTROL_NBD_PREFIX "%s/%u/nbd", f->dir.path, i);
		if (i == OWN)
			snprintf(f->name[i], DISK_PATH_MAX, "%s/disk%u", f->dir.path, i);
		fd = open(f->path[i], O_RDWR | O_CREAT, 0600);
		assert_int_equal(ftruncate(fd, BYTES), 0);
		close(fd);
		if (i != OWN)
			serve(f, i);
	}
	assert_int_equal(disk_mirror_open(&f->own), 0);
	assert_int_equal(control_server_open(&config, &f->server, &f->why), 0);
	assert_int_equal(control_server_start(f->server), 0);
	assert_int_equal(control_connect(f->dir.path, &f->control), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	mirror_close(f->mirror);
	sources_close(&f->sources);
	control_close(f->control);
	control_server_close(f->server);
	for (unsigned int i = 0; i < 3; i++)
		end_serving(f, i);
	disk_mirror_close(f->own);
	test_dir_close(&f->dir);
	free(f);
	return 0;
}

static void open_mirror(struct fixture *f)
{
	struct mirror_config config = { &f->sources, MIRROR_RING_MIN };

	assert_int_equal(sources_open(f->control, &f->sources, &f->why), 0);
	assert_int_equal(mirror_open(&config, &f->mirror, &f->why), 0);
}

static void test_whose(void **state)
{
	struct fixture *f = *state;
	struct disk_info one;

	assert_int_equal(sources_open(f->control, &f->sources, &f->why), 0);
	assert_int_equal(f->sources.nr_disks, 3);
	assert_int_equal(f->sources.nr, 3);
	for (unsigned int i = 0; i < 3; i++) {
		assert_string_equal(f->sources.named[i].path, f->name[i]);
		assert_string_equal(f->sources.disks[i].path, f->path[i]);
		assert_int_equal(f->sources.disks[i].bytes, BYTES);
		assert_int_equal(sources_is_served(f->name[i]), i != OWN);
	}
	assert_int_equal(f->sources.source[OWN], 0);
	assert_int_equal(sources_look_up(f->name[2], &one, &f->why), 0);
	assert_string_equal(one.path, f->path[2]);
}

static void refused(struct fixture *f, int err, const char *text)
{
	memset(&f->why, 0, sizeof(f->why));
	assert_int_equal(sources_open(f->control, &f->sources, &f->why), err);
	if (!strstr(f->why.text, text))
		fail_msg("'%s' does not say '%s'", f->why.text, text);
	assert_int_equal(f->sources.nr, 0);
}

static void test_refusals(void **state)
{
	struct fixture *f = *state;

	f->told_bytes = BYTES / 2;
	refused(f, -EPROTO, "524288 bytes for the VM, 1048576 for its server");
	f->told_bytes = BYTES;
	strcpy(f->name[2], CONTROL_NBD_PREFIX "relative");
	refused(f, -EINVAL, "relative");
	strcpy(f->name[2], CONTROL_NBD_PREFIX "/nowhere/nbd");
	refused(f, -ENOTSUP, "no control socket beside it");
}

static void write_everywhere(struct fixture *f, uint8_t fill)
{
	uint8_t data[4096];
	const struct disk_change change = {
		.op = CONTROL_DISK_WRITE,
		.disk = OWN,
		.length = sizeof(data),
		.data = data,
	};

	memset(data, fill, sizeof(data));
	assert_int_equal(disk_mirror_put(f->own, &change, NULL), 0);
	assert_int_equal(source_write(f->served[0], 512, data, sizeof(data)), 0);
	assert_int_equal(source_write(f->served[2], 1024, data, sizeof(data)), 0);
}

/* One write of each disk, all of this fill. */
static void expect_all(struct fixture *f, const struct mirror_mark *limit, uint8_t fill)
{
	bool seen[3] = { false };
	struct disk_record r;

	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(mirror_next(f->mirror, limit, &r, &f->why), 0);
		assert_true(r.disk < 3 && !seen[r.disk]);
		seen[r.disk] = true;
		assert_int_equal(r.offset, r.disk == OWN ? 0 : r.disk == 0 ? 512 : 1024);
		assert_int_equal(*(const uint8_t *)r.data, fill);
	}
	assert_int_equal(mirror_next(f->mirror, limit, &r, &f->why), -EAGAIN);
}

static void test_boundary(void **state)
{
	struct fixture *f = *state;
	struct mirror_mark first, second;

	open_mirror(f);
	write_everywhere(f, 1);
	mirror_boundary(f->mirror, &first);
	write_everywhere(f, 2);
	mirror_boundary(f->mirror, &second);
	assert_int_equal(mirror_check(f->mirror, &f->why), 0);
	expect_all(f, &first, 1);
	expect_all(f, &second, 2);
	assert_int_equal(mirror_used(f->mirror), 0);
}

/* A source tells of its own disks only: pollux-vmm may be in the hands of its guest. */
static void test_not_its_disk(void **state)
{
	struct fixture *f = *state;
	const struct disk_change change = { .op = CONTROL_DISK_FLUSH, .disk = 0 };
	struct mirror_mark now;
	struct disk_record r;

	open_mirror(f);
	assert_int_equal(disk_mirror_put(f->own, &change, NULL), 0);
	mirror_now(f->mirror, &now);
	assert_int_equal(mirror_next(f->mirror, &now, &r, &f->why), -EPROTO);
	assert_non_null(strstr(f->why.text, "disk 0, which source 0 has not"));
}

static void test_server_goes(void **state)
{
	struct fixture *f = *state;

	open_mirror(f);
	end_serving(f, 0);
	assert_int_equal(mirror_check(f->mirror, &f->why), -EPIPE);
	/* Another at the same place is another: what it was told before is not mirrored. */
	serve(f, 0);
	assert_int_equal(mirror_check(f->mirror, &f->why), -EPIPE);
	mirror_close(f->mirror);
	f->mirror = NULL;
	sources_close(&f->sources);
	open_mirror(f);
	assert_int_equal(mirror_check(f->mirror, &f->why), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_whose, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_boundary, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_its_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(test_server_goes, setup, teardown),
	};

	return test_main(tests);
}
