/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lab-client: options. See client.h for what it is.
 */
#include "tests/lab/client.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"

volatile sig_atomic_t client_stop;

static const struct option OPTIONS[] = {
	{ "host", required_argument, NULL, 'h' },
	{ "port", required_argument, NULL, 'p' },
	{ "window", required_argument, NULL, 'w' },
	{ "rate", required_argument, NULL, 'r' },
	{ "seconds", required_argument, NULL, 's' },
	{ "count", required_argument, NULL, 'c' },
	{ "drain", required_argument, NULL, 'd' },
	{ "status", required_argument, NULL, 'S' },
	{ "plain", no_argument, NULL, 'P' },
	{ "progress", no_argument, NULL, 'v' },
	{ NULL, 0, NULL, 0 },
};

static int usage(void)
{
	fprintf(stderr,
		"usage: lab-client load  [--window N] [--rate PER_SECOND] [--seconds N] [--count "
		"N]\n"
		"                        [--drain SECONDS] [--status FILE] [--plain] [--progress]\n"
		"       lab-client check --count N     read keys 1..N back\n"
		"       lab-client aof FILE --count N  find keys 1..N in an append-only file\n"
		"       lab-client counters [--window N] [--status FILE] [--drain SECONDS]\n"
		"       lab-client ring FILE --count DISK\n"
		"       all: --host ADDRESS (192.168.77.100), --port PORT (6379)\n");
	return 2;
}

static void stop(int signal_number)
{
	(void)signal_number;
	client_stop = 1;
}

static bool take_number(uint64_t *ret, const char *text)
{
	uint64_t n = resp_number(text, strlen(text));

	if (n == 0 && strcmp(text, "0") != 0)
		return false;
	*ret = n;
	return true;
}

static bool take_option(struct client_options *opt, int c)
{
	uint64_t seconds;

	switch (c) {
	case 'h':
		opt->host = optarg;
		return true;
	case 'p':
		opt->port = optarg;
		return true;
	case 'S':
		opt->status_file = optarg;
		return true;
	case 'P':
		return opt->plain = true;
	case 'v':
		return opt->progress = true;
	case 'w':
		return take_number(&opt->window, optarg);
	case 'r':
		return take_number(&opt->rate, optarg);
	case 's':
		return take_number(&opt->seconds, optarg);
	case 'c':
		return take_number(&opt->count, optarg);
	case 'd':
		if (!take_number(&seconds, optarg))
			return false;
		opt->drain_ns = seconds * NS_PER_S;
		return true;
	}
	return false;
}

static void ask(int signal_number)
{
	(void)signal_number;
	client_asks++;
}

int main(int argc, char **argv)
{
	struct client_options opt = {
		.host = "192.168.77.100", .port = "6379", .window = 16, .drain_ns = 60 * NS_PER_S
	};
	struct sigaction on_stop = { .sa_handler = stop }, on_ask = { .sa_handler = ask };
	int c;

	sigaction(SIGTERM, &on_stop, NULL);
	sigaction(SIGINT, &on_stop, NULL);
	sigaction(SIGUSR1, &on_ask, NULL);
	signal(SIGPIPE, SIG_IGN);
	while ((c = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1)
		if (!take_option(&opt, c))
			return usage();
	argc -= optind;
	argv += optind;
	if (argc == 1 && strcmp(argv[0], "load") == 0)
		return client_load(&opt);
	if (argc == 1 && strcmp(argv[0], "check") == 0 && opt.count)
		return client_check(&opt);
	if (argc == 1 && strcmp(argv[0], "counters") == 0)
		return client_counters(&opt);
	if (argc == 2 && strcmp(argv[0], "ring") == 0 && opt.count) {
		opt.file = argv[1];
		return client_ring(&opt);
	}
	if (argc == 2 && strcmp(argv[0], "aof") == 0 && opt.count) {
		opt.file = argv[1];
		return client_aof(&opt);
	}
	return usage();
}
