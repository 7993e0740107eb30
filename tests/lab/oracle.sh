#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 1200
#
# The memory oracle: a guest loads network, disk and console, and at each of ORACLE_EPOCHS
# consecutive epochs (60) a hash of all its memory is compared on both sides. Then one write of
# a device is made to forget its mark, and the oracle must notice: a page missed there would be
# silent corruption after a takeover.
set -euo pipefail
cd "$(dirname "$0")/../.."
export LAB_NAME=pollux-oracle
export LAB_PROTECTION="oracle = on"
# Hashing all memory in a pause takes an emulated processor most of a second: more than a
# timeout should be, and the engine must find time for other things.
export LAB_TIMEOUT=30s LAB_INTERVAL=500ms
. tests/lab/common.sh oracle
ORACLE_EPOCHS=${ORACLE_EPOCHS:-60}
VM=dirty
lab_begin

# configure LOAD
configure()
{
	cat >"$WORK/dirty.cfg" <<END
name = "dirty"
uuid = "5f0b1c52-7c4e-4c59-9c3a-70111bc0de03"
type = "pvh"
kernel = "/srv/guest/vmlinuz"
ramdisk = "/srv/guest/dirty-initrd"
extra = "console=ttyS0 quiet dirty_console=1 $1"
memory = 96
vcpus = 1
disk = [ '/var/lib/pollux/dirty.img,raw,xvda,rw' ]
vif = [ 'mac=52:54:00:77:01:00,bridge=br0' ]
END
	lab push a "$WORK/dirty.cfg" /run/dirty.cfg
}
on a truncate -s 32M /var/lib/pollux/dirty.img

# start_loaded: the guest is up when its periods are on the console.
start_loaded()
{
	on a pollux vm create /run/dirty.cfg >"$WORK/create.log" 2>&1 ||
		fail "pollux vm create: $(cat "$WORK/create.log")"
	# On the virtio console: the last of its devices.
	until_true "$BOOT_LIMIT" on a 'grep -q "dirty: period" /run/pollux/vm/*/hvc0.log' 2>/dev/null ||
		fail "the guest does not begin: $(on a 'tail -n 5 /run/pollux/vm/*/*.log')"
	on a pollux protect dirty b >"$WORK/protect.log" 2>&1 ||
		fail "pollux protect: $(cat "$WORK/protect.log")"
}

# What the guest receives is written by its device alone: five broadcasts a second. They end
# with the lab.
"$SCENARIO_DIR/pollux-lab" client busybox ping -i 0.2 192.168.77.255 >/dev/null 2>&1 </dev/null &

oracle_checked() { vm_is b ".oracle.checked >= $1"; }
oracle_failed() { vm_is b '.oracle.failed > 0'; }

say "$ORACLE_EPOCHS epochs under load"
configure "dirty_pages=200 dirty_region_mib=4 dirty_disk=65536 dirty_net=8"
start_loaded
until_true "$PROTECT_LIMIT" oracle_checked 1 || fail "no epoch was compared: $(vm_get a .word)"
generation=$(vm_get b .generation)
until_true $((60 + ORACLE_EPOCHS * 3)) oracle_checked "$ORACLE_EPOCHS" ||
	fail "after too long: $(vm_get b .oracle)"
say "compared and different: $(vm_status b | jq -c .oracle); pause $(vm_status a | jq -c .pause_ns)"
vm_is b '.oracle.failed == 0' || fail "memory differs: $(on b pollux events | grep oracle | head -n 3)"
[ "$(vm_get b .generation)" = "$generation" ] || fail "the epochs were not consecutive"
# None was left out: what was committed was compared.
vm_is b '.epochs_committed == .oracle.checked' || fail "not every epoch: $(vm_status b)"
on a 'tail -n 1 /run/pollux/vm/*/hvc0.log'

# What a disk's read brings is written by the device alone, and nearly all of what this guest has
# written there is that: no other mark makes up for the one that is missing. Up to the protection
# each page has one first mark, of which there are some 2,800; so the 5,000th is after it.
say "one write of a device forgets its mark"
on a pollux vm destroy dirty >"$WORK/destroy.log" 2>&1 ||
	fail "pollux vm destroy: $(cat "$WORK/destroy.log")"
until_true "$LIMIT" runs_not b pollux-vmm || fail "the standby did not go"
on a 'dd if=/dev/urandom of=/var/lib/pollux/dirty.img bs=1M count=8 2>/dev/null'
on b rm -f /var/lib/pollux/dirty.img
configure "dirty_pages=0 dirty_region_mib=4 dirty_period_us=1000000 dirty_read=1048576"
daemon_again a POLLUX_FAULT=memory.skip_mark:5000:once
start_loaded
until_true "$PROTECT_LIMIT" oracle_failed ||
	fail "the oracle noticed nothing: $(vm_status b | jq -c .oracle), $(vm_get a .word)"
say "compared and different: $(vm_status b | jq -c .oracle)"
has_event b oracle-failed || fail "no event tells it"
