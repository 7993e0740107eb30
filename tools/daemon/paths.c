/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/daemon/paths.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

struct path path_under(const char *folder, const char *fmt, ...)
{
	struct path p;
	va_list ap;
	int len = snprintf(p.text, sizeof(p.text), "%s/", folder);

	va_start(ap, fmt);
	vsnprintf(p.text + len, sizeof(p.text) - (size_t)len, fmt, ap);
	va_end(ap);
	return p;
}

struct path path_vm_dir(const struct conf *conf, uint32_t number)
{
	return path_under(conf->run_dir, "vm/%u", number);
}

struct path path_ha(const struct conf *conf, const char *vm, const char *suffix)
{
	return path_under(conf->run_dir, "ha/%s.%s", vm, suffix);
}

struct path path_state_dir(const struct conf *conf, const char *vm)
{
	return path_under(conf->state_dir, "%s", vm);
}

static bool try_program(const char *folder, const char *name, struct path *ret)
{
	struct path p = path_under(folder, "%s", name);

	if (access(p.text, X_OK) < 0)
		return false;
	*ret = p;
	return true;
}

int path_program(const struct conf *conf, const char *name, struct path *ret, struct reason *why)
{
	const char *env = getenv("POLLUX_LIBEXEC");
	char self[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (env && strlen(env) < 128)
		return try_program(env, name, ret)
			       ? 0
			       : reason_set(why, ENOENT, "no %s in %s ($POLLUX_LIBEXEC)", name,
					    env);
	if (try_program(conf->libexec_dir, name, ret))
		return 0;
	self[len > 0 ? len : 0] = '\0';
	slash = strrchr(self, '/');
	if (slash && slash - self < 128) {
		*slash = '\0';
		if (try_program(self, name, ret))
			return 0;
	}
	return reason_set(why, ENOENT, "%s is neither in %s nor beside polluxd", name,
			  conf->libexec_dir);
}

static int make_folder(const char *path, mode_t mode, struct reason *why)
{
	char part[256];

	for (const char *slash = strchr(path + 1, '/');; slash = strchr(slash + 1, '/')) {
		size_t len = slash ? (size_t)(slash - path) : strlen(path);

		memcpy(part, path, len);
		part[len] = '\0';
		if (mkdir(part, slash ? 0755 : mode) < 0 && errno != EEXIST)
			return reason_set(why, errno, "%s: %s", part, strerror(errno));
		if (!slash)
			return 0;
	}
}

int paths_make(const struct conf *conf, struct reason *why)
{
	struct path vm = path_under(conf->run_dir, "vm"), ha = path_under(conf->run_dir, "ha");
	int r = make_folder(conf->run_dir, 0755, why);

	if (!r)
		r = make_folder(vm.text, 0755, why);
	if (!r)
		r = make_folder(ha.text, 0700, why);
	if (!r)
		r = make_folder(conf->state_dir, 0755, why);
	return r ?: make_folder(conf->log_dir, 0750, why);
}
