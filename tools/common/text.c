/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/common/text.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"

int text_check_name(const char *what, const char *name, struct reason *why)
{
	size_t len = strlen(name);

	if (!len || len > TEXT_NAME_MAX)
		return reason_set(why, EINVAL, "%s has %zu characters, expected 1 to %u", what, len,
				  TEXT_NAME_MAX);
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)name[i];

		if (!isascii(c) || (!isalnum(c) && (!i || !strchr("._-", c))))
			return reason_set(why, EINVAL,
					  "%s \"%s\": expected letters, digits, '.', '_', '-', "
					  "first a letter or digit",
					  what, name);
	}
	return 0;
}

bool text_is_uuid(const char *s)
{
	for (unsigned int i = 0; i < 36; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? s[i] != '-' : !isxdigit((unsigned char)s[i]))
			return false;
	}
	return !s[36];
}

void text_make_uuid(char ret[37])
{
	uint8_t b[16];

	if (getrandom(b, sizeof(b), 0) != (ssize_t)sizeof(b))
		abort();
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
	snprintf(ret, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
		 b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12],
		 b[13], b[14], b[15]);
}

/* Digits only: no sign, no blank, no octal surprise. */
static int parse_digits(const char *s, uint64_t *ret, const char **ret_end)
{
	uint64_t v = 0;

	if (!isdigit((unsigned char)*s))
		return -EINVAL;
	for (; isdigit((unsigned char)*s); s++)
		if (__builtin_mul_overflow(v, UINT64_C(10), &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v))
			return -ERANGE;
	*ret = v;
	*ret_end = s;
	return 0;
}

struct unit {
	const char *name;
	uint64_t factor;
};

static int parse_with_unit(const char *s, const struct unit *units, uint64_t *ret)
{
	const char *unit;
	uint64_t v;
	int r = parse_digits(s, &v, &unit);

	if (r < 0)
		return r;
	for (; units->name; units++) {
		if (strcmp(unit, units->name))
			continue;
		return __builtin_mul_overflow(v, units->factor, ret) ? -ERANGE : 0;
	}
	return -EINVAL;
}

int text_parse_duration(const char *s, uint64_t *ret_ns, struct reason *why)
{
	static const struct unit units[] = {
		{ "ns", 1 },	   { "us", NS_PER_US },	   { "ms", NS_PER_MS },
		{ "s", NS_PER_S }, { "m", 60 * NS_PER_S }, { "h", 3600 * NS_PER_S },
		{ NULL, 0 },
	};
	uint64_t v;

	if (parse_with_unit(s, units, &v) < 0 || v > (uint64_t)INT64_MAX)
		return reason_set(why, EINVAL,
				  "\"%s\" is no duration, expected such as 100ms or 2s", s);
	*ret_ns = v;
	return 0;
}

int text_parse_size(const char *s, uint64_t *ret_bytes, struct reason *why)
{
	static const struct unit units[] = {
		{ "", 1 },
		{ "KiB", UINT64_C(1) << 10 },
		{ "MiB", UINT64_C(1) << 20 },
		{ "GiB", UINT64_C(1) << 30 },
		{ "TiB", UINT64_C(1) << 40 },
		{ NULL, 0 },
	};
	uint64_t v;

	if (parse_with_unit(s, units, &v) < 0 || v > (uint64_t)INT64_MAX)
		return reason_set(why, EINVAL, "\"%s\" is no size, expected such as 64MiB", s);
	*ret_bytes = v;
	return 0;
}

int text_parse_u64(const char *s, uint64_t *ret, struct reason *why)
{
	const char *end;
	uint64_t v;

	if (parse_digits(s, &v, &end) < 0 || *end)
		return reason_set(why, EINVAL, "\"%s\" is no number", s);
	*ret = v;
	return 0;
}

static const char *with_unit(double v, const char *unit, char *ret, size_t room)
{
	int decimals = v >= 99.95 ? 0 : v >= 9.995 ? 1 : 2;

	snprintf(ret, room, "%.*f %s", decimals, v, unit);
	return ret;
}

const char *text_duration(uint64_t ns, char *ret, size_t room)
{
	if (ns < NS_PER_MS)
		return with_unit((double)ns / NS_PER_US, "us", ret, room);
	if (ns < NS_PER_S)
		return with_unit((double)ns / NS_PER_MS, "ms", ret, room);
	return with_unit((double)ns / NS_PER_S, "s", ret, room);
}

const char *text_size(uint64_t bytes, char *ret, size_t room)
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB" };
	double v = (double)bytes / 1024;
	size_t u = 0;

	if (bytes < 1024) {
		snprintf(ret, room, "%u B", (unsigned int)bytes);
		return ret;
	}
	while (v >= 1024 && u + 1 < ARRAY_SIZE(units)) {
		v /= 1024;
		u++;
	}
	return with_unit(v, units[u], ret, room);
}

const char *text_time(uint64_t wall_ns, char *ret, size_t room)
{
	time_t s = (time_t)(wall_ns / NS_PER_S);
	struct tm tm;
	size_t len;

	gmtime_r(&s, &tm);
	len = strftime(ret, room, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(ret + len, room - len, ".%03uZ", (unsigned int)(wall_ns % NS_PER_S / NS_PER_MS));
	return ret;
}

int text_parse_address(const char *s, uint16_t default_port, struct text_address *ret,
		       struct reason *why)
{
	bool bracket = s[0] == '[';
	const char *end = bracket ? strchr(s, ']') : NULL;
	const char *colon = bracket ? (end ? strchr(end, ':') : NULL) : strrchr(s, ':');
	const char *host = bracket ? s + 1 : s;
	size_t len = bracket && end ? (size_t)(end - host)
		     : colon	    ? (size_t)(colon - host)
				    : strlen(host);
	uint64_t port = default_port;
	struct text_address a;

	if ((bracket && (!end || (end[1] && end + 1 != colon))) || !len || len >= sizeof(a.host) ||
	    (!bracket && memchr(host, ':', len)))
		return reason_set(why, EINVAL,
				  "\"%s\" is no address, expected such as 192.0.2.1:7400 or "
				  "[2001:db8::1]:7400",
				  s);
	if (colon && text_parse_u64(colon + 1, &port, NULL) < 0)
		port = 0;
	if (!port || port > UINT16_MAX)
		return reason_set(why, EINVAL, "\"%s\": expected a port from 1 to 65535", s);
	memcpy(a.host, host, len);
	a.host[len] = '\0';
	a.port = (uint16_t)port;
	*ret = a;
	return 0;
}

int text_read_file(const char *path, size_t max, char **ret, size_t *ret_len, struct reason *why)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	cleanup_free char *text = NULL;
	struct stat st;
	size_t len = 0;

	if (fd < 0)
		return reason_set(why, errno, "%s: %s", path, strerror(errno));
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return reason_set(why, EINVAL, "%s is no file", path);
	text = malloc(max + 2);
	if (!text)
		return reason_set(why, ENOMEM, "out of memory");
	for (;;) {
		ssize_t n = read(fd, text + len, max + 1 - len);

		if (n < 0)
			return reason_set(why, errno, "%s: %s", path, strerror(errno));
		if (n == 0)
			break;
		len += (size_t)n;
		if (len > max)
			return reason_set(why, EFBIG, "%s has more than %zu bytes", path, max);
	}
	text[len] = '\0';
	*ret = take_ptr(&text);
	*ret_len = len;
	return 0;
}
