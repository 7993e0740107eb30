# SPDX-License-Identifier: Apache-2.0
#
# `make bench`: tables on the terminal, JSON in $(O)/bench. Here what needs no VM; a fragment
# beside this one adds its own to `bench`.

LIBS_bench_encode := $(shell $(PKG_CONFIG) --libs liblz4 libzstd zlib libxxhash 2>/dev/null)

$(O)/bench/encode: $(O)/obj/tools/bench/encode.o $(call archive,ha) $(call archive,base)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) $^ $(LIBS_bench_encode) -o $@

.PHONY: bench-encode
bench-encode: $(O)/bench/encode
	@$< $(O)/bench/encode.json

bench: bench-encode
