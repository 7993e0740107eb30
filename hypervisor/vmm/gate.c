/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/vmm/gate.h"

#include <assert.h>

void gate_init(struct gate *gate)
{
	pthread_mutex_init(&gate->lock, NULL);
	pthread_cond_init(&gate->changed, NULL);
	gate->inside = 0;
	gate->closed = false;
	gate->ended = false;
}

void gate_enter(struct gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	while (gate->closed)
		pthread_cond_wait(&gate->changed, &gate->lock);
	gate->inside++;
	pthread_mutex_unlock(&gate->lock);
}

void gate_leave(struct gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	assert(gate->inside > 0);
	if (--gate->inside == 0 && gate->closed)
		pthread_cond_broadcast(&gate->changed);
	pthread_mutex_unlock(&gate->lock);
}

void gate_close(struct gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	assert(!gate->closed);
	gate->closed = true;
	while (gate->inside > 0)
		pthread_cond_wait(&gate->changed, &gate->lock);
	pthread_mutex_unlock(&gate->lock);
}

void gate_open(struct gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	assert(gate->closed);
	gate->closed = false;
	pthread_cond_broadcast(&gate->changed);
	pthread_mutex_unlock(&gate->lock);
}

void gate_end(struct gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	__atomic_store_n(&gate->ended, true, __ATOMIC_RELEASE);
	gate->closed = false;
	pthread_cond_broadcast(&gate->changed);
	pthread_mutex_unlock(&gate->lock);
}
