# SPDX-License-Identifier: Apache-2.0
#
# The nbdkit plugin: a shared object, so what it takes of other folders is compiled once more.
# nbdkit that loads it is Debian's: no sanitizer in it.

NBD_PLUGIN := $(O)/lib/nbdkit-pollux-plugin.so
NBD_MODULES := $(patsubst %.c,%,$(wildcard disk-replica/nbd/*.c)) hypervisor/control/server \
	hypervisor/control/region_file hypervisor/vmm/blk_file hypervisor/vmm/control_track \
	hypervisor/vmm/disk_mirror hypervisor/vmm/disk_track \
	base/bitmap base/cursor base/err base/fault base/ring

$(O)/pic/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(filter-out $(SANITIZE),$(CFLAGS_ALL)) -fPIC -fvisibility=hidden -c $< -o $@

$(NBD_PLUGIN): $(NBD_MODULES:%=$(O)/pic/%.o)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(filter-out $(SANITIZE),$(LDFLAGS_ALL)) -shared $^ -o $@

all: $(NBD_PLUGIN)
-include $(NBD_MODULES:%=$(O)/pic/%.d)
