# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# bash tests/lab/xen-soak.sh: not a part of the check, and so not executable. The guest with
# counters in memory and on two disks, and with patterns in its vector registers, on Xen,
# through EPOCHS epochs (5000) and a takeover. It is asked all the time, and no bit is wrong.
# ORACLE=1: all its memory is compared at each epoch as well, which takes an emulated
# processor a second each: EPOCHS=200.
#
# The emulated processors have AVX, unless LAB_CPU_FEATURES says otherwise.
set -euo pipefail
cd "$(dirname "$0")/../.."
export LAB_NAME=${LAB_NAME:-pollux-xen-soak} LAB_PLATFORM=xen LAB_INTERVAL=${LAB_INTERVAL:-25ms}
export LAB_CPU_FEATURES=${LAB_CPU_FEATURES-+xsave,+xsaveopt,+avx,+avx2}
EPOCHS=${EPOCHS:-5000}
if [ -n "${ORACLE-}" ]; then
	export LAB_PROTECTION='oracle = on' LAB_TIMEOUT=30s
fi
. tests/lab/common.sh xen-soak
. tests/lab/served.sh
. tests/lab/vectors.sh
. tools/lab/counters.sh
ASK_EVERY_S=10

lab_begin
pack_tools
for node in a b; do
	give_tools $node
	on $node modprobe nbd
	lab push $node "$O/bin/xen-extended" /usr/bin/xen-extended
	serve $node one /var/lib/pollux/counters-1.img
	serve $node two /var/lib/pollux/counters-2.img
	on $node "sed 's/xvd=1/xvd=1 vectors=1/' /srv/guest/counters-xen.cfg >/run/counters.cfg"
done
VM_FILE=/run/counters.cfg

# QEMU's emulation hides from Xen that the guest turns AVX on: see docs/testing.md.
vm_create()
{
	on "$1" "xl create -p $VM_FILE && xen-extended \$(xl domid $VM) && xl unpause $VM" \
		>"$WORK/create.log" 2>&1 || fail "xl create: $(tail -n 3 "$WORK/create.log")"
}

# all_agree: counters and registers, asked on the LAN.
all_agree()
{
	client_is_content
	counters_ask
	vectors_are_right
}

oracle_agrees()
{
	[ -n "${ORACLE-}" ] || return 0
	vm_status b | jq -c .oracle >"$WORK/oracle.json"
	[ "$(jq '.failed == 0' "$WORK/oracle.json")" = true ] ||
		fail "memory differs: $(on b pollux events | grep oracle | head -n 3)"
	say "memory compared and different: $(cat "$WORK/oracle.json")"
}

say "a guest with two disks, counting"
counters_start a
all_agree
say "its registers: $(cat "$WORK/vectors"), Xen's view: $(on a "xen-extended \$(xl domid $VM) show")"
vm_protect a b
generation=$(vm_get a .generation)

say "$EPOCHS epochs"
committed=0
until [ "$committed" -ge "$EPOCHS" ]; do
	sleep $ASK_EVERY_S
	all_agree
	vm_is_protected a || fail "protection was lost: $(vm_get a .word)"
	committed=$(vm_get a .epochs_committed)
	say "$committed: $(cat "$WORK/vectors") $(cat "$WORK/values.json")"
done
[ "$(vm_get a .generation)" = "$generation" ] || fail "the epochs were not consecutive"
oracle_agrees

say "its host loses its power"
before=$(vectors_rounds)
power_cut a
all_agree
vectors_went_on "$before"
say "Xen's view on b: $(on b "xen-extended \$(xl domid $VM) show")"
say "memory, both disks and replies: $(cat "$WORK/values.json")"
say "its registers: round $before at the last look, then $(cat "$WORK/vectors")"
counters_end
