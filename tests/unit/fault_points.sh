#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Each fault point that the source names is used by a test and listed in docs/testing.md, and each
# that a document names is in the source.
cd "$(dirname "$0")/../.." || exit 1
PARTS="base disk-replica ha hypervisor netbuf tools"
status=0

named() { grep -rhoE 'fault_at\("[a-z_]+\.[a-z_]+"' --include='*.[ch]' $PARTS | cut -d'"' -f2 | sort -u; }
points=$(named)
[ "$(wc -w <<<"$points")" -gt 50 ] || { echo "the source names no fault points"; exit 1; }
for point in $points; do
	grep -rqE --include='*.sh' --include='*.[ch]' "(^|[^a-z_.])${point/./\\.}($|[^a-z_])" tests tools/lab ||
		{ echo "no test uses $point"; status=1; }
done
listed=$(sed -n '/^## Fault points/,/^## A machine/p' docs/testing.md | grep -oE '`[a-z]+\.[a-z_]+`' | tr -d '`' | sort)
[ "$listed" = "$points" ] || {
	echo "docs/testing.md (<) and the source (>) do not list the same:"
	diff <(echo "$listed") <(echo "$points")
	status=1
}
# What disk-format.md lists stands between backquotes.
for point in $(grep -A8 'Fault points' docs/disk-format.md | grep -oE '`[a-z]+\.[a-z_]+`' | tr -d '`' | sort -u); do
	grep -qxF "$point" <<<"$points" || { echo "docs/disk-format.md names $point, which is none"; status=1; }
done
exit $status
