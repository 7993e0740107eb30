# SPDX-License-Identifier: Apache-2.0
#
# What is tested against stand-ins for Xen's libraries.

OBJECTS_test_xen_suspend := ha/xen/suspend base/err
OBJECTS_test_mapping := ha/mapping base/err
