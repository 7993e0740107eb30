# SPDX-License-Identifier: Apache-2.0
#
# `make fuzz`: each tests/fuzz/fuzz_NAME.c is a libFuzzer target, built by clang with address
# and undefined sanitizers and run for FUZZ_SECONDS. OBJECTS_fuzz_NAME names what it is linked
# with (sources without .c), LIBS_fuzz_NAME the libraries. What it learns stays in
# $(O)/fuzz/corpus; a finding is left in $(O)/fuzz/NAME-*.

FUZZ_CC ?= clang
FUZZ_SECONDS ?= 60
FUZZ_FLAGS := -std=gnu17 -D_GNU_SOURCE -I. -O1 -g -fno-omit-frame-pointer -fno-strict-aliasing \
	-fsanitize=address,undefined -fno-sanitize-recover=undefined -pthread

OBJECTS_fuzz_frame := ha/frame ha/message ha/codec ha/delta ha/encode ha/decode \
	ha/offer ha/check disk-replica/format base/bitmap base/cursor base/err base/fault
LIBS_fuzz_frame := $(shell $(PKG_CONFIG) --libs liblz4 libzstd zlib libxxhash 2>/dev/null)

FUZZ_NAMES := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_TARGETS := $(FUZZ_NAMES:%=$(O)/fuzz/%)

$(O)/fuzz/obj/tests/fuzz/%.o: tests/fuzz/%.c
	@mkdir -p $(@D)
	$(FUZZ_CC) $(FUZZ_FLAGS) -I$(O)/gen -MMD -MP -fsanitize=fuzzer -c $< -o $@

$(O)/fuzz/obj/%.o: %.c
	@mkdir -p $(@D)
	$(FUZZ_CC) $(FUZZ_FLAGS) -I$(O)/gen -MMD -MP -fsanitize=fuzzer-no-link -c $< -o $@

define fuzz_rule
$(O)/fuzz/$(1): $(O)/fuzz/obj/tests/fuzz/$(1).o $$(OBJECTS_$(1):%=$(O)/fuzz/obj/%.o)
	$(FUZZ_CC) -fsanitize=fuzzer,address,undefined -pthread $$^ $$(LIBS_$(1)) -o $$@
endef
$(foreach t,$(FUZZ_NAMES),$(eval $(call fuzz_rule,$(t))))

.PHONY: fuzz-targets
fuzz-targets: $(FUZZ_TARGETS)

fuzz: fuzz-targets
	@tests/fuzz/run $(O)/fuzz $(FUZZ_SECONDS) $(FUZZ_NAMES)

-include $(shell find $(O)/fuzz/obj -name '*.d' 2>/dev/null)
