/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/daemon/hooks.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "tools/common/json.h"
#include "tools/daemon/daemon.h"
#include "tools/daemon/events.h"
#include "tools/daemon/paths.h"

#define ENV_MAX 8

struct hooks {
	struct daemon *d;
	pthread_t thread;
	int wake_fd, end_fd; /* eventfds: there may be events; it is over */
	uint64_t seen;
};

/* How a hook has ended. */
struct outcome {
	bool known, late;
	int status; /* of wait(2) */
};

struct environment {
	char *line[ENV_MAX + 1];
	unsigned int n;
};

/* --- one hook ------------------------------------------------------------------------------- */

/* After fork(): only what is safe there. */
static void become(const char *path, char *const *argv, char *const *env)
{
	int null = open("/dev/null", O_RDWR);
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	for (int fd = 0; null >= 0 && fd <= 1; fd++)
		dup2(null, fd);
	close_range(3, ~0U, 0);
	execve(path, argv, env);
	_exit(127);
}

/*
 * polluxd has its children reaped unseen, so a process in between waits: for the hook, for its
 * time, or for SIGTERM, which polluxd sends. All that the hook has started, and kept in its group,
 * goes with it.
 */
static void watch_over(const char *path, char *const *argv, char *const *env, int result,
		       uint64_t limit_ns)
{
	struct timespec limit = { .tv_sec = (time_t)(limit_ns / NS_PER_S),
				  .tv_nsec = (long)(limit_ns % NS_PER_S) };
	struct outcome o = { .known = true };
	sigset_t heard;
	pid_t pid;

	/* polluxd's sockets are its own: another one may be started while a hook runs. */
	result = dup2(result, 3);
	close_range(4, ~0U, 0);
	sigemptyset(&heard);
	sigaddset(&heard, SIGCHLD);
	sigaddset(&heard, SIGTERM);
	sigprocmask(SIG_BLOCK, &heard, NULL);
	signal(SIGCHLD, SIG_DFL);
	setsid();
	pid = fork();
	if (!pid) {
		setpgid(0, 0);
		become(path, argv, env);
	}
	if (pid < 0)
		_exit(1);
	setpgid(pid, pid);
	o.late = sigtimedwait(&heard, NULL, &limit) != SIGCHLD;
	if (o.late)
		kill(-pid, SIGKILL);
	waitpid(pid, &o.status, 0);
	kill(-pid, SIGKILL);
	_exit(write(result, &o, sizeof(o)) != sizeof(o));
}

static bool is_over(const struct hooks *h, int besides_fd)
{
	struct pollfd p[2] = { { .fd = h->end_fd, .events = POLLIN },
			       { .fd = besides_fd, .events = POLLIN } };

	while (poll(p, besides_fd < 0 ? 1 : 2, besides_fd < 0 ? 0 : -1) < 0 && errno == EINTR)
		;
	return p[0].revents;
}

static struct outcome run(const struct hooks *h, const char *path, char *const *env)
{
	char *argv[] = { (char *)(uintptr_t)path, NULL };
	struct outcome o = { 0 };
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		return o;
	pid = fork();
	if (!pid)
		watch_over(path, argv, env, fds[1], h->d->conf.hook_timeout_ns);
	close(fds[1]);
	if (pid > 0 && is_over(h, fds[0]))
		kill(pid, SIGTERM);
	if (pid > 0 && read(fds[0], &o, sizeof(o)) != sizeof(o))
		o.known = false;
	close(fds[0]);
	return o;
}

static void tell(struct daemon *d, const char *vm, const char *name, const struct outcome *o)
{
	char limit[32];

	if (!o->known)
		events_add(d, vm, "hook.failed", "hook %s could not be run", name);
	else if (o->late)
		events_add(d, vm, "hook.failed", "hook %s was ended after %s", name,
			   text_duration(d->conf.hook_timeout_ns, limit, sizeof(limit)));
	else if (WIFSIGNALED(o->status))
		events_add(d, vm, "hook.failed", "hook %s: signal %d", name, WTERMSIG(o->status));
	else if (WEXITSTATUS(o->status))
		events_add(d, vm, "hook.failed", "hook %s: exit status %d", name,
			   WEXITSTATUS(o->status));
}

/* --- all of them ----------------------------------------------------------------------------- */

/* As run-parts has it: no dots, so no backups of editors and no packages' leftovers. */
static int is_hook(const struct dirent *e)
{
	return e->d_name[0] && !e->d_name[strspn(e->d_name, "abcdefghijklmnopqrstuvwxyz"
							    "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
							    "0123456789_-")];
}

/* What others could change would give them our rights. */
static bool may_run(const char *path)
{
	struct stat st;

	if (stat(path, &st) || !S_ISREG(st.st_mode) || !(st.st_mode & S_IXUSR))
		return false;
	if ((st.st_uid && st.st_uid != geteuid()) || st.st_mode & (S_IWGRP | S_IWOTH)) {
		log_warning("hook=%s error=\"others than root may write it\"", path);
		return false;
	}
	return true;
}

static void put_env(struct environment *env, const char *name, const char *value)
{
	if (env->n < ENV_MAX && asprintf(&env->line[env->n], "%s=%s", name, value) >= 0)
		env->n++;
	env->line[env->n] = NULL;
}

static void run_all(struct hooks *h, struct json_object *event, const char *line)
{
	struct environment env = { .n = 0 };
	const char *dir = h->d->conf.hooks_dir, *vm = json_text(event, "vm", NULL);
	struct dirent **list = NULL;
	int n = scandir(dir, &list, is_hook, alphasort);

	put_env(&env, "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	put_env(&env, "POLLUX_HOST", h->d->conf.name);
	put_env(&env, "POLLUX_VM", vm ?: "");
	put_env(&env, "POLLUX_KIND", json_text(event, "kind", ""));
	put_env(&env, "POLLUX_TEXT", json_text(event, "text", ""));
	put_env(&env, "POLLUX_TIME", json_text(event, "time", ""));
	put_env(&env, "POLLUX_EVENT", line);
	for (int i = 0; i < n; i++) {
		struct path path = path_under(dir, "%s", list[i]->d_name);
		if (!is_over(h, -1) && may_run(path.text)) {
			struct outcome o = run(h, path.text, env.line);

			if (!is_over(h, -1))
				tell(h->d, vm, list[i]->d_name, &o);
		}
		free(list[i]);
	}
	free(list);
	for (unsigned int i = 0; i < env.n; i++)
		free(env.line[i]);
}

static void *follow(void *opaque)
{
	struct hooks *h = opaque;
	eventfd_t ignored;

	pthread_setname_np(pthread_self(), "hooks");
	while (!is_over(h, -1)) {
		cleanup_free char *line = events_next(h->d, h->seen, &h->seen);
		cleanup_json struct json_object *event = NULL;

		if (!line) {
			if (!is_over(h, h->wake_fd))
				eventfd_read(h->wake_fd, &ignored);
			continue;
		}
		if (!json_parse(line, "event", &event, NULL) &&
		    strncmp(json_text(event, "kind", ""), "hook.", 5))
			run_all(h, event, line);
	}
	return NULL;
}

int hooks_open(struct daemon *d, struct hooks **ret)
{
	struct hooks *h = calloc(1, sizeof(*h));
	int r;

	if (!h)
		return -ENOMEM;
	h->d = d;
	h->seen = events_before(d, 0);
	h->wake_fd = eventfd(0, EFD_CLOEXEC);
	h->end_fd = eventfd(0, EFD_CLOEXEC);
	r = h->wake_fd < 0 || h->end_fd < 0 ? -EMFILE
					    : -pthread_create(&h->thread, NULL, follow, h);
	if (r) {
		err_close_fd(&h->wake_fd);
		err_close_fd(&h->end_fd);
		free(h);
		return r;
	}
	*ret = h;
	return 0;
}

void hooks_wake(struct hooks *h)
{
	if (h)
		eventfd_write(h->wake_fd, 1);
}

void hooks_close(struct hooks *h)
{
	if (!h)
		return;
	eventfd_write(h->end_fd, 1);
	pthread_join(h->thread, NULL);
	close(h->wake_fd);
	close(h->end_fd);
	free(h);
}
