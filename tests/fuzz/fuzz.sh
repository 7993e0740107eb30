#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A short run of every fuzz target, for `make check`; `make fuzz` runs longer.
# timeout: 600

cd "$(dirname "$0")/../.." || exit 1
if ! echo 'int LLVMFuzzerTestOneInput(const char *d, long n) { return !d && n; }' |
	clang -fsanitize=fuzzer,address -x c - -o /dev/null 2>/dev/null; then
	echo 'no clang with libFuzzer'
	exit 77
fi
# Free of the outer make's settings: it may have been told other compilers or sanitizers.
exec env -u MAKEFLAGS -u MAKELEVEL make --no-print-directory O="${O:-build}" \
	FUZZ_SECONDS="${FUZZ_SECONDS:-10}" fuzz
