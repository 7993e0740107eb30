/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pollux-ha: replicates one VM, from this host (primary) or to it (backup).
 */
#include <getopt.h>
#include <stdio.h>

#include "base/err.h"
#include "base/fault.h"
#include "base/log.h"
#include "ha/engine.h"

static int usage(FILE *to, int code)
{
	fprintf(to, "usage: pollux-ha --settings FILE\n");
	return code;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "settings", required_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	const char *path = NULL;
	struct settings settings;
	struct reason why = { 0 };
	char tag[96];
	int c, r;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (c == 'h')
			return usage(stdout, 0);
		if (c != 's')
			return usage(stderr, 2);
		path = optarg;
	}
	if (!path || optind < argc)
		return usage(stderr, 2);
	log_open("pollux-ha");
	if (fault_open()) {
		log_error("bad POLLUX_FAULT");
		return 2;
	}
	r = settings_read(path, &settings, &why);
	if (!r) {
		snprintf(tag, sizeof(tag), "vm=%s role=%s", settings.vm,
			 settings.side == ROLE_PRIMARY ? "primary" : "backup");
		log_tag(tag);
		r = engine_run(&settings, &why);
		settings_free(&settings);
	}
	if (r < 0)
		log_error("%s", why.text[0] ? why.text : strerror(-r));
	return r < 0 ? 1 : 0;
}
