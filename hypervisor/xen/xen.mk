# SPDX-License-Identifier: Apache-2.0
#
# pollux-xen, the one program that is linked with libxl; and what of it needs no Xen.

LIBS_xen := $(shell $(PKG_CONFIG) --libs xenlight xencontrol xenguest xenstore json-c 2>/dev/null) \
	-lxentoollog

$(O)/bin/pollux-xen: $(O)/obj/hypervisor/xen/main.o \
		$(foreach d,hypervisor/xen hypervisor/control base,$(call archive,$(d)))
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) $^ $(LIBS_xen) -o $@

all: $(O)/bin/pollux-xen

OBJECTS_test_xen_state := hypervisor/xen/state base/cursor base/err
OBJECTS_test_xen_description := hypervisor/xen/description base/cursor base/err base/hex
LIBS_test_xen_description := $(shell $(PKG_CONFIG) --libs json-c 2>/dev/null)
OBJECTS_test_xen_stream := hypervisor/xen/stream hypervisor/xen/state $(OBJECTS_test_xen_description)
LIBS_test_xen_stream := $(LIBS_test_xen_description)
OBJECTS_test_xen_refuse := hypervisor/xen/refuse hypervisor/xen/features base/cursor base/err
LIBS_test_xen_refuse := $(shell $(PKG_CONFIG) --libs xenlight 2>/dev/null)

# A checkpoint by hand, for the lab.
$(O)/bin/xen-move: $(O)/obj/tests/lab/xen_move.o \
		$(foreach d,hypervisor/xen hypervisor/control base,$(call archive,$(d)))
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS_ALL) $^ $(shell $(PKG_CONFIG) --libs xencontrol xenforeignmemory xenstore \
		json-c) -o $@

# XCR0 where emulation hides it from Xen, for the lab.
$(O)/bin/xen-extended: $(O)/obj/tests/lab/xen_extended.o
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS_ALL) $^ $(shell $(PKG_CONFIG) --libs xencontrol) -o $@
tests: $(O)/bin/xen-move $(O)/bin/xen-extended
