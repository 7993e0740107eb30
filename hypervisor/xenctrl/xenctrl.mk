# SPDX-License-Identifier: Apache-2.0
#
# The library's proof: one program that is written against libxen-dev's headers alone, linked
# with ours and with Debian's. Only the first is run here; tests/unit/xenctrl_source.sh looks
# at both.

XC_DEMO := $(O)/obj/tests/lib/xc_demo.o

$(O)/bin/xc-demo: $(XC_DEMO) \
		$(foreach d,hypervisor/xenctrl hypervisor/control base,$(call archive,$(d)))
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) $^ -o $@

$(O)/bin/xc-demo-xen: $(XC_DEMO)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) $^ -lxenctrl -lxenforeignmemory -o $@

unit-tests: $(O)/bin/xc-demo $(O)/bin/xc-demo-xen

# The pause must not allocate: the test counts.
LIBS_test_xenctrl := -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=mmap
OBJECTS_test_xenctrl := $(patsubst %.c,%,$(wildcard hypervisor/xenctrl/*.c)) \
	$(patsubst %.c,%,$(wildcard hypervisor/control/*.c)) base/cursor base/err base/bitmap
