# SPDX-License-Identifier: Apache-2.0
#
# pollux-xen, the one program that is linked with libxl; and what of it needs no Xen.

OBJECTS_test_xen_state := hypervisor/xen/state base/cursor base/err
