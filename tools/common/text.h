/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Texts that people write and read: names, durations, sizes, addresses, files.
 * Every refusal names the value and what would be accepted.
 */
#ifndef POLLUX_TOOLS_TEXT_H
#define POLLUX_TOOLS_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define TEXT_NAME_MAX 63u

/* A name of a VM or host: letters, digits, '.', '_', '-'; begins with a letter or digit. */
int text_check_name(const char *what, const char *name, struct reason *why);
/* 8-4-4-4-12 hexadecimal digits. */
bool text_is_uuid(const char *s);
/* A random one (RFC 4122, version 4). */
void text_make_uuid(char ret[37]);

/* "100ms", "2s", "500us", "1m30s" is not: one number, one unit (ns us ms s m h). */
int text_parse_duration(const char *s, uint64_t *ret_ns, struct reason *why);
/* "4096", "64KiB", "64MiB", "1GiB", "1TiB". */
int text_parse_size(const char *s, uint64_t *ret_bytes, struct reason *why);
int text_parse_u64(const char *s, uint64_t *ret, struct reason *why);

/* "0.8 ms", "12.5 s": three digits that count. */
const char *text_duration(uint64_t ns, char *ret, size_t room);
const char *text_size(uint64_t bytes, char *ret, size_t room);
/* RFC 3339 in UTC with milliseconds. */
const char *text_time(uint64_t wall_ns, char *ret, size_t room);

/* "host:port" or "[v6]:port"; the port may be left out when `default_port` is not 0. */
struct text_address {
	char host[256];
	uint16_t port;
};
int text_parse_address(const char *s, uint16_t default_port, struct text_address *ret,
		       struct reason *why);

/* NUL-terminated; `ret` is the caller's to free. -EFBIG beyond `max` bytes. */
int text_read_file(const char *path, size_t max, char **ret, size_t *ret_len, struct reason *why);

#endif
