#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 900
#
# Disks that an nbdkit server gives away. First to Linux's nbd client: a block device with a
# file system and fio on it, while the disk is replicated. Then to a VM, beside a disk of its
# own: the guest with counters through the loss of either host, and of a server.
set -euo pipefail
cd "$(dirname "$0")/../.."
export LAB_NAME=${LAB_NAME:-pollux-nbd}
# Here each packet that the guest sends ends an epoch.
export LAB_PROTECTION="mode = kemari"
. tests/lab/common.sh nbd
. tools/lab/counters.sh
. tests/lab/served.sh

replica_follows() { on a "grep -q following /run/replica.log" 2>/dev/null; }

block_device()
{
	on a "mkdir -p /run/extra; truncate -s 96M /var/lib/pollux/extra.img
		dd if=/dev/urandom of=/var/lib/pollux/replica.img bs=1M count=96 2>/dev/null"
	serve a extra /var/lib/pollux/extra.img
	with_tools a "(setsid nbd_replica /run/nbd/extra /var/lib/pollux/replica.img /run/extra 4194304 \
		>/run/replica.log 2>&1 </dev/null & echo \$! >/run/replica.pid)"
	until_true "$LIMIT" replica_follows || fail "nothing is replicated: $(on a cat /run/replica.log)"
	with_tools a "modprobe nbd && nbd-client -unix /run/nbd/extra/nbd /dev/nbd0 -connections 4 &&
		mkfs.ext4 -q /dev/nbd0 && mkdir -p /mnt/nbd && mount -o discard /dev/nbd0 /mnt/nbd" \
		>"$WORK/block.log" 2>&1 || fail "the block device: $(cat "$WORK/block.log")"
	with_tools a "fio --name=on-nbd --directory=/mnt/nbd --size=16M --rw=randwrite \
		--bsrange=4k-64k --ioengine=psync --direct=1 --fsync=32 --numjobs=2 --verify=crc32c \
		--verify_fatal=1 --verify_state_save=0 --output-format=terse" \
		>"$WORK/fio.log" 2>&1 || fail "fio: $(tail -n 5 "$WORK/fio.log")"
	# Give blocks back, and leave some that were written late.
	on a "rm /mnt/nbd/on-nbd.0.0; sync; dd if=/dev/urandom of=/mnt/nbd/late bs=1M count=3 2>/dev/null
		umount /mnt/nbd"
	with_tools a "nbd-client -d /dev/nbd0" >/dev/null
	on a 'kill -TERM $(cat /run/replica.pid); while kill -0 $(cat /run/replica.pid); do sleep 0.1; done' \
		2>/dev/null
	say "replicated: $(on a tail -n 1 /run/replica.log)"
	on a "cmp /var/lib/pollux/extra.img /var/lib/pollux/replica.img" || fail "the replica differs"
	on a "e2fsck -f -n /var/lib/pollux/replica.img" >"$WORK/fsck.log" 2>&1 ||
		fail "the replica's file system: $(cat "$WORK/fsck.log")"
	on a 'kill $(cat /run/nbd/extra/pid)'
}

vm_file()
{
	on "$1" "sed \"s#'/var/lib/pollux/counters-2.img,raw,xvdb,rw'#'format=raw,vdev=xvdb,access=rw,target=nbd:unix:/run/nbd/two/nbd'#\" \
		/srv/guest/counters.cfg >/run/vm.cfg && grep -q nbd:unix /run/vm.cfg" ||
		fail "no VM file on $1"
	serve "$1" two /var/lib/pollux/counters-2.img
}

protected_again()
{
	until_true "$PROTECT_LIMIT" vm_is_protected "$1" ||
		fail "not protected after $PROTECT_LIMIT s: $(vm_get "$1" .word)"
}

lab_begin
pack_tools
give_tools a
give_tools b
say "Linux's nbd client, ext4 and fio"
block_device

say "a VM with a served disk, protected"
VM=counters
VM_FILE=/run/vm.cfg
vm_file a
vm_file b
counters_start a
vm_protect a b
[ "$(vm_get a .mode)" = kemari ] || fail "the mode is $(vm_get a .mode)"
counters_ask
say "its host loses its power"
power_cut a
say "memory, both disks and replies: $(cat "$WORK/values.json")"
say "protected the other way, once its own disk is served again"
vm_file a
protected_again b
counters_ask
say "the server of its disk dies"
on b 'kill -9 $(cat /run/nbd/two/pid)'
until_true "$TAKEOVER_LIMIT" vm_is a '.role == "active" or .takeover.takeover_ns != null' ||
	fail "a did not take over: $(vm_get b .word)"
until_true 60 counted_more_than "$(client_get sent)" || fail "the client hears nothing from a"
counters_ask
say "memory, both disks and replies: $(cat "$WORK/values.json")"
counters_end
