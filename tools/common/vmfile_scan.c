/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/common/vmfile_scan.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#include "base/err.h"

struct scan {
	const char *at, *end;
	unsigned int line;
	unsigned int depth; /* of lists */
};

static bool is_name(char c, bool first)
{
	return c == '_' || isalpha((unsigned char)c) || (!first && isdigit((unsigned char)c));
}

/* A string ends at its quote or, as libxlutil has it, not beyond its line. */
static void skip_string(struct scan *s)
{
	char quote = *s->at++;

	while (s->at < s->end && *s->at != quote && *s->at != '\n')
		s->at += *s->at == '\\' && s->end - s->at > 1 && s->at[1] != '\n' ? 2 : 1;
	if (s->at < s->end && *s->at == quote)
		s->at++;
}

static void skip_comment(struct scan *s)
{
	while (s->at < s->end && *s->at != '\n')
		s->at++;
}

static void skip_other(struct scan *s)
{
	switch (*s->at) {
	case '\n':
		s->line++;
		break;
	case '[':
		s->depth++;
		break;
	case ']':
		s->depth -= s->depth > 0;
		break;
	}
	s->at++;
}

static bool assigns(const struct scan *s)
{
	const char *p = s->at;

	while (p < s->end && (*p == ' ' || *p == '\t' || *p == '\r'))
		p++;
	if (p < s->end && *p == '+')
		p++;
	return p < s->end && *p == '=';
}

static int take_name(struct scan *s, vmfile_key_fn *fn, void *user)
{
	const char *start = s->at;
	char key[VMFILE_KEY_MAX + 1];
	size_t len;

	while (s->at < s->end && is_name(*s->at, false))
		s->at++;
	if (s->depth || !assigns(s))
		return 0;
	len = (size_t)(s->at - start);
	if (len > VMFILE_KEY_MAX)
		return -E2BIG;
	memcpy(key, start, len);
	key[len] = '\0';
	return fn(user, key, s->line);
}

int vmfile_scan(const char *text, size_t len, vmfile_key_fn *fn, void *user, unsigned int *ret_line)
{
	struct scan s = { .at = text, .end = text + len, .line = 1 };
	int r = 0;

	while (s.at < s.end && !r) {
		if (*s.at == '#')
			skip_comment(&s);
		else if (*s.at == '"' || *s.at == '\'')
			skip_string(&s);
		else if (is_name(*s.at, true))
			r = take_name(&s, fn, user);
		else
			skip_other(&s);
	}
	*ret_line = s.line;
	return r;
}
