#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 900
#
# A domain of Xen with disks that an nbdkit server gives away, and blkback to the guest: the
# guest with counters in memory, on two disks and in its replies, whose host loses its power,
# and then the other one a server. And what a host is refused for that lacks what disks need.
set -euo pipefail
cd "$(dirname "$0")/../.."
export LAB_NAME=${LAB_NAME:-pollux-xen-disk} LAB_PLATFORM=xen
. tests/lab/common.sh xen-disk
. tests/lab/served.sh
. tools/lab/counters.sh
VM_FILE=/srv/guest/counters-xen.cfg

serve_disks()
{
	serve "$1" one /var/lib/pollux/counters-1.img
	serve "$1" two /var/lib/pollux/counters-2.img
}

lab_begin
VM_FILE=/srv/guest/counters-xen.cfg
pack_tools
give_tools a
give_tools b
on a modprobe nbd
serve_disks a

say "a domain with two served disks"
counters_start a

# Told at once, or, where hosts are slow, by the status soon after.
is_told() { grep -qF "$1" "$WORK/protect.log" || [[ $(vm_get a .word) == *"$1"* ]]; }
lacks()
{
	on a pollux protect $VM b >"$WORK/protect.log" 2>&1 || true
	until_true "$LIMIT" is_told "$1" ||
		fail "not \"$1\": $(cat "$WORK/protect.log"), $(vm_get a .word)"
	say "  $1"
}

say "what the other host lacks"
lacks "no control socket beside it"
serve_disks b
lacks "modprobe nbd"
on b modprobe nbd

say "protected"
on a pollux protect $VM b >"$WORK/protect.log" 2>&1 || true
until_true "$PROTECT_LIMIT" vm_is_protected a || fail "not protected: $(vm_get a .word)"
counters_ask
# What the copy has brought is forgotten, so that the way back is short: on stable storage, too,
# which forgetting alone does not wait for.
lab push a "$O/tests/kvm/vmctl" /usr/bin/vmctl
on a chmod 755 /usr/bin/vmctl
has_forgotten()
{
	local disk
	for disk in one two; do
		[ "$(on a vmctl /run/nbd/$disk marked)" -lt $((8 << 20)) ] || return 1
	done
}
until_true 60 has_forgotten || fail "the copy is not forgotten: $(on a 'vmctl /run/nbd/one marked; vmctl /run/nbd/two marked')"
on a sync
say "its host loses its power"
power_cut a
say "memory, both disks and replies: $(cat "$WORK/values.json")"

say "protected the other way, once its own disks are served again"
on a modprobe nbd
serve_disks a
until_true "$PROTECT_LIMIT" vm_is_protected b || fail "not protected: $(vm_get b .word)"
copy=$(vm_get b .resync | jq -c '{kind, bytes, total_bytes, reason}')
vm_is b '.resync.kind == "partial" and .resync.bytes < .resync.total_bytes / 2' || fail "the way back: $copy"
say "the copy: $copy"
on b pollux verify $VM --disks >"$WORK/verified" 2>&1 || fail "verify: $(cat "$WORK/verified")"
grep -q 'no difference' "$WORK/verified" || fail "verify: $(cat "$WORK/verified")"
counters_ask
say "the server of a disk dies"
on b 'kill -9 $(cat /run/nbd/two/pid)'
until_true "$TAKEOVER_LIMIT" vm_was_taken_over a || fail "a did not take over: $(vm_get b .word)"
until_true 60 counted_more_than "$(client_get sent)" || fail "the client hears nothing from a"
counters_ask
say "memory, both disks and replies: $(cat "$WORK/values.json")"
detached() { on b '[ -z "$(ls -d /sys/block/nbd*/pid 2>/dev/null)" ]'; }
until_true "$LIMIT" detached || fail "b keeps a device of the disks: $(on b xl list)"
counters_end
