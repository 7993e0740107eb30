#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 180
#
# netbuf = plug where the kernel has no sch_plug: `pollux protect` is refused with the reason, and
# nothing has changed; auto holds in pollux-vmm. (With sch_plug: tests/lab/plug.sh.)
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/pair.sh

remains() { ip -br link | grep '^plug[0-9]'; }

make_pair 'interval = 100ms' 'timeout = 2s'
start_host a
start_host b
on a vm create "$T/tiny.cfg" >/dev/null || fail "vm create"
if on a protect tiny b --netbuf=plug >"$T/plug.log" 2>&1; then
	echo "this kernel has sch_plug: nothing is refused"
	exit 77
fi
grep -q 'this kernel has no' "$T/plug.log" || fail "no reason: $(cat "$T/plug.log")"
echo "refused: $(cat "$T/plug.log")"
[ -z "$(remains)" ] || fail "left behind: $(remains)"
[ "$(status a .protected)" = false ] || fail "protected all the same"
on a protect tiny b --netbuf=tap >"$T/tap.log" 2>&1 && fail "netbuf = tap is taken"
grep -q 'expected auto, hold or plug' "$T/tap.log" || fail "no reason: $(cat "$T/tap.log")"
on a protect tiny b >/dev/null || fail "protect"
on a wait tiny --for=protected --timeout=60s >/dev/null || fail "not protected: $(status a .word)"
[ "$(status a .netbuf.kind)" = hold ] || fail "auto is $(status a .netbuf)"
exit 0
