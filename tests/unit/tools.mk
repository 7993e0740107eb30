# SPDX-License-Identifier: Apache-2.0
# Tests of the tools. The scripts daemon_*.sh and cli_*.sh drive the real polluxd and pollux
# with stand-ins for the two programs that polluxd starts.

OBJECTS_test_ipc := base/ipc
OBJECTS_test_conf := tools/common/conf tools/common/text tools/common/json base/err
LIBS_test_conf := $(shell $(PKG_CONFIG) --libs json-c inih 2>/dev/null)
OBJECTS_test_kept := tools/daemon/kept base/cursor base/err
OBJECTS_test_text := tools/common/text tools/common/json base/err
LIBS_test_text := $(shell $(PKG_CONFIG) --libs json-c 2>/dev/null)
OBJECTS_test_vmfile := tools/common/vmfile tools/common/vmfile_scan tools/common/vmfile_device disk-replica/drbd_name \
	tools/common/text tools/common/json base/err
LIBS_test_vmfile := $(shell $(PKG_CONFIG) --libs json-c xlutil xenlight 2>/dev/null)

FAKE := $(O)/tests/fake
$(FAKE)/pollux-vmm: $(O)/obj/tests/unit/fake_programs.o $(O)/obj/tests/unit/fake_vmm.o $(call archive,tools/common) \
		$(call archive,ha) $(call archive,base)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) $^ $(LIBS_ha) -o $@
$(FAKE)/pollux-ha $(FAKE)/pollux-xen $(FAKE)/pollux-ha-xen: $(FAKE)/pollux-vmm
	ln -sf pollux-vmm $@
$(FAKE)/pollux-report: tools/cli/report.sh $(FAKE)/pollux-vmm
	ln -sf $(abspath $<) $@
.PHONY: tools-tests
tools-tests: $(FAKE)/pollux-report $(FAKE)/pollux-vmm $(FAKE)/pollux-ha $(FAKE)/pollux-xen $(FAKE)/pollux-ha-xen $(O)/bin/polluxd $(O)/bin/pollux
tests: tools-tests
