/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that is run has a parent of its own, in between: in a process that ignores SIGCHLD
 * nobody could learn how it ended. That one waits for it and writes its status into a pipe.
 * The two are a process group, so that a deadline ends both.
 */
#include "disk-replica/command.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

#define USUAL_FOLDERS "/usr/sbin:/usr/bin:/sbin:/bin"
#define PATH_BYTES    1024u

/* The caller's path, then the usual folders. */
static void search_path(char ret[PATH_BYTES])
{
	const char *own = getenv("PATH");

	snprintf(ret, PATH_BYTES, "PATH=%s%s" USUAL_FOLDERS, own ?: "", own ? ":" : "");
}

static int find_program(const char *name, const char *folders, char *ret, size_t size)
{
	while (*folders) {
		size_t len = strcspn(folders, ":");

		snprintf(ret, size, "%.*s/%s", (int)len, folders, name);
		if (len && access(ret, X_OK) == 0)
			return 0;
		folders += len + (folders[len] == ':');
	}
	return -ENOENT;
}

struct child {
	const char *path;
	char *const *argv;
	char *const *env;
	int out_fd, status_fd;
};

/* From here to exec only what may be called between fork(2) and exec(2). Signals as a program
 * expects them: none blocked, none ignored. */
static void be_parent(const struct child *c)
{
	sigset_t none;
	int status = -1, null;
	pid_t pid;

	setpgid(0, 0);
	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	pid = fork();
	if (!pid) {
		null = open("/dev/null", O_RDONLY);
		if (null >= 0 && dup2(null, 0) == 0 && dup2(c->out_fd, 1) == 1 &&
		    dup2(c->out_fd, 2) == 2)
			execve(c->path, c->argv, c->env);
		_exit(127);
	}
	close(c->out_fd);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (write(c->status_fd, &status, sizeof(status)) != sizeof(status))
		_exit(1);
	_exit(0);
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

static int run(struct child *c, uint64_t deadline_ns, char *out, size_t size, int *ret_status)
{
	char status[sizeof(*ret_status) + 1];
	int out_fds[2], status_fds[2], err;
	pid_t pid;

	if (pipe2(out_fds, O_CLOEXEC) < 0)
		return -errno;
	if (pipe2(status_fds, O_CLOEXEC) < 0) {
		err = -errno;
		close(out_fds[0]);
		close(out_fds[1]);
		return err;
	}
	c->out_fd = out_fds[1];
	c->status_fd = status_fds[1];
	pid = fork();
	if (!pid)
		be_parent(c);
	err = pid < 0 ? -errno : 0;
	close(out_fds[1]);
	close(status_fds[1]);
	if (!err)
		err = collect(out_fds[0], deadline_ns, out, size);
	if (!err)
		err = collect(status_fds[0], deadline_ns, status, sizeof(status));
	if (err && pid > 0 && kill(-pid, SIGKILL) < 0)
		kill(pid, SIGKILL);
	close(out_fds[0]);
	close(status_fds[0]);
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	if (!err)
		memcpy(ret_status, status, sizeof(*ret_status));
	return err;
}

int command_run(const char *const argv[], uint64_t timeout_ns, char *out, size_t size,
		struct reason *why)
{
	static char lang_env[] = "LC_ALL=C";
	char path_env[PATH_BYTES], path[PATH_BYTES];
	char *const env[] = { path_env, lang_env, NULL };
	/* execve's prototype is older than const. */
	struct child c = { .path = path, .argv = (char *const *)(uintptr_t)argv, .env = env };
	const char *verb = argv[1] ?: "";
	int status = -1, err;

	search_path(path_env);
	err = find_program(argv[0], path_env + strlen("PATH="), path, sizeof(path));
	if (err)
		return reason_set(why, -err, "%s: no such program", argv[0]);
	err = run(&c, clock_now_ns() + timeout_ns, out, size, &status);
	if (err == -ETIMEDOUT)
		return reason_set(why, ETIMEDOUT, "%s %s: no end within %llu ms", argv[0], verb,
				  (unsigned long long)(timeout_ns / NS_PER_MS));
	if (err)
		return reason_set(why, -err, "%s %s: %s", argv[0], verb, strerror(-err));
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		return reason_set(why, EREMOTEIO, "%s %s: %s", argv[0], verb, last_line(out));
	return 0;
}
