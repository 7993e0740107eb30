/* SPDX-License-Identifier: Apache-2.0 */
#include "disk-replica/command.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

#define PATH_FOR_PROGRAMS "PATH=/usr/sbin:/usr/bin:/sbin:/bin"

static const char *const folders[] = { "/usr/sbin", "/usr/bin", "/sbin", "/bin" };

static int find_program(const char *name, char *ret, size_t size)
{
	if (strchr(name, '/')) {
		snprintf(ret, size, "%s", name);
		return access(ret, X_OK) ? -errno : 0;
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(folders); i++) {
		snprintf(ret, size, "%s/%s", folders[i], name);
		if (access(ret, X_OK) == 0)
			return 0;
	}
	return -ENOENT;
}

/* Signals as a program expects them: none blocked, none ignored. */
static int spawn(const char *path, const char *const argv[], int out_fd, pid_t *ret)
{
	static char path_env[] = PATH_FOR_PROGRAMS, lang_env[] = "LC_ALL=C";
	char *const env[] = { path_env, lang_env, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int err;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, out_fd, 1);
	posix_spawn_file_actions_adddup2(&actions, out_fd, 2);
	/* posix_spawn's prototype is older than const. */
	err = posix_spawn(ret, path, &actions, &attr, (char *const *)(uintptr_t)argv, env);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	return -err;
}

/* Until it prints no more. What does not fit is read and dropped. */
static int collect(int fd, uint64_t deadline_ns, char *out, size_t size)
{
	size_t len = 0;

	out[0] = '\0';
	for (;;) {
		struct pollfd slot = { .fd = fd, .events = POLLIN };
		uint64_t now = clock_now_ns();
		char dropped[256];
		ssize_t n;

		if (now >= deadline_ns)
			return -ETIMEDOUT;
		if (poll(&slot, 1, (int)((deadline_ns - now) / NS_PER_MS) + 1) <= 0)
			continue;
		if (len + 1 < size)
			n = read(fd, out + len, size - len - 1);
		else
			n = read(fd, dropped, sizeof(dropped));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		if (len + 1 < size)
			out[len += (size_t)n] = '\0';
	}
}

static const char *last_line(char *out)
{
	char *end = out + strlen(out), *line;

	while (end > out && end[-1] == '\n')
		*--end = '\0';
	line = strrchr(out, '\n');
	return line ? line + 1 : out;
}

int command_run(const char *const argv[], uint64_t timeout_ns, char *out, size_t size,
		struct reason *why)
{
	uint64_t deadline_ns = clock_now_ns() + timeout_ns;
	char path[256];
	int fds[2], status = 0, err = find_program(argv[0], path, sizeof(path));
	pid_t pid;

	if (err)
		return reason_set(why, -err, "%s: no such program", argv[0]);
	if (pipe2(fds, O_CLOEXEC) < 0)
		return reason_set(why, errno, "pipe: %s", strerror(errno));
	err = spawn(path, argv, fds[1], &pid);
	close(fds[1]);
	if (err) {
		close(fds[0]);
		return reason_set(why, -err, "%s: %s", path, strerror(-err));
	}
	err = collect(fds[0], deadline_ns, out, size);
	close(fds[0]);
	if (err)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (err)
		return reason_set(why, -err, "%s %s: no end within %llu ms", argv[0],
				  argv[1] ? argv[1] : "",
				  (unsigned long long)(timeout_ns / NS_PER_MS));
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		return reason_set(why, EREMOTEIO, "%s %s: %s", argv[0], argv[1] ? argv[1] : "",
				  last_line(out));
	return 0;
}
