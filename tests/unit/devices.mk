# SPDX-License-Identifier: Apache-2.0
#
# Modules of the device model that stand on their own. The tests of whole devices link
# everything: they drive the real bus, without KVM behind it.

OBJECTS_test_virtqueue := hypervisor/vmm/virtqueue hypervisor/vmm/memory hypervisor/vmm/state \
	base/cursor base/fault
OBJECTS_test_net_addresses := hypervisor/vmm/net_addresses hypervisor/vmm/state base/cursor
OBJECTS_test_net_offload := hypervisor/vmm/net_offload base/cursor
OBJECTS_test_net_hold := hypervisor/vmm/net_hold base/hist base/cursor
OBJECTS_test_disk_mirror := hypervisor/vmm/disk_mirror base/ring base/cursor
OBJECTS_test_disk_track := hypervisor/vmm/disk_track hypervisor/control/region_file base/bitmap \
	base/cursor base/err base/fault
OBJECTS_test_netbuf_hold := netbuf/hold netbuf/announce base/cursor base/hist
OBJECTS_test_lanes := netbuf/lanes
OBJECTS_plug := netbuf/plug netbuf/plug_limit netbuf/lanes netbuf/redirect netbuf/valve netbuf/netlink \
	base/fault base/hist base/cursor base/err
OBJECTS_test_plug := $(OBJECTS_plug)
OBJECTS_test_plug_faults := $(OBJECTS_plug)
LIBS_test_plug := $(shell $(PKG_CONFIG) --libs libnl-route-3.0 2>/dev/null)
LIBS_test_plug_faults := $(LIBS_test_plug)
