/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pollux vm console: the terminal becomes the VM's serial port, until Ctrl-] or until the
 * VM ends. The terminal's settings are put back however it ends.
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>

#include "base/err.h"
#include "tools/cli/cli.h"
#include "tools/common/json.h"

#define ESCAPE 0x1d /* Ctrl-] */

static struct termios saved;
static bool is_raw;

static void restore_terminal(void)
{
	if (is_raw)
		tcsetattr(STDIN_FILENO, TCSANOW, &saved);
	is_raw = false;
}

static void on_end(int sig)
{
	restore_terminal();
	_exit(128 + sig);
}

static void make_raw(void)
{
	struct termios raw;

	if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &saved) < 0)
		return;
	raw = saved;
	cfmakeraw(&raw);
	is_raw = true;
	signal(SIGTERM, on_end);
	signal(SIGHUP, on_end);
	tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

static int connect_to(const char *path)
{
	cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un at = { .sun_family = AF_UNIX };

	if (fd < 0)
		return -errno;
	if (strlen(path) >= sizeof(at.sun_path))
		return -ENAMETOOLONG;
	memcpy(at.sun_path, path, strlen(path) + 1);
	if (connect(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
		return -errno;
	return take_fd(&fd);
}

static bool write_all(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		data += n;
		len -= (size_t)n;
	}
	return true;
}

/* False: over. */
static bool carry(int from, int to, bool typed)
{
	char data[4096], *escape;
	ssize_t n = read(from, data, sizeof(data));

	if (n < 0 && errno == EINTR)
		return true;
	if (n <= 0)
		return false;
	escape = typed && is_raw ? memchr(data, ESCAPE, (size_t)n) : NULL;
	if (escape)
		n = escape - data;
	return write_all(to, data, (size_t)n) && !escape;
}

static void run(int fd)
{
	struct pollfd p[] = { { .fd = fd, .events = POLLIN },
			      { .fd = STDIN_FILENO, .events = POLLIN } };

	while (poll(p, ARRAY_SIZE(p), -1) >= 0 || errno == EINTR) {
		if (p[0].revents && !carry(fd, STDOUT_FILENO, false))
			return;
		if (p[1].revents && !carry(STDIN_FILENO, fd, true)) {
			if (is_raw)
				return;
			/* Input from a pipe has ended: what the VM says still counts. */
			p[1].fd = -1;
			shutdown(fd, SHUT_WR);
		}
	}
}

int cli_vm_console(const struct cli *cli)
{
	cleanup_json struct json_object *reply = NULL;
	cleanup_close int fd = -1;
	int r = cli_ask(cli_request("vm.console", cli->args[0]), &reply);

	if (r)
		return r;
	fd = connect_to(json_text(reply, "path", ""));
	if (fd < 0)
		return cli_fail(fd == -EACCES ? CLI_NOT_PERMITTED : CLI_FAILED,
				"the console of %s: %s; is somebody else at it?", cli->args[0],
				strerror(-fd));
	if (isatty(STDIN_FILENO))
		fprintf(stderr, "console of %s; Ctrl-] leaves it\n", cli->args[0]);
	make_raw();
	run(fd);
	restore_terminal();
	fputc('\n', stderr);
	return CLI_DONE;
}
