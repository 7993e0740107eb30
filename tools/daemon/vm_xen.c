/* SPDX-License-Identifier: Apache-2.0 */
/* Domains of Xen: pollux-xen is a domain's companion, and no more than that. */
#include <stdio.h>

#include "base/clock.h"
#include "tools/common/json.h"
#include "tools/common/text.h"
#include "tools/daemon/vm.h"
#include "tools/daemon/vm_platform.h"

#define DESCRIPTION_MAX (UINT64_C(1) << 20)

/* --- starting ----------------------------------------------------------------------------- */

static int xen_arguments(struct daemon *d, struct vm *vm, const struct vm_start *s,
			 struct vm_launch *ret, struct reason *why)
{
	int r;

	(void)d;
	if (!s || s->adopt) {
		snprintf(ret->domid, sizeof(ret->domid), "%u", vm->domid);
		vm_launch_add(ret, "--adopt");
		vm_launch_add(ret, s ? s->adopt : ret->domid);
		return 0;
	}
	vm_launch_add(ret, vm->standby ? "--standby" : "--create");
	vm_launch_add(ret, "--config");
	vm_launch_add(ret, ret->config.text);
	r = json_write_file(ret->config.text, vm->config, 0600);
	return r < 0 ? reason_set(why, -r, "%s: %s", ret->config.text, strerror(-r)) : 0;
}

static void put_uuid(const uint8_t uuid[16], char ret[37])
{
	char *at = ret;

	for (unsigned int i = 0; i < 16; i++)
		at += sprintf(at, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
			      uuid[i]);
}

/* Who serves the domain says which one it is. */
static int hello(struct daemon *d, struct vm *vm, struct reason *why)
{
	uint8_t request[4];
	struct cursor put = cursor_over(request, sizeof(request)), reply;
	struct control_call call = {
		.op = CONTROL_HELLO,
		.request = request,
		.request_len = sizeof(request),
		.why = why,
	};
	uint8_t uuid[16] = { 0 };
	struct control *c;
	uint32_t version, domid = 0;
	char text[37];
	int r;

	cursor_put_u32(&put, CONTROL_VERSION);
	r = vm_connect(d, vm->number, &c, why);
	if (r < 0)
		return r;
	r = control_call(c, &call, &reply);
	if (!r) {
		version = cursor_get_u32(&reply);
		domid = cursor_get_u32(&reply);
		cursor_get_bytes(&reply, uuid, sizeof(uuid));
		if (!cursor_ok(&reply) || version != CONTROL_VERSION)
			r = reason_set(why, EPROTO, "pollux-xen of another version serves %s",
				       vm->name);
	}
	control_close(c);
	if (r < 0)
		return r;
	put_uuid(uuid, text);
	if (vm->uuid[0] && strcasecmp(vm->uuid, text))
		return reason_set(why, EINVAL, "domain %u is %s, and not %s of uuid %s", domid,
				  text, vm->name, vm->uuid);
	memcpy(vm->uuid, text, sizeof(vm->uuid));
	vm->domid = domid;
	return 0;
}

/* --- its description ---------------------------------------------------------------------- */

static int read_text(int fd, uint64_t len, char **ret, struct reason *why)
{
	cleanup_free char *text = len <= DESCRIPTION_MAX ? malloc(len + 1) : NULL;
	ssize_t have;

	if (!text)
		return reason_set(why, EFBIG, "a description of %llu bytes, at most %llu",
				  (unsigned long long)len, (unsigned long long)DESCRIPTION_MAX);
	have = pread(fd, text, len, 0);
	if (have != (ssize_t)len || memchr(text, '\0', len))
		return reason_set(why, EPROTO, "the description is no text of %llu bytes",
				  (unsigned long long)len);
	text[len] = '\0';
	*ret = take_ptr(&text);
	return 0;
}

static int ask_description(struct daemon *d, struct vm *vm, char **ret, struct reason *why)
{
	cleanup_close int fd = -1;
	struct control_call call = {
		.op = CONTROL_DESCRIBE,
		.ret_fds = &fd,
		.nr_fds = 1,
		.why = why,
	};
	struct cursor reply;
	struct control *c;
	uint64_t len = 0;
	int r = vm_connect(d, vm->number, &c, why);

	if (r < 0)
		return r;
	r = control_call(c, &call, &reply);
	if (!r) {
		len = cursor_get_u64(&reply);
		r = cursor_ok(&reply) ? read_text(fd, len, ret, why) : -EPROTO;
	}
	control_close(c);
	return r;
}

/* libxl knows more words than polluxd: what they have in common is what counts here. */
static const char *action_of(const char *libxl)
{
	return strstr(libxl, "restart")	   ? "restart"
	       : strstr(libxl, "preserve") ? "preserve"
					   : "destroy";
}

/* What polluxd reads of a VM's configuration, whichever the platform, from libxl's. */
static void add_common(struct json_object *o)
{
	static const char *const actions[] = { "on_poweroff", "on_reboot", "on_crash" };
	static const char *const files[] = { "kernel", "ramdisk" };
	struct json_object *libxl = json_member(json_member(o, "xen"), "libxl");
	struct json_object *build = json_member(libxl, "b_info");
	const char *text;

	for (size_t i = 0; i < ARRAY_SIZE(actions); i++)
		json_add_string(o, actions[i], action_of(json_text(libxl, actions[i], "")));
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		text = json_text(build, files[i], "");
		if (*text == '/')
			json_add_string(o, files[i], text);
	}
}

static int check_description(const struct vm *vm, struct json_object *o, struct reason *why)
{
	int r = vm_check_config(o, why);

	if (r < 0)
		return r;
	if (vm_platform_of(o) != &vm_platform_xen)
		return reason_set(why, EPROTO, "the description's platform is \"%.40s\"",
				  json_text(o, "platform", ""));
	if (strcmp(json_text(o, "name", ""), vm->name))
		return reason_set(why, EINVAL, "the domain's name is \"%.63s\", and not %s",
				  json_text(o, "name", ""), vm->name);
	if (strcasecmp(json_text(o, "uuid", ""), vm->uuid))
		return reason_set(why, EPROTO, "the description's uuid is %s, and not %s",
				  json_text(o, "uuid", ""), vm->uuid);
	return 0;
}

static int xen_describe(struct daemon *d, struct vm *vm, struct reason *why)
{
	cleanup_json struct json_object *o = NULL;
	struct json_object *old;
	cleanup_free char *text = NULL;
	int r = ask_description(d, vm, &text, why);

	if (!r)
		r = json_parse(text, "the domain's description", &o, why);
	if (!r)
		r = check_description(vm, o, why);
	if (r < 0)
		return r;
	add_common(o);
	daemon_lock(d);
	old = vm->config;
	vm->config = o;
	daemon_unlock(d);
	o = old;
	return 0;
}

static int xen_greet(struct daemon *d, struct vm *vm, struct reason *why)
{
	int r = hello(d, vm, why);

	/* One that was not made here, and is seen for the first time. */
	return r < 0 || vm->config ? r : xen_describe(d, vm, why);
}

const struct vm_platform vm_platform_xen = {
	.name = "xen",
	.program = "pollux-xen",
	.log = "xen",
	.engine = "pollux-ha-xen",
	.lives_on = true,
	.end_ns = 30 * NS_PER_S,
	.arguments = xen_arguments,
	.greet = xen_greet,
	.describe = xen_describe,
};
