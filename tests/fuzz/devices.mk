# SPDX-License-Identifier: Apache-2.0
# The device model is fuzzed as it is shipped: all of pollux-vmm but its main().

OBJECTS_fuzz_virtqueue := $(filter-out %/main,$(patsubst %.c,%,$(wildcard hypervisor/vmm/*.c hypervisor/control/*.c \
	base/*.c)))
LIBS_fuzz_virtqueue := $(LIBS_vmm)

$(O)/fuzz/obj/hypervisor/vmm/acpi.o: $(O)/gen/hypervisor/vmm/dsdt.h
