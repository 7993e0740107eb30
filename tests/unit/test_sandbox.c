/* SPDX-License-Identifier: Apache-2.0 */
/* Each case is a process of its own: there is no way out of a sandbox. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hypervisor/vmm/sandbox.h"
#include "tests/lib/test.h"

/* Beyond 8, each with an arena of its own, glibc wants to know how many processors there are. */
#define THREADS 24

static pthread_barrier_t all_there;

static void *allocate(void *opaque)
{
	void *memory;

	pthread_barrier_wait(&all_there);
	memory = malloc(1000);
	*(void **)opaque = memory;
	pthread_barrier_wait(&all_there);
	free(memory);
	return NULL;
}

static int many_threads(void)
{
	static void *volatile memory[THREADS];
	pthread_t thread[THREADS];
	int bad = 0;

	pthread_barrier_init(&all_there, NULL, THREADS);
	for (unsigned int i = 0; i < THREADS; i++)
		if (pthread_create(&thread[i], NULL, allocate, (void *)&memory[i]))
			_exit(2);
	for (unsigned int i = 0; i < THREADS; i++) {
		pthread_join(thread[i], NULL);
		bad += !memory[i];
	}
	return bad;
}

static int open_a_file(void)
{
	int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);

	return fd < 0 && errno == EACCES ? 0 : 1;
}

static int start_a_program(void)
{
	char *const argv[] = { (char *)"true", NULL };

	execv("/bin/true", argv);
	return 1;
}

/* What wait() says of a process that does so inside. */
static int outcome(int (*what)(void))
{
	int status = -1;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		struct reason why = { 0 };

		if (sandbox_enter(&why))
			fail_msg("%s", why.text);
		_exit(what());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void threads_allocate(void **state)
{
	(void)state;
	assert_int_equal(outcome(many_threads), 0);
}

static void no_file_opens(void **state)
{
	(void)state;
	assert_int_equal(outcome(open_a_file), 0);
}

static void a_program_is_the_end(void **state)
{
	int status = outcome(start_a_program);

	(void)state;
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSYS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads_allocate),
		cmocka_unit_test(no_file_opens),
		cmocka_unit_test(a_program_is_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
