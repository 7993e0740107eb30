/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/vmm/serial.h"

#include <pthread.h>

#include "base/err.h"
#include "hypervisor/vmm/console.h"
#include "hypervisor/vmm/io.h"
#include "hypervisor/vmm/state.h"
#include "hypervisor/vmm/vm.h"

#define PORT 0x3f8u
#define IRQ  4u

enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };

#define IER_RX	     0x01u
#define IER_TX	     0x02u
#define IIR_NONE     0x01u
#define IIR_TX	     0x02u
#define IIR_RX	     0x04u
#define IIR_FIFO     0xc0u
#define FCR_ENABLE   0x01u
#define FCR_CLEAR_RX 0x02u
#define LCR_DLAB     0x80u
#define MCR_LOOP     0x10u
#define LSR_RX	     0x01u
#define LSR_TX_EMPTY 0x60u
#define MSR_READY    0xb0u /* carrier, data set ready, clear to send */

#define RX_MAX 256u

struct serial {
	struct vm_device dev;
	struct vm *vm;
	pthread_mutex_t lock;
	/* All below: lock. */
	uint8_t ier, fcr, lcr, mcr, scr, dll, dlm;
	bool tx_event; /* the transmitter became empty and nobody has asked since */
	bool line;     /* the interrupt as it was last set */
	uint32_t rx_count;
	uint8_t rx[RX_MAX];
	int room_fd; /* to be raised when rx is empty; -1: nobody waits */
};

static bool rx_wanted(const struct serial *serial)
{
	return serial->ier & IER_RX && serial->rx_count > 0;
}

static bool tx_wanted(const struct serial *serial)
{
	return serial->ier & IER_TX && serial->tx_event;
}

static void update_line(struct serial *serial)
{
	bool level = rx_wanted(serial) || tx_wanted(serial);

	if (level == serial->line)
		return;
	serial->line = level;
	vm_irq_line(serial->vm, IRQ, level);
}

static void tell_room(struct serial *serial)
{
	uint64_t one = 1;

	if (serial->rx_count > 0 || serial->room_fd < 0)
		return;
	if (write(serial->room_fd, &one, sizeof(one)) < 0)
		return; /* raised already */
	serial->room_fd = -1;
}

size_t serial_input(struct serial *serial, const uint8_t *data, size_t len, int room_fd)
{
	size_t taken;

	pthread_mutex_lock(&serial->lock);
	taken = MIN(len, RX_MAX - serial->rx_count);
	memcpy(serial->rx + serial->rx_count, data, taken);
	serial->rx_count += (uint32_t)taken;
	if (taken < len)
		serial->room_fd = room_fd;
	update_line(serial);
	pthread_mutex_unlock(&serial->lock);
	return taken;
}

static uint8_t read_data(struct serial *serial)
{
	uint8_t byte;

	if (serial->lcr & LCR_DLAB)
		return serial->dll;
	if (serial->rx_count == 0)
		return 0;
	byte = serial->rx[0];
	memmove(serial->rx, serial->rx + 1, --serial->rx_count);
	tell_room(serial);
	return byte;
}

/* Reading it acknowledges the transmitter's interrupt, if it is the one shown. */
static uint8_t read_iir(struct serial *serial)
{
	uint8_t fifo = serial->fcr & FCR_ENABLE ? IIR_FIFO : 0;

	if (rx_wanted(serial))
		return fifo | IIR_RX;
	if (!tx_wanted(serial))
		return fifo | IIR_NONE;
	serial->tx_event = false;
	return fifo | IIR_TX;
}

/* In loop-back the outputs of MCR show as inputs; drivers find the chip by that. */
static uint8_t read_msr(const struct serial *serial)
{
	uint8_t mcr = serial->mcr;

	if (!(mcr & MCR_LOOP))
		return MSR_READY;
	return (uint8_t)((mcr & 0x0c) << 4 | (mcr & 0x02) << 3 | (mcr & 0x01) << 5);
}

static uint32_t serial_read(void *context, uint16_t port, unsigned int len)
{
	struct serial *serial = context;
	uint8_t value = 0;

	(void)len;
	pthread_mutex_lock(&serial->lock);
	switch (port - PORT) {
	case REG_DATA:
		value = read_data(serial);
		break;
	case REG_IER:
		value = serial->lcr & LCR_DLAB ? serial->dlm : serial->ier;
		break;
	case REG_IIR_FCR:
		value = read_iir(serial);
		break;
	case REG_LCR:
		value = serial->lcr;
		break;
	case REG_MCR:
		value = serial->mcr;
		break;
	case REG_LSR:
		value = LSR_TX_EMPTY | (serial->rx_count > 0 ? LSR_RX : 0);
		break;
	case REG_MSR:
		value = read_msr(serial);
		break;
	case REG_SCR:
		value = serial->scr;
		break;
	}
	update_line(serial);
	pthread_mutex_unlock(&serial->lock);
	return value;
}

static void write_data(struct serial *serial, uint8_t value)
{
	if (serial->lcr & LCR_DLAB) {
		serial->dll = value;
		return;
	}
	serial->tx_event = true;
	if (!(serial->mcr & MCR_LOOP))
		console_output(serial->vm->console, &value, 1);
	else if (serial->rx_count < RX_MAX)
		serial->rx[serial->rx_count++] = value;
}

static void write_ier(struct serial *serial, uint8_t value)
{
	if (serial->lcr & LCR_DLAB) {
		serial->dlm = value;
		return;
	}
	/* The transmitter is empty: whoever starts to listen hears of it at once. */
	if (value & ~serial->ier & IER_TX)
		serial->tx_event = true;
	serial->ier = value & 0x0f;
}

static void serial_write(void *context, uint16_t port, unsigned int len, uint32_t value)
{
	struct serial *serial = context;
	uint8_t byte = (uint8_t)value;

	(void)len;
	pthread_mutex_lock(&serial->lock);
	switch (port - PORT) {
	case REG_DATA:
		write_data(serial, byte);
		break;
	case REG_IER:
		write_ier(serial, byte);
		break;
	case REG_IIR_FCR:
		serial->fcr = byte;
		if (byte & FCR_CLEAR_RX) {
			serial->rx_count = 0;
			tell_room(serial);
		}
		break;
	case REG_LCR:
		serial->lcr = byte;
		break;
	case REG_MCR:
		serial->mcr = byte & 0x1f;
		break;
	case REG_SCR:
		serial->scr = byte;
		break;
	}
	update_line(serial);
	pthread_mutex_unlock(&serial->lock);
}

static void serial_reset(struct vm_device *dev)
{
	struct serial *serial = (struct serial *)dev;

	pthread_mutex_lock(&serial->lock);
	serial->ier = serial->fcr = serial->lcr = serial->mcr = serial->scr = 0;
	serial->dll = 12;
	serial->dlm = 0;
	serial->tx_event = false;
	serial->rx_count = 0;
	tell_room(serial);
	update_line(serial);
	pthread_mutex_unlock(&serial->lock);
}

static void serial_state(struct vm_device *dev, struct state *s)
{
	struct serial *serial = (struct serial *)dev;
	uint8_t *regs[] = { &serial->ier, &serial->fcr, &serial->lcr, &serial->mcr,
			    &serial->scr, &serial->dll, &serial->dlm };

	pthread_mutex_lock(&serial->lock);
	for (size_t i = 0; i < ARRAY_SIZE(regs); i++)
		state_u8(s, regs[i]);
	state_bool(s, &serial->tx_event);
	state_bool(s, &serial->line);
	state_count(s, &serial->rx_count, RX_MAX);
	state_bytes(s, serial->rx, serial->rx_count);
	pthread_mutex_unlock(&serial->lock);
}

static const struct vm_device_ops serial_ops = { .state = serial_state, .reset = serial_reset };

int serial_open(struct vm *vm, struct serial **ret)
{
	struct serial *serial = calloc(1, sizeof(*serial));
	struct io_range range = {
		.base = PORT,
		.count = 8,
		.width = 1,
		.read = serial_read,
		.write = serial_write,
		.context = serial,
	};
	int err;

	if (!serial)
		return -ENOMEM;
	err = io_add(vm->io, &range);
	if (err) {
		free(serial);
		return err;
	}
	serial->dev = (struct vm_device){ .ops = &serial_ops, .type = STATE_SERIAL };
	serial->vm = vm;
	serial->room_fd = -1;
	serial->dll = 12;
	pthread_mutex_init(&serial->lock, NULL);
	vm_add_device(vm, &serial->dev);
	*ret = serial;
	return 0;
}

void serial_close(struct serial *serial)
{
	free(serial);
}
