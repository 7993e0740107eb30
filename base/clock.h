/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time. Durations and instants are nanoseconds in 64 bits. Everything that
 * decides anything uses CLOCK_BOOTTIME, which goes on while a host is suspended;
 * wall-clock time is for people only.
 */
#ifndef POLLUX_CLOCK_H
#define POLLUX_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NS_PER_US UINT64_C(1000)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S  UINT64_C(1000000000)

static inline uint64_t clock_read_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static inline uint64_t clock_now_ns(void)
{
	return clock_read_ns(CLOCK_BOOTTIME);
}

/* For poll(2): rounded up; 0 when it has come. */
static inline int clock_ms_until(uint64_t ns)
{
	uint64_t now = clock_now_ns();

	return ns > now ? (int)((ns - now) / NS_PER_MS) + 1 : 0;
}

static inline uint64_t clock_wall_ns(void)
{
	return clock_read_ns(CLOCK_REALTIME);
}

#endif
