/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate between device threads and a stopped VM.
 *
 * A device thread touches guest memory, its device's state or its queues only between
 * gate_enter() and gate_leave(); it does its slow work (disk, tap) outside. Closing
 * the gate waits until nobody is inside and keeps everybody out: then memory and
 * devices stand still and a checkpoint may be taken. Sections must be short, for the
 * pause waits for them; no blocking call inside.
 *
 * vCPU threads do not use the gate: they are parked (vcpu.h). Order of locks: gate,
 * then a device's own lock.
 */
#ifndef POLLUX_VMM_GATE_H
#define POLLUX_VMM_GATE_H

#include <pthread.h>
#include <stdbool.h>

struct gate {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned int inside; /* lock */
	bool closed;	     /* lock */
	bool ended;	     /* written under lock; atomic, for gate_ended() */
};

void gate_init(struct gate *gate);
void gate_enter(struct gate *gate);
void gate_leave(struct gate *gate);
void gate_close(struct gate *gate);
void gate_open(struct gate *gate);
/*
 * The VM is over: the gate opens for good, whether or not it is closed, so that every thread
 * can be joined. Devices then find no work (gate_ended()): what a VM left in its queues when
 * it was stopped must not become output, or a write to its disk, of a VM that ends (P3).
 */
void gate_end(struct gate *gate);

static inline bool gate_ended(const struct gate *gate)
{
	return __atomic_load_n(&gate->ended, __ATOMIC_ACQUIRE);
}

#endif
