/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/mailbox.h"

#include <sys/eventfd.h>

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

static unsigned int limit_of(enum letter_kind kind)
{
	switch (kind) {
	case LETTER_ACK:
	case LETTER_DURABLE:
	case LETTER_ECHO:
	case LETTER_HEARTBEAT:
	case LETTER_SETTLED:
	case LETTER_HANDOVER:
	case LETTER_REFUSED:
	case LETTER_LEAVE:
	case LETTER_YIELD:
	case LETTER_YIELD_REQUEST:
		return MAILBOX_LETTERS / 2;
	case LETTER_PREPARED:
	case LETTER_CONNECTED:
	case LETTER_DIAL_FAILED:
	case LETTER_SENDING_END:
	case LETTER_ROUND_SENT:
	case LETTER_EPOCH_WHOLE:
	case LETTER_COMMITTED:
	case LETTER_BROKEN:
	case LETTER_FAILED:
		break;
	}
	return MAILBOX_LETTERS;
}

void mailbox_post(struct mailbox *m, const struct letter *l)
{
	unsigned int limit = limit_of(l->kind);

	pthread_mutex_lock(&m->lock);
	while (m->count >= limit && !is_buried(m, l))
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
		pthread_cond_broadcast(&m->room); /* they wait for different limits */
	else
		eventfd_read(m->fd, &ignored);
	pthread_mutex_unlock(&m->lock);
	return taken;
}

int mailbox_fd(const struct mailbox *m)
{
	return m->fd;
}
