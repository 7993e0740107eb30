/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/xen/journal.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <xentoollog.h>

#include "base/log.h"

#define TEXT_MAX 200

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char first_error[TEXT_MAX]; /* the lock's */

static enum log_level level_of(xentoollog_level level)
{
	if (level >= XTL_ERROR)
		return LOG_LEVEL_ERROR;
	if (level >= XTL_WARN)
		return LOG_LEVEL_WARNING;
	return level >= XTL_NOTICE ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG;
}

/* The logger is called between a failure and the look at its errno. */
static void say(struct xentoollog_logger *logger, xentoollog_level level, int errnoval,
		const char *context, const char *format, va_list ap)
{
	int saved = errno;
	char text[TEXT_MAX];
	size_t len;

	(void)logger;
	vsnprintf(text, sizeof(text), format, ap);
	len = strcspn(text, "\n");
	text[len] = '\0';
	if (errnoval >= 0)
		snprintf(text + len, sizeof(text) - len, ": %s", strerror(errnoval));
	if (level >= XTL_ERROR) {
		pthread_mutex_lock(&lock);
		if (!first_error[0])
			memcpy(first_error, text, sizeof(text));
		pthread_mutex_unlock(&lock);
	}
	log_line(level_of(level), "event=xen from=%s text=\"%s\"", context ? context : "?", text);
	errno = saved;
}

static void progress(struct xentoollog_logger *logger, const char *context, const char *what,
		     int percent, unsigned long done, unsigned long total)
{
	(void)logger, (void)context, (void)what, (void)percent, (void)done, (void)total;
}

static void destroy(struct xentoollog_logger *logger)
{
	(void)logger;
}

struct xentoollog_logger *xen_journal(void)
{
	static struct xentoollog_logger logger = {
		.vmessage = say,
		.progress = progress,
		.destroy = destroy,
	};

	return &logger;
}

void xen_journal_clear(void)
{
	pthread_mutex_lock(&lock);
	first_error[0] = '\0';
	pthread_mutex_unlock(&lock);
}

void xen_journal_error(char *ret, size_t size)
{
	pthread_mutex_lock(&lock);
	snprintf(ret, size, "%s", first_error);
	pthread_mutex_unlock(&lock);
}
