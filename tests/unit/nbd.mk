# SPDX-License-Identifier: Apache-2.0
# The nbdkit plugin's test drives nbdkit with the usual clients, and a backup in miniature.

OBJECTS_test_nbd_ranges := disk-replica/nbd/ranges
OBJECTS_test_disk_sources := disk-replica/sources disk-replica/mirror disk-replica/nbd/source \
	disk-replica/nbd/ranges hypervisor/vmm/disk_mirror hypervisor/vmm/blk_file \
	hypervisor/control/server hypervisor/control/control hypervisor/control/region_file \
	hypervisor/vmm/control_track hypervisor/vmm/disk_track base/bitmap base/fault \
	$(OBJECTS_disk)

$(O)/tests/unit/nbd_replica: $(O)/obj/tests/unit/nbd_replica.o \
		$(foreach d,disk-replica hypervisor/control base,$(call archive,$(d)))
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) $^ -lxxhash -lz -lcrypto -o $@

unit-tests: $(O)/tests/unit/nbd_replica $(NBD_PLUGIN)
