# SPDX-License-Identifier: Apache-2.0
#
# Tests that run small guests straight on /dev/kvm; they skip themselves where there is none.

KVM_NAMES := $(patsubst tests/kvm/%.c,%,$(wildcard tests/kvm/test_*.c)) vmctl ask
KVM_TESTS := $(KVM_NAMES:%=$(O)/tests/kvm/%)

define kvm_rule
$(O)/tests/kvm/$(1): $(O)/obj/tests/kvm/$(1).o $(ARCHIVES)
	@mkdir -p $$(@D)
	$$(CC) $$(LDFLAGS_ALL) -Wl,--start-group $$^ -Wl,--end-group $$(TEST_LIBS) $$(CMOCKA) -o $$@
endef
$(foreach t,$(KVM_NAMES),$(eval $(call kvm_rule,$(t))))

.PHONY: kvm-tests
kvm-tests: $(KVM_TESTS) $(O)/bin/pollux-vmm
tests: kvm-tests

$(O)/tests/kvm/tiny $(O)/tests/kvm/hostile: $(O)/tests/kvm/%: tests/kvm/%.S
	@mkdir -p $(@D)
	$(call say,AS,$<)
	$(Q)$(CC) -m32 -c $< -o $@.o
	$(Q)objcopy -O binary -j .text $@.o $@
tests: $(O)/tests/kvm/tiny $(O)/tests/kvm/hostile

$(O)/tests/kvm/writer $(O)/tests/kvm/dirtier $(O)/tests/kvm/rings: $(O)/tests/kvm/%: tests/kvm/%.c tests/kvm/bare.h
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) -std=gnu17 $(WARN) -I. -m32 -march=i386 -Os -ffreestanding -fno-pic -no-pie \
		-nostdlib -static -fno-stack-protector -fno-asynchronous-unwind-tables -fno-toplevel-reorder \
		-Wl,--section-start=.head=0xffc00,-Ttext=0x100000,--build-id=none $< -o $@.elf
	$(Q)objcopy -O binary -j .head -j .text -j .rodata $@.elf $@
tests: $(O)/tests/kvm/writer $(O)/tests/kvm/dirtier $(O)/tests/kvm/rings

$(O)/tests/kvm/replay: $(O)/obj/tests/kvm/replay.o
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) $^ -o $@
tests: $(O)/tests/kvm/replay
