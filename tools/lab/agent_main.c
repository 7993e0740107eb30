/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lab-agent: the lab's hand inside a node, and the hand's other end.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "tools/lab/agent.h"

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	if (argc == 2 && strcmp(argv[1], "serve") == 0)
		return agent_serve();
	if (argc == 2 && strcmp(argv[1], "keys") == 0)
		return agent_keys();
	if (argc == 2 && strcmp(argv[1], "tsc") == 0)
		return agent_tsc();
	if (argc >= 4 && strcmp(argv[1], "call") == 0)
		return agent_call(argv[2], 0, argv + 3);
	if (argc >= 4 && strcmp(argv[1], "terminal") == 0)
		return agent_call(argv[2], 1, argv + 3);
	if (argc == 3 && strcmp(argv[1], "console") == 0)
		return agent_console(argv[2]);
	if (argc >= 4 && strcmp(argv[1], "forward") == 0)
		return agent_forward(argv[2], argv + 3);
	fprintf(stderr,
		"usage: lab-agent serve | keys | tsc | call HOST CMD... | terminal HOST CMD... | "
		"console SOCKET | forward PORT CMD...\n");
	return 2;
}
