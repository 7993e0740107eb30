/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/guest/machine.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TRIES	    100
#define TRY_WAIT_US 50000

static void load_modules(const char *name)
{
	char path[256];
	FILE *order = fopen("/modules/order", "r");

	while (order && fgets(path, sizeof(path), order)) {
		int fd;

		path[strcspn(path, "\n")] = '\0';
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
			printf("%s: %s: %s\n", name, path, strerror(errno));
		if (fd >= 0)
			close(fd);
	}
	if (order)
		fclose(order);
}

void machine_begin(const char *name)
{
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	setvbuf(stdout, NULL, _IOLBF, 0);
	load_modules(name);
}

uint64_t machine_parameter(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

int machine_open(const char *path, int flags)
{
	int fd = -1;

	for (int i = 0; fd < 0 && i < TRIES; i++) {
		fd = open(path, flags | O_CLOEXEC);
		if (fd < 0)
			usleep(TRY_WAIT_US);
	}
	return fd;
}

static int set_address(int fd, unsigned long request, struct ifreq *ifr, const char *address)
{
	struct sockaddr_in in = { .sin_family = AF_INET };

	if (inet_pton(AF_INET, address, &in.sin_addr) != 1)
		return -1;
	memcpy(&ifr->ifr_addr, &in, sizeof(in));
	return ioctl(fd, request, ifr);
}

int machine_address(const char *address)
{
	struct ifreq ifr = { .ifr_name = "eth0" };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int r = -1;

	for (int i = 0; i < TRIES && r < 0; i++) {
		r = set_address(fd, SIOCSIFADDR, &ifr, address);
		if (r < 0)
			usleep(TRY_WAIT_US);
	}
	if (r == 0)
		r = set_address(fd, SIOCSIFNETMASK, &ifr, "255.255.255.0");
	if (r == 0)
		r = ioctl(fd, SIOCGIFFLAGS, &ifr);
	ifr.ifr_flags |= IFF_UP;
	if (r == 0)
		r = ioctl(fd, SIOCSIFFLAGS, &ifr);
	close(fd);
	return r;
}
