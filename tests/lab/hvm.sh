#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 1200
#
# An HVM guest with PV drivers on hosts that run Xen: a PC whose devices QEMU emulates. A host that
# lacks that QEMU is refused by name. Under the load of one connection, and with its emulated disk busy,
# the guest is protected, with all its memory compared at each epoch: QEMU writes there, too. Its host
# loses its power, and it goes on under the other host's xl and QEMU; there QEMU dies, and it comes
# back. Nothing is lost, and in its vector registers no bit is wrong. Then QEMU is made to mark nothing:
# the oracle notices. QEMU lives on when protection ends.
#
# UNPLUG=never: the guest uses QEMU's network card, too, whose output is held as well.
set -euo pipefail
cd "$(dirname "$0")/../.."
export LAB_NAME=${LAB_NAME:-pollux-hvm} LAB_PLATFORM=xen LAB_HVM=1
# A comparison takes an emulated processor a second, and an answer takes some epochs.
export LAB_PROTECTION='oracle = on' LAB_TIMEOUT=20s
. tests/lab/common.sh hvm
. tests/lab/served.sh
. tests/lab/vectors.sh
# 20 MiB go through emulated ports at its boot.
BOOT_LIMIT=400
UNPLUG=${UNPLUG:-nics}
VM_FILE=/srv/guest/redis-hvm.cfg
lab_begin

# emulators NODE: QEMU processes of domains.
emulators() { on "$1" 'pidof xen-qemu-system-i386 | wc -w'; }
compared() { vm_get "$1" '.oracle.checked'; }
has_compared() { vm_is "$1" ".oracle.checked >= $2"; }
# oracle_agrees NODE EPOCHS: the standby there, after so many more.
oracle_agrees()
{
	until_true 300 has_compared "$1" $(($(compared "$1") + $2)) || fail "no epochs are compared: $(vm_get "$1" .oracle)"
	vm_is "$1" '.oracle.failed == 0' || fail "memory differs: $(on "$1" pollux events | grep oracle | head -n 3)"
	say "memory compared and different: $(vm_status "$1" | jq -c .oracle)"
}
disk_writes() { on "$1" "stat -c %Y /var/lib/pollux/busy.img; md5sum </var/lib/pollux/busy.img"; }

say "an HVM guest that xl made, with a disk that is served"
pack_tools
for node in a b; do
	give_tools $node
	on $node "modprobe nbd && truncate -s 4M /var/lib/pollux/busy.img"
	serve $node busy /var/lib/pollux/busy.img
	on $node "sed -i 's/^memory = .*/memory = 256/; s/panic=1/panic=1 vectors=1 xen_emul_unplug=$UNPLUG busy_disk=\/dev\/sda/' $VM_FILE &&
		echo \"disk = [ 'vdev=hda,format=raw,access=rw,script=block-pollux,target=nbd:unix:/run/nbd/busy/nbd' ]\" >>$VM_FILE &&
		grep -q busy_disk $VM_FILE" || fail "no VM file on $node"
done
vm_start a
on a xl list $VM
[ "$(emulators a)" = 1 ] || fail "a has $(emulators a) device models"
vectors_are_right
written=$(disk_writes a)
is_written() { [ "$(disk_writes $1)" != "$written" ]; }
until_true "$LIMIT" is_written a || fail "the emulated disk is not written"

say "refused"
on b 'mv /usr/libexec/xen-qemu-system-i386 /tmp/'
on a pollux protect $VM b >"$WORK/protect.log" 2>&1 || true
lacks_emulator() { grep -q 'device model, of Debian' "$WORK/protect.log" || [[ $(vm_get a .word) == *"device model, of Debian"* ]]; }
until_true "$LIMIT" lacks_emulator || fail "not refused: $(cat "$WORK/protect.log"), $(vm_get a .word)"
say "  $(cat "$WORK/protect.log") $(vm_get a .word)"
on b 'mv /tmp/xen-qemu-system-i386 /usr/libexec/'

# Of a PVH domain xl itself refuses that.
cat >"$WORK/numa.cfg" <<-'END'
	name = "numa"
	type = "hvm"
	memory = 64
	vnuma = [ [ "pnode=0", "size=64", "vcpus=0", "vdistances=10" ] ]
	vga = "none"
	vnc = 0
END
lab push a "$WORK/numa.cfg" /run/numa.cfg
on a xl create -p /run/numa.cfg >"$WORK/create.log" 2>&1 || fail "xl create: $(tail -n 3 "$WORK/create.log")"
refused "1 virtual NUMA nodes" pollux-xen --adopt numa --run-dir /run/r
on a xl destroy numa

say "protected"
on a pollux protect $VM b >"$WORK/protect.log" 2>&1 || true
until_true "$PROTECT_LIMIT" vm_is_protected a || fail "not protected: $(vm_get a .word)"
client_begin
say "held: $(on a 'ip -br link | grep -o "^vif[^ ]*" | while read -r d; do
	echo $d: $(tc -s filter show dev $d ingress 2>/dev/null | grep -o -m1 "Sent .* pkt"); done' | tr '\n' ' ')"
oracle_agrees b 10
vm_status a >"$WORK/primary.json"
say "pause, ms: $(jq -c '.pause_ns | map_values(. / 1e6 | round)' "$WORK/primary.json"), of that $(jq -c '.steps_ns | map_values(. / 1e6 | round)' "$WORK/primary.json")"
vectors_are_right
before=$(vectors_rounds)
[ "$(emulators b)" = 0 ] || fail "b has a device model before the takeover"

say "its host loses its power"
lab kill a
until_true "$TAKEOVER_LIMIT" vm_was_taken_over b || fail "b did not take over"
client_goes_on "after the takeover"
on b xl list $VM
[ "$(emulators b)" = 1 ] || fail "b has $(emulators b) device models"
on b "xenstore-read /libxl/\$(xl domid $VM)/type" | grep -qx hvm || fail "it is no HVM guest on b"
vectors_are_right
say "its registers: round $before at the last look, then $(cat "$WORK/vectors")"
vectors_went_on "$before"
written=$(disk_writes b)
until_true "$LIMIT" is_written b || fail "the emulated disk is not written on b"
say "taken over in $(vm_get b '(.takeover.takeover_ns / 1e6 | round)') ms"

say "the way back"
lab start a >"$WORK/start.log" 2>&1 || fail "a does not boot: $(tail -n 3 "$WORK/start.log")"
on a modprobe nbd
serve a busy /var/lib/pollux/busy.img
until_true "$PROTECT_LIMIT" vm_is_protected b || fail "not protected: $(vm_get b .word)"
oracle_agrees a 5
client_goes_on "on the way back"

say "its QEMU dies"
on b 'kill -9 $(pidof xen-qemu-system-i386)'
until_true "$TAKEOVER_LIMIT" vm_was_taken_over a || fail "a did not take over: $(vm_get b .word), $(on b pollux events | tail -n 3)"
client_goes_on "after the death of its QEMU"
vectors_are_right
vm_has_left b || fail "it is on b, too: $(on b xl list)"
until_true "$PROTECT_LIMIT" vm_is_protected a || fail "not protected: $(vm_get a .word)"

say "QEMU marks nothing of what it writes"
on a 'd=$(xl domid redis); (echo "{\"execute\":\"qmp_capabilities\"}"; sleep 1
	echo "{\"execute\":\"xen-set-global-dirty-log\",\"arguments\":{\"enable\":false}}"; sleep 1) |
	curl -s -m 5 --unix-socket /var/run/xen/qmp-libxl-$d telnet://qemu' >"$WORK/qmp.log" 2>&1 || true
grep -c '"return"' "$WORK/qmp.log" | grep -qx 2 || fail "QEMU did not take it: $(cat "$WORK/qmp.log")"
oracle_failed() { vm_is b '.oracle.failed > 0' || has_event b oracle-failed; }
until_true 120 oracle_failed || fail "the oracle noticed nothing: $(vm_status b | jq -c .oracle), $(vm_get a .word)"
say "noticed: $(on b pollux events | grep oracle | tail -n 1)"
client_goes_on "when epochs differ"

say "unprotected"
on a pollux unprotect $VM >"$WORK/unprotect.log" 2>&1 || fail "unprotect: $(cat "$WORK/unprotect.log")"
client_goes_on "unprotected"
[ "$(emulators a)" = 1 ] || fail "its QEMU is gone"
written=$(disk_writes a)
until_true "$LIMIT" is_written a || fail "the emulated disk is no longer written"
client_accounts
