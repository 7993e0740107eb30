/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json-c with this project's manners: bounded parsing, typed getters that name the key
 * they refuse, and adders that say "unknown" as null (never 0).
 */
#ifndef POLLUX_TOOLS_JSON_H
#define POLLUX_TOOLS_JSON_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define JSON_MAX_DEPTH 24

#define cleanup_json __attribute__((cleanup(json_put_ptr)))

static inline void json_put_ptr(struct json_object **o)
{
	json_object_put(*o);
}

/* One object and nothing after it. `what` names the text in the reason. */
int json_parse(const char *text, const char *what, struct json_object **ret, struct reason *why);
/* The same from a file of at most 1 MiB. */
int json_read_file(const char *path, struct json_object **ret, struct reason *why);
/* Whole or not at all: a temporary file, then rename. */
int json_write_file(const char *path, struct json_object *o, mode_t mode);

/* -ENOENT: the key is missing or null; -EINVAL: it is of another type. */
int json_get_string(struct json_object *o, const char *key, const char **ret, struct reason *why);
int json_get_u64(struct json_object *o, const char *key, uint64_t *ret, struct reason *why);
int json_get_object(struct json_object *o, const char *key, struct json_object **ret,
		    struct reason *why);
int json_get_array(struct json_object *o, const char *key, struct json_object **ret,
		   struct reason *why);
/* Lenient: what is missing or of another type reads as `otherwise`. */
const char *json_text(struct json_object *o, const char *key, const char *otherwise);
uint64_t json_number(struct json_object *o, const char *key, uint64_t otherwise);
bool json_flag(struct json_object *o, const char *key);
/* Borrowed, or NULL. */
struct json_object *json_member(struct json_object *o, const char *key);

/* NULL text becomes null. Running out of memory leaves the key out. */
void json_add_string(struct json_object *o, const char *key, const char *text);
void json_add_u64(struct json_object *o, const char *key, uint64_t v);
void json_add_bool(struct json_object *o, const char *key, bool v);
void json_add_null(struct json_object *o, const char *key);
/* Takes the reference. */
void json_add(struct json_object *o, const char *key, struct json_object *v);
/* A deep copy of one member (null when it is missing). */
void json_add_copy(struct json_object *o, const char *key, struct json_object *from);
struct json_object *json_copy(struct json_object *o);
/* One line; valid until the object changes or goes. */
const char *json_line(struct json_object *o);

#endif
