/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/mailbox.h"

#include <sys/eventfd.h>

#define MAILBOX_LETTERS 256u

struct mailbox {
	pthread_mutex_t lock;
	pthread_cond_t room;
	int fd;
	unsigned int first, count;	       /* lock */
	uint64_t buried;		       /* lock */
	struct letter letter[MAILBOX_LETTERS]; /* lock */
};

int mailbox_open(struct mailbox **ret)
{
	struct mailbox *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (m->fd < 0) {
		free(m);
		return -errno;
	}
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->room, NULL);
	*ret = m;
	return 0;
}

void mailbox_close(struct mailbox *m)
{
	if (!m)
		return;
	close(m->fd);
	pthread_cond_destroy(&m->room);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

static bool is_buried(const struct mailbox *m, const struct letter *l)
{
	return l->session && l->session <= m->buried;
}

void mailbox_post(struct mailbox *m, const struct letter *l)
{
	pthread_mutex_lock(&m->lock);
	while (m->count == MAILBOX_LETTERS && !is_buried(m, l))
		pthread_cond_wait(&m->room, &m->lock);
	if (!is_buried(m, l))
		m->letter[(m->first + m->count++) % MAILBOX_LETTERS] = *l;
	pthread_mutex_unlock(&m->lock);
	eventfd_write(m->fd, 1);
}

void mailbox_bury(struct mailbox *m, uint64_t session)
{
	pthread_mutex_lock(&m->lock);
	m->buried = MAX(m->buried, session);
	pthread_cond_broadcast(&m->room);
	pthread_mutex_unlock(&m->lock);
}

bool mailbox_take(struct mailbox *m, struct letter *ret)
{
	eventfd_t ignored;
	bool taken = false;

	pthread_mutex_lock(&m->lock);
	while (m->count && !taken) {
		*ret = m->letter[m->first];
		m->first = (m->first + 1) % MAILBOX_LETTERS;
		m->count--;
		taken = !is_buried(m, ret);
	}
	if (taken)
		pthread_cond_signal(&m->room);
	else
		eventfd_read(m->fd, &ignored);
	pthread_mutex_unlock(&m->lock);
	return taken;
}

int mailbox_fd(const struct mailbox *m)
{
	return m->fd;
}
