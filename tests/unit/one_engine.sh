#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# One engine for both hypervisors: pollux-ha and pollux-ha-xen are linked from the same object
# files, by the linker's own word. Apart are the platform (ha/kvm, ha/xen), which must be small
# beside the rest, and whose libxenctrl it is.
cd "$(dirname "$0")/../.." || exit 1
O=${O:-build}
[ -x "$O/bin/pollux-ha-xen" ] || { echo "no programs in $O: make all"; exit 77; }
status=0
bad() { echo "$*"; status=1; }

# Every object file of ours that the linker took, with its archive.
taken() { # PROGRAM
	grep -oE '(lib/lib[a-z-]+\.a\([^)]+\)|obj/[a-z_/-]+\.o)' "$O/obj/$1.map" | sort -u
}
own='ha-kvm\.a|ha-xen\.a|hypervisor-xen\.a|hypervisor-xenctrl\.a'

for program in pollux-ha pollux-ha-xen; do
	[ "$O/obj/$program.map" -nt "$O/obj/ha/main.o" ] || bad "$program: no map, or an old one"
	taken "$program" | grep -vE "$own" >"$O/tests/$program.shared"
	n=$(wc -l <"$O/tests/$program.shared")
	[ "$n" -gt 50 ] || bad "$program is made of $n shared objects only"
done
cmp "$O/tests/pollux-ha.shared" "$O/tests/pollux-ha-xen.shared" ||
	bad "not of the same objects: $(diff "$O/tests/pollux-ha.shared" "$O/tests/pollux-ha-xen.shared")"
grep -q 'obj/ha/main\.o' "$O/tests/pollux-ha.shared" || bad "ha/main.o is not among them"
grep -q 'libha\.a(capture\.o)' "$O/tests/pollux-ha.shared" || bad "ha/capture.o is not among them"
taken pollux-ha | grep -qE 'ha-xen\.a|hypervisor-xen\.a' && bad "pollux-ha has parts for Xen"
taken pollux-ha-xen | grep -qE 'ha-kvm\.a|hypervisor-xenctrl\.a' && bad "pollux-ha-xen has parts for KVM"

# Each object is compiled once, so it cannot ask for which of the two it is.
ldd "$O/bin/pollux-ha" | grep -q libxenctrl && bad "pollux-ha is linked with Xen's libxenctrl"
ldd "$O/bin/pollux-ha-xen" | grep -q libxenctrl || bad "pollux-ha-xen is not linked with Xen's libxenctrl"
[ $status = 0 ] && echo "$(wc -l <"$O/tests/pollux-ha.shared") objects are shared"
exit $status
