/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent in the node: runs what the lab asks for. One process a connection,
 * single-threaded; the caller's going away kills the command's process group.
 *
 * A command is over when its first process ends, not when its pipes close: a
 * daemon it left behind would otherwise hold the caller forever.
 */
#include "tools/lab/agent.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/cursor.h"
#include "base/err.h"

/* The command and what connects it; descriptors are -1 once closed. */
struct command {
	int client;
	int child_fd; /* signalfd for SIGCHLD */
	pid_t pid;
	int input;
	int output;
	int errors;
	/* What the caller sent and the command has not read yet, in `buf`. */
	size_t pending_at;
	size_t pending_len;
	char *argv[AGENT_ARGS_MAX + 3];
	uint8_t text[AGENT_FRAME_MAX];
	uint8_t buf[AGENT_FRAME_MAX]; /* input */
	uint8_t out[AGENT_FRAME_MAX];
};

static struct command the_command;

static void close_one(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Splits a COMMAND frame into argv; a single argument is for the shell. */
static int parse_command(struct command *cmd, size_t len, bool *ret_terminal)
{
	struct cursor c = cursor_over(cmd->text, len);
	bool terminal = cursor_get_u8(&c) != 0;
	int argc = 0;

	if (!cursor_ok(&c) || len < 2 || cmd->text[len - 1] != '\0')
		return -EPROTO;
	while (cursor_left(&c) > 0) {
		char *arg = (char *)c.pos;

		if (argc == AGENT_ARGS_MAX)
			return -E2BIG;
		cursor_get_view(&c, strlen(arg) + 1);
		cmd->argv[argc++] = arg;
	}
	if (argc == 1) {
		cmd->argv[2] = cmd->argv[0];
		cmd->argv[0] = "/bin/sh";
		cmd->argv[1] = "-c";
		argc = 3;
	}
	cmd->argv[argc] = NULL;
	*ret_terminal = terminal;
	return 0;
}

static void become_command(struct command *cmd)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	execvp(cmd->argv[0], cmd->argv);
	dprintf(STDERR_FILENO, "lab-agent: %s: %s\n", cmd->argv[0], strerror(errno));
	_exit(127);
}

static int start_on_terminal(struct command *cmd)
{
	int master;
	pid_t pid = forkpty(&master, NULL, NULL, NULL);

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		close(cmd->client);
		become_command(cmd);
	}
	cmd->pid = pid;
	cmd->output = master;
	cmd->input = dup(master);
	fcntl(master, F_SETFL, O_NONBLOCK);
	return 0;
}

static int start_on_pipes(struct command *cmd)
{
	int in[2], out[2], err[2];
	pid_t pid;

	if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		setsid();
		dup2(in[0], STDIN_FILENO);
		dup2(out[1], STDOUT_FILENO);
		dup2(err[1], STDERR_FILENO);
		become_command(cmd);
	}
	close(in[0]);
	close(out[1]);
	close(err[1]);
	cmd->pid = pid;
	cmd->input = in[1];
	cmd->output = out[0];
	cmd->errors = err[0];
	fcntl(cmd->input, F_SETFL, O_NONBLOCK);
	return 0;
}

/* Passes on what is there; closes the source at its end. */
static int forward(struct command *cmd, int *fd, enum agent_frame type)
{
	ssize_t n = read(*fd, cmd->out, sizeof(cmd->out));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n <= 0) {
		close_one(fd);
		return 0;
	}
	return agent_send(cmd->client, type, cmd->out, (size_t)n);
}

static int drain(struct command *cmd, int *fd, enum agent_frame type)
{
	int r = 0;

	if (*fd < 0)
		return 0;
	fcntl(*fd, F_SETFL, O_NONBLOCK);
	while (r == 0 && *fd >= 0) {
		struct pollfd p = { .fd = *fd, .events = POLLIN };

		if (poll(&p, 1, 0) <= 0)
			break;
		r = forward(cmd, fd, type);
	}
	return r;
}

/*
 * A command may not read before its output is taken: input waits in the buffer,
 * and no more is received, so that neither side can hold the other up for good.
 */
static void feed(struct command *cmd)
{
	ssize_t n = write(cmd->input, cmd->buf + cmd->pending_at, cmd->pending_len);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		close_one(&cmd->input);
		cmd->pending_len = 0;
		return;
	}
	cmd->pending_at += (size_t)n;
	cmd->pending_len -= (size_t)n;
}

static int take_input(struct command *cmd)
{
	enum agent_frame type;
	size_t len;
	int r = agent_receive(cmd->client, &type, cmd->buf, &len);

	if (r < 0)
		return r;
	if (type != AGENT_INPUT)
		return -EPROTO;
	if (len == 0)
		close_one(&cmd->input);
	cmd->pending_at = 0;
	cmd->pending_len = cmd->input >= 0 ? len : 0;
	return 0;
}

/* Moves bytes until the command has ended (0, its status) or the caller has gone. */
static int relay(struct command *cmd, int *ret_status)
{
	for (;;) {
		bool waiting = cmd->pending_len > 0;
		struct pollfd p[] = {
			{ .fd = cmd->client, .events = waiting ? POLLRDHUP : POLLIN },
			{ .fd = cmd->output, .events = POLLIN },
			{ .fd = cmd->errors, .events = POLLIN },
			{ .fd = cmd->child_fd, .events = POLLIN },
			{ .fd = waiting ? cmd->input : -1, .events = POLLOUT },
		};
		int r = 0;

		if (poll(p, ARRAY_SIZE(p), -1) < 0 && errno != EINTR)
			return -errno;
		if (p[0].revents)
			r = waiting ? -ECONNRESET : take_input(cmd);
		if (p[4].revents)
			feed(cmd);
		if (r == 0 && p[1].revents)
			r = forward(cmd, &cmd->output, AGENT_OUTPUT);
		if (r == 0 && p[2].revents)
			r = forward(cmd, &cmd->errors, AGENT_ERRORS);
		if (r < 0)
			return r;
		if (p[3].revents && waitpid(cmd->pid, ret_status, WNOHANG) == cmd->pid)
			return 0;
	}
}

static void finish(struct command *cmd, int status)
{
	uint8_t code[4];
	struct cursor c = cursor_over(code, sizeof(code));

	if (drain(cmd, &cmd->output, AGENT_OUTPUT) < 0 ||
	    drain(cmd, &cmd->errors, AGENT_ERRORS) < 0)
		return;
	cursor_put_u32(
		&c, (uint32_t)(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status)));
	agent_send(cmd->client, AGENT_EXIT, code, sizeof(code));
}

static void serve_one(int client)
{
	struct command *cmd = &the_command;
	enum agent_frame type;
	bool terminal;
	sigset_t child;
	size_t len;
	int status = 0;
	int r;

	*cmd = (struct command){ .client = client, .input = -1, .output = -1, .errors = -1 };
	if (agent_receive(client, &type, cmd->text, &len) < 0 || type != AGENT_COMMAND)
		return;
	if (parse_command(cmd, len, &terminal) < 0)
		return;
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	signal(SIGCHLD, SIG_DFL);
	sigprocmask(SIG_BLOCK, &child, NULL);
	cmd->child_fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	if (cmd->child_fd < 0)
		return;
	r = terminal ? start_on_terminal(cmd) : start_on_pipes(cmd);
	if (r == 0)
		r = relay(cmd, &status);
	if (r == 0)
		finish(cmd, status);
	else if (cmd->pid > 0)
		kill(-cmd->pid, SIGKILL);
}

int agent_serve(void)
{
	struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons(AGENT_PORT) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int one = 1;

	signal(SIGCHLD, SIG_IGN);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (struct sockaddr *)&here, sizeof(here)) < 0 || listen(fd, 64) < 0) {
		perror("lab-agent: listen");
		return 1;
	}
	for (;;) {
		int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

		if (client < 0)
			continue;
		setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		setsockopt(client, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
		if (fork() == 0) {
			serve_one(client);
			_exit(0);
		}
		close(client);
	}
}
