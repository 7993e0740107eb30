/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hypervisor/vmm/virtio_pci.h: negotiation, registers of every size, what a driver must not
 * do, the reset that heals, and the registers across a save and a load. The devices are the
 * smallest there are: rng and console.
 */
#include "tests/lib/test.h"

#include <fcntl.h>

#include "hypervisor/vmm/virtio_console.h"
#include "hypervisor/vmm/virtio_rng.h"
#include "tests/lib/dir.h"
#include "tests/lib/virtio_guest.h"

struct fixture {
	struct test_dir dir;
	struct vm *vm;
	struct guest_device rng, console;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct reason why;

	assert_int_equal(test_dir_open(&f->dir), 0);
	f->vm = guest_vm_open(f->dir.path);
	assert_int_equal(virtio_rng_create(f->vm, 0, &why), 0);
	f->rng = guest_device_last(f->vm);
	assert_int_equal(virtio_console_create(f->vm, 0, &why), 0);
	f->console = guest_device_last(f->vm);
	guest_start(&f->rng);
	guest_start(&f->console);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	guest_vm_close(f->vm);
	test_dir_close(&f->dir);
	free(f);
	return 0;
}

/* The capabilities as a driver finds them, each within the BAR and below the MSI-X table. */
static void test_capabilities(void **state)
{
	struct fixture *f = *state;
	const uint8_t *config = f->rng.v->pci.config;
	unsigned int seen = 0;

	assert_int_equal(config[0] | config[1] << 8, 0x1af4);
	assert_int_equal(config[2] | config[3] << 8, 0x1044);
	assert_true(config[8] >= 1);
	for (unsigned int at = config[0x34]; at; at = config[at + 1]) {
		struct cursor c = cursor_over(config + at + 4, 12);

		if (config[at] != 0x09)
			continue;
		seen |= 1u << config[at + 3];
		assert_int_equal(config[at + 2],
				 config[at + 3] == 2 || config[at + 3] == 5 ? 20 : 16);
		assert_int_equal(cursor_get_u32(&c), 0);
		if (config[at + 3] == 5)
			continue;
		assert_in_range(cursor_get_u32(&c) + cursor_get_u32(&c), 1, PCI_BAR_MSIX_OFFSET);
		if (config[at + 3] == 2)
			assert_int_equal(config[at + 16], VIRTIO_NOTIFY_STEP);
	}
	assert_int_equal(seen, 0x3e);
}

static void test_negotiation(void **state)
{
	struct fixture *f = *state;
	struct guest_device *d = &f->rng;

	assert_int_equal(guest_features(d),
			 VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC);
	guest_set_status(d, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER);
	guest_set_features(d, VIRTIO_F_EVENT_IDX); /* not VERSION_1 */
	guest_set_status(d, VIRTIO_STATUS_FEATURES_OK);
	assert_int_equal(guest_status(d), 3);
	guest_set_features(d, VIRTIO_F_VERSION_1 | 1); /* what was not offered */
	guest_set_status(d, VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_DRIVER_OK);
	assert_int_equal(guest_status(d), 3);
	guest_set_features(d, VIRTIO_F_VERSION_1);
	guest_set_status(d, VIRTIO_STATUS_FEATURES_OK);
	assert_int_equal(guest_status(d), 0xb);
	guest_set_features(d, UINT64_MAX); /* too late */
	assert_int_equal(d->v->accepted, VIRTIO_F_VERSION_1);
	guest_set(d, VIRTIO_COMMON_STATUS, 1, 0);
	assert_int_equal(guest_status(d), 0);
	assert_int_equal(d->v->accepted, 0);
}

static void test_queue_registers(void **state)
{
	struct fixture *f = *state;
	struct guest_device *d = &f->rng;

	assert_int_equal(guest_reg(d, VIRTIO_COMMON_NUM_QUEUES, 2), 1);
	guest_set(d, VIRTIO_COMMON_QUEUE_SELECT, 2, 1); /* there is none */
	assert_int_equal(guest_reg(d, VIRTIO_COMMON_QUEUE_SIZE, 2), 0);
	guest_set(d, VIRTIO_COMMON_QUEUE_ENABLE, 2, 1);
	guest_set(d, VIRTIO_COMMON_QUEUE_SELECT, 2, 0);
	assert_int_equal(guest_reg(d, VIRTIO_COMMON_QUEUE_ENABLE, 2), 0);
	assert_int_equal(guest_reg(d, VIRTIO_COMMON_QUEUE_SIZE, 2), VIRTQUEUE_MAX);
	for (unsigned int size = 0; size < 0x10000; size += size < 300 ? 1 : 997)
		guest_set(d, VIRTIO_COMMON_QUEUE_SIZE, 2, size);
	assert_int_equal(guest_reg(d, VIRTIO_COMMON_QUEUE_SIZE, 2), 256);
	guest_set(d, VIRTIO_COMMON_QUEUE_VECTOR, 2, 2); /* it has 0 and 1 */
	assert_int_equal(guest_reg(d, VIRTIO_COMMON_QUEUE_VECTOR, 2), 0xffff);
	guest_set(d, VIRTIO_COMMON_QUEUE_DESC, 4, 0x11223344);
	guest_set(d, VIRTIO_COMMON_QUEUE_DESC + 4, 4, 0x55667788);
	assert_int_equal(guest_reg(d, VIRTIO_COMMON_QUEUE_DESC, 8), UINT64_C(0x5566778811223344));
	guest_set(d, VIRTIO_COMMON_QUEUE_ENABLE, 2, 1);
	guest_set(d, VIRTIO_COMMON_QUEUE_DESC, 8, 0);
	guest_set(d, VIRTIO_COMMON_QUEUE_SIZE, 2, 8);
	assert_int_equal(guest_reg(d, VIRTIO_COMMON_QUEUE_DESC, 8), UINT64_C(0x5566778811223344));
	assert_int_equal(guest_reg(d, VIRTIO_COMMON_QUEUE_SIZE, 2), 256);
}

/* Every offset and size, in both directions: nothing but the registers' own meaning happens. */
static void test_every_access(void **state)
{
	struct fixture *f = *state;

	for (unsigned int len = 1; len <= 8; len *= 2) {
		for (uint32_t at = 0; at + len <= PCI_BAR_MSIX_OFFSET; at++) {
			if (at % 0x1000 == 0x100)
				at += 0xe00;
			guest_set(&f->rng, at, len, UINT64_MAX);
			guest_set(&f->console, at, len, UINT64_MAX);
			(void)guest_reg(&f->rng, at, len);
			assert_int_equal(len == 8 ? 0 : guest_reg(&f->console, at, len) >> 8 * len,
					 0);
		}
	}
}

static void test_rng(void **state)
{
	struct fixture *f = *state;
	const struct guest_segment buffer = { GUEST_DATA, 64, true };
	static const uint8_t zeros[64];
	uint8_t random[64];
	uint32_t len;

	guest_setup(&f->rng, VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC);
	for (unsigned int i = 0; i < 40; i++) {
		guest_post(&f->rng, 0, &buffer, 1);
		assert_true(guest_wait(&f->rng, 0, &len) >= 0);
		assert_int_equal(len, 64);
		assert_true(guest_interrupted(&f->rng, 1));
	}
	assert_int_equal(guest_read(&f->vm->memory, GUEST_DATA, random, sizeof(random)), 0);
	assert_memory_not_equal(random, zeros, sizeof(random));
}

static void test_console(void **state)
{
	struct fixture *f = *state;
	const struct guest_segment text = { GUEST_DATA, 6, false };
	char path[128], line[16] = "";
	int fd;

	guest_setup(&f->console, 0);
	assert_int_equal(guest_write(&f->vm->memory, GUEST_DATA, "hello\n", 6), 0);
	guest_post(&f->console, 1, &text, 1);
	assert_true(guest_wait(&f->console, 1, NULL) >= 0);
	f->console.v->base.ops->stop(&f->console.v->base); /* so that it has been written */
	snprintf(path, sizeof(path), "%s/hvc0.log", f->dir.path);
	fd = open(path, O_RDONLY);
	assert_int_equal(read(fd, line, sizeof(line)), 6);
	assert_string_equal(line, "hello\n");
	close(fd);
}

/* A driver that breaks the rules gets a device that does nothing until it is reset (P4). */
static void test_needs_reset(void **state)
{
	struct fixture *f = *state;
	const struct guest_segment outside = { GUEST_BYTES, 64, true };
	const struct guest_segment good = { GUEST_DATA, 64, true };

	guest_setup(&f->rng, 0);
	guest_post(&f->rng, 0, &outside, 1);
	assert_true(guest_wait_status(&f->rng, VIRTIO_STATUS_NEEDS_RESET));
	assert_true(guest_interrupted(&f->rng, 0));
	assert_int_equal(guest_reg(&f->rng, VIRTIO_BAR_ISR, 1) & 2, 2);
	assert_int_equal(guest_reg(&f->rng, VIRTIO_BAR_ISR, 1), 0);
	/* It cannot be talked out of it. */
	guest_set(&f->rng, VIRTIO_COMMON_STATUS, 1, 0xf);
	guest_post(&f->rng, 0, &good, 1);
	f->rng.v->base.ops->stop(&f->rng.v->base);
	assert_int_equal(guest_used(&f->rng, 0), 0);
	assert_int_equal(guest_status(&f->rng), 0x4f);
	f->rng.v->stopping = false;
	guest_start(&f->rng);
	guest_setup(&f->rng, 0);
	guest_post(&f->rng, 0, &good, 1);
	assert_true(guest_wait(&f->rng, 0, NULL) >= 0);
}

/* What the other host has shown as completed is signalled again, whether it was or not. */
static void test_save_and_load(void **state)
{
	struct fixture *f = *state;
	const struct guest_segment buffer = { GUEST_DATA, 64, true };
	static uint8_t saved[8192], again[8192];
	struct guest_device *d = &f->rng;
	size_t len;

	guest_setup(d, VIRTIO_F_EVENT_IDX);
	guest_post(d, 0, &buffer, 1);
	assert_true(guest_wait(d, 0, NULL) >= 0);
	assert_true(guest_interrupted(d, 1));
	d->v->base.ops->stop(&d->v->base);
	len = guest_save(d, saved, sizeof(saved));
	assert_int_not_equal(len, 0);
	d->v->base.ops->reset(&d->v->base);
	assert_int_equal(guest_status(d), 0);
	assert_true(guest_load(d, saved, len));
	assert_int_equal(guest_save(d, again, sizeof(again)), len);
	assert_memory_equal(saved, again, len);
	d->v->stopping = false;
	guest_start(d);
	assert_true(guest_interrupted(d, 1));
	guest_post(d, 0, &buffer, 1);
	assert_true(guest_wait(d, 0, NULL) >= 0);
}

/* A notification that an eventfd held at the checkpoint is not saved: start() looks anyway. */
static void test_lost_notification(void **state)
{
	struct fixture *f = *state;
	const struct guest_segment buffer = { GUEST_DATA, 64, true };
	struct guest_device *d = &f->rng;

	guest_setup(d, VIRTIO_F_EVENT_IDX);
	d->v->base.ops->stop(&d->v->base);
	guest_post(d, 0, &buffer, 1);
	(void)!read(d->v->kick_fd[0], &(uint64_t){ 0 }, 8);
	d->v->stopping = false;
	guest_start(d);
	assert_true(guest_wait(d, 0, NULL) >= 0);
}

/* No device thread passes a closed gate. */
static void test_gate(void **state)
{
	struct fixture *f = *state;
	const struct guest_segment buffer = { GUEST_DATA, 64, true };

	guest_setup(&f->rng, 0);
	guest_setup(&f->console, 0);
	gate_close(&f->vm->gate);
	for (unsigned int i = 0; i < 8; i++)
		guest_post(&f->rng, 0, &buffer, 1);
	poll(NULL, 0, 20);
	assert_int_equal(guest_used(&f->rng, 0), 0);
	gate_open(&f->vm->gate);
	for (unsigned int i = 0; i < 8; i++)
		assert_true(guest_wait(&f->rng, 0, NULL) >= 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_capabilities), TEST(test_negotiation),   TEST(test_queue_registers),
		TEST(test_every_access), TEST(test_rng),	   TEST(test_console),
		TEST(test_needs_reset),	 TEST(test_save_and_load), TEST(test_lost_notification),
		TEST(test_gate),
	};

	return test_main(tests);
}
