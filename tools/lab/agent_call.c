/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The caller's end of the lab agent: runs a command in a node as if it were
 * local (standard input, output, errors, exit status), and joins the terminal
 * to a serial console. Single-threaded.
 */
#include "tools/lab/agent.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>

#include "base/cursor.h"
#include "base/err.h"

#define EXIT_UNREACHABLE 255 /* as ssh has it: not the command's own status */
#define CONNECT_TRY_S	 5
#define KEY_LEAVE	 0x1d /* ctrl-] */

static struct termios saved_terminal;

static void restore_terminal(void)
{
	tcsetattr(STDIN_FILENO, TCSANOW, &saved_terminal);
}

static void raw_terminal(void)
{
	struct termios raw;

	if (tcgetattr(STDIN_FILENO, &saved_terminal) < 0)
		return;
	raw = saved_terminal;
	cfmakeraw(&raw);
	tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	atexit(restore_terminal);
}

static int connect_agent(const char *host)
{
	struct sockaddr_in there = { .sin_family = AF_INET, .sin_port = htons(AGENT_PORT) };
	struct timeval patience = { .tv_sec = CONNECT_TRY_S };
	struct timeval forever = { 0 };
	int one = 1, idle = 5, count = 3, gone_ms = 20000;
	int fd;

	if (inet_pton(AF_INET, host, &there.sin_addr) != 1)
		return -EINVAL;
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&there, sizeof(there)) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &forever, sizeof(forever));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	/* A node that is killed says nothing: notice it within 20 s, be it while it is asked. */
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &gone_ms, sizeof(gone_ms));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	return fd;
}

static int send_command(int fd, int terminal, char **argv)
{
	static uint8_t text[AGENT_FRAME_MAX];
	struct cursor c = cursor_over(text, sizeof(text));

	cursor_put_u8(&c, (uint8_t)terminal);
	for (; *argv; argv++)
		cursor_put_bytes(&c, *argv, strlen(*argv) + 1);
	if (!cursor_ok(&c))
		return -E2BIG;
	return agent_send(fd, AGENT_COMMAND, text, sizeof(text) - cursor_left(&c));
}

/* One frame from the agent: 1 when it was the last. */
static int take_frame(int fd, int *ret_code)
{
	static uint8_t buf[AGENT_FRAME_MAX];
	enum agent_frame type;
	struct cursor c;
	size_t len;
	int r = agent_receive(fd, &type, buf, &len);

	if (r < 0)
		return r;
	switch (type) {
	case AGENT_OUTPUT:
		agent_write_all(STDOUT_FILENO, buf, len);
		return 0;
	case AGENT_ERRORS:
		agent_write_all(STDERR_FILENO, buf, len);
		return 0;
	case AGENT_EXIT:
		c = cursor_over(buf, len);
		*ret_code = (int)cursor_get_u32(&c);
		return cursor_done(&c) ? 1 : -EPROTO;
	case AGENT_COMMAND:
	case AGENT_INPUT:
		break;
	}
	return -EPROTO;
}

static int relay(int fd, int *ret_code)
{
	static uint8_t buf[AGENT_FRAME_MAX];
	int input = STDIN_FILENO;

	for (;;) {
		struct pollfd p[] = {
			{ .fd = fd, .events = POLLIN },
			{ .fd = input, .events = POLLIN },
		};
		int r = 0;

		if (poll(p, ARRAY_SIZE(p), -1) < 0 && errno != EINTR)
			return -errno;
		if (p[0].revents) {
			r = take_frame(fd, ret_code);
			if (r != 0)
				return r;
		}
		if (p[1].revents) {
			ssize_t n = read(input, buf, sizeof(buf));

			if (n <= 0)
				input = -1;
			/* A failing send means that the agent has more to tell: read on. */
			agent_send(fd, AGENT_INPUT, buf, n > 0 ? (size_t)n : 0);
		}
	}
}

int agent_call(const char *host, int terminal, char **argv)
{
	int code = EXIT_UNREACHABLE;
	int fd = connect_agent(host);
	int r = fd < 0 ? fd : send_command(fd, terminal, argv);

	if (terminal && isatty(STDIN_FILENO))
		raw_terminal();
	if (r == 0)
		r = relay(fd, &code);
	if (r < 0)
		fprintf(stderr, "lab-agent: %s: %s\n", host, strerror(-r));
	return r < 0 ? EXIT_UNREACHABLE : code;
}

int agent_console(const char *socket_path)
{
	struct sockaddr_un there = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	uint8_t buf[4096];

	if (strlen(socket_path) >= sizeof(there.sun_path)) {
		fprintf(stderr, "lab-agent: socket path is longer than %zu bytes\n",
			sizeof(there.sun_path) - 1);
		return 2;
	}
	strcpy(there.sun_path, socket_path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&there, sizeof(there)) < 0) {
		perror(socket_path);
		return 1;
	}
	if (isatty(STDIN_FILENO)) {
		fprintf(stderr, "Leave with ctrl-]\r\n");
		raw_terminal();
	}
	for (;;) {
		struct pollfd p[] = {
			{ .fd = fd, .events = POLLIN },
			{ .fd = STDIN_FILENO, .events = POLLIN },
		};
		ssize_t n;

		if (poll(p, ARRAY_SIZE(p), -1) < 0 && errno != EINTR)
			return 1;
		if (p[0].revents) {
			n = read(fd, buf, sizeof(buf));
			if (n <= 0 || agent_write_all(STDOUT_FILENO, buf, (size_t)n) < 0)
				return 0;
		}
		if (p[1].revents) {
			n = read(STDIN_FILENO, buf, sizeof(buf));
			if (n <= 0 || memchr(buf, KEY_LEAVE, (size_t)n))
				return 0;
			agent_write_all(fd, buf, (size_t)n);
		}
	}
}
