#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 60
#
# The program that is written against <xenctrl.h> alone (tests/lib/xc_demo.c) with a VM that runs:
# it lists it, pauses it, counts what it writes between checkpoints, takes its state, reads its
# memory. That the same source is a program of Xen's is looked at by unit/xenctrl_source.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/pair.sh

demo() { POLLUX_RUN_DIR=$T/a/run "$O/bin/xc-demo" "$@" || fail "xc-demo $*"; }
# field LINE NAME: the value of NAME=VALUE.
field() { sed -n "s/.*\<$2=\([^ ]*\).*/\1/p" <<<"$1"; }
listed() { [ "$(field "$(demo list)" "$1")" = "$2" ]; }
counts() { [ "$(serial a | wc -l)" -gt "$1" ]; }

make_pair
start_host a
on a vm create "$T/tiny.cfg" >/dev/null || fail "vm create"
until_true 20 counts 2 || fail "the guest does not count"
line=$(demo list)
echo "$line"
domid=$(field "$line" domid)
[ "$(field "$line" pages)" = $((64 * 256)) ] && [ "$(field "$line" vcpus)" = 1 ] || fail "not 64 MiB and one processor"
listed state running || fail "it runs, and is listed otherwise: $(demo list)"

demo pause "$domid"
listed state paused || fail "it was paused: $(demo list)"
cpu=$(field "$(demo list)" cpu_ns)
count=$(serial a | wc -l)
page=$(demo map "$domid" 0x100)
[ "$page" = "$(demo map "$domid" 0x100)" ] || fail "a page changes while it is paused"
listed cpu_ns "$cpu" && ! counts "$count" || fail "it goes on while it is paused"
[ "$page" != "$(printf '00 %.0s' {1..31})00" ] || fail "the kernel's first page is zero"
POLLUX_RUN_DIR=$T/a/run "$O/bin/xc-demo" map "$domid" 0x4000 2>/dev/null && fail "a page behind its memory"
demo unpause "$domid"
until_true 20 counts "$count" || fail "it does not go on"

demo checkpoint "$domid" 5 >"$T/rounds"
cat "$T/rounds"
[ "$(wc -l <"$T/rounds")" = 5 ] || fail "not five rounds"
while read -r line; do
	[ "$(field "$line" dirty)" -gt 0 ] && [ "$(field "$line" state_bytes)" -gt 1000 ] || fail "$line"
done <"$T/rounds"
# All of memory is dirty at first, what a guest of this size writes in 100 ms is not.
[ "$(field "$(tail -n 1 "$T/rounds")" dirty)" -lt 1000 ] || fail "the log of dirty pages is not cleared"
until_true 20 counts "$(serial a | wc -l)" || fail "it does not go on after the checkpoints"
end_pair
exit 0
