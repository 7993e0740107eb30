/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log of a program: one line an event, `key=value`, on standard error with
 * the syslog level in front ("<6>"), as journald reads it. Only programs log;
 * library code returns errors. Never called between pause and resume.
 */
#ifndef POLLUX_LOG_H
#define POLLUX_LOG_H

enum log_level {
	LOG_LEVEL_ERROR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_NOTICE = 5,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7,
};

/* Names the program; `POLLUX_LOG_LEVEL` (0 to 7) sets the threshold, default info. */
void log_open(const char *program);
/* A tag, such as `vm=db epoch=7`, put into every line from now on. Copied. */
void log_tag(const char *tag);

__attribute__((format(printf, 2, 3))) void log_line(enum log_level level, const char *fmt, ...);

#define log_error(...)	 log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...)	 log_line(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...)	 log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)	 log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
