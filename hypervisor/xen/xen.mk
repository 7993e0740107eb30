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
