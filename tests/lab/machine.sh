#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 500
#
# All that a machine may have, used by its Linux: four processors, two NICs, three disks of
# which one is read-only; discard and write zeroes, seen on the host as holes and zeroes, on
# both sides; the clock; the console, typed into and read from. Then its host loses power, and
# all of it is there on the other one, in the same shell; its power button ends it.
set -euo pipefail
cd "$(dirname "$0")/../.."
export LAB_NAME=${LAB_NAME:-pollux-machine}
# Four processors on an emulated two: heartbeats may wait.
export LAB_TIMEOUT=10s LAB_INTERVAL=200ms
. tests/lab/common.sh machine
DATA=/var/lib/pollux/data.img
FIXED=/var/lib/pollux/fixed.img
SECOND_ADDRESS=192.168.80.100
SECOND_MAC=52:54:00:77:01:01
MIB=1048576
lab_begin
. tests/lab/typed.sh

cat >"$WORK/machine.cfg" <<END
name = "$VM"
uuid = "5f0b1c52-7c4e-4c59-9c3a-70111bc0de04"
type = "pvh"
kernel = "/srv/guest/vmlinuz"
ramdisk = "/srv/guest/initrd"
extra = "console=ttyS0 quiet net.ifnames=0 panic=1"
memory = 160
vcpus = 4
disk = [ '$VM_DISK,raw,xvda,rw', '$DATA,raw,xvdb,rw', '$FIXED,raw,xvdc,ro' ]
vif = [ 'mac=$VM_MAC,bridge=br0', 'mac=$SECOND_MAC,bridge=br0' ]
END
VM_FILE=/run/machine.cfg
lab push a "$WORK/machine.cfg" $VM_FILE
on a "truncate -s 24M $DATA && dd if=/dev/urandom of=$FIXED bs=1M count=4 2>/dev/null"

# --- what it has --------------------------------------------------------------------------

answers() { lab client busybox ping -c 1 -W 2 "$1" >/dev/null 2>&1; }

# clock_is NODE COMMAND BEHIND: the guest's is at most so many seconds behind the host's, give or
# take 3.
clock_is()
{
	local words host
	words=$(typed "$1" "$2") || fail "in the guest, $2: $words"
	host=$(on "$1" date +%s)
	[ $((host - words)) -ge -3 ] && [ $((host - words)) -le $(($3 + 3)) ] ||
		fail "in the guest, $2: $words, on $1 it is $host"
}
SYSTEM_CLOCK='date +%s' RTC='cat /sys/class/rtc/rtc0/since_epoch'

# machine_is_whole NODE: processors that compute, the NICs, the disk that takes no write.
machine_is_whole()
{
	says "$1" 0-3 'cat /sys/devices/system/cpu/online'
	says "$1" '0 1 2 3' 'echo $(for m in 1 2 4 8; do taskset $m cut -d" " -f39 /proc/self/stat; done)'
	until_true "$LIMIT" answers $VM_ADDRESS || fail "the first NIC does not answer"
	until_true "$LIMIT" answers $SECOND_ADDRESS || fail "the second NIC does not answer"
	lab client ip neigh show $SECOND_ADDRESS | grep -q $SECOND_MAC ||
		fail "it is not the second NIC: $(lab client ip neigh)"
	clock_is "$1" "$RTC" 0
	says "$1" 1 'blockdev --getro /dev/vdc'
	! typed "$1" 'dd if=/dev/zero of=/dev/vdc bs=512 count=1 conv=fsync' >"$WORK/readonly.log" ||
		fail "the read-only disk took a write: $(cat "$WORK/readonly.log")"
}

# sum NODE FILE: on a host; guest_sum NODE DISK: in the guest, from the disk itself.
sum() { on "$1" "md5sum <$2"; }
guest_sum() { typed "$1" "echo 3 >/proc/sys/vm/drop_caches; md5sum <$2"; }

# blocks NODE FILE: MiB that it takes on the host, holes left out.
blocks() { echo $(($(on "$1" stat -c %b "$2") * 512 / MIB)); }

# is_zero NODE FILE FROM LENGTH, in MiB
is_zero()
{
	[ "$(on "$1" "dd if=$2 bs=1M skip=$3 count=$4 2>/dev/null | tr -d '\\000' | wc -c")" = 0 ]
}

all_disks_agree()
{
	local disk
	for disk in $VM_DISK $DATA $FIXED; do
		[ "$(sum a $disk)" = "$(sum b $disk)" ] || return 1
	done
}

# --- the story ----------------------------------------------------------------------------

say "a VM with 4 processors, 2 NICs, 3 disks"
vm_start a
lab client ip addr replace 192.168.80.1/24 dev eth0
typed a 'echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore' >"$WORK/typed.log" ||
	fail "typing at the console: $(cat "$WORK/typed.log")"
says a '' "ip addr replace $SECOND_ADDRESS/24 dev eth1; ip link set eth1 up"
machine_is_whole a
clock_is a "$SYSTEM_CLOCK" 0

say "discard and write zeroes"
says a '' 'dd if=/dev/urandom of=/dev/vdb bs=1M count=16 conv=fsync 2>/dev/null'
[ "$(blocks a $DATA)" -ge 16 ] || fail "16 MiB were written, the host has $(blocks a $DATA)"
says a '' "/usr/bin/blkdiscard -z -o $((2 * MIB)) -l $((4 * MIB)) /dev/vdb; /usr/bin/blkdiscard -o $((8 * MIB)) -l $((4 * MIB)) /dev/vdb; sync"
is_zero a $DATA 2 4 || fail "what was zeroed is not zero on the host"
is_zero a $DATA 8 4 || fail "what was discarded is not zero on the host"
! is_zero a $DATA 0 2 && ! is_zero a $DATA 6 2 && ! is_zero a $DATA 12 4 ||
	fail "more than what was named is gone"
[ "$(blocks a $DATA)" -le 12 ] || fail "a discard of 4 of 16 MiB left $(blocks a $DATA)"
before=$(blocks a $VM_DISK)
says a '' 'dd if=/dev/urandom of=/big bs=1M count=16 conv=fsync 2>/dev/null'
full=$(blocks a $VM_DISK)
says a '' 'rm /big; sync; fstrim /'
say "MiB of the root disk on the host: $before, with a file of 16 $full, trimmed $(blocks a $VM_DISK)"
[ "$(blocks a $VM_DISK)" -le $((full - 12)) ] || fail "fstrim made no holes: $full, $(blocks a $VM_DISK)"

say "protected; the same while epochs run"
vm_protect a b
says a '' 'dd if=/dev/urandom of=/dev/vdb bs=1M seek=16 count=4 conv=fsync 2>/dev/null'
says a '' "/usr/bin/blkdiscard -z -o $((17 * MIB)) -l $MIB /dev/vdb; /usr/bin/blkdiscard -o $((18 * MIB)) -l $MIB /dev/vdb; sync"
remembered=$(typed a 'remembered=$(cat /proc/sys/kernel/random/uuid); echo $remembered')
data=$(guest_sum a /dev/vdb)
fixed=$(guest_sum a /dev/vdc)
until_true "$LIMIT" all_disks_agree || fail "the disks differ: $(for disk in $VM_DISK $DATA $FIXED; do
	echo "$disk $(sum a $disk) $(sum b $disk)"; done)"
[ "$data" = "$(sum b $DATA)" ] || fail "the data disk: the guest has $data, the backup $(sum b $DATA)"
[ "$fixed" = "$(sum b $FIXED)" ] || fail "the read-only disk: the guest has $fixed"
is_zero b $DATA 17 1 && is_zero b $DATA 18 1 || fail "not zero on the backup"
say "MiB of the data disk: $(blocks a $DATA) on a, $(blocks b $DATA) on b"
[ "$(blocks b $DATA)" -le 19 ] || fail "the discards made no holes on the backup"
vm_is_protected a || fail "no longer protected: $(vm_get a .word)"

say "power cut"
client_begin
lab kill a
until_true "$TAKEOVER_LIMIT" vm_was_taken_over b || fail "b did not take over"
client_goes_on "after the takeover"
says b "$remembered" 'echo $remembered'
machine_is_whole b
# The guest has not noticed the silence.
clock_is b "$SYSTEM_CLOCK" ${LAB_TIMEOUT%s}
[ "$(guest_sum b /dev/vdb)" = "$data" ] || fail "the data disk is another one"
[ "$(guest_sum b /dev/vdc)" = "$fixed" ] || fail "the read-only disk is another one"
says b '' "blkdiscard -o 0 -l $((2 * MIB)) /dev/vdb; sync"
is_zero b $DATA 0 2 || fail "a discard after the takeover did nothing"
client_accounts

say "the power button"
"$SCENARIO_DIR/pollux-lab" sh b 'pollux events --follow' >"$WORK/followed" 2>&1 </dev/null &
follower=$!
on b pollux vm shutdown $VM >"$WORK/shutdown.log" 2>&1 || fail "pollux vm shutdown: $(cat "$WORK/shutdown.log")"
has_ended() { [ "$(on b pollux vm list --format json | jq '.vms | length')" = 0 ]; }
until_true "$LIMIT" has_ended || fail "the guest does not end: $(on b 'tail -n 3 /run/pollux/vm/*/serial.log')"
told() { grep -q 'vm\..*power' "$WORK/followed"; }
until_true "$LIMIT" told || fail "who follows the events is not told: $(cat "$WORK/followed")"
kill $follower
say "$(grep -m1 'vm\..*power' "$WORK/followed")"

fsck=$(disk_check b "$(jq -r .acked "$WORK/client.json")")
say "the root disk: $fsck"
[ "$fsck" = clean ] || fail "the root file system: $fsck"
