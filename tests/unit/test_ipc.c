/* SPDX-License-Identifier: Apache-2.0 */
/* Local calls: framing, bounds, deadlines, stale sockets. */
#include "base/ipc.h"

#include <pthread.h>
#include <sys/stat.h>
#include "tests/lib/test.h"

#include "base/clock.h"
#include "base/err.h"

static char dir[64], path[96];

static uint64_t soon(void)
{
	return clock_now_ns() + 5 * NS_PER_S;
}

static int setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/test_ipc.XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(dir);
}

static void pair(int ret_raw[1], struct ipc **ret)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(ipc_open(fds[0], ret), 0);
	ret_raw[0] = fds[1];
}

static void *serve_once(void *arg)
{
	int fd = *(int *)arg;
	struct ipc *c;
	struct ucred who;
	const char *m;
	char reply[64];
	int r;

	while ((r = ipc_accept(fd, &c, &who)) == -EAGAIN)
		usleep(1000);
	assert_int_equal(r, 0);
	assert_int_equal(who.pid, getpid());
	assert_int_equal(ipc_wait(c, soon(), &m), 0);
	snprintf(reply, sizeof(reply), "got %s", m);
	assert_int_equal(ipc_send(c, reply), 0);
	ipc_close(c);
	return NULL;
}

static void call_and_reply(void **state)
{
	cleanup_free char *reply = NULL;
	struct stat st;
	pthread_t t;
	int fd;

	(void)state;
	assert_int_equal(ipc_listen(path, 0660, &fd), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0660);
	assert_int_equal(pthread_create(&t, NULL, serve_once, &fd), 0);
	assert_int_equal(ipc_call(path, "{\"a\":1}", soon(), &reply), 0);
	assert_string_equal(reply, "got {\"a\":1}");
	pthread_join(t, NULL);
	close(fd);
}

static void stale_socket_is_replaced_a_live_one_is_not(void **state)
{
	int a, b;

	(void)state;
	assert_int_equal(ipc_listen(path, 0600, &a), 0);
	assert_int_equal(ipc_listen(path, 0600, &b), -EADDRINUSE);
	close(a);
	assert_int_equal(ipc_listen(path, 0600, &b), 0);
	close(b);
}

static void nobody_there(void **state)
{
	char *reply = NULL;
	char far[200];

	(void)state;
	assert_int_equal(ipc_call(path, "{}", soon(), &reply), -ENOENT);
	memset(far, 'x', sizeof(far) - 1);
	far[sizeof(far) - 1] = '\0';
	assert_int_equal(ipc_call(far, "{}", soon(), &reply), -ENAMETOOLONG);
	assert_null(reply);
}

static void silence_ends_at_the_deadline(void **state)
{
	char *reply = NULL;
	int fd;
	uint64_t start = clock_now_ns();

	(void)state;
	assert_int_equal(ipc_listen(path, 0600, &fd), 0);
	assert_int_equal(ipc_call(path, "{}", start + 50 * NS_PER_MS, &reply), -ETIMEDOUT);
	assert_true(clock_now_ns() - start >= 50 * NS_PER_MS);
	close(fd);
}

static void messages_split_and_joined(void **state)
{
	struct ipc *c;
	const char *m;
	int raw;

	(void)state;
	pair(&raw, &c);
	assert_int_equal(ipc_receive(c, &m), -EAGAIN);
	assert_int_equal(write(raw, "one\0tw", 6), 6);
	assert_int_equal(ipc_receive(c, &m), 0);
	assert_string_equal(m, "one");
	assert_int_equal(ipc_receive(c, &m), -EAGAIN);
	assert_int_equal(write(raw, "o\0\0x", 4), 4);
	assert_int_equal(ipc_receive(c, &m), 0);
	assert_string_equal(m, "two");
	assert_int_equal(ipc_receive(c, &m), 0);
	assert_string_equal(m, "");
	assert_int_equal(ipc_receive(c, &m), -EAGAIN);
	close(raw);
	/* "x" was never ended: it is no message. */
	assert_int_equal(ipc_receive(c, &m), -ECONNRESET);
	ipc_close(c);
}

static void *flood(void *arg)
{
	int fd = *(int *)arg;
	char block[4096];

	memset(block, 'x', sizeof(block));
	for (size_t n = 0; n <= IPC_MESSAGE_MAX; n += sizeof(block))
		if (send(fd, block, sizeof(block), MSG_NOSIGNAL) < 0)
			break;
	return NULL;
}

static void endless_message_is_refused(void **state)
{
	struct ipc *c;
	const char *m;
	pthread_t t;
	int raw;

	(void)state;
	pair(&raw, &c);
	assert_int_equal(pthread_create(&t, NULL, flood, &raw), 0);
	assert_int_equal(ipc_wait(c, soon(), &m), -EMSGSIZE);
	ipc_close(c);
	pthread_join(t, NULL);
	close(raw);
}

static void reader_that_does_not_read(void **state)
{
	char *big = malloc(IPC_MESSAGE_MAX + 1);
	struct ipc *c;
	int raw, r = 0, n = 0;

	(void)state;
	pair(&raw, &c);
	memset(big, 'y', IPC_MESSAGE_MAX - 1);
	big[IPC_MESSAGE_MAX - 1] = '\0';
	while (!r && n < 100) {
		r = ipc_send(c, big);
		n++;
	}
	assert_int_equal(r, -ENOBUFS);
	assert_true(n <= 7);
	assert_true(ipc_wants_write(c));
	assert_int_equal(ipc_drain(c, clock_now_ns() + 10 * NS_PER_MS), -ETIMEDOUT);
	close(raw);
	assert_true(ipc_flush(c) < 0);
	big[IPC_MESSAGE_MAX - 1] = 'y';
	big[IPC_MESSAGE_MAX] = '\0';
	assert_int_equal(ipc_send(c, big), -EMSGSIZE);
	ipc_close(c);
	free(big);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(call_and_reply, setup, teardown),
		cmocka_unit_test_setup_teardown(stale_socket_is_replaced_a_live_one_is_not, setup,
						teardown),
		cmocka_unit_test_setup_teardown(nobody_there, setup, teardown),
		cmocka_unit_test_setup_teardown(silence_ends_at_the_deadline, setup, teardown),
		cmocka_unit_test(messages_split_and_joined),
		cmocka_unit_test(endless_message_is_refused),
		cmocka_unit_test(reader_that_does_not_read),
	};

	return test_main(tests);
}
