/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/settings.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"

enum kind { TEXT, PATH, NUMBER, FLAG, MODE, CODEC, NETBUF, COMMIT, SIDE, OBJECT };

/* One row a key: where it goes, and between what limits. */
static const struct key {
	const char *name;
	enum kind kind;
	size_t offset, size;
	uint64_t min, max;
} keys[] = {
#define FIELD(f) offsetof(struct settings, f), sizeof(((struct settings *)0)->f)
	{ "role", SIDE, FIELD(side), 0, 0 },
	{ "vm", TEXT, FIELD(vm), 0, 0 },
	{ "uuid", TEXT, FIELD(uuid_text), 0, 0 },
	{ "domid", NUMBER, FIELD(domid), 0, 0xfffffff0u },
	{ "host", TEXT, FIELD(host), 0, 0 },
	{ "mode", MODE, FIELD(mode), 0, 0 },
	{ "interval_ns", NUMBER, FIELD(interval_ns), 5 * NS_PER_MS, 60 * NS_PER_S },
	{ "min_interval_ns", NUMBER, FIELD(min_interval_ns), NS_PER_MS, 60 * NS_PER_S },
	{ "timeout_ns", NUMBER, FIELD(timeout_ns), 100 * NS_PER_MS, 600 * NS_PER_S },
	{ "codec", CODEC, FIELD(codec), 0, 0 },
	{ "netbuf", NETBUF, FIELD(netbuf), 0, 0 },
	{ "delta_cache_bytes", NUMBER, FIELD(delta_cache_bytes), 0, UINT64_C(1) << 40 },
	{ "stage_bytes", NUMBER, FIELD(stage_bytes), UINT64_C(1) << 20, UINT64_C(1) << 40 },
	{ "max_in_flight", NUMBER, FIELD(max_in_flight), 1, EPOCH_MAX_IN_FLIGHT / 2 },
	{ "hold_limit_bytes", NUMBER, FIELD(hold_limit_bytes), 1 << 18, UINT64_C(1) << 30 },
	{ "disk_ring_bytes", NUMBER, FIELD(disk_ring_bytes), 1 << 20, UINT64_C(1) << 32 },
	{ "backlog_bytes", NUMBER, FIELD(backlog_bytes), 1 << 24, UINT64_C(1) << 40 },
	{ "resync_cap", NUMBER, FIELD(resync_cap), 0, UINT64_C(1) << 40 },
	{ "disk_token", TEXT, FIELD(disk_token), 0, 0 },
	{ "commit", COMMIT, FIELD(commit_disk), 0, 0 },
	{ "record", PATH, FIELD(record_dir), 0, 0 },
	{ "socket", PATH, FIELD(socket), 0, 0 },
	{ "run_dir", PATH, FIELD(run_dir), 0, 0 },
	{ "listen_fd", NUMBER, FIELD(listen_fd), 3, 1023 },
	{ "memory_kept", FLAG, FIELD(memory_kept), 0, 0 },
	{ "stall_alone", FLAG, FIELD(stall_alone), 0, 0 },
	{ "oracle", FLAG, FIELD(oracle), 0, 0 },
	{ "config", OBJECT, FIELD(config), 0, 0 },
	{ "options", OBJECT, FIELD(options), 0, 0 },
	{ "peer", OBJECT, 0, 0, 0, 0 },
	{ "tls", OBJECT, 0, 0, 0, 0 },
#undef FIELD
};

static int read_text(struct json_object *v, const char *name, char *ret, size_t size,
		     struct reason *why)
{
	const char *text = json_object_get_string(v);

	if (!json_object_is_type(v, json_type_string) || strlen(text) >= size)
		return reason_set(why, EINVAL, "%s: %s is no text below %zu bytes", name,
				  json_object_to_json_string(v), size);
	strcpy(ret, text);
	return 0;
}

static int read_number(struct json_object *v, const struct key *k, void *ret, struct reason *why)
{
	uint64_t n = json_object_get_uint64(v);

	if (!json_object_is_type(v, json_type_int) || n < k->min || n > k->max)
		return reason_set(why, EINVAL, "%s: %s is not between %llu and %llu", k->name,
				  json_object_to_json_string(v), (unsigned long long)k->min,
				  (unsigned long long)k->max);
	if (k->size == sizeof(uint32_t))
		*(uint32_t *)ret = (uint32_t)n;
	else
		*(uint64_t *)ret = n;
	return 0;
}

/* A word out of a list that ends with NULL: the index of the one that `v` is. */
static int read_choice(struct json_object *v, const char *name, const char *const *words,
		       struct reason *why)
{
	const char *text = json_object_get_string(v);

	for (int i = 0; text && words[i]; i++)
		if (!strcmp(text, words[i]))
			return i;
	return reason_set(why, EINVAL, "%s: %s is neither %s nor %s%s%s", name,
			  json_object_to_json_string(v), words[0], words[1],
			  words[2] ? " nor " : "", words[2] ?: "");
}

static int read_key(struct settings *s, const struct key *k, struct json_object *v,
		    struct reason *why)
{
	static const char *const sides[] = { "primary", "backup", NULL };
	static const char *const modes[] = { "remus", "kemari", NULL };
	static const char *const netbufs[] = { "auto", "hold", "plug", NULL };
	static const char *const commits[] = { "memory", "disk", NULL };
	void *at = (char *)s + k->offset;
	int r;

	switch (k->kind) {
	case TEXT:
	case PATH:
		return read_text(v, k->name, at, k->size, why);
	case NUMBER:
		return read_number(v, k, at, why);
	case FLAG:
		*(bool *)at = json_object_get_boolean(v);
		return 0;
	case SIDE:
		r = read_choice(v, k->name, sides, why);
		s->side = r == 1 ? ROLE_BACKUP : ROLE_PRIMARY;
		return MIN(r, 0);
	case MODE:
		r = read_choice(v, k->name, modes, why);
		s->mode = r == 1 ? EPOCH_KEMARI : EPOCH_REMUS;
		return MIN(r, 0);
	case NETBUF:
		r = read_choice(v, k->name, netbufs, why);
		s->netbuf = (enum settings_netbuf)MAX(r, 0);
		return MIN(r, 0);
	case COMMIT:
		r = read_choice(v, k->name, commits, why);
		s->commit_disk = r == 1;
		return MIN(r, 0);
	case CODEC:
		r = codec_by_name(json_object_get_string(v) ?: "");
		if (r < 0)
			return reason_set(why, EINVAL, "codec: %s is none of none lz4 zstd zlib",
					  json_object_to_json_string(v));
		s->codec = (enum codec_id)r;
		return 0;
	case OBJECT:
		if (k->size)
			*(struct json_object **)at = json_object_get(v);
		return 0;
	}
	return 0;
}

/* "192.0.2.1:7400", "[2001:db8::1]:7400" */
static int read_address(struct settings *s, const char *text, struct reason *why)
{
	const char *colon = strrchr(text, ':');
	size_t len = colon ? (size_t)(colon - text) : 0;
	long port = colon ? strtol(colon + 1, NULL, 10) : 0;

	if (len && text[0] == '[' && text[len - 1] == ']') {
		text++;
		len -= 2;
	}
	if (!len || len >= sizeof(s->peer_host) || port < 1 || port > 65535)
		return reason_set(why, EINVAL, "peer address: %s is no ADDRESS:PORT", text);
	memcpy(s->peer_host, text, len);
	s->peer_host[len] = 0;
	s->peer_port = (uint16_t)port;
	return 0;
}

static int read_peer(struct settings *s, struct json_object *peer, struct reason *why)
{
	struct json_object *v;

	if (!json_object_object_get_ex(peer, "name", &v))
		return reason_set(why, EINVAL, "peer.name is missing");
	if (read_text(v, "peer.name", s->peer, sizeof(s->peer), why))
		return -EINVAL;
	if (!json_object_object_get_ex(peer, "address", &v) || !json_object_get_string(v))
		return s->side == ROLE_BACKUP ? 0
					      : reason_set(why, EINVAL, "peer.address is missing");
	return read_address(s, json_object_get_string(v), why);
}

static int read_tls(struct settings *s, struct json_object *tls, struct reason *why)
{
	struct json_object *v;

	if (!tls)
		return 0; /* encryption = off */
	s->encryption = true;
	if (!json_object_object_get_ex(tls, "ca", &v) ||
	    read_text(v, "tls.ca", s->ca, sizeof(s->ca), why) ||
	    !json_object_object_get_ex(tls, "cert", &v) ||
	    read_text(v, "tls.cert", s->cert, sizeof(s->cert), why) ||
	    !json_object_object_get_ex(tls, "key", &v) ||
	    read_text(v, "tls.key", s->key, sizeof(s->key), why))
		return reason_set(why, EINVAL, "tls: ca, cert and key are paths, all three");
	return 0;
}

static int parse_uuid(const char *text, uint8_t ret[16], struct reason *why)
{
	unsigned int n = 0;

	for (const char *c = text; *c && n < 32; c++) {
		int digit = *c >= '0' && *c <= '9'   ? *c - '0'
			    : *c >= 'a' && *c <= 'f' ? *c - 'a' + 10
			    : *c >= 'A' && *c <= 'F' ? *c - 'A' + 10
						     : -1;

		if (*c == '-')
			continue;
		if (digit < 0)
			break;
		ret[n / 2] = (uint8_t)(ret[n / 2] << 4 | digit);
		n++;
	}
	return n == 32 ? 0 : reason_set(why, EINVAL, "uuid: %s is none", text);
}

static const struct key *find_key(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (!strcmp(keys[i].name, name))
			return &keys[i];
	return NULL;
}

static int check_whole(struct settings *s, struct reason *why)
{
	if (!s->vm[0] || !s->host[0] || !s->record_dir[0] || !s->socket[0] || !s->run_dir[0])
		return reason_set(why, EINVAL,
				  "vm, host, record, socket and run_dir must all be given");
	if (s->min_interval_ns > s->interval_ns)
		return reason_set(why, EINVAL, "min_interval_ns: %llu is above interval_ns %llu",
				  (unsigned long long)s->min_interval_ns,
				  (unsigned long long)s->interval_ns);
	if (s->disk_ring_bytes & (s->disk_ring_bytes - 1))
		return reason_set(why, EINVAL, "disk_ring_bytes: %llu is no power of two",
				  (unsigned long long)s->disk_ring_bytes);
	if (s->side == ROLE_BACKUP && s->listen_fd < 0)
		return reason_set(why, EINVAL, "listen_fd is missing: a backup listens");
	return parse_uuid(s->uuid_text, s->uuid, why);
}

static const struct settings defaults = {
	.mode = EPOCH_REMUS,
	.interval_ns = 100 * NS_PER_MS,
	.min_interval_ns = 10 * NS_PER_MS,
	.timeout_ns = NS_PER_S,
	.codec = CODEC_LZ4,
	.delta_cache_bytes = 64u << 20,
	.stage_bytes = 64u << 20,
	.max_in_flight = 4,
	.hold_limit_bytes = 8u << 20,
	.disk_ring_bytes = 16u << 20,
	.backlog_bytes = 256u << 20,
	.listen_fd = -1,
};

int settings_read(const char *path, struct settings *ret, struct reason *why)
{
	struct json_object *root = json_object_from_file(path), *v;
	struct settings s = defaults;
	int r = 0;

	if (!root)
		return reason_set(why, EINVAL, "%s: %s", path, json_util_get_last_err());
	json_object_object_foreach(root, name, value)
	{
		const struct key *k = find_key(name);

		r = k ? read_key(&s, k, value, why)
		      : reason_set(why, EINVAL, "%s: unknown key %s", path, name);
		if (r)
			goto out;
	}
	r = json_object_object_get_ex(root, "peer", &v)
		    ? read_peer(&s, v, why)
		    : reason_set(why, EINVAL, "peer is missing");
	if (!r && !json_object_object_get_ex(root, "tls", &v))
		r = reason_set(why, EINVAL, "tls is missing: null means encryption = off");
	if (!r)
		r = read_tls(&s, v, why);
	if (!r)
		r = check_whole(&s, why);
out:
	json_object_put(root);
	if (r) {
		settings_free(&s);
		return r;
	}
	*ret = s;
	return 0;
}

void settings_free(struct settings *s)
{
	json_object_put(s->config);
	json_object_put(s->options);
	s->config = s->options = NULL;
}

unsigned int settings_nr_nics(const struct settings *s)
{
	struct json_object *nics;

	return s->config && json_object_object_get_ex(s->config, "nics", &nics)
		       ? (unsigned int)json_object_array_length(nics)
		       : 0;
}
