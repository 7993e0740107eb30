#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 900
#
# Hosts that run Xen, and a guest that xl made, under the load of one connection: it is
# protected, its host loses its power, and it goes on under the other host's xl. Nothing is
# lost, and in its vector registers no bit is wrong.
set -euo pipefail
cd "$(dirname "$0")/../.."
export LAB_NAME=${LAB_NAME:-pollux-xen} LAB_PLATFORM=xen
. tests/lab/common.sh xen
. tests/lab/vectors.sh
lab_begin

say "two hosts with Xen"
for node in a b; do
	on $node 'xl info | grep -E "^(xen_version|nr_cpus|total_memory|free_memory)"'
	on $node 'grep -q control_d /proc/xen/capabilities' || fail "$node is no dom0"
	on $node 'modprobe -a sch_plug ifb act_mirred cls_matchall nbd' || fail "a module is missing"
	on $node "sed -i 's/panic=1/panic=1 vectors=1/' $VM_FILE && grep -q vectors=1 $VM_FILE" ||
		fail "no VM file on $node"
done

say "a guest that xl made"
vm_start a
on a xl list $VM
on a 'ip link show master br0 | grep -q vif' || fail "no vif on the bridge"
vectors_are_right
say "its registers: $(cat "$WORK/vectors")"

say "protected"
vm_protect a b
client_begin
vm_becomes a '.epochs_committed > 50'
vm_status a >"$WORK/primary.json"
say "pause, ms: $(jq -c '.pause_ns | map_values(. / 1e6 | round)' "$WORK/primary.json")"
vectors_are_right
before=$(vectors_rounds)

say "its host loses its power"
lab kill a
until_true "$TAKEOVER_LIMIT" vm_was_taken_over b || fail "b did not take over"
client_goes_on "after the takeover"
on b xl list $VM
on b 'ip link show master br0 | grep -q vif' || fail "no vif on the bridge of b"
vectors_are_right
say "its registers: round $before at the last look, then $(cat "$WORK/vectors")"
vectors_went_on "$before"
client_accounts
