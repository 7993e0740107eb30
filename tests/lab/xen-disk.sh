#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 900
#
# A domain of Xen with disks that an nbdkit server gives away, and blkback to the guest: the
# guest with counters in memory, on two disks and in its replies, whose host loses its power.
# And what of its disks is refused, on either host.
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
on a 'xl block-list counters; cat /sys/block/nbd?/size'

# Told at once, or, where hosts are slow, by the status soon after.
is_told() { grep -qF "$1" "$WORK/protect.log" || [[ $(vm_get a .word) == *"$1"* ]]; }
refused()
{
	on a pollux protect $VM b >"$WORK/protect.log" 2>&1 || true
	until_true "$LIMIT" is_told "$1" ||
		fail "not \"$1\": $(cat "$WORK/protect.log"), $(vm_get a .word)"
	say "  $1"
}

say "what the other host lacks"
refused "no control socket beside it"
serve_disks b
refused "modprobe nbd"
on b modprobe nbd

say "protected"
on a pollux protect $VM b >"$WORK/protect.log" 2>&1 || true
until_true "$PROTECT_LIMIT" vm_is_protected a || fail "not protected: $(vm_get a .word)"
counters_ask
say "its host loses its power"
power_cut a
say "memory, both disks and replies: $(cat "$WORK/values.json")"
on b 'xl list; xl block-list counters'
counters_end
