/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
	char program[32];
	char tag[96];
	int threshold;
} journal = { .program = "pollux", .threshold = LOG_LEVEL_INFO };

void log_open(const char *program)
{
	const char *level = getenv("POLLUX_LOG_LEVEL");

	snprintf(journal.program, sizeof(journal.program), "%s", program);
	if (level && level[0] >= '0' && level[0] <= '7' && !level[1])
		journal.threshold = level[0] - '0';
}

void log_tag(const char *tag)
{
	snprintf(journal.tag, sizeof(journal.tag), "%s", tag);
}

/* One write(2) a line, so that lines of several threads and processes do not mix. */
void log_line(enum log_level level, const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	int len;

	if ((int)level > journal.threshold)
		return;
	len = snprintf(line, sizeof(line), "<%d>%s: %s%s", level, journal.program, journal.tag,
		       journal.tag[0] ? " " : "");
	va_start(ap, fmt);
	len += vsnprintf(line + len, sizeof(line) - (size_t)len, fmt, ap);
	va_end(ap);
	if (len > (int)sizeof(line) - 2)
		len = (int)sizeof(line) - 2;
	for (int i = 0; i < len; i++)
		if ((unsigned char)line[i] < ' ')
			line[i] = ' ';
	line[len++] = '\n';
	if (write(STDERR_FILENO, line, (size_t)len) < 0)
		return; /* nowhere left to say so */
}
