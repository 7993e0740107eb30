/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/xen/inject.h"

#include <arpa/inet.h>
#include <limits.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/socket.h>

#include "hypervisor/control/control.h"

/* What the kernel sends out of a bridge's own device leaves through all ports, as a frame does
 * whose destination is not known. */
static int bridge_of(const char *vif, char *ret, size_t size)
{
	char path[64], target[PATH_MAX];
	const char *name;
	ssize_t n;

	snprintf(path, sizeof(path), "/sys/class/net/%s/brport/bridge", vif);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return -ENODEV;
	target[n] = '\0';
	name = strrchr(target, '/');
	name = name ? name + 1 : target;
	if (strlen(name) >= size)
		return -ENODEV;
	strcpy(ret, name);
	return 0;
}

int xen_inject(uint32_t domid, uint16_t nic, const void *frame, size_t len, struct reason *why)
{
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_halen = ETH_ALEN };
	cleanup_close int fd = -1;
	char vif[IFNAMSIZ], bridge[IFNAMSIZ];

	if (len < XEN_FRAME_MIN || len > XEN_FRAME_MAX)
		return reason_set(why, EINVAL, "a frame of %zu bytes, between %u and %u", len,
				  XEN_FRAME_MIN, XEN_FRAME_MAX);
	snprintf(vif, sizeof(vif), CONTROL_VIF_FORMAT, domid, nic);
	if (bridge_of(vif, bridge, sizeof(bridge)))
		return reason_set(why, ENODEV, "%s is in no bridge", vif);
	fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	to.sll_ifindex = (int)if_nametoindex(bridge);
	memcpy(to.sll_addr, frame, ETH_ALEN);
	if (fd < 0 || !to.sll_ifindex ||
	    sendto(fd, frame, len, 0, (struct sockaddr *)&to, sizeof(to)) < 0)
		return reason_set(why, errno, "%s: %s", bridge, strerror(errno));
	return 0;
}
