# SPDX-License-Identifier: Apache-2.0
#
# Tests that run small guests straight on /dev/kvm; they skip themselves where there is none.

KVM_NAMES := $(patsubst tests/kvm/%.c,%,$(wildcard tests/kvm/test_*.c))
KVM_TESTS := $(KVM_NAMES:%=$(O)/tests/kvm/%)

$(O)/tests/kvm/%: $(O)/obj/tests/kvm/%.o $(ARCHIVES)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) -Wl,--start-group $^ -Wl,--end-group $(TEST_LIBS) $(CMOCKA) -o $@

.PHONY: kvm-tests
kvm-tests: $(KVM_TESTS) $(O)/tests/kvm/vmctl $(O)/bin/pollux-vmm
tests: kvm-tests
