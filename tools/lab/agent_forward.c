/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A port of this machine's loopback that leads into the lab: each connection runs
 * the given command with the connection as its input and output. So a browser
 * here shows a dashboard that listens on a node's loopback alone.
 */
#include "tools/lab/agent.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/err.h"

int agent_forward(const char *port, char **argv)
{
	struct sockaddr_in here = { .sin_family = AF_INET,
				    .sin_port = htons((uint16_t)atoi(port)),
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int one = 1;

	signal(SIGCHLD, SIG_IGN);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (struct sockaddr *)&here, sizeof(here)) < 0 || listen(fd, 16) < 0) {
		perror("lab-agent: forward");
		return 1;
	}
	fprintf(stderr, "http://127.0.0.1:%s/ leads into the lab; end with ctrl-c\n", port);
	for (;;) {
		int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

		if (client < 0)
			continue;
		if (fork() == 0) {
			signal(SIGCHLD, SIG_DFL);
			dup2(client, STDIN_FILENO);
			dup2(client, STDOUT_FILENO);
			execvp(argv[0], argv);
			_exit(127);
		}
		close(client);
	}
}
