/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taps by the tun driver's ioctls (Documentation/networking/tuntap.rst in Linux). A new tap
 * has no offload switched on: every frame is whole and has its checksum, and the virtio-net
 * header in front of it is all zero.
 */
#include "hypervisor/vmm/net_tap.h"

#include <fcntl.h>
#include <net/if.h>
#include <linux/filter.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static void set_name(struct ifreq *ifr, const char *name)
{
	memset(ifr, 0, sizeof(*ifr));
	snprintf(ifr->ifr_name, sizeof(ifr->ifr_name), "%s", name);
}

/* A socket filter that accepts nothing. */
static int tap_deafen(int fd)
{
	struct sock_filter none = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog program = { .len = 1, .filter = &none };

	return ioctl(fd, TUNATTACHFILTER, &program) < 0 ? -errno : 0;
}

int net_tap_listen(int fd)
{
	struct sock_fprog unused = { 0 };

	return ioctl(fd, TUNDETACHFILTER, &unused) < 0 ? -errno : 0;
}

void net_tap_offload(int fd, unsigned int flags)
{
	/* A tap that refuses goes on giving whole frames, which every driver takes. */
	(void)!ioctl(fd, TUNSETOFFLOAD, flags);
}

static int tap_create(const char *name, int *ret_fd)
{
	cleanup_close int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	int header = NET_TAP_HEADER_BYTES;
	struct ifreq ifr;
	int err;

	if (fd < 0)
		return -errno;
	set_name(&ifr, name);
	ifr.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_TUN_EXCL;
	if (ioctl(fd, TUNSETIFF, &ifr) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &header) < 0 ||
	    ioctl(fd, TUNSETOFFLOAD, 0) < 0)
		return -errno;
	err = tap_deafen(fd);
	if (err)
		return err;
	*ret_fd = take_fd(&fd);
	return 0;
}

/* The host's own stack must not speak on the guest's wire. Without IPv6 there is no file. */
static void silence_ipv6(const char *name)
{
	char path[96];
	cleanup_close int fd = -1;

	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/disable_ipv6", name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, "1", 1) < 0)
		return;
}

static int tap_up(int sock, const char *name)
{
	struct ifreq ifr;

	set_name(&ifr, name);
	if (ioctl(sock, SIOCGIFFLAGS, &ifr) < 0)
		return -errno;
	ifr.ifr_flags |= IFF_UP;
	return ioctl(sock, SIOCSIFFLAGS, &ifr) < 0 ? -errno : 0;
}

static int bridge_join(int sock, const char *bridge, const char *name)
{
	struct ifreq ifr;

	set_name(&ifr, bridge);
	ifr.ifr_ifindex = (int)if_nametoindex(name);
	return ioctl(sock, SIOCBRADDIF, &ifr) < 0 ? -errno : 0;
}

int net_tap_open(const char *name, const char *bridge, int *ret_fd, struct reason *why)
{
	cleanup_close int fd = -1;
	cleanup_close int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int err;

	if (sock < 0)
		return reason_set(why, errno, "no socket to configure tap %s: %s", name,
				  strerror(errno));
	err = tap_create(name, &fd);
	if (err)
		return reason_set(why, -err, "cannot make tap %s: %s", name, strerror(-err));
	silence_ipv6(name);
	if (*bridge) {
		err = bridge_join(sock, bridge, name);
		if (err)
			return reason_set(why, -err, "cannot join tap %s to bridge %s: %s", name,
					  bridge, strerror(-err));
	}
	err = tap_up(sock, name);
	if (err)
		return reason_set(why, -err, "cannot bring tap %s up: %s", name, strerror(-err));
	*ret_fd = take_fd(&fd);
	return 0;
}
