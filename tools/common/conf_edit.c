/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/common/conf_edit.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "tools/common/conf.h"

#define FILE_MAX  65536u
#define PATH_ROOM 320u

/* The folder, locked until it is closed. */
static int lock_folder(const char *path, struct reason *why)
{
	char folder[PATH_ROOM];
	const char *slash = strrchr(path, '/');
	cleanup_close int fd = -1;

	if (snprintf(folder, sizeof(folder), "%.*s", slash ? (int)(slash - path + 1) : 1,
		     slash ? path : ".") >= (int)sizeof(folder))
		return reason_set(why, ENAMETOOLONG, "%.80s...: too long", path);
	fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || flock(fd, LOCK_EX))
		return reason_set(why, errno, "%s: %s", folder, strerror(errno));
	return take_fd(&fd);
}

static int write_new(const char *temporary, const char *text, mode_t mode)
{
	cleanup_close int fd =
		open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
	size_t len = strlen(text);

	if (fd < 0)
		return -errno;
	if (write(fd, text, len) != (ssize_t)len)
		return errno ? -errno : -ENOSPC;
	return fchmod(fd, mode) || fsync(fd) ? -errno : 0;
}

static int put(int folder, const char *path, const char *text, mode_t mode, struct reason *why)
{
	char temporary[PATH_ROOM];
	struct conf judged;
	int r = conf_parse(text, path, &judged, why);

	if (r)
		return r;
	snprintf(temporary, sizeof(temporary), "%.300s.new", path);
	r = write_new(temporary, text, mode);
	if (!r && rename(temporary, path))
		r = -errno;
	if (r)
		unlink(temporary);
	if (!r && fsync(folder))
		r = -errno;
	return r ? reason_set(why, -r, "%s: %s", path, strerror(-r)) : 0;
}

static int get(const char *path, char **ret, mode_t *ret_mode, struct reason *why)
{
	struct stat st;
	size_t len;

	if (stat(path, &st))
		return reason_set(why, errno, "%s: %s", path, strerror(errno));
	*ret_mode = st.st_mode & 0777;
	return text_read_file(path, FILE_MAX, ret, &len, why);
}

int conf_create(const char *path, const char *text, struct reason *why)
{
	cleanup_close int folder = lock_folder(path, why);

	if (folder < 0)
		return folder;
	if (!access(path, F_OK))
		return reason_set(why, EEXIST, "%s is there", path);
	return put(folder, path, text, 0644, why);
}

int conf_add_peer(const char *path, const char *name, const char *address, struct reason *why)
{
	cleanup_close int folder = lock_folder(path, why);
	cleanup_free char *text = NULL, *more = NULL;
	const struct conf_peer *peer;
	struct conf conf;
	mode_t mode;
	int r = folder < 0 ? folder : get(path, &text, &mode, why);

	if (!r)
		r = conf_parse(text, path, &conf, why);
	if (r)
		return r;
	peer = conf_find_peer(&conf, name);
	if (peer)
		return strcmp(peer->address, address)
			       ? reason_set(why, EEXIST,
					    "%s has host %s at %s, not %s; pollux host remove %s "
					    "first",
					    path, name, peer->address, address, name)
			       : 0;
	if (asprintf(&more, "%s%s\n[peer %s]\naddress = %s\n", text,
		     *text && text[strlen(text) - 1] != '\n' ? "\n" : "", name, address) < 0)
		return -ENOMEM;
	return put(folder, path, more, mode, why);
}

/* Without the lines from its heading to the next one, and the empty ones before it. */
static bool cut_section(char *text, const char *name)
{
	char heading[TEXT_NAME_MAX + 16];
	size_t len = (size_t)snprintf(heading, sizeof(heading), "[peer %s]", name);
	char *begin = NULL, *end;

	for (char *line = text; line && *line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, heading, len)) {
			begin = line;
			break;
		}
	}
	if (!begin)
		return false;
	for (end = strchr(begin, '\n'); end && end[1] != '['; end = strchr(end + 1, '\n'))
		;
	while (begin > text && begin[-1] == '\n' && (begin - 1 == text || begin[-2] == '\n'))
		begin--;
	end = end ? end : begin + strlen(begin);
	memmove(begin, end, strlen(end) + 1);
	return true;
}

int conf_remove_peer(const char *path, const char *name, struct reason *why)
{
	cleanup_close int folder = lock_folder(path, why);
	cleanup_free char *text = NULL;
	mode_t mode;
	int r = folder < 0 ? folder : get(path, &text, &mode, why);

	if (r)
		return r;
	if (!cut_section(text, name))
		return reason_set(why, ENOENT, "%s has no section [peer %s]", path, name);
	return put(folder, path, text, mode, why);
}
