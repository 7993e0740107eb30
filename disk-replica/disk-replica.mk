# SPDX-License-Identifier: Apache-2.0
#
# What the unit tests of disk-replica/ are linked with: these modules and nothing above.

OBJECTS_disk := disk-replica/format base/cursor base/err base/fault base/ring
OBJECTS_disk_regions := disk-replica/regions disk-replica/region_sets \
	hypervisor/control/region_file base/bitmap
OBJECTS_disk_log := disk-replica/log disk-replica/log_file disk-replica/log_record
OBJECTS_disk_apply := disk-replica/apply disk-replica/target disk-replica/marker \
	$(OBJECTS_disk_log) $(OBJECTS_disk_regions)
OBJECTS_disk_recover := disk-replica/recover disk-replica/recover_scan
LIBS_test_disk_apply := -lcrypto -lz
LIBS_test_disk_copy := -lcrypto -lz
LIBS_test_disk_recover := -lcrypto -lz
LIBS_test_regions := -lcrypto -lz
OBJECTS_test_regions := $(OBJECTS_disk_regions) $(OBJECTS_disk)
OBJECTS_test_disk_log := $(OBJECTS_disk_log) $(OBJECTS_disk)
OBJECTS_test_disk_consumer := disk-replica/mirror disk-replica/sources $(OBJECTS_disk)
OBJECTS_test_disk_apply := $(OBJECTS_disk_apply) $(OBJECTS_disk)
OBJECTS_test_disk_recover := $(OBJECTS_disk_recover) $(OBJECTS_disk_apply) $(OBJECTS_disk)
OBJECTS_test_disk_copy := disk-replica/copy disk-replica/mirror disk-replica/sources $(OBJECTS_disk_apply) $(OBJECTS_disk)

OBJECTS_fuzz_disklog := disk-replica/recover_scan disk-replica/log_file disk-replica/log_record \
	disk-replica/format base/cursor base/err base/fault
