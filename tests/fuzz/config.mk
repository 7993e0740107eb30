# SPDX-License-Identifier: Apache-2.0
# Fuzz targets of what people write. Read before fuzz.mk, which makes rules of it.

OBJECTS_fuzz_vmfile := tools/common/vmfile tools/common/vmfile_scan tools/common/vmfile_device disk-replica/drbd_name \
	tools/common/text tools/common/json base/err
LIBS_fuzz_vmfile := $(shell $(PKG_CONFIG) --libs json-c xlutil xenlight 2>/dev/null)
