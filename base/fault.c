/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fault.h"

#include <stdio.h>
#include <unistd.h>

#include "base/err.h"

enum fault_action { FAULT_FAIL, FAULT_ONCE, FAULT_EXIT };

#define FAULT_MAX 16

static struct fault_point {
	char name[48];
	unsigned long nth;
	unsigned long passed;
	enum fault_action action;
} points[FAULT_MAX];
static unsigned int nr_points;
bool fault_armed;

static int parse_action(const char *text, enum fault_action *ret)
{
	if (!strcmp(text, "fail"))
		*ret = FAULT_FAIL;
	else if (!strcmp(text, "once"))
		*ret = FAULT_ONCE;
	else if (!strcmp(text, "exit"))
		*ret = FAULT_EXIT;
	else
		return -EINVAL;
	return 0;
}

static int parse_point(const char *item, struct fault_point *ret)
{
	struct fault_point p = { .nth = 1 };
	char action[8] = "fail";

	if (sscanf(item, "%47[^:]:%lu:%7s", p.name, &p.nth, action) < 1 || !p.nth)
		return -EINVAL;
	if (parse_action(action, &p.action))
		return -EINVAL;
	*ret = p;
	return 0;
}

int fault_open(void)
{
	const char *env = getenv("POLLUX_FAULT");
	cleanup_free char *list = env ? strdup(env) : NULL;
	char *rest = list;

	nr_points = 0;
	while (list && rest) {
		char *item = strsep(&rest, ",");

		if (nr_points == FAULT_MAX || parse_point(item, &points[nr_points]))
			return -EINVAL;
		nr_points++;
	}
	fault_armed = nr_points > 0;
	return 0;
}

bool fault_check(const char *name)
{
	for (unsigned int i = 0; i < nr_points; i++) {
		struct fault_point *p = &points[i];
		unsigned long n;

		if (strcmp(p->name, name))
			continue;
		n = __atomic_add_fetch(&p->passed, 1, __ATOMIC_RELAXED);
		if (n < p->nth)
			return false;
		switch (p->action) {
		case FAULT_FAIL:
			return true;
		case FAULT_ONCE:
			return n == p->nth;
		case FAULT_EXIT:
			_exit(86);
		}
	}
	return false;
}
