/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/vmm/rtc.h"

#include <pthread.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "hypervisor/vmm/io.h"
#include "hypervisor/vmm/state.h"
#include "hypervisor/vmm/vm.h"

#define PORT_INDEX 0x70u
#define PORT_DATA  0x71u

enum {
	REG_SECONDS = 0x00,
	REG_MINUTES = 0x02,
	REG_HOURS = 0x04,
	REG_WEEKDAY = 0x06,
	REG_DAY = 0x07,
	REG_MONTH = 0x08,
	REG_YEAR = 0x09,
	REG_A = 0x0a,
	REG_B = 0x0b,
	REG_C = 0x0c,
	REG_D = 0x0d,
	REG_CENTURY = 0x32,
};

#define A_RATES	 0x26u /* 32768 Hz; no update in progress, ever */
#define B_SET	 0x80u
#define B_24H	 0x02u
#define B_BINARY 0x04u
#define D_VALID	 0x80u

#define CMOS_BYTES   128u
#define OFFSET_MAX_S (INT64_C(1) << 40) /* beyond any date that the registers can name */

struct rtc {
	struct vm_device dev;
	pthread_mutex_t lock;
	/* All below: lock. */
	uint8_t index;
	uint8_t cmos[CMOS_BYTES]; /* the time's registers are valid while B_SET holds them */
	int64_t offset_s;
};

static bool is_time(uint8_t reg)
{
	return reg == REG_SECONDS || reg == REG_MINUTES || reg == REG_HOURS ||
	       (reg >= REG_WEEKDAY && reg <= REG_YEAR) || reg == REG_CENTURY;
}

static uint8_t encode(const struct rtc *rtc, int v)
{
	return (uint8_t)(rtc->cmos[REG_B] & B_BINARY ? v : v / 10 << 4 | v % 10);
}

static int decode(const struct rtc *rtc, uint8_t reg)
{
	uint8_t v = rtc->cmos[reg];

	return rtc->cmos[REG_B] & B_BINARY ? v : (v >> 4) * 10 + (v & 15);
}

/* Hours are always counted to 24: B_24H cannot be cleared. */
static void latch_time(struct rtc *rtc)
{
	time_t now = (time_t)((int64_t)(clock_wall_ns() / NS_PER_S) + rtc->offset_s);
	struct tm tm;

	if (!gmtime_r(&now, &tm))
		return;
	rtc->cmos[REG_SECONDS] = encode(rtc, tm.tm_sec);
	rtc->cmos[REG_MINUTES] = encode(rtc, tm.tm_min);
	rtc->cmos[REG_HOURS] = encode(rtc, tm.tm_hour);
	rtc->cmos[REG_WEEKDAY] = encode(rtc, tm.tm_wday + 1);
	rtc->cmos[REG_DAY] = encode(rtc, tm.tm_mday);
	rtc->cmos[REG_MONTH] = encode(rtc, tm.tm_mon + 1);
	rtc->cmos[REG_YEAR] = encode(rtc, tm.tm_year % 100);
	rtc->cmos[REG_CENTURY] = encode(rtc, (tm.tm_year + 1900) / 100 % 100);
}

static void set_time(struct rtc *rtc)
{
	struct tm tm = {
		.tm_sec = decode(rtc, REG_SECONDS),
		.tm_min = decode(rtc, REG_MINUTES),
		.tm_hour = decode(rtc, REG_HOURS),
		.tm_mday = decode(rtc, REG_DAY),
		.tm_mon = decode(rtc, REG_MONTH) - 1,
		.tm_year = decode(rtc, REG_CENTURY) * 100 + decode(rtc, REG_YEAR) - 1900,
	};

	rtc->offset_s = (int64_t)timegm(&tm) - (int64_t)(clock_wall_ns() / NS_PER_S);
}

static uint32_t rtc_read(void *context, uint16_t port, unsigned int len)
{
	struct rtc *rtc = context;
	uint8_t value = 0xff;

	(void)len;
	pthread_mutex_lock(&rtc->lock);
	if (port == PORT_DATA) {
		if (is_time(rtc->index) && !(rtc->cmos[REG_B] & B_SET))
			latch_time(rtc);
		value = rtc->cmos[rtc->index];
	}
	pthread_mutex_unlock(&rtc->lock);
	return value;
}

static void write_b(struct rtc *rtc, uint8_t value)
{
	bool was_set = rtc->cmos[REG_B] & B_SET;

	if (!was_set && value & B_SET)
		latch_time(rtc);
	rtc->cmos[REG_B] = (value & (B_SET | B_BINARY)) | B_24H;
	if (was_set && !(value & B_SET))
		set_time(rtc);
}

static void rtc_write(void *context, uint16_t port, unsigned int len, uint32_t value)
{
	struct rtc *rtc = context;

	(void)len;
	pthread_mutex_lock(&rtc->lock);
	if (port == PORT_INDEX)
		rtc->index = value & (CMOS_BYTES - 1);
	else if (rtc->index == REG_B)
		write_b(rtc, (uint8_t)value);
	else if (rtc->index < REG_A || rtc->index > REG_D)
		rtc->cmos[rtc->index] = (uint8_t)value;
	pthread_mutex_unlock(&rtc->lock);
}

static void rtc_state(struct vm_device *dev, struct state *s)
{
	struct rtc *rtc = (struct rtc *)dev;
	uint64_t offset;

	pthread_mutex_lock(&rtc->lock);
	offset = (uint64_t)rtc->offset_s;
	state_u8(s, &rtc->index);
	state_check(s, rtc->index < CMOS_BYTES);
	state_bytes(s, rtc->cmos, sizeof(rtc->cmos));
	state_u64(s, &offset);
	state_check(s, (int64_t)offset > -OFFSET_MAX_S && (int64_t)offset < OFFSET_MAX_S);
	if (state_ok(s))
		rtc->offset_s = (int64_t)offset;
	if (!state_ok(s))
		rtc->index = 0;
	pthread_mutex_unlock(&rtc->lock);
}

static const struct vm_device_ops rtc_ops = { .state = rtc_state };

int rtc_open(struct vm *vm, struct rtc **ret)
{
	struct rtc *rtc = calloc(1, sizeof(*rtc));
	struct io_range range = {
		.base = PORT_INDEX,
		.count = 2,
		.width = 1,
		.read = rtc_read,
		.write = rtc_write,
		.context = rtc,
	};
	int err;

	if (!rtc)
		return -ENOMEM;
	err = io_add(vm->io, &range);
	if (err) {
		free(rtc);
		return err;
	}
	rtc->dev = (struct vm_device){ .ops = &rtc_ops, .type = STATE_RTC };
	rtc->cmos[REG_A] = A_RATES;
	rtc->cmos[REG_B] = B_24H;
	rtc->cmos[REG_D] = D_VALID;
	pthread_mutex_init(&rtc->lock, NULL);
	/* The C library reads the time zone at the first use of any date, even of UTC; once the
	 * process is confined it could not open that file. */
	tzset();
	vm_add_device(vm, &rtc->dev);
	*ret = rtc;
	return 0;
}

void rtc_close(struct rtc *rtc)
{
	free(rtc);
}
