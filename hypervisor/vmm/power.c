/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/vmm/power.h"

#include <pthread.h>

#include "base/clock.h"
#include "base/err.h"
#include "hypervisor/vmm/io.h"
#include "hypervisor/vmm/run.h"
#include "hypervisor/vmm/state.h"
#include "hypervisor/vmm/vm.h"

#define EVENT_POWER_BUTTON 0x0100u
#define EVENT_STATUS_BITS  0x8f31u /* what the guest may clear */
#define EVENT_ENABLE_BITS  0x0721u
#define CONTROL_SCI_EN	   0x0001u /* always in ACPI mode */
#define CONTROL_KEPT	   0x1c03u
#define CONTROL_SLEEP_EN   0x2000u
#define CONTROL_SLEEP_TYPE 0x1c00u
#define SLEEP_TYPE_S5	   (5u << 10) /* \_S5 in dsdt.asl */

#define TIMER_HZ UINT64_C(3579545)

#define KEYBOARD_RESET 0xfeu
#define PORT92_RESET   0x01u
#define PORT92_A20     0x02u

struct power {
	struct vm_device dev;
	struct vm *vm;
	pthread_mutex_t lock;
	uint16_t status, enable, control; /* lock */
	bool line;			  /* lock. The SCI as it was last set */
	int64_t timer_offset_ns; /* lock. Added to our clock, so that the timer goes on elsewhere */
};

static void update_line(struct power *power)
{
	bool level = power->status & power->enable;

	if (level == power->line)
		return;
	power->line = level;
	vm_irq_line(power->vm, POWER_SCI, level);
}

static uint64_t timer_ns(const struct power *power)
{
	return clock_now_ns() + (uint64_t)power->timer_offset_ns;
}

/* In seconds and remainder, so that the product does not overflow. */
static uint32_t timer_ticks(uint64_t ns)
{
	return (uint32_t)(ns / NS_PER_S * TIMER_HZ + ns % NS_PER_S * TIMER_HZ / NS_PER_S);
}

void power_press_button(struct power *power)
{
	pthread_mutex_lock(&power->lock);
	power->status |= EVENT_POWER_BUTTON;
	update_line(power);
	pthread_mutex_unlock(&power->lock);
}

void power_reset_write(struct vm *vm, uint8_t value)
{
	if (value & 0x04)
		run_request(vm, CONTROL_REBOOT);
}

static uint32_t pm_read(void *context, uint16_t port, unsigned int len)
{
	struct power *power = context;
	uint32_t value = 0;

	(void)len;
	pthread_mutex_lock(&power->lock);
	if (port == POWER_EVENT_PORT)
		value = power->status;
	else if (port == POWER_EVENT_PORT + 2)
		value = power->enable;
	else if (port == POWER_CONTROL_PORT)
		value = power->control;
	pthread_mutex_unlock(&power->lock);
	return value;
}

static bool means_poweroff(uint16_t port, uint32_t value)
{
	return port == POWER_CONTROL_PORT && value & CONTROL_SLEEP_EN &&
	       (value & CONTROL_SLEEP_TYPE) == SLEEP_TYPE_S5;
}

static void pm_write(void *context, uint16_t port, unsigned int len, uint32_t value)
{
	struct power *power = context;

	(void)len;
	pthread_mutex_lock(&power->lock);
	if (port == POWER_EVENT_PORT)
		power->status &= (uint16_t) ~(value & EVENT_STATUS_BITS);
	else if (port == POWER_EVENT_PORT + 2)
		power->enable = (uint16_t)(value & EVENT_ENABLE_BITS);
	else if (port == POWER_CONTROL_PORT)
		power->control = (uint16_t)((value & CONTROL_KEPT) | CONTROL_SCI_EN);
	update_line(power);
	pthread_mutex_unlock(&power->lock);
	/* Not under our lock: a reset takes it with that of run held. */
	if (means_poweroff(port, value))
		run_request(power->vm, CONTROL_POWEROFF);
}

static uint32_t timer_read(void *context, uint16_t port, unsigned int len)
{
	struct power *power = context;
	uint32_t ticks;

	(void)len;
	pthread_mutex_lock(&power->lock);
	ticks = timer_ticks(timer_ns(power));
	pthread_mutex_unlock(&power->lock);
	return ticks >> ((port - POWER_TIMER_PORT) * 8);
}

static void ignore_write(void *context, uint16_t port, unsigned int len, uint32_t value)
{
	(void)context;
	(void)port;
	(void)len;
	(void)value;
}

/* A keyboard controller that has no keyboard, but the processor's reset line. */
static uint32_t legacy_read(void *context, uint16_t port, unsigned int len)
{
	(void)context;
	(void)len;
	return port == 0x92 ? PORT92_A20 : 0;
}

static void legacy_write(void *context, uint16_t port, unsigned int len, uint32_t value)
{
	struct power *power = context;

	(void)len;
	if ((port == 0x64 && value == KEYBOARD_RESET) || (port == 0x92 && value & PORT92_RESET))
		run_request(power->vm, CONTROL_REBOOT);
}

static void power_reset(struct vm_device *dev)
{
	struct power *power = (struct power *)dev;

	pthread_mutex_lock(&power->lock);
	power->status = power->enable = 0;
	power->control = CONTROL_SCI_EN;
	update_line(power);
	pthread_mutex_unlock(&power->lock);
}

/* The line itself is in the state of the interrupt chips; here is only what we think it is. */
static void power_state(struct vm_device *dev, struct state *s)
{
	struct power *power = (struct power *)dev;
	uint64_t ns;

	pthread_mutex_lock(&power->lock);
	ns = timer_ns(power);
	state_u16(s, &power->status);
	state_u16(s, &power->enable);
	state_u16(s, &power->control);
	state_bool(s, &power->line);
	state_u64(s, &ns);
	if (s->loading)
		power->timer_offset_ns = (int64_t)(ns - clock_now_ns());
	pthread_mutex_unlock(&power->lock);
}

static const struct vm_device_ops power_ops = { .state = power_state, .reset = power_reset };

int power_open(struct vm *vm, struct power **ret)
{
	struct power *power = calloc(1, sizeof(*power));
	const struct io_range ranges[] = {
		{ .base = POWER_EVENT_PORT,
		  .count = 6,
		  .width = 2,
		  .read = pm_read,
		  .write = pm_write,
		  .context = power },
		{ .base = POWER_TIMER_PORT,
		  .count = 4,
		  .width = 4,
		  .read = timer_read,
		  .write = ignore_write,
		  .context = power },
		{ .base = 0x60,
		  .count = 1,
		  .width = 1,
		  .read = legacy_read,
		  .write = legacy_write,
		  .context = power },
		{ .base = 0x64,
		  .count = 1,
		  .width = 1,
		  .read = legacy_read,
		  .write = legacy_write,
		  .context = power },
		{ .base = 0x92,
		  .count = 1,
		  .width = 1,
		  .read = legacy_read,
		  .write = legacy_write,
		  .context = power },
	};
	int err;

	if (!power)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
		err = io_add(vm->io, &ranges[i]);
		if (err) {
			free(power);
			return err;
		}
	}
	power->dev = (struct vm_device){ .ops = &power_ops, .type = STATE_ACPI };
	power->vm = vm;
	power->control = CONTROL_SCI_EN;
	power->timer_offset_ns = -(int64_t)clock_now_ns();
	pthread_mutex_init(&power->lock, NULL);
	vm_add_device(vm, &power->dev);
	*ret = power;
	return 0;
}

void power_close(struct power *power)
{
	free(power);
}
