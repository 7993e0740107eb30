#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
#
# Partition: the replication link is cut under load. The primary stalls and says so, the
# backup takes over, and from that moment on no frame of the old VM leaves host a (P3).
# When the link heals, the old VM stops for good, and a restart of polluxd changes nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."
export LAB_NAME=pollux-partition
. tests/lab/common.sh partition
lab_begin

say "a VM under load, protected"
vm_start a
vm_protect a b
vm_capture_start a
vm_capture_start b
client_begin

say "the replication link is cut"
lab cut repl
vm_becomes a '.protected == false and .state == "stalled"'
say "a says: $(vm_get a .word)"
until_true "$TAKEOVER_LIMIT" vm_was_taken_over b || fail "b did not take over"
client_goes_on "after the partition"

say "the link heals"
lab heal repl
until_true "$LIMIT" vm_has_left a || fail "the old VM still runs on a: $(vm_get a .word)"
client_goes_on "after the link healed"
event_comes a '(stopped|ended here): generation [0-9]+ runs'
say "a says: $(on a pollux events | grep -E -m1 '(stopped|ended here): generation [0-9]+ runs')"
vm_has_left a || fail "the old VM was started again on a"
daemon_again a
vm_has_left a || fail "polluxd on a started the old VM again"

say "the captures"
a_pcap=$(lab capture stop lan-a)
b_pcap=$(lab capture stop lan-b)
vm_frames "$a_pcap" >"$WORK/lan-a"
vm_frames "$b_pcap" >"$WORK/lan-b"
announced=$(grep -m1 'Reverse ARP' "$WORK/lan-b" | cut -d' ' -f1)
first=$(head -n 1 "$WORK/lan-b" | cut -d' ' -f1)
last=$(tail -n 1 "$WORK/lan-a" | cut -d' ' -f1)
[ -n "$announced" ] || fail "b announced nothing"
# Said again, as RFC 5227 advises: the first one may have been lost.
[ "$(grep -c 'Reverse ARP' "$WORK/lan-b")" -ge 2 ] || fail "b's announcement is not repeated"
# The guest's own addresses, so that nobody sends to the old host's port for longer than need be.
grep -q "ARP.* $VM_ADDRESS (ff:ff:ff:ff:ff:ff) tell $VM_ADDRESS\|ARP.*Reply $VM_ADDRESS is-at $VM_MAC" "$WORK/lan-b" ||
	fail "no gratuitous ARP from b: $(grep ARP "$WORK/lan-b" | head -n 5)"
grep -q 'neighbor advertisement, .*tgt is fe80::' "$WORK/lan-b" ||
	fail "no unsolicited neighbour advertisement from b: $(grep ICMP6 "$WORK/lan-b" | head -n 5)"
[ -n "$last" ] || fail "the capture on lan-a saw nothing at all"
say "last frame of the VM from a: $last; first from b: $first; announced: $announced"
say "takeover as b tells it: $(on b pollux events | grep -m1 takeover || true)"
awk -v last="$last" -v first="$first" 'BEGIN { exit !(last < first) }' ||
	fail "host a sent as the VM after b had taken over"

client_accounts
