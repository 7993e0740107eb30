# SPDX-License-Identifier: Apache-2.0
#
# Small guests straight on /dev/kvm.

$(O)/tests/kvm/tiny: tests/kvm/tiny.S
	@mkdir -p $(@D)
	$(call say,AS,$<)
	$(Q)$(CC) -m32 -c $< -o $@.o
	$(Q)objcopy -O binary -j .text $@.o $@

tests: $(O)/tests/kvm/tiny
