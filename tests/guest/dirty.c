/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that is one program: run as /init, it dirties memory, and on request
 * the disk, the network and the console, at a known rate.
 *
 * The kernel hands what it does not know of its command line on as variables:
 *   dirty_pages=N       pages written in each period (700)
 *   dirty_period_us=T   the period (100000)
 *   dirty_region_mib=M  the region they are spread over (64); pages rotate in it
 *   dirty_disk=BYTES    written to /dev/vda in each period, at rotating places (0)
 *   dirty_read=BYTES	 read from /dev/vda in each period, at rotating places, past the page
 *			 cache: the device alone writes to the buffer (0)
 *   dirty_net=N         broadcast frames of 1,000 bytes sent in each period (0)
 *   dirty_console=1     a numbered line on the console, and on the virtio console, in
 *			 each period (0)
 *   dirty_gaps=1        look every ms whether the machine goes on (0)
 *
 * It prints `dirty: ready`, then every 5 s how many periods it did and how many
 * were late, so that a test sees whether the load was what it asked for; and with
 * dirty_gaps for how long, of all the time so far, it found that nothing ran here,
 * both in ticks of the processor's counter, which a suspended guest's clock is not.
 */
#include "tests/guest/machine.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <linux/if_packet.h>
#include <linux/if_ether.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#define PAGE	  4096u
#define NS_PER_S  1000000000ull
#define REPORT_NS (5 * NS_PER_S)
#define FRAME_LEN 1000
#define LOOK_NS	  1000000ull
#define GAP_LOOKS 10u /* so many looks late: no timer is that */

struct load {
	uint64_t pages;
	uint64_t period_ns;
	uint64_t region_pages;
	uint64_t disk_bytes;
	uint64_t read_bytes;
	uint64_t frames;
	uint64_t console;
	uint8_t *region;
	uint64_t at; /* next page to write */
	int disk;
	uint64_t disk_len;
	uint64_t disk_at;
	int reader; /* O_DIRECT */
	uint8_t *read_to;
	uint64_t read_at;
	int net;
	struct sockaddr_ll net_to;
	int hvc;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static void sleep_until(uint64_t when_ns)
{
	struct timespec ts = { .tv_sec = (time_t)(when_ns / NS_PER_S),
			       .tv_nsec = (long)(when_ns % NS_PER_S) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

static int open_net(struct sockaddr_ll *ret_to)
{
	struct ifreq ifr = { .ifr_name = "eth0" };
	int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, htons(ETH_P_802_EX1));

	if (fd < 0 || ioctl(fd, SIOCGIFINDEX, &ifr) < 0)
		return -1;
	*ret_to = (struct sockaddr_ll){ .sll_family = AF_PACKET,
					.sll_protocol = htons(ETH_P_802_EX1),
					.sll_ifindex = ifr.ifr_ifindex,
					.sll_halen = ETH_ALEN };
	memset(ret_to->sll_addr, 0xff, ETH_ALEN);
	ioctl(fd, SIOCGIFFLAGS, &ifr);
	ifr.ifr_flags |= IFF_UP;
	return ioctl(fd, SIOCSIFFLAGS, &ifr) < 0 ? -1 : fd;
}

/* The buffer is touched once, here. */
static void open_reader(struct load *l)
{
	l->reader = machine_open("/dev/vda", O_RDONLY | O_DIRECT);
	l->read_to = mmap(NULL, l->read_bytes, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (l->reader < 0 || l->read_to == MAP_FAILED) {
		printf("dirty: cannot read the disk: %s\n", strerror(errno));
		l->reader = -1;
	}
}

static void load_init(struct load *l)
{
	l->pages = machine_parameter("dirty_pages", 700);
	l->period_ns = machine_parameter("dirty_period_us", 100000) * 1000;
	l->region_pages = machine_parameter("dirty_region_mib", 64) * (1024 * 1024 / PAGE);
	l->disk_bytes = machine_parameter("dirty_disk", 0) / 512 * 512;
	l->read_bytes = machine_parameter("dirty_read", 0) / PAGE * PAGE;
	l->frames = machine_parameter("dirty_net", 0);
	l->console = machine_parameter("dirty_console", 0);
	l->region = mmap(NULL, l->region_pages * PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (l->region == MAP_FAILED || l->region_pages == 0 || l->period_ns == 0) {
		printf("dirty: cannot have %llu pages\n", (unsigned long long)l->region_pages);
		l->region_pages = 1;
		l->region = calloc(1, PAGE);
	}
	l->disk = l->disk_bytes ? machine_open("/dev/vda", O_RDWR | O_DSYNC) : -1;
	if (l->disk >= 0)
		l->disk_len = (uint64_t)lseek(l->disk, 0, SEEK_END);
	if (l->read_bytes)
		open_reader(l);
	l->net = l->frames ? open_net(&l->net_to) : -1;
	l->hvc = l->console ? open("/dev/hvc0", O_WRONLY | O_NOCTTY | O_CLOEXEC) : -1;
	if ((l->disk_bytes && l->disk < 0) || (l->frames && l->net < 0))
		printf("dirty: disk or network is not there\n");
}

static void write_disk(struct load *l, uint64_t round)
{
	static uint64_t block[64 * 1024 / sizeof(uint64_t)];
	uint64_t left = l->disk_bytes;

	while (left > 0 && l->disk_len >= sizeof(block)) {
		size_t len = left < sizeof(block) ? left : sizeof(block);

		for (size_t i = 0; i < len / sizeof(uint64_t); i += 64)
			block[i] = round;
		if (l->disk_at + len > l->disk_len)
			l->disk_at = 0;
		if (pwrite(l->disk, block, len, (off_t)l->disk_at) != (ssize_t)len)
			printf("dirty: disk: %s\n", strerror(errno));
		l->disk_at += len;
		left -= len;
	}
}

static void read_disk(struct load *l)
{
	ssize_t n = pread(l->reader, l->read_to, l->read_bytes, (off_t)l->read_at);

	if (n != (ssize_t)l->read_bytes && l->read_at == 0)
		printf("dirty: disk: %s\n", n < 0 ? strerror(errno) : "too short to read from");
	l->read_at = n == (ssize_t)l->read_bytes ? l->read_at + l->read_bytes : 0;
}

static void do_period(struct load *l, uint64_t round)
{
	uint8_t frame[FRAME_LEN];

	for (uint64_t i = 0; i < l->pages; i++) {
		*(volatile uint64_t *)(l->region + l->at * PAGE) = round;
		l->at = (l->at + 1) % l->region_pages;
	}
	if (l->disk >= 0)
		write_disk(l, round);
	if (l->reader >= 0)
		read_disk(l);
	if (l->net >= 0) {
		memset(frame, (int)round, sizeof(frame));
		memcpy(frame, &round, sizeof(round));
		for (uint64_t i = 0; i < l->frames; i++)
			(void)!sendto(l->net, frame, sizeof(frame), MSG_DONTWAIT,
				      (struct sockaddr *)&l->net_to, sizeof(l->net_to));
	}
	if (l->console)
		printf("dirty: period %llu\n", (unsigned long long)round);
	if (l->hvc >= 0)
		dprintf(l->hvc, "dirty: period %llu\n", (unsigned long long)round);
}

/* Relaxed: a report may have one of them a gap older than the other. */
static uint64_t gaps, gap_ticks, all_ticks;

/* What a look takes when nothing is in the way is measured before there is anything. */
static void *look_for_gaps(void *nothing)
{
	const struct timespec pause = { .tv_nsec = LOOK_NS };
	uint64_t usual = UINT64_MAX, begin = __rdtsc(), last = begin;

	for (uint64_t looks = 0;; looks++) {
		uint64_t now, took;

		nanosleep(&pause, NULL);
		now = __rdtsc();
		took = now - last;
		last = now;
		if (took < usual)
			usual = took;
		if (took > GAP_LOOKS * usual) {
			__atomic_add_fetch(&gaps, 1, __ATOMIC_RELAXED);
			__atomic_add_fetch(&gap_ticks, took - usual, __ATOMIC_RELAXED);
		}
		__atomic_store_n(&all_ticks, now - begin, __ATOMIC_RELAXED);
	}
	return nothing;
}

static void report_gaps(void)
{
	if (__atomic_load_n(&all_ticks, __ATOMIC_RELAXED))
		printf("dirty: gaps=%llu gap_ticks=%llu ticks=%llu\n",
		       (unsigned long long)__atomic_load_n(&gaps, __ATOMIC_RELAXED),
		       (unsigned long long)__atomic_load_n(&gap_ticks, __ATOMIC_RELAXED),
		       (unsigned long long)__atomic_load_n(&all_ticks, __ATOMIC_RELAXED));
}

int main(void)
{
	struct load l = { .disk = -1, .reader = -1, .net = -1, .hvc = -1 };
	uint64_t next, report, late = 0;
	pthread_t watcher;

	machine_begin("dirty");
	load_init(&l);
	if (machine_parameter("dirty_gaps", 0) &&
	    pthread_create(&watcher, NULL, look_for_gaps, NULL))
		printf("dirty: no thread\n");
	printf("dirty: ready pages=%llu period_ns=%llu\n", (unsigned long long)l.pages,
	       (unsigned long long)l.period_ns);
	next = now_ns();
	report = next + REPORT_NS;
	for (uint64_t round = 1;; round++) {
		uint64_t now;

		do_period(&l, round);
		next += l.period_ns;
		now = now_ns();
		if (now > next) {
			late++;
			next = now;
		}
		if (now >= report) {
			report = now + REPORT_NS;
			printf("dirty: periods=%llu late=%llu\n", (unsigned long long)round,
			       (unsigned long long)late);
			report_gaps();
		}
		sleep_until(next);
	}
}
