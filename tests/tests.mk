# SPDX-License-Identifier: Apache-2.0
#
# What concerns all tiers. `make tests` builds every test program; each tier's fragment
# (tests/TIER/TIER.mk) adds its own to it. tests/run runs them.

.PHONY: tests check-unit check-every check-asan check-tsan lint lint-format lint-cppcheck lint-text

tests:

# The quick ones alone: no QEMU, no /dev/kvm.
check-unit:
	@$(MAKE) --no-print-directory -j2 unit-tests sim-tests tools-tests
	@tests/run unit sim model

# Those that take a choice of the fault points in `check` take all of them: about an hour.
check-every: deps
	@$(MAKE) --no-print-directory -j2 all lab tests
	@EVERY=1 LIMIT=5400 ONLY='/(commit-disk|resync|resync-steps|takeover|switchover-steps|power)$$' \
		tests/run kvm lab
	@EVERY=1 DISK=drbd LIMIT=5400 ONLY='/power$$' tests/run lab

check-asan: deps
	@$(MAKE) --no-print-directory -j2 O=$(O)/asan OPT='-O1 -g -fno-omit-frame-pointer' \
		SANITIZE='-fsanitize=address,undefined -fno-sanitize-recover=undefined' \
		unit-tests sim-tests tools-tests
	@O=$(O)/asan UBSAN_OPTIONS=print_stacktrace=1 tests/run unit sim

check-tsan: deps
	@$(MAKE) --no-print-directory -j2 O=$(O)/tsan OPT='-O1 -g' \
		SANITIZE='-fsanitize=thread' unit-tests sim-tests
	@O=$(O)/tsan tests/run unit sim

lint:
	@tools/install-deps lint
	@$(MAKE) --no-print-directory lint-text lint-cppcheck lint-format

# What style asks for and a tool can see: width, file length, licence, nothing left undone.
lint-text:
	@tests/lib/lint-text

LINT_C := $(filter-out tools/dashboard/%,$(wildcard $(foreach d,$(DIRS) tests/lib tests/unit \
	tests/sim tools/lab tests/lab tests/guest tests/kvm tests/fuzz disk-replica/nbd,$(d)/*.c $(d)/*.h)))

# Tests bring stand-ins for functions of the product, so what it guesses across files is wrong; what
# cleanup_free frees it takes for a leak, which check-asan looks for.
lint-cppcheck:
	@echo '  LINT    cppcheck'
	@cppcheck --quiet --std=c11 --enable=warning,portability --inline-suppr -I. \
		--suppress=missingIncludeSystem --suppress=unknownMacro \
		--suppress=ctunullpointer --suppress=memleak --error-exitcode=1 \
		$(filter %.c,$(LINT_C))

# FORMAT=strict makes a difference an error; otherwise the files are named.
lint-format:
	@echo '  LINT    clang-format'
	@bad=0; for f in $(LINT_C); do \
		clang-format --dry-run -Werror $$f 2>/dev/null || { echo "format: $$f"; bad=1; }; \
	done; [ "$(FORMAT)" != strict ] || exit $$bad
