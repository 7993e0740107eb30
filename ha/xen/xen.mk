# SPDX-License-Identifier: Apache-2.0
#
# What is tested against stand-ins for Xen's libraries.

OBJECTS_test_xen_suspend := ha/xen/suspend base/err
OBJECTS_test_mapping := ha/mapping base/bitmap base/err
OBJECTS_test_xen_emulator := ha/xen/emulator base/err
LIBS_test_xen_emulator := $(shell $(PKG_CONFIG) --libs json-c 2>/dev/null)
