/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/common/json.h"

#include <fcntl.h>
#include <stdio.h>

#include "tools/common/text.h"

#define JSON_FILE_MAX (1u << 20)

int json_parse(const char *text, const char *what, struct json_object **ret, struct reason *why)
{
	struct json_tokener *tok = json_tokener_new_ex(JSON_MAX_DEPTH);
	size_t len = strlen(text);
	struct json_object *o;
	enum json_tokener_error e;

	if (!tok)
		return reason_set(why, ENOMEM, "out of memory");
	json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	if (len >= INT32_MAX) {
		json_tokener_free(tok);
		return reason_set(why, EMSGSIZE, "%s is too long", what);
	}
	/* With its NUL, so that a text that ends too early is an error, not "go on". */
	o = json_tokener_parse_ex(tok, text, (int)len + 1);
	e = json_tokener_get_error(tok);
	json_tokener_free(tok);
	if (e != json_tokener_success || !json_object_is_type(o, json_type_object)) {
		json_object_put(o);
		return reason_set(why, EINVAL, "%s is no JSON object (%s)", what,
				  e == json_tokener_success ? "another type"
							    : json_tokener_error_desc(e));
	}
	*ret = o;
	return 0;
}

int json_read_file(const char *path, struct json_object **ret, struct reason *why)
{
	cleanup_free char *text = NULL;
	size_t len;
	int r = text_read_file(path, JSON_FILE_MAX, &text, &len, why);

	if (r < 0)
		return r;
	if (strlen(text) != len)
		return reason_set(why, EINVAL, "%s holds a NUL byte", path);
	return json_parse(text, path, ret, why);
}

int json_write_file(const char *path, struct json_object *o, mode_t mode)
{
	cleanup_free char *temp = NULL;
	cleanup_close int fd = -1;
	const char *text = json_line(o);
	size_t len = strlen(text);
	int r = 0;

	if (asprintf(&temp, "%s.new", path) < 0)
		return -ENOMEM;
	fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
	if (fd < 0)
		return -errno;
	if (write(fd, text, len) != (ssize_t)len)
		r = -EIO;
	if (!r && rename(temp, path) < 0)
		r = -errno;
	if (r < 0)
		unlink(temp);
	return r;
}

struct json_object *json_member(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	if (!json_object_is_type(o, json_type_object))
		return NULL;
	return json_object_object_get_ex(o, key, &v) ? v : NULL;
}

static int get_typed(struct json_object *o, const char *key, enum json_type type,
		     struct json_object **ret, struct reason *why)
{
	struct json_object *v = json_member(o, key);

	if (!v)
		return reason_set(why, ENOENT, "\"%s\" is missing", key);
	if (!json_object_is_type(v, type))
		return reason_set(why, EINVAL, "\"%s\" is of type %s, expected %s", key,
				  json_type_to_name(json_object_get_type(v)),
				  json_type_to_name(type));
	*ret = v;
	return 0;
}

int json_get_string(struct json_object *o, const char *key, const char **ret, struct reason *why)
{
	struct json_object *v;
	int r = get_typed(o, key, json_type_string, &v, why);

	if (r < 0)
		return r;
	if (strlen(json_object_get_string(v)) != (size_t)json_object_get_string_len(v))
		return reason_set(why, EINVAL, "\"%s\" holds a NUL byte", key);
	*ret = json_object_get_string(v);
	return 0;
}

int json_get_u64(struct json_object *o, const char *key, uint64_t *ret, struct reason *why)
{
	struct json_object *v;
	int r = get_typed(o, key, json_type_int, &v, why);

	if (r < 0)
		return r;
	if (json_object_get_int64(v) < 0)
		return reason_set(why, EINVAL, "\"%s\" is negative", key);
	*ret = json_object_get_uint64(v);
	return 0;
}

int json_get_object(struct json_object *o, const char *key, struct json_object **ret,
		    struct reason *why)
{
	return get_typed(o, key, json_type_object, ret, why);
}

int json_get_array(struct json_object *o, const char *key, struct json_object **ret,
		   struct reason *why)
{
	return get_typed(o, key, json_type_array, ret, why);
}

const char *json_text(struct json_object *o, const char *key, const char *otherwise)
{
	const char *s = NULL;

	return json_get_string(o, key, &s, NULL) < 0 ? otherwise : s;
}

uint64_t json_number(struct json_object *o, const char *key, uint64_t otherwise)
{
	uint64_t v = 0;

	return json_get_u64(o, key, &v, NULL) < 0 ? otherwise : v;
}

bool json_flag(struct json_object *o, const char *key)
{
	struct json_object *v = json_member(o, key);

	return json_object_is_type(v, json_type_boolean) && json_object_get_boolean(v);
}

void json_add(struct json_object *o, const char *key, struct json_object *v)
{
	if (json_object_object_add(o, key, v) < 0)
		json_object_put(v);
}

void json_add_string(struct json_object *o, const char *key, const char *text)
{
	json_add(o, key, text ? json_object_new_string(text) : NULL);
}

void json_add_u64(struct json_object *o, const char *key, uint64_t v)
{
	json_add(o, key, json_object_new_uint64(v));
}

void json_add_bool(struct json_object *o, const char *key, bool v)
{
	json_add(o, key, json_object_new_boolean(v));
}

void json_add_null(struct json_object *o, const char *key)
{
	json_add(o, key, NULL);
}

struct json_object *json_copy(struct json_object *o)
{
	struct json_object *copy = NULL;

	if (!o || json_object_deep_copy(o, &copy, NULL) < 0)
		return NULL;
	return copy;
}

void json_add_copy(struct json_object *o, const char *key, struct json_object *from)
{
	json_add(o, key, json_copy(json_member(from, key)));
}

const char *json_line(struct json_object *o)
{
	return json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
							 JSON_C_TO_STRING_NOSLASHESCAPE);
}
