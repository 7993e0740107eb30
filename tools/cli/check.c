/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pollux check: for monitoring. One line, and the exit status of a Nagios plugin: 0 OK, 1 WARNING,
 * 2 CRITICAL, 3 UNKNOWN. Source: the Monitoring Plugins' development guidelines.
 */
#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/err.h"
#include "tools/cli/cli.h"
#include "tools/common/json.h"
#include "tools/common/text.h"

#define WARNING_NS  (5 * NS_PER_S)
#define CRITICAL_NS (30 * NS_PER_S)
#define LINE_MAX    2048u
#define DAY_NS	    (24 * 3600 * NS_PER_S)
#define SOON_NS	    (30 * DAY_NS) /* a certificate ends */
#define AT_ONCE_NS  (7 * DAY_NS)

enum grade { OK, WARNING, CRITICAL, UNKNOWN };

struct verdict {
	enum grade grade;
	unsigned int nr[UNKNOWN]; /* VMs of each grade */
	unsigned int left;	  /* nobody asked for their protection */
	char text[LINE_MAX], data[LINE_MAX];
	size_t text_len, data_len;
};

__attribute__((format(printf, 4, 5))) static void add(char *ret, size_t *len, const char *between,
						      const char *fmt, ...)
{
	va_list ap;
	int n = snprintf(ret + *len, LINE_MAX - *len, "%s", *len ? between : "");

	*len = MIN(*len + (size_t)n, LINE_MAX - 1);
	va_start(ap, fmt);
	n = vsnprintf(ret + *len, LINE_MAX - *len, fmt, ap);
	va_end(ap);
	*len = MIN(*len + (size_t)n, LINE_MAX - 1);
}

static void raise_to(struct verdict *v, enum grade grade)
{
	v->nr[grade]++;
	v->grade = MAX(v->grade, grade);
}

/* What a label of the performance data cannot hold: names have none of it. */
static void add_lag(struct verdict *v, const char *name, uint64_t lag, const struct cli *cli)
{
	add(v->data, &v->data_len, " ", "%s_lag=%.3fs;%.3f;%.3f;0", name, (double)lag / 1e9,
	    (double)cli->warning_ns / 1e9, (double)cli->critical_ns / 1e9);
}

static void judge_protected(struct verdict *v, struct json_object *vm, const struct cli *cli)
{
	const char *name = json_text(vm, "name", "?");
	uint64_t lag;
	char text[32];

	if (json_get_u64(json_member(vm, "lag_ns"), "now", &lag, NULL) < 0) {
		raise_to(v, OK);
		return;
	}
	add_lag(v, name, lag, cli);
	raise_to(v, lag >= cli->critical_ns ? CRITICAL : lag >= cli->warning_ns ? WARNING : OK);
	if (lag >= cli->warning_ns)
		add(v->text, &v->text_len, "; ", "%s lags by %s", name,
		    text_duration(lag, text, sizeof(text)));
}

/* A VM of which nobody ever asked for protection is told of, and alarming only where it is
 * asked for by name. A copy is under way, or its backup is away. */
static void judge(struct verdict *v, struct json_object *vm, const struct cli *cli)
{
	const char *name = json_text(vm, "name", "?"), *reason = json_text(vm, "reason", "");
	bool named = cli->nr_args > 0;

	if (json_flag(vm, "protected")) {
		judge_protected(v, vm, cli);
	} else if (!strcmp(reason, "never asked for") && !named) {
		v->left++;
	} else if (!strcmp(json_text(vm, "role", ""), "stopped") && !named) {
		return; /* it runs elsewhere, and is looked at there */
	} else {
		raise_to(v, !strcmp(json_text(vm, "state", ""), "copying") ? WARNING : CRITICAL);
		add(v->text, &v->text_len, "; ", "%s is %s", name,
		    json_text(vm, "word", "not protected"));
	}
}

/* Without it no host hears this one, and no protection begins. */
static void judge_certificate(struct verdict *v, struct json_object *reply)
{
	uint64_t now = json_number(reply, "time_ns", 0), end;

	if (json_get_u64(reply, "certificate_expires_ns", &end, NULL) < 0 || end > now + SOON_NS)
		return;
	v->grade = MAX(v->grade, end > now + AT_ONCE_NS ? WARNING : CRITICAL);
	add(v->text, &v->text_len, "; ", "this host's certificate %s %.10s: pollux host renew",
	    end > now ? "ends on" : "ended on", json_text(reply, "certificate_expires", "?"));
}

static int tell(const struct verdict *v)
{
	static const char *const names[] = { "OK", "WARNING", "CRITICAL", "UNKNOWN" };
	unsigned int ok = v->nr[OK], all = v->nr[OK] + v->nr[WARNING] + v->nr[CRITICAL];

	printf("POLLUX %s: %s%s%u of %u VMs protected", names[v->grade], v->text,
	       v->text_len ? "; " : "", ok, all);
	if (v->left)
		printf(", %u never asked for", v->left);
	printf("%s%s\n", v->data_len ? " | " : "", v->data);
	return (int)v->grade;
}

int cli_check(const struct cli *cli)
{
	struct cli c = *cli;
	cleanup_free struct verdict *v = calloc(1, sizeof(*v));
	cleanup_json struct json_object *reply = NULL;
	struct json_object *vms;

	c.warning_ns = c.warning_ns ?: MIN(WARNING_NS, c.critical_ns ?: WARNING_NS);
	c.critical_ns = c.critical_ns ?: MAX(CRITICAL_NS, c.warning_ns);
	if (c.warning_ns > c.critical_ns) {
		cli_fail(CLI_USAGE, "--warning is above --critical");
		return UNKNOWN;
	}
	if (!v || cli_ask(cli_request("status", cli->nr_args ? cli->args[0] : NULL), &reply) ||
	    json_get_array(reply, "vms", &vms, NULL) < 0) {
		puts("POLLUX UNKNOWN: polluxd does not say");
		return UNKNOWN;
	}
	for (size_t i = 0; i < json_object_array_length(vms); i++)
		judge(v, json_object_array_get_idx(vms, i), &c);
	judge_certificate(v, reply);
	return tell(v);
}
