# SPDX-License-Identifier: Apache-2.0
#
# The lab's parts: Debian's kernel, the nodes' system, Pollux inside it, the guest.
# A changed program of Pollux makes only lab/programs.cpio again.

# What goes into the nodes: every program whose source is there, or those one names.
LAB_PROGRAMS ?= $(foreach p,pollux-vmm=hypervisor/vmm pollux-ha=ha polluxd=tools/daemon \
	pollux=tools/cli,$(if $(wildcard $(lastword $(subst =, ,$(p)))/main.c),\
	$(O)/bin/$(firstword $(subst =, ,$(p)))))

# The same of a node that runs Xen, beside those.
LAB_XEN_PROGRAMS ?= $(O)/bin/pollux-xen $(O)/bin/pollux-ha-xen

.PHONY: lab-xen

lab: $(O)/lab/node.cpio $(O)/lab/programs.cpio $(O)/lab/guest.img $(O)/lab/agent \
	$(O)/bin/lab-client

lab-xen: lab $(O)/lab/xen/version $(O)/lab/vmlinux $(O)/lab/node-xen.cpio $(O)/lab/programs-xen.cpio \
	$(O)/lab/hvm.cpio

$(O)/lab/kernel/version: tools/lab/kernel-unpack tools/lab/package.sh
	@echo '  LAB     kernel'
	@tools/lab/kernel-unpack $(@D)

$(O)/lab/xen/version: tools/lab/xen-unpack tools/lab/package.sh
	@echo '  LAB     Xen'
	@tools/lab/xen-unpack $(@D)

$(O)/lab/vmlinux: tools/lab/vmlinux $(O)/lab/kernel/version
	@tools/lab/vmlinux $(O)/lab/kernel/vmlinuz $@

LAB_AGENT_OBJECTS := $(patsubst %.c,$(O)/obj/%.o,$(wildcard tools/lab/agent*.c)) \
	$(O)/obj/base/cursor.o
$(O)/lab/agent: $(LAB_AGENT_OBJECTS)
	@mkdir -p $(@D)
	$(CC) -static $(LDFLAGS_ALL) $^ -o $@

$(O)/bin/lab-client: $(patsubst %.c,$(O)/obj/%.o,$(wildcard tests/lab/client*.c))
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) $^ -o $@

LAB_GUESTS := $(O)/bin/guest-dirty $(O)/bin/guest-counters $(O)/bin/guest-vectors

$(LAB_GUESTS): $(O)/bin/guest-%: $(O)/obj/tests/guest/%.o $(O)/obj/tests/guest/machine.o
	@mkdir -p $(@D)
	$(CC) -static $(LDFLAGS_ALL) $^ -o $@

$(O)/lab/node.cpio: tools/lab/node-image tools/lab/node-init tools/lab/root.sh \
		$(O)/lab/agent $(O)/lab/kernel/version
	@echo '  LAB     node'
	@tools/lab/node-image base $(O)/lab/kernel $(O)/lab/agent $@

$(O)/lab/node-xen.cpio: tools/lab/node-image tools/lab/node-init tools/lab/root.sh \
		hypervisor/xen/block-pollux \
		$(O)/lab/agent $(O)/lab/kernel/version $(O)/lab/xen/version
	@echo '  LAB     node with Xen'
	@tools/lab/node-image xen $(O)/lab/kernel $(O)/lab/agent $@ $(O)/lab/xen

$(O)/lab/hvm.cpio: tools/lab/node-image tools/lab/root.sh $(O)/lab/xen/version
	@echo '  LAB     device model for HVM guests'
	@tools/lab/node-image hvm $@ $(O)/lab/xen

$(O)/lab/programs-xen.cpio: tools/lab/node-image $(LAB_XEN_PROGRAMS)
	@echo '  LAB     programs for Xen'
	@mkdir -p $(@D)
	@tools/lab/node-image programs $@ $(LAB_XEN_PROGRAMS)

$(O)/lab/programs.cpio: tools/lab/node-image $(LAB_PROGRAMS)
	@echo '  LAB     programs'
	@mkdir -p $(@D)
	@tools/lab/node-image programs $@ $(LAB_PROGRAMS)

$(O)/lab/guest.img $(O)/lab/data.img &: tests/guest/image tests/guest/redis.conf \
		tests/guest/initrd-init tests/guest/xen-init tests/guest/root-init tools/lab/root.sh \
		$(wildcard tests/guest/*.cfg) $(LAB_GUESTS) $(O)/lab/kernel/version $(O)/lab/vmlinux
	@echo '  LAB     guest'
	@tests/guest/image $(O)/lab/kernel $(O)/lab/vmlinux $(O)/bin $(O)/lab/guest.img \
		$(O)/lab/data.img

# PLATFORM=xen: on hosts that run Xen.
drill: deps
	@$(MAKE) --no-print-directory -j2 lab$(if $(filter xen,$(PLATFORM)),-xen)
	@LAB_PLATFORM=$(or $(PLATFORM),kvm) tools/lab/drill$(addprefix -,$(SCENARIO)) $(or $(N),20) $(or $(SEED),1)
