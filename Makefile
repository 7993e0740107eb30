# SPDX-License-Identifier: Apache-2.0
#
# One plain Makefile. `make demo` shows Pollux at work, `make check` tests it;
# both install what they miss first. `make help` lists the rest.

O ?= build
PREFIX ?= /usr
DESTDIR ?=

CC = gcc
PKG_CONFIG ?= pkg-config
OPT ?= -O2 -g
SANITIZE ?=
WARN := -Wall -Wextra -Wshadow -Wimplicit-fallthrough -Wswitch-enum -Werror
CFLAGS_ALL = -std=gnu17 -D_GNU_SOURCE -I. -I$(O)/gen $(OPT) $(WARN) -fno-strict-aliasing \
	-fstack-protector-strong -pthread -MMD -MP $(SANITIZE) $(CFLAGS)
LDFLAGS_ALL = -pthread $(SANITIZE) $(LDFLAGS)

# Folders that are one archive each; includes point one way:
# base <- hypervisor <- {netbuf, disk-replica} <- ha <- tools
DIRS := base hypervisor/control hypervisor/vmm hypervisor/xenctrl hypervisor/xen netbuf disk-replica \
	ha ha/kvm ha/xen \
	tools/common tools/daemon tools/cli
archive = $(O)/lib/lib$(subst /,-,$(1)).a
objects = $(patsubst %.c,$(O)/obj/%.o,$(filter-out %/main.c,$(wildcard $(1)/*.c)))
ARCHIVES := $(foreach d,$(DIRS),$(call archive,$(d)))

PROGRAMS := $(O)/bin/pollux-vmm $(O)/bin/pollux-ha $(O)/bin/pollux-ha-xen $(O)/bin/polluxd \
	$(O)/bin/pollux

# Libraries a program is linked with, by pkg-config name or flag. libxlutil brings the real
# libxenctrl with it, so only the command line, which parses VM files, links it.
LIBS_vmm := $(shell $(PKG_CONFIG) --libs json-c libseccomp libnbd 2>/dev/null)
LIBS_ha := $(shell $(PKG_CONFIG) --libs openssl liblz4 libzstd zlib libxxhash json-c libsystemd \
	libnl-route-3.0 \
	2>/dev/null)
LIBS_xenctrl := $(shell $(PKG_CONFIG) --libs xencontrol xenforeignmemory xenevtchn xenstore 2>/dev/null)
LIBS_daemon := $(shell $(PKG_CONFIG) --libs openssl json-c libsystemd libmicrohttpd inih 2>/dev/null)
LIBS_cli := $(shell $(PKG_CONFIG) --libs json-c inih openssl libxxhash xlutil xenlight 2>/dev/null)

# V=1 shows the commands.
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-7s %s\n' $(1) $(2))

.DEFAULT_GOAL := all
.PHONY: all help deps check check-asan check-tsan fuzz lint bench drill demo demo-xen install clean lab

all: $(PROGRAMS) $(O)/tools-done

help:
	@echo 'make demo         boot two hosts, protect a VM, cut the power, watch it go on (HOLD=1 stays)'
	@echo 'make demo-xen     the same on two hosts that run Xen'
	@echo 'make check        every test this machine can run'
	@echo 'make check-every  the power cut at every fault point; `make check` takes some of them'
	@echo 'make check-asan   unit tests and simulation under address and undefined sanitizers'
	@echo 'make check-tsan   the same under the thread sanitizer'
	@echo 'make drill        N=20 SEED=1: that many power cuts at random instants; NETBUF=plug'
	@echo '                  SCENARIO=counters: all of one VM, hosts in turn, protected again each time'
	@echo 'make bench        pause, takeover, throughput; PEERS=1 beside QEMU COLO'
	@echo 'make fuzz         FUZZ_SECONDS=60 for each fuzz target'
	@echo 'make lint install clean'

# --- programs and archives ---------------------------------------------------------------

$(O)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CFLAGS_ALL) -c $< -o $@

define archive_rule
$(call archive,$(1)): $(call objects,$(1))
	@mkdir -p $$(@D)
	@rm -f $$@
	$(Q)ar rcs $$@ $$^
endef
$(foreach d,$(DIRS),$(eval $(call archive_rule,$(d))))

$(O)/bin/pollux-vmm: $(O)/obj/hypervisor/vmm/main.o \
		$(foreach d,hypervisor/vmm hypervisor/control base,$(call archive,$(d)))
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) $^ $(LIBS_vmm) -o $@

# One engine for both hypervisors: the same objects, with one platform (ha/platform.h) and one
# libxenctrl, ours or Xen's. The maps say of what the two were made (tests/unit/one_engine.sh).
ENGINE = $(O)/obj/ha/main.o $(foreach d,ha netbuf disk-replica,$(call archive,$(d)))

$(O)/bin/pollux-ha: $(ENGINE) \
		$(foreach d,ha/kvm hypervisor/xenctrl hypervisor/control base,$(call archive,$(d)))
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -Wl,-Map=$(O)/obj/pollux-ha.map $^ $(LIBS_ha) -o $@

$(O)/bin/pollux-ha-xen: $(ENGINE) \
		$(foreach d,ha/xen hypervisor/xen hypervisor/control base,$(call archive,$(d)))
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -Wl,-Map=$(O)/obj/pollux-ha-xen.map $^ $(LIBS_ha) $(LIBS_xenctrl) -o $@

$(O)/bin/polluxd: $(O)/obj/tools/daemon/main.o \
		$(foreach d,tools/daemon tools/common ha netbuf disk-replica hypervisor/control base,$(call archive,$(d)))
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) $^ $(LIBS_daemon) $(LIBS_ha) -o $@

$(O)/bin/pollux: $(O)/obj/tools/cli/main.o $(foreach d,tools/cli tools/common ha disk-replica base,$(call archive,$(d)))
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) $^ $(LIBS_cli) -o $@

# Folders add what is their own (generated headers, the lab, tests) in a fragment.
-include $(sort $(wildcard */*.mk */*/*.mk))

$(O)/tools-done: $(TOOLS_EXTRA)
	@touch $@

# --- the two commands ---------------------------------------------------------------------

deps:
	@tools/install-deps

demo: deps
	@$(MAKE) --no-print-directory -j2 lab
	@tools/lab/demo

demo-xen: deps
	@$(MAKE) --no-print-directory -j2 lab-xen
	@LAB_PLATFORM=xen tools/lab/demo

check: deps
	@$(MAKE) --no-print-directory -j2 all lab-xen tests bench-programs
	@tests/run unit sim model fuzz kvm lab

clean:
	rm -rf $(O)

-include $(shell find $(O)/obj -name '*.d' 2>/dev/null)
