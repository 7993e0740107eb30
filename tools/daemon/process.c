/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/daemon/process.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "tools/common/json.h"

#define FIRST_FREE_FD 10 /* ours, moved out of the way of 0 to 3 in the child */

static int open_pidfd(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

static int send_signal(int pidfd, int sig)
{
	return (int)syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0);
}

/* Field 22 of /proc/PID/stat; the name in field 2 may hold blanks and brackets. */
static int read_start(pid_t pid, uint64_t *ret)
{
	cleanup_close int fd = -1;
	char path[40], text[1024], *at, state;
	unsigned long long start;
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	len = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (len <= 0)
		return -ESRCH;
	text[len] = '\0';
	at = strrchr(text, ')');
	if (!at || sscanf(at + 1,
			  " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
			  "%*s %*s %*s %*s %llu",
			  &state, &start) != 2)
		return -ESRCH;
	if (state == 'Z' || state == 'X')
		return -ESRCH;
	*ret = start;
	return 0;
}

struct child_fds {
	int log, null, pass, report;
};

/* After fork(2) in a program with threads: async-signal-safe calls only. */
__attribute__((noreturn)) static void run_child(const struct process_launch *l,
						const struct child_fds *fds)
{
	sigset_t none;
	int e;

	setsid();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGCHLD, SIG_DFL);
	signal(SIGPIPE, SIG_DFL);
	if (dup2(fds->null, 0) < 0 || dup2(fds->log, 1) < 0 || dup2(fds->log, 2) < 0)
		goto err;
	if (fds->pass >= 0 && dup2(fds->pass, 3) < 0)
		goto err;
	syscall(SYS_close_range, fds->pass >= 0 ? 4 : 3, ~0u, CLOSE_RANGE_CLOEXEC);
	if (chdir("/") < 0)
		goto err;
	execv(l->program, l->argv);
err:
	e = errno;
	if (write(fds->report, &e, sizeof(e)) < 0)
		_exit(126);
	_exit(127);
}

static int move_up(int fd)
{
	int up = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_FREE_FD);

	close(fd);
	return up;
}

static int open_child_fds(const struct process_launch *l, struct child_fds *ret, struct reason *why)
{
	ret->log = move_up(open(l->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640));
	if (ret->log < 0)
		return reason_set(why, EIO, "%s cannot be opened", l->log);
	ret->null = move_up(open("/dev/null", O_RDWR | O_CLOEXEC));
	if (l->pass_fd >= 0)
		ret->pass = fcntl(l->pass_fd, F_DUPFD_CLOEXEC, FIRST_FREE_FD);
	if (ret->null < 0 || (l->pass_fd >= 0 && ret->pass < 0))
		return reason_set(why, EMFILE, "no free descriptor");
	return 0;
}

static void close_child_fds(struct child_fds *fds)
{
	int all[] = { fds->log, fds->null, fds->pass, fds->report };

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (all[i] >= 0)
			close(all[i]);
}

int process_start(const struct process_launch *l, struct process *ret, struct reason *why)
{
	struct child_fds fds = { -1, -1, -1, -1 };
	cleanup_close int from_child = -1;
	int report[2], e = 0, r = open_child_fds(l, &fds, why);
	struct process p = { 0 };

	if (r < 0)
		goto out;
	if (pipe2(report, O_CLOEXEC) < 0) {
		r = reason_set(why, errno, "pipe: %s", strerror(errno));
		goto out;
	}
	from_child = report[0];
	fds.report = move_up(report[1]);
	p.pid = fork();
	if (p.pid == 0)
		run_child(l, &fds);
	if (p.pid < 0) {
		r = reason_set(why, errno, "fork: %s", strerror(errno));
		goto out;
	}
	close(fds.report);
	fds.report = -1;
	/* End of file means that the program runs: the pipe closes on exec. */
	if (read(from_child, &e, sizeof(e)) == (ssize_t)sizeof(e))
		r = reason_set(why, e, "%s: %s", l->program, strerror(e));
	/* One that has ended already has no start time, and so is never alive; the caller that
	 * waits for it finds its last words in the log. */
	else if (read_start(p.pid, &p.start) < 0)
		p.start = 0;
	if (!r)
		*ret = p;
out:
	close_child_fds(&fds);
	return r;
}

bool process_alive(const struct process *p)
{
	uint64_t start;

	return p->pid > 0 && !read_start(p->pid, &start) && start == p->start;
}

int process_open(const struct process *p)
{
	cleanup_close int fd = p->pid > 0 ? open_pidfd(p->pid) : -1;

	/* Opened first, compared then: what is compared is what the descriptor is for. */
	if (fd < 0 || !process_alive(p))
		return -ESRCH;
	return take_fd(&fd);
}

int process_signal(const struct process *p, int sig)
{
	cleanup_close int fd = process_open(p);

	if (fd < 0)
		return 0;
	return send_signal(fd, sig) < 0 && errno != ESRCH ? -errno : 0;
}

int process_wait(const struct process *p, uint64_t deadline_ns)
{
	cleanup_close int fd = process_open(p);
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	uint64_t now = clock_now_ns();

	if (fd < 0)
		return 0;
	for (; now < deadline_ns; now = clock_now_ns())
		if (poll(&pfd, 1, (int)((deadline_ns - now) / NS_PER_MS) + 1) > 0)
			return 0;
	return -ETIMEDOUT;
}

void process_end(const struct process *p, uint64_t patience_ns)
{
	process_signal(p, SIGTERM);
	if (process_wait(p, clock_now_ns() + patience_ns) < 0) {
		process_signal(p, SIGKILL);
		process_wait(p, clock_now_ns() + 5 * NS_PER_S);
	}
}

void process_put(const struct process *p, struct json_object *o)
{
	json_add_u64(o, "pid", (uint64_t)p->pid);
	json_add_u64(o, "start", p->start);
}

struct process process_get(struct json_object *o)
{
	return (struct process){
		.pid = (pid_t)(json_number(o, "pid", 0) & 0x7fffffff),
		.start = json_number(o, "start", 0),
	};
}

void process_last_words(const char *log, char *ret, size_t room)
{
	cleanup_close int fd = open(log, O_RDONLY | O_CLOEXEC);
	char text[1024], *line;
	ssize_t len;

	ret[0] = '\0';
	if (fd < 0)
		return;
	lseek(fd, -(off_t)(sizeof(text) - 1), SEEK_END);
	len = read(fd, text, sizeof(text) - 1);
	while (len > 0 && (unsigned char)text[len - 1] <= ' ')
		len--;
	if (len <= 0)
		return;
	text[len] = '\0';
	line = strrchr(text, '\n');
	line = line ? line + 1 : text;
	/* Without the syslog level that log_line() puts in front. */
	if (line[0] == '<' && line[1] && line[2] == '>')
		line += 3;
	snprintf(ret, room, "%s", line);
}
