/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ask: what a pollux-ha process itself says of its VM, as JSON; `pollux status` shows what polluxd
 * last heard, which may be some 300 ms old.
 *
 *	ask SOCKET
 */
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/ipc.h"

int main(int argc, char **argv)
{
	struct json_object *answer, *status = NULL;
	char *text;
	int r;

	if (argc != 2) {
		fprintf(stderr, "usage: ask SOCKET\n");
		return 2;
	}
	r = ipc_call(argv[1], "{\"verb\":\"status\"}", clock_now_ns() + 5 * NS_PER_S, &text);
	if (r) {
		fprintf(stderr, "ask: %s: %s\n", argv[1], strerror(-r));
		return 1;
	}
	answer = json_tokener_parse(text);
	if (!answer || !json_object_object_get_ex(answer, "status", &status)) {
		fprintf(stderr, "ask: %s: %s\n", argv[1], text);
		return 1;
	}
	puts(json_object_to_json_string(status));
	json_object_put(answer);
	free(text);
	return 0;
}
