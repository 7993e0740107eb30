# SPDX-License-Identifier: Apache-2.0
#
# `make bench`: tables on the terminal, JSON in $(O)/bench. First what needs no VM, then what
# needs two hosts, on loopback (resync) or in the lab; PEERS=1 measures QEMU's COLO beside it. BENCHES names fewer, BENCH_SECONDS,
# BENCH_SIZES and BENCH_ROUNDS (tools/bench/bench.sh) scale them.

LIBS_bench_encode := $(shell $(PKG_CONFIG) --libs liblz4 libzstd zlib libxxhash 2>/dev/null)
LIBS_bench_disklog := $(shell $(PKG_CONFIG) --libs libcrypto zlib libxxhash 2>/dev/null)
BENCHES ?= pause takeover memory guest net disk resync $(if $(PEERS),colo)

$(O)/bench/encode: $(O)/obj/tools/bench/encode.o $(call archive,ha) $(call archive,base)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) $^ $(LIBS_bench_encode) -o $@

$(O)/bench/dirty: $(O)/obj/tools/bench/dirty.o $(call archive,hypervisor/vmm) $(call archive,base)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) $^ $(LIBS_vmm) -o $@

$(O)/bench/disklog: $(O)/obj/tools/bench/disklog.o \
		$(foreach d,disk-replica hypervisor/control base,$(call archive,$(d)))
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) $^ $(LIBS_bench_disklog) -o $@

$(O)/bench/xen-pause: $(O)/obj/tools/bench/xen_pause.o
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) $^ $(shell $(PKG_CONFIG) --libs xenstore 2>/dev/null) -o $@

.PHONY: bench-programs bench-encode bench-dirty bench-disklog bench-lab bench-xen
# `make check` builds them, so that they stay whole between two benches.
bench-programs: $(foreach b,encode dirty disklog xen-pause,$(O)/bench/$(b))

bench-encode: $(O)/bench/encode
	@$< $(O)/bench/encode.json

bench-dirty: $(O)/bench/dirty
	@$< $(O)/bench/dirty.json

bench-disklog: $(O)/bench/disklog
	@mkdir -p $(O)/bench/disk && $< $(O)/bench/disk $(O)/bench/disklog.json; rm -rf $(O)/bench/disk

# One that fails keeps none of the others from being measured.
bench-lab: deps
	@$(MAKE) --no-print-directory -j2 lab $(O)/tests/kvm/writer
	@failed=; for bench in $(BENCHES); do \
		O=$(O) tools/bench/$$bench || failed="$$failed $$bench"; echo; done; \
		[ -z "$$failed" ] || { echo "bench: failed:$$failed" >&2; exit 1; }

# PLATFORM=xen: beside `xl remus`, on hosts that run Xen.
bench-xen: deps
	@$(MAKE) --no-print-directory -j2 lab-xen $(O)/bench/xen-pause
	@O=$(O) tools/bench/xen

bench: $(if $(filter xen,$(PLATFORM)),bench-xen,bench-encode bench-dirty bench-disklog bench-lab)
