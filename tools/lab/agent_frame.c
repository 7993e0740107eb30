/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames of the lab agent, for both ends. Descriptors are blocking.
 */
#include "tools/lab/agent.h"

#include <sys/socket.h>

#include "base/cursor.h"
#include "base/err.h"

#define HEAD_LEN 5

int agent_write_all(int fd, const void *data, size_t len)
{
	const uint8_t *pos = data;

	while (len > 0) {
		ssize_t n = write(fd, pos, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		pos += n;
		len -= (size_t)n;
	}
	return 0;
}

static int read_all(int fd, void *data, size_t len)
{
	uint8_t *pos = data;

	while (len > 0) {
		ssize_t n = read(fd, pos, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ECONNRESET;
		pos += n;
		len -= (size_t)n;
	}
	return 0;
}

int agent_send(int fd, enum agent_frame type, const void *data, size_t len)
{
	uint8_t head[HEAD_LEN];
	struct cursor c = cursor_over(head, sizeof(head));
	int r;

	assert(len <= AGENT_FRAME_MAX);
	cursor_put_u8(&c, (uint8_t)type);
	cursor_put_u32(&c, (uint32_t)len);
	r = agent_write_all(fd, head, sizeof(head));
	return r < 0 || len == 0 ? r : agent_write_all(fd, data, len);
}

int agent_receive(int fd, enum agent_frame *ret_type, uint8_t buf[AGENT_FRAME_MAX], size_t *ret_len)
{
	uint8_t head[HEAD_LEN];
	struct cursor c = cursor_over(head, sizeof(head));
	uint32_t len;
	uint8_t type;
	int r;

	r = read_all(fd, head, sizeof(head));
	if (r < 0)
		return r;
	type = cursor_get_u8(&c);
	len = cursor_get_u32(&c);
	if (type < AGENT_COMMAND || type > AGENT_EXIT || len > AGENT_FRAME_MAX)
		return -EPROTO;
	r = read_all(fd, buf, len);
	if (r < 0)
		return r;
	*ret_type = type;
	*ret_len = len;
	return 0;
}
