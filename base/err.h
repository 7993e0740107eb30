/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors and unwinding.
 *
 * Every function that can fail returns 0 or a negative errno; a result goes to
 * a `ret_*` argument, which a failing call leaves untouched. `assert` is for our
 * own mistakes; what a guest, a peer, a disk or a configuration file says is
 * checked and refused.
 */
#ifndef POLLUX_ERR_H
#define POLLUX_ERR_H

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
/* The smaller and the larger, in their common type; each argument is evaluated once. */
#define MIN(a, b)	       err_pick_(<, a, b, __COUNTER__)
#define MAX(a, b)	       err_pick_(>, a, b, __COUNTER__)
#define err_pick_(op, a, b, n) err_pick_as_(op, a, b, n)
#define err_pick_as_(op, a, b, n)                                                                  \
	__extension__({                                                                            \
		const __typeof__(0 ? (a) : (b)) err_a_##n = (a);                                   \
		const __typeof__(0 ? (a) : (b)) err_b_##n = (b);                                   \
		err_a_##n op err_b_##n ? err_a_##n : err_b_##n;                                    \
	})

/* Variables with these attributes are released when they go out of scope. */
#define cleanup_free  __attribute__((cleanup(err_free_ptr)))
#define cleanup_close __attribute__((cleanup(err_close_fd)))

static inline void err_free_ptr(void *p)
{
	free(*(void **)p);
}

static inline void err_close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

/* Hand a descriptor or a pointer on to the caller: the cleanup finds nothing. */
static inline int take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

static inline void *take_ptr_(void **p)
{
	void *taken = *p;

	*p = NULL;
	return taken;
}
#define take_ptr(p) ((__typeof__(*(p)))take_ptr_((void **)(p)))

/* Text of the refusal that accompanies a negative errno: which value, which limit. */
struct reason {
	char text[256];
};

__attribute__((format(printf, 3, 4))) int reason_set(struct reason *why, int err, const char *fmt,
						     ...);

#endif
