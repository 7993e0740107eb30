/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hypervisor/vmm/blk_nbd.h, with nbdkit behind it: every kind of request; a server that
 * is killed and comes back; a wait that is ended; what is refused.
 */
#include "tests/lib/test.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "hypervisor/vmm/blk_nbd.h"
#include "tests/lib/dir.h"

#define BYTES (UINT64_C(4) << 20)

struct fixture {
	struct test_dir dir;
	char image[96], socket[96];
	pid_t server;
	struct blk_nbd *disk;
	struct reason why;
	uint8_t data[65536], back[65536];
};

static bool exists(const char *path)
{
	return access(path, F_OK) == 0;
}

/* nbdkit's process writes its pid once it serves. */
static void serve(struct fixture *f, const char *option)
{
	const char *out = getenv("O");
	char plugin[256], file[128], control[128], pid[128];
	int status;

	snprintf(plugin, sizeof(plugin), "%s/lib/nbdkit-pollux-plugin.so", out ? out : "build");
	snprintf(file, sizeof(file), "file=%s", f->image);
	snprintf(control, sizeof(control), "control=%s", f->dir.path);
	snprintf(pid, sizeof(pid), "%s/pid", f->dir.path);
	unlink(pid);
	unlink(f->socket);
	f->server = fork();
	if (f->server == 0) {
		execlp("nbdkit", "nbdkit", "-f", "--exit-with-parent", "-P", pid, "-U", f->socket,
		       option, plugin, file, control, NULL);
		_exit(127);
	}
	while (!exists(pid)) {
		if (waitpid(f->server, &status, WNOHANG) == f->server)
			fail_msg("nbdkit ended with %d", WEXITSTATUS(status));
		usleep(5000);
	}
}

static void kill_server(struct fixture *f)
{
	kill(f->server, SIGKILL);
	waitpid(f->server, NULL, 0);
	f->server = 0;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int fd;

	assert_int_equal(test_dir_open(&f->dir), 0);
	snprintf(f->image, sizeof(f->image), "%s/image", f->dir.path);
	snprintf(f->socket, sizeof(f->socket), "%s/nbd", f->dir.path);
	fd = open(f->image, O_RDWR | O_CREAT, 0600);
	assert_int_equal(ftruncate(fd, BYTES), 0);
	close(fd);
	serve(f, "-v");
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	blk_nbd_close(f->disk);
	if (f->server)
		kill_server(f);
	test_dir_close(&f->dir);
	free(f);
	return 0;
}

static void open_disk(struct fixture *f)
{
	if (blk_nbd_open(&f->disk, f->socket, false, &f->why))
		fail_msg("%s", f->why.text);
	assert_int_equal(blk_nbd_bytes(f->disk), BYTES);
}

static void put(struct fixture *f, uint64_t offset, uint8_t fill)
{
	memset(f->data, fill, sizeof(f->data));
	assert_int_equal(blk_nbd_write(f->disk, offset, f->data, sizeof(f->data)), 0);
}

/* What the file holds: the server has no other place. */
static void expect(struct fixture *f, uint64_t offset, uint8_t fill)
{
	int fd = open(f->image, O_RDONLY);

	memset(f->data, fill, sizeof(f->data));
	assert_int_equal(pread(fd, f->back, sizeof(f->back), (off_t)offset), sizeof(f->back));
	assert_memory_equal(f->back, f->data, sizeof(f->data));
	close(fd);
	assert_int_equal(blk_nbd_read(f->disk, offset, f->back, sizeof(f->back)), 0);
	assert_memory_equal(f->back, f->data, sizeof(f->data));
}

static void test_requests(void **state)
{
	struct fixture *f = *state;

	open_disk(f);
	assert_int_equal(blk_nbd_claim(f->disk), 0);
	put(f, 0, 1);
	put(f, 65536, 2);
	put(f, 131072, 3);
	assert_int_equal(blk_nbd_flush(f->disk), 0);
	assert_int_equal(blk_nbd_zero(f->disk, 65536, 65536), 0);
	assert_int_equal(blk_nbd_discard(f->disk, 131072, BYTES - 131072), 0);
	expect(f, 0, 1);
	expect(f, 65536, 0);
	expect(f, 131072, 0);
}

static void test_server_comes_back(void **state)
{
	struct fixture *f = *state;

	open_disk(f);
	put(f, 0, 1);
	kill_server(f);
	serve(f, "-v");
	put(f, 65536, 2);
	expect(f, 0, 1);
	expect(f, 65536, 2);
}

static void *write_one(void *arg)
{
	struct fixture *f = arg;

	return (void *)(intptr_t)blk_nbd_write(f->disk, 0, f->data, sizeof(f->data));
}

static intptr_t stop_writer(struct fixture *f, pthread_t writer)
{
	void *result = NULL;

	blk_nbd_stop(f->disk);
	pthread_join(writer, &result);
	assert_int_equal(blk_nbd_flush(f->disk), -ECANCELED);
	return (intptr_t)result;
}

static void test_stop_while_gone(void **state)
{
	struct fixture *f = *state;
	pthread_t writer;

	open_disk(f);
	kill_server(f);
	assert_int_equal(pthread_create(&writer, NULL, write_one, f), 0);
	usleep(150000); /* any instant is as good */
	assert_int_equal(stop_writer(f, writer), -ECANCELED);
}

/* A stopped server is one that does not answer: the request is under way. */
static void test_stop_while_under_way(void **state)
{
	struct fixture *f = *state;
	pthread_t writer;

	open_disk(f);
	kill(f->server, SIGSTOP);
	assert_int_equal(pthread_create(&writer, NULL, write_one, f), 0);
	usleep(150000);
	assert_int_equal(stop_writer(f, writer), -ECANCELED);
}

static void refused(struct fixture *f, const char *name, bool readonly, const char *text)
{
	if (!blk_nbd_open(&f->disk, name, readonly, &f->why))
		fail_msg("%s is not refused", name);
	if (!strstr(f->why.text, text))
		fail_msg("'%s' does not say '%s'", f->why.text, text);
}

static void test_refusals(void **state)
{
	struct fixture *f = *state;
	char longest[256];

	memset(longest, 'x', sizeof(longest));
	longest[0] = '/';
	longest[200] = '\0';
	refused(f, longest, false, "too long");
	refused(f, "/nowhere/nbd", false, "No such file");
	kill_server(f);
	refused(f, f->socket, false, "refused");
	serve(f, "-r");
	refused(f, f->socket, false, "allows no writes");
	assert_int_equal(blk_nbd_open(&f->disk, f->socket, true, &f->why), 0);
}

/* Two VMs, one disk: the second may look at its size, as a standby does, and not have it. */
static void test_one_owner(void **state)
{
	struct fixture *f = *state;
	int fd = open(f->image, O_RDWR);
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	open_disk(f);
	assert_int_equal(blk_nbd_claim(f->disk), -EBUSY);
	close(fd);
	assert_int_equal(blk_nbd_claim(f->disk), 0);
	fd = open(f->image, O_RDWR);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), -1);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_requests, setup, teardown),
		cmocka_unit_test_setup_teardown(test_server_comes_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stop_while_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stop_while_under_way, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_owner, setup, teardown),
	};

	if (system("command -v nbdkit >/dev/null 2>&1"))
		test_skip_all("no nbdkit");
	return test_main(tests);
}
