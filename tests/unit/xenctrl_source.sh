#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# One object file, linked with our library and with Debian's: the first must not bring the
# real one in, the second must. So the source, the prototypes and the layouts are the same.
set -eu

fail() {
	echo "$*"
	exit 1
}

ours=$O/bin/xc-demo
theirs=$O/bin/xc-demo-xen
[ -x "$ours" ] || fail "$ours was not built"
[ -x "$theirs" ] || fail "$theirs was not built"

needed() { readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'; }

needed "$ours" | grep -q '^libxen' && fail "$ours needs $(needed "$ours" | grep '^libxen')"
needed "$theirs" | grep -q '^libxenctrl' || fail "$theirs does not need libxenctrl"

# What the demo calls is what ours defines, by the names of the real one.
calls=$(nm -u "$O/obj/tests/lib/xc_demo.o" | sed -n 's/ *U \(xc_.*\|xenforeign.*\)/\1/p')
[ "$(echo "$calls" | wc -l)" -ge 14 ] || fail "the demo calls only: $calls"
for name in $calls; do
	nm "$ours" | grep -q " [TDB] $name\$" || fail "$ours does not define $name"
	nm -D "$theirs" | grep -q " U $name@" || fail "$theirs does not take $name from a library"
done

# It runs: with no VM there is nothing to list, and a domain that is none is refused.
POLLUX_RUN_DIR=$(mktemp -d)
export POLLUX_RUN_DIR
trap 'rmdir "$POLLUX_RUN_DIR"' EXIT
[ -z "$("$ours" list)" ] || fail "$ours lists a VM that is none"
"$ours" pause 5 2>/dev/null && fail "$ours has paused a VM that is none"
echo "$(echo "$calls" | wc -l) functions, same source, both libraries"
