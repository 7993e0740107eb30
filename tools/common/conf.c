/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/common/conf.h"

#include <ini.h>
#include <stdio.h>

#include "base/clock.h"

#define CONF_FILE_MAX 65536u
#define KIB	      (UINT64_C(1) << 10)
#define MIB	      (UINT64_C(1) << 20)
#define GIB	      (UINT64_C(1) << 30)

enum kind {
	TEXT,
	NAME,
	PATH,
	ADDRESS,
	DURATION,
	SIZE,
	NUMBER,
	/* one word out of a list: into a bool, whether it is the first; or as it is */
	ENCRYPTION,
	SWITCH,
	MODE,
	CODEC,
	NETBUF,
	REPROTECT,
	PEER_LOSS,
	COMMIT,
};

/* One row a key: where its value goes, and between what limits. */
struct key {
	const char *section, *name;
	enum kind kind;
	size_t offset, room;
	uint64_t min, max;
};

#define CONF(f)	      offsetof(struct conf, f), sizeof(((struct conf *)0)->f)
#define PROTECTION(f) offsetof(struct conf_protection, f), sizeof(((struct conf_protection *)0)->f)

static const struct key keys[] = {
	{ "host", "name", NAME, CONF(name), 0, 0 },
	{ "host", "listen", ADDRESS, CONF(listen), 0, 0 },
	{ "host", "backlog", SIZE, CONF(backlog_bytes), 16 * MIB, 1024 * GIB },
	{ "tls", "ca", PATH, CONF(ca), 0, 0 },
	{ "tls", "cert", PATH, CONF(cert), 0, 0 },
	{ "tls", "key", PATH, CONF(key), 0, 0 },
	{ "tls", "encryption", ENCRYPTION, CONF(encryption), 0, 0 },
	{ "network", "bridge", TEXT, CONF(bridge), 0, 0 },
	{ "http", "listen", ADDRESS, CONF(http), 0, 0 },
	{ "paths", "run", PATH, CONF(run_dir), 0, 0 },
	{ "paths", "state", PATH, CONF(state_dir), 0, 0 },
	{ "paths", "log", PATH, CONF(log_dir), 0, 0 },
	{ "paths", "libexec", PATH, CONF(libexec_dir), 0, 0 },
	{ "hooks", "directory", PATH, CONF(hooks_dir), 0, 0 },
	{ "hooks", "timeout", DURATION, CONF(hook_timeout_ns), 100 * NS_PER_MS, 3600 * NS_PER_S },
};

static const struct key protection_keys[] = {
	{ "protection", "mode", MODE, PROTECTION(mode), 0, 0 },
	{ "protection", "codec", CODEC, PROTECTION(codec), 0, 0 },
	{ "protection", "netbuf", NETBUF, PROTECTION(netbuf), 0, 0 },
	{ "protection", "interval", DURATION, PROTECTION(interval_ns), 5 * NS_PER_MS,
	  60 * NS_PER_S },
	{ "protection", "min_interval", DURATION, PROTECTION(min_interval_ns), NS_PER_MS,
	  60 * NS_PER_S },
	{ "protection", "timeout", DURATION, PROTECTION(timeout_ns), 100 * NS_PER_MS,
	  600 * NS_PER_S },
	{ "protection", "delta_cache", SIZE, PROTECTION(delta_cache_bytes), 0, 1024 * GIB },
	{ "protection", "stage", SIZE, PROTECTION(stage_bytes), MIB, 1024 * GIB },
	{ "protection", "max_in_flight", NUMBER, PROTECTION(max_in_flight), 1, 4 },
	{ "protection", "hold_limit", SIZE, PROTECTION(hold_limit_bytes), 256 * KIB, 1 * GIB },
	{ "protection", "commit", COMMIT, PROTECTION(commit_disk), 0, 0 },
	{ "protection", "reprotect", REPROTECT, PROTECTION(reprotect), 0, 0 },
	{ "protection", "on_peer_loss", PEER_LOSS, PROTECTION(on_peer_loss), 0, 0 },
	{ "protection", "oracle", SWITCH, PROTECTION(oracle), 0, 0 },
	{ "protection", "disk_ring", SIZE, PROTECTION(disk_ring_bytes), MIB, 4 * GIB },
	{ "protection", "resync_cap", SIZE, PROTECTION(resync_cap_bytes), 0, 1024 * GIB },
};

static const struct conf defaults = {
	.encryption = true,
	.http = "127.0.0.1:7480",
	.run_dir = "/run/pollux",
	.state_dir = "/var/lib/pollux",
	.log_dir = "/var/log/pollux",
	.libexec_dir = "/usr/libexec/pollux",
	.hooks_dir = "/etc/pollux/hooks.d",
	.hook_timeout_ns = 30 * NS_PER_S,
	.backlog_bytes = 256 * MIB,
	.protection = {
		.mode = "remus",
		.codec = "lz4",
		.netbuf = "auto",
		.interval_ns = 100 * NS_PER_MS,
		.min_interval_ns = 10 * NS_PER_MS,
		.timeout_ns = NS_PER_S,
		.delta_cache_bytes = 64 * MIB,
		.stage_bytes = 64 * MIB,
		.max_in_flight = 4,
		.hold_limit_bytes = 8 * MIB,
		.disk_ring_bytes = 16 * MIB,
		.reprotect = "auto",
		.on_peer_loss = "handover",
	},
};

static int set_text(const struct key *k, const char *value, char *ret, struct reason *why)
{
	if (!*value || strlen(value) >= k->room)
		return reason_set(why, EINVAL, "%s has %zu characters, expected 1 to %zu", k->name,
				  strlen(value), k->room - 1);
	memcpy(ret, value, strlen(value) + 1);
	return 0;
}

static int set_path(const struct key *k, const char *value, char *ret, struct reason *why)
{
	if (*value != '/')
		return reason_set(why, EINVAL, "%s: \"%s\" is no absolute path", k->name, value);
	return set_text(k, value, ret, why);
}

static int set_address(const struct key *k, const char *value, char *ret, struct reason *why)
{
	struct text_address a;
	int r;

	if (!strcmp(value, "off")) {
		*ret = '\0';
		return 0;
	}
	r = text_parse_address(value, CONF_PEER_PORT, &a, why);
	return r < 0 ? r : set_text(k, value, ret, why);
}

#define WORDS_MAX 5u /* of one list, the NULL at its end included */

static const char *const words[][WORDS_MAX] = {
	[ENCRYPTION] = { "required", "off" },  [SWITCH] = { "on", "off" },
	[MODE] = { "remus", "kemari" },	       [CODEC] = { "lz4", "zstd", "zlib", "none" },
	[NETBUF] = { "auto", "hold", "plug" }, [REPROTECT] = { "auto", "manual" },
	[PEER_LOSS] = { "handover", "stall" }, [COMMIT] = { "disk", "memory" },
};

static int set_choice(const struct key *k, const char *value, void *ret, struct reason *why)
{
	const char *const *choice = words[k->kind];
	char list[80] = "";
	size_t len = 0;

	for (unsigned int i = 0; choice[i]; i++) {
		len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s",
					!i		? ""
					: choice[i + 1] ? ", "
							: " or ",
					choice[i]);
		if (strcmp(choice[i], value))
			continue;
		if (k->room > sizeof(bool))
			return set_text(k, value, ret, why);
		*(bool *)ret = i == 0;
		return 0;
	}
	return reason_set(why, EINVAL, "%s: \"%.60s\", expected %s", k->name, value, list);
}

static void describe(enum kind kind, uint64_t v, char *ret, size_t room)
{
	if (kind == DURATION)
		text_duration(v, ret, room);
	else if (kind == SIZE)
		text_size(v, ret, room);
	else
		snprintf(ret, room, "%llu", (unsigned long long)v);
}

static int set_quantity(const struct key *k, const char *value, uint64_t *ret, struct reason *why)
{
	char min[32], max[32];
	struct reason sub = { "" };
	uint64_t v;
	int r = k->kind == DURATION ? text_parse_duration(value, &v, &sub)
		: k->kind == SIZE   ? text_parse_size(value, &v, &sub)
				    : text_parse_u64(value, &v, &sub);

	if (r < 0)
		return reason_set(why, EINVAL, "%s: %.200s", k->name, sub.text);
	if (v < k->min || v > k->max) {
		describe(k->kind, k->min, min, sizeof(min));
		describe(k->kind, k->max, max, sizeof(max));
		return reason_set(why, EINVAL, "%s: %.40s is not between %s and %s", k->name, value,
				  min, max);
	}
	*ret = v;
	return 0;
}

static int set_key(const struct key *k, const char *value, void *base, struct reason *why)
{
	void *at = (char *)base + k->offset;

	switch (k->kind) {
	case NAME: {
		int r = text_check_name(k->name, value, why);

		return r < 0 ? r : set_text(k, value, at, why);
	}
	case TEXT:
		return set_text(k, value, at, why);
	case PATH:
		return set_path(k, value, at, why);
	case ADDRESS:
		return set_address(k, value, at, why);
	case ENCRYPTION:
	case SWITCH:
	case MODE:
	case CODEC:
	case NETBUF:
	case REPROTECT:
	case PEER_LOSS:
	case COMMIT:
		return set_choice(k, value, at, why);
	case DURATION:
	case SIZE:
	case NUMBER:
		return set_quantity(k, value, at, why);
	}
	return -EINVAL;
}

int conf_protection_set(struct conf_protection *p, const char *key, const char *value,
			struct reason *why)
{
	for (size_t i = 0; i < ARRAY_SIZE(protection_keys); i++)
		if (!strcmp(protection_keys[i].name, key))
			return set_key(&protection_keys[i], value, p, why);
	return reason_set(why, ENOENT,
			  "unknown option \"%.60s\"; pollux.conf(5), [protection], "
			  "has the list",
			  key);
}

int conf_protection_check(const struct conf_protection *p, struct reason *why)
{
	char a[32], b[32];

	if (p->min_interval_ns > p->interval_ns)
		return reason_set(why, EINVAL, "min_interval %s is above interval %s",
				  text_duration(p->min_interval_ns, a, sizeof(a)),
				  text_duration(p->interval_ns, b, sizeof(b)));
	if (p->disk_ring_bytes & (p->disk_ring_bytes - 1))
		return reason_set(why, EINVAL, "disk_ring: %llu bytes is no power of two",
				  (unsigned long long)p->disk_ring_bytes);
	return 0;
}

/* --- the file -------------------------------------------------------------------------- */

struct reading {
	struct conf conf;
	struct reason *why;
	const char *name;
	uint64_t seen, seen_protection;
	int line; /* the one that is being read */
	int error;
};

static int refuse(struct reading *rd, const char *text)
{
	rd->error = reason_set(rd->why, EINVAL, "%.80s:%d: %s", rd->name, rd->line, text);
	return 0;
}

static int take_peer(struct reading *rd, const char *name, const char *key, const char *value)
{
	struct conf *c = &rd->conf;
	struct conf_peer *p = NULL;
	struct reason sub;
	struct text_address a;
	char text[300];

	if (text_check_name("peer", name, &sub) < 0)
		return refuse(rd, sub.text);
	for (unsigned int i = 0; i < c->nr_peers; i++)
		if (!strcmp(c->peer[i].name, name))
			p = &c->peer[i];
	if (!p && c->nr_peers == CONF_PEERS_MAX)
		return refuse(rd, "more than 32 peers");
	if (strcmp(key, "address")) {
		snprintf(text, sizeof(text), "unknown key \"%.60s\" in [peer %s]; expected address",
			 key, name);
		return refuse(rd, text);
	}
	if (p)
		return refuse(rd, "address is given twice");
	if (text_parse_address(value, CONF_PEER_PORT, &a, &sub) < 0)
		return refuse(rd, sub.text);
	p = &c->peer[c->nr_peers++];
	snprintf(p->name, sizeof(p->name), "%s", name);
	snprintf(p->address, sizeof(p->address), strchr(a.host, ':') ? "[%.150s]:%u" : "%.150s:%u",
		 a.host, a.port);
	return 1;
}

static const struct key *find_key(const char *section, const char *name, bool protection)
{
	const struct key *k = protection ? protection_keys : keys;
	size_t n = protection ? ARRAY_SIZE(protection_keys) : ARRAY_SIZE(keys);

	for (size_t i = 0; i < n; i++)
		if (!strcmp(k[i].section, section) && !strcmp(k[i].name, name))
			return &k[i];
	return NULL;
}

static int take_key(void *user, const char *section, const char *name, const char *value)
{
	struct reading *rd = user;
	bool protection = !strcmp(section, "protection");
	const struct key *k = find_key(section, name, protection);
	uint64_t *seen = protection ? &rd->seen_protection : &rd->seen;
	struct reason sub = { "" };
	char text[256];

	if (rd->error)
		return 0;
	if (!strncmp(section, "peer ", 5))
		return take_peer(rd, section + 5, name, value);
	if (!k) {
		snprintf(text, sizeof(text),
			 *section ? "unknown key \"%.60s\" in [%.60s]; see pollux.conf(5)"
				  : "\"%.60s\" stands before any [section]%.0s",
			 name, section);
		return refuse(rd, text);
	}
	if (*seen >> (k - (protection ? protection_keys : keys)) & 1) {
		snprintf(text, sizeof(text), "\"%s\" is given twice", name);
		return refuse(rd, text);
	}
	*seen |= UINT64_C(1) << (k - (protection ? protection_keys : keys));
	if (set_key(k, value, protection ? (void *)&rd->conf.protection : &rd->conf, &sub) < 0)
		return refuse(rd, sub.text);
	return 1;
}

struct lines {
	const char *at;
	struct reading *rd;
};

/* fgets() over a text; counts lines, so that a refusal can name one. inih skips
 * a line that is longer than its buffer silently: it is refused before. */
static char *next_line(char *ret, int room, void *stream)
{
	struct lines *l = stream;
	size_t len = strcspn(l->at, "\n");

	if (!*l->at || l->rd->error)
		return NULL;
	l->rd->line++;
	if (len + 2 > (size_t)room) {
		refuse(l->rd, "the line has more than 190 characters");
		return NULL;
	}
	memcpy(ret, l->at, len);
	ret[len] = '\0';
	l->at += len + (l->at[len] == '\n');
	return ret;
}

static int check_whole(const struct conf *c, const char *name, struct reason *why)
{
	struct reason sub;
	struct text_address a;

	if (!c->name[0])
		return reason_set(why, EINVAL,
				  "%s: [host] name is missing: the name by which "
				  "other hosts know this one",
				  name);
	if (c->listen[0] && c->encryption && (!c->ca[0] || !c->cert[0] || !c->key[0]))
		return reason_set(why, EINVAL,
				  "%s: [tls] needs ca, cert and key, or "
				  "encryption = off",
				  name);
	if (c->http[0] && !text_parse_address(c->http, CONF_PEER_PORT, &a, NULL) &&
	    strncmp(a.host, "127.", 4) && strcmp(a.host, "::1"))
		return reason_set(why, EINVAL,
				  "%s: [http] listen = %.60s is no loopback address: "
				  "what it serves is not authenticated",
				  name, c->http);
	for (unsigned int i = 0; i < c->nr_peers; i++)
		if (!strcmp(c->peer[i].name, c->name))
			return reason_set(why, EINVAL, "%s: [peer %s] is this host itself", name,
					  c->name);
	if (conf_protection_check(&c->protection, &sub) < 0)
		return reason_set(why, EINVAL, "%.80s: [protection] %.160s", name, sub.text);
	return 0;
}

int conf_parse(const char *text, const char *name, struct conf *ret, struct reason *why)
{
	struct reading rd = { .conf = defaults, .why = why, .name = name };
	struct lines l = { .at = text, .rd = &rd };
	int line = ini_parse_stream(next_line, &l, take_key, &rd);
	int r;

	if (rd.error)
		return rd.error;
	if (line)
		return reason_set(why, EINVAL, "%s:%d: expected [section] or key = value", name,
				  line);
	r = check_whole(&rd.conf, name, why);
	if (r < 0)
		return r;
	*ret = rd.conf;
	return 0;
}

int conf_read(const char *path, struct conf *ret, struct reason *why)
{
	cleanup_free char *text = NULL;
	size_t len;
	int r = text_read_file(path, CONF_FILE_MAX, &text, &len, why);

	if (r < 0)
		return r;
	if (strlen(text) != len)
		return reason_set(why, EINVAL, "%s holds a NUL byte", path);
	return conf_parse(text, path, ret, why);
}

const struct conf_peer *conf_find_peer(const struct conf *conf, const char *name)
{
	for (unsigned int i = 0; i < conf->nr_peers; i++)
		if (!strcmp(conf->peer[i].name, name))
			return &conf->peer[i];
	return NULL;
}

/* --- and back --------------------------------------------------------------------------- */

/* In the largest unit of which it is a multiple. */
static void write_quantity(enum kind kind, uint64_t v, FILE *to)
{
	static const struct {
		enum kind kind;
		uint64_t factor;
		const char *name;
	} units[] = {
		{ DURATION, NS_PER_S, "s" },
		{ DURATION, NS_PER_MS, "ms" },
		{ DURATION, NS_PER_US, "us" },
		{ DURATION, 1, "ns" },
		{ SIZE, GIB, "GiB" },
		{ SIZE, MIB, "MiB" },
		{ SIZE, KIB, "KiB" },
		{ SIZE, 1, "" },
		{ NUMBER, 1, "" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (units[i].kind != kind || v % units[i].factor || (!v && units[i].factor > 1))
			continue;
		fprintf(to, "%llu%s\n", (unsigned long long)(v / units[i].factor), units[i].name);
		return;
	}
}

static void write_key(const struct key *k, const void *base, FILE *to)
{
	const void *at = (const char *)base + k->offset;
	const char *const *choice = k->kind >= ENCRYPTION ? words[k->kind] : NULL;

	if (k->kind == DURATION || k->kind == SIZE || k->kind == NUMBER) {
		fprintf(to, "%s = ", k->name);
		write_quantity(k->kind, *(const uint64_t *)at, to);
	} else if (choice && k->room == sizeof(bool)) {
		fprintf(to, "%s = %s\n", k->name, choice[!*(const bool *)at]);
	} else if (*(const char *)at || k->kind == ADDRESS) {
		fprintf(to, "%s = %s\n", k->name, *(const char *)at ? (const char *)at : "off");
	}
}

void conf_write(const struct conf *conf, FILE *to)
{
	const char *section = "";

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		if (strcmp(section, keys[i].section))
			fprintf(to, "%s[%s]\n", *section ? "\n" : "", keys[i].section);
		section = keys[i].section;
		write_key(&keys[i], conf, to);
	}
	fprintf(to, "\n[protection]\n");
	for (size_t i = 0; i < ARRAY_SIZE(protection_keys); i++)
		write_key(&protection_keys[i], &conf->protection, to);
	for (unsigned int i = 0; i < conf->nr_peers; i++)
		fprintf(to, "\n[peer %s]\naddress = %s\n", conf->peer[i].name,
			conf->peer[i].address);
}
