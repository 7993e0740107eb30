#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 900
#
# A VM under the load of one connection goes back and forth between the hosts: a switchover, the
# old host becomes the backup by itself, the next switchover. Nothing is lost, nothing
# comes twice, nobody reconnects. Prints the distribution of the time the VM stood still.
#
# TIMES=round trips.
set -euo pipefail
cd "$(dirname "$0")/../.."
export LAB_NAME=pollux-switchover
. tests/lab/common.sh switchover
TIMES=${TIMES:-3}

lab_begin

say "a VM under load, protected"
vm_start a
vm_protect a b
# On Xen the guest has no disk: what Redis appends to its file fills its memory.
rate=()
[ "$LAB_PLATFORM" = kvm ] || rate=(--rate 200)
client_begin "${rate[@]}"

here=a there=b
for ((i = 1; i <= 2 * TIMES; i++)); do
	on $here pollux switchover $VM --timeout=20s >"$WORK/switchover.log" 2>&1 ||
		fail "switchover $i from $here: $(cat "$WORK/switchover.log")"
	vm_becomes $there '.vm_state == "running" and .switchover.pause_max_ns > 0'
	vm_get $there .switchover | jq -c . >>"$WORK/pauses"
	client_goes_on "after switchover $i"
	began=$SECONDS
	until_true "$PROTECT_LIMIT" vm_is_protected $there ||
		fail "$there has no backup after switchover $i: $(vm_get $there .word)"
	say "switchover $i to $there: stood still for $(tail -n 1 "$WORK/pauses" | jq -r \
		'"\(.pause_min_ns / 1e6 | round) to \(.pause_max_ns / 1e6 | round) ms"'); protected again after $((SECONDS - began)) s"
	! vm_is $here '.vm_state == "running"' || fail "the VM still runs on $here"
	client_goes_on "while protected to $here again"
	read -r here there <<<"$there $here"
done

say "the VM stood still, at most: $(jq -s -r 'map(.pause_max_ns / 1e6) | sort |
	"p50 \(.[length / 2 | floor] | round) ms, max \(.[-1] | round) ms of \(length)"' "$WORK/pauses")"
client_accounts
