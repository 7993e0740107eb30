# SPDX-License-Identifier: Apache-2.0
# What is kept of the disks between two copies, and who decides what is copied.

OBJECTS_regions := disk-replica/regions disk-replica/region_sets hypervisor/control/region_file \
	disk-replica/format base/bitmap base/cursor base/err base/fault
OBJECTS_test_regions := $(OBJECTS_regions)
OBJECTS_test_region_sets := $(OBJECTS_regions)
LIBS_test_regions := -lcrypto -lz
LIBS_test_region_sets := $(LIBS_test_regions)
OBJECTS_test_durable := ha/durable disk-replica/format base/fault base/err
LIBS_test_durable := -Wl,--wrap=fdatasync
OBJECTS_test_track := ha/track base/cursor base/err
OBJECTS_test_settle := ha/settle base/cursor base/err disk-replica/drbd disk-replica/drbd_name \
	disk-replica/command
OBJECTS_test_backup_durable := ha/backup_durable base/fault
OBJECTS_test_resync := ha/resync hypervisor/vmm/disk_track $(OBJECTS_regions)
LIBS_test_resync := $(LIBS_test_regions) $(shell $(PKG_CONFIG) --libs json-c 2>/dev/null)
OBJECTS_daemon_disks := tools/daemon/paths tools/common/json tools/common/text $(OBJECTS_regions) \
	disk-replica/marker
LIBS_daemon_disks := $(LIBS_test_resync)
OBJECTS_test_daemon_disks := tools/daemon/disks $(OBJECTS_daemon_disks) disk-replica/drbd \
	disk-replica/drbd_name disk-replica/command
LIBS_test_daemon_disks := $(LIBS_daemon_disks)
OBJECTS_test_salvage := tools/daemon/salvage $(OBJECTS_daemon_disks) disk-replica/apply \
	disk-replica/target disk-replica/log disk-replica/log_file disk-replica/log_record \
	disk-replica/recover disk-replica/recover_scan
LIBS_test_salvage := $(LIBS_daemon_disks) -lxxhash
