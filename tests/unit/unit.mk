# SPDX-License-Identifier: Apache-2.0
#
# Unit tests: each tests/unit/test_NAME.c becomes $(O)/tests/unit/test_NAME, linked with every
# archive and library of the product: a module is tested as it is shipped. What needs more
# says so in LIBS_test_NAME.
#
# Where OBJECTS_test_NAME is set, it is all that the test is linked with: so a pure module
# cannot quietly come to need a clock, a socket or another module.

TEST_LIBS := $(sort $(LIBS_vmm) $(LIBS_ha) $(LIBS_daemon))
CMOCKA := $(shell $(PKG_CONFIG) --libs cmocka 2>/dev/null || echo -lcmocka)

OBJECTS_role := ha/role ha/role_word ha/role_primary ha/role_backup
OBJECTS_test_role := $(OBJECTS_role)
OBJECTS_test_epoch := ha/epoch
OBJECTS_test_record := ha/record ha/role_word base/cursor base/err base/fault
OBJECTS_test_cursor := base/cursor
OBJECTS_test_ring := base/ring
OBJECTS_test_hot := hypervisor/vmm/hot
OBJECTS_test_bitmap := base/bitmap
OBJECTS_test_fault := base/fault
LIBS_test_record := -lxxhash

UNIT_NAMES := $(patsubst tests/unit/%.c,%,$(wildcard tests/unit/test_*.c))
UNIT_TESTS := $(UNIT_NAMES:%=$(O)/tests/unit/%)

# $(1): test; what it is linked with comes from its variables.
define unit_rule
$(O)/tests/unit/$(1): $(O)/obj/tests/unit/$(1).o \
		$(if $(OBJECTS_$(1)),$(OBJECTS_$(1):%=$(O)/obj/%.o),$(ARCHIVES))
	@mkdir -p $$(@D)
	$$(CC) $$(LDFLAGS_ALL) -Wl,--start-group $$^ -Wl,--end-group \
		$(if $(OBJECTS_$(1)),,$(TEST_LIBS)) $$(LIBS_$(1)) $$(CMOCKA) -o $$@
endef
$(foreach t,$(UNIT_NAMES),$(eval $(call unit_rule,$(t))))

.PHONY: unit-tests
unit-tests: $(UNIT_TESTS)
tests: unit-tests
