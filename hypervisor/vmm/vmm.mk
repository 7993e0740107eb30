# SPDX-License-Identifier: Apache-2.0
# The machine's ACPI code, compiled into a header.

$(O)/gen/hypervisor/vmm/dsdt.h: hypervisor/vmm/dsdt.asl
	@mkdir -p $(@D)
	iasl -va -vs -tc -p $(@D)/dsdt $< >$(@D)/dsdt.log || { cat $(@D)/dsdt.log; exit 1; }
	mv $(@D)/dsdt.hex $@

$(O)/obj/hypervisor/vmm/acpi.o: $(O)/gen/hypervisor/vmm/dsdt.h
