/* SPDX-License-Identifier: Apache-2.0 */
/* ha/xen/emulator.h against a stand-in for QEMU's socket: what is said in which order, what comes
 * between, what fails. */
#include "tests/lib/test.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ha/xen/emulator.h"
#include "hypervisor/xen/state.h"
#include "tests/lib/dir.h"

#define STATE_BYTES 100u
#define SLOWLY	    "slowly" /* in the place of an answer: until there is none in its place */

static struct {
	struct test_dir dir;
	char socket[96], state[96];
	pthread_t thread;
	int listener;
	pthread_mutex_t lock;
	int connection;
	char said[2048];      /* the commands' names, each with a blank */
	uint32_t state_bytes; /* that a save writes */
	const char *instead;  /* of the answer to this command: */
	const char *answer;   /* NULL: the end of the connection */
} qemu = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* Who is told may hang up amid it. */
static void say(int fd, const char *text)
{
	if (send(fd, text, strlen(text), MSG_NOSIGNAL) < 0)
		assert_true(errno == EPIPE || errno == ECONNRESET);
}

static void save(void)
{
	FILE *f = fopen(qemu.state, "w");

	for (uint32_t i = 0; i < qemu.state_bytes; i++)
		fputc('q', f);
	fclose(f);
}

static bool serve_one(int fd, char *line)
{
	char name[64] = "";
	const char *detail = "";
	bool instead;

	sscanf(line, "{\"execute\":\"%63[^\"]", name);
	if (strstr(line, "\"enable\":"))
		detail = strstr(line, "true") ? "+" : "-";
	pthread_mutex_lock(&qemu.lock);
	snprintf(qemu.said + strlen(qemu.said), sizeof(qemu.said) - strlen(qemu.said), "%s%s ",
		 name, detail);
	if (!strcmp(name, "xen-save-devices-state"))
		save();
	instead = qemu.instead && !strcmp(name, qemu.instead);
	pthread_mutex_unlock(&qemu.lock);
	if (instead && !qemu.answer)
		return false;
	say(fd, "{\"timestamp\": {\"seconds\": 1}, \"event\": \"STOP\"}\r\n");
	while (instead && !strcmp(qemu.answer, SLOWLY)) {
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
		pthread_mutex_lock(&qemu.lock);
		instead = qemu.instead;
		pthread_mutex_unlock(&qemu.lock);
	}
	say(fd, instead ? qemu.answer : "{\"return\": {}}\r\n");
	return true;
}

/* Connections one after the other, until the listener is shut down. */
static void *serve(void *arg)
{
	char line[512];
	int fd;

	(void)arg;
	while ((fd = accept(qemu.listener, NULL, NULL)) >= 0) {
		FILE *in = fdopen(dup(fd), "r");

		pthread_mutex_lock(&qemu.lock);
		qemu.connection = fd;
		pthread_mutex_unlock(&qemu.lock);
		say(fd, "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n");
		while (fgets(line, sizeof(line), in) && serve_one(fd, line))
			;
		fclose(in);
		close(fd);
	}
	return NULL;
}

static int setup(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	(void)state;
	assert_int_equal(test_dir_open(&qemu.dir), 0);
	snprintf(qemu.socket, sizeof(qemu.socket), "%s/qmp", qemu.dir.path);
	snprintf(qemu.state, sizeof(qemu.state), "%s/state", qemu.dir.path);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", qemu.socket);
	qemu.said[0] = '\0';
	qemu.instead = NULL;
	qemu.state_bytes = STATE_BYTES;
	qemu.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(qemu.listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(qemu.listener, 1), 0);
	return -pthread_create(&qemu.thread, NULL, serve, NULL);
}

static int teardown(void **state)
{
	(void)state;
	shutdown(qemu.listener, SHUT_RDWR);
	pthread_join(qemu.thread, NULL);
	close(qemu.listener);
	test_dir_close(&qemu.dir);
	return 0;
}

static void assert_said(const char *words)
{
	pthread_mutex_lock(&qemu.lock);
	assert_string_equal(qemu.said, words);
	qemu.said[0] = '\0';
	pthread_mutex_unlock(&qemu.lock);
}

static void answer_instead(const char *command, const char *answer)
{
	pthread_mutex_lock(&qemu.lock);
	qemu.instead = command;
	qemu.answer = answer;
	pthread_mutex_unlock(&qemu.lock);
}

static int try_open(struct emulator **ret, struct reason *why)
{
	struct emulator_config config = { .socket = qemu.socket, .state = qemu.state };

	why->text[0] = '\0';
	return emulator_open(&config, ret, why);
}

static struct emulator *begin(void)
{
	struct emulator *e = NULL;
	struct reason why;

	assert_int_equal(try_open(&e, &why), 0);
	assert_said("qmp_capabilities cont xen-set-global-dirty-log+ xen-save-devices-state ");
	return e;
}

static void test_epochs(void **state)
{
	struct emulator *e = begin();
	uint8_t bytes[STATE_BYTES + 1];
	struct reason why = { 0 };

	(void)state;
	assert_in_range(emulator_room(e), STATE_BYTES + 1, XEN_STATE_EMULATOR_MAX);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(emulator_stop(e, &why), 0);
		assert_int_equal(emulator_stop(e, &why), 0);
		assert_said("stop ");
		memset(bytes, 0, sizeof(bytes));
		assert_int_equal(emulator_state(e, bytes, sizeof(bytes), &why), STATE_BYTES);
		assert_int_equal(bytes[0], 'q');
		assert_int_equal(bytes[STATE_BYTES - 1], 'q');
		assert_int_equal(bytes[STATE_BYTES], 0);
		assert_said("xen-save-devices-state ");
		assert_int_equal(emulator_run(e, &why), 0);
		assert_int_equal(emulator_run(e, &why), 0);
		assert_said("cont ");
	}
	emulator_close(e);
}

/* Who is stopped runs on, and what is marked for us is marked no more. */
static void test_close(void **state)
{
	struct emulator *e = begin();
	struct reason why = { 0 };

	(void)state;
	assert_int_equal(emulator_stop(e, &why), 0);
	emulator_close(e);
	assert_said("stop cont xen-set-global-dirty-log+ xen-set-global-dirty-log- ");
	assert_int_equal(access(qemu.state, F_OK), -1);
	emulator_close(NULL);
	emulator_close(begin());
	assert_said("xen-set-global-dirty-log+ xen-set-global-dirty-log- ");
}

static void test_outgrown(void **state)
{
	struct emulator *e = begin();
	uint8_t bytes[STATE_BYTES];
	struct reason why = { 0 };

	(void)state;
	assert_int_equal(emulator_stop(e, &why), 0);
	qemu.state_bytes++;
	assert_int_equal(emulator_state(e, bytes, sizeof(bytes), &why), -EMSGSIZE);
	assert_non_null(strstr(why.text, "grown to 101 bytes, room is for 100"));
	qemu.state_bytes = 0;
	assert_int_equal(emulator_state(e, bytes, sizeof(bytes), &why), -EIO);
	assert_non_null(strstr(why.text, "no state"));
	assert_false(emulator_is_lost(e));
	emulator_close(e);
}

static void test_refused(void **state)
{
	struct emulator *e = NULL;
	struct reason why;

	(void)state;
	answer_instead(
		"xen-set-global-dirty-log",
		"{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such thing\"}}\r\n");
	assert_int_equal(try_open(&e, &why), -EIO);
	assert_non_null(strstr(why.text, "no such thing"));
	answer_instead("xen-save-devices-state", "{\"error\": {}}\r\n");
	assert_int_equal(try_open(&e, &why), -EIO);
	assert_non_null(strstr(why.text, "an error"));
	answer_instead("qmp_capabilities", "[1]\r\n");
	assert_int_equal(try_open(&e, &why), -EIO);
	assert_non_null(strstr(why.text, "lost: Protocol error"));
	answer_instead("qmp_capabilities", "nonsense\r\n");
	assert_int_equal(try_open(&e, &why), -EIO);
	answer_instead("cont", NULL);
	assert_int_equal(try_open(&e, &why), -EIO);
	assert_non_null(strstr(why.text, "lost: Connection reset"));
	answer_instead(NULL, NULL);
	qemu.state_bytes = XEN_STATE_EMULATOR_MAX / 2 + 1;
	assert_int_equal(try_open(&e, &why), -E2BIG);
	assert_non_null(strstr(why.text, "2097153 bytes, at most 2097152"));
	assert_null(e);
	unlink(qemu.socket);
	assert_int_equal(try_open(&e, &why), -ENOENT);
	assert_non_null(strstr(why.text, qemu.socket));
	snprintf(qemu.state, sizeof(qemu.state), "%s/\"", qemu.dir.path);
	assert_int_equal(try_open(&e, &why), -EINVAL);
}

/* A failure in an epoch is that of its call, and the guest's device model runs on afterwards. */
static void test_failed_epoch(void **state)
{
	struct emulator *e = begin();
	uint8_t bytes[STATE_BYTES];
	struct reason why = { 0 };

	(void)state;
	answer_instead("stop", "{\"error\": {\"desc\": \"not now\"}}\r\n");
	assert_int_equal(emulator_stop(e, &why), -EIO);
	answer_instead(NULL, NULL);
	assert_int_equal(emulator_stop(e, &why), 0);
	answer_instead("xen-save-devices-state", "{\"error\": {\"desc\": \"disk full\"}}\r\n");
	assert_int_equal(emulator_state(e, bytes, sizeof(bytes), &why), -EIO);
	answer_instead(NULL, NULL);
	assert_int_equal(emulator_state(e, bytes, sizeof(bytes), &why), STATE_BYTES);
	assert_false(emulator_is_lost(e));
	emulator_close(e);
}

/* It ends. What it was told last it may have done, or not; nothing more is asked of it. */
static void test_lost(void **state)
{
	struct emulator *e = begin();
	struct reason why = { 0 };

	(void)state;
	answer_instead("stop", NULL);
	assert_int_equal(emulator_stop(e, &why), -EIO);
	assert_non_null(strstr(why.text, "lost: Connection reset"));
	assert_true(emulator_is_lost(e));
	assert_int_equal(emulator_stop(e, &why), 0);
	assert_int_equal(emulator_run(e, &why), -EIO);
	assert_said("stop ");
	emulator_close(e);
}

/* So it is when nothing is asked of it; what it has said before is no sign of life. */
static void test_hung_up(void **state)
{
	struct emulator *e = begin();
	struct reason why = { 0 };

	(void)state;
	assert_false(emulator_is_lost(e));
	pthread_mutex_lock(&qemu.lock);
	say(qemu.connection, "{\"event\": \"SHUTDOWN\"}\r\n");
	assert_false(emulator_is_lost(e));
	shutdown(qemu.connection, SHUT_RDWR);
	pthread_mutex_unlock(&qemu.lock);
	assert_true(emulator_is_lost(e));
	assert_int_equal(emulator_stop(e, &why), -EIO);
	emulator_close(e);
}

static unsigned int idle_calls;

static void idle(void *opaque)
{
	assert_ptr_equal(opaque, &qemu);
	if (++idle_calls == 3)
		answer_instead(NULL, NULL);
}

/* Who waits for it is called meanwhile. */
static void test_slow(void **state)
{
	struct emulator_config config = {
		.socket = qemu.socket, .state = qemu.state, .idle = idle, .opaque = &qemu
	};
	struct emulator *e = NULL;
	struct reason why = { 0 };

	(void)state;
	idle_calls = 0;
	answer_instead("qmp_capabilities", SLOWLY);
	assert_int_equal(emulator_open(&config, &e, &why), 0);
	assert_true(idle_calls >= 3);
	emulator_close(e);
}

static void test_endless_line(void **state)
{
	static char line[70000];
	struct emulator *e = begin();
	struct reason why = { 0 };

	(void)state;
	memset(line, ' ', sizeof(line) - 1);
	answer_instead("stop", line);
	assert_int_equal(emulator_stop(e, &why), -EIO);
	assert_true(emulator_is_lost(e));
	emulator_close(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_epochs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_close, setup, teardown),
		cmocka_unit_test_setup_teardown(test_outgrown, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failed_epoch, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hung_up, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slow, setup, teardown),
		cmocka_unit_test_setup_teardown(test_endless_line, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
