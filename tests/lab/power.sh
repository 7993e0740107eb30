#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 1800
#
# The power of a host is cut at named steps of the disks' protocol: its engine ends at a fault point
# and the node's kernel at once with it, without a sync. So what was not on stable storage is gone,
# unlike after the kill of a process (tests/kvm/resync.sh, resync-steps.sh). The host comes back:
# what is copied is what may differ, `pollux verify` finds no difference, and the client of the
# counters (tools/lab/counters.sh) sees none of it but silence.
#
# The primary's power is cut at random instants by the drill of the counters. POINT[:NTH]; EVERY=1
# takes all of them.
set -euo pipefail
cd "$(dirname "$0")/../.."
export LAB_NAME=pollux-power
. tests/lab/common.sh power
. "$SCENARIO_DIR/counters.sh"
POINTS=${POINTS:-disk.apply:300
	${EVERY:+apply.following durable.sync:2 regions.create regions.rename apply.open apply.synced assemble.end:3 disk.flush:3
	commit.begin:3 commit.state:3 durable.report:2 marker.write marker.rename}}
lab_begin

# In the place of the engine: with /run/fault there it is armed once, and its end is the host's.
faulty()
{
	cat >"$WORK/pollux-ha" <<'SH'
#!/bin/sh
if [ -s /run/fault ]; then
	POLLUX_FAULT=$(cat /run/fault)
	export POLLUX_FAULT
	mv /run/fault /run/armed
	echo 1 >/proc/sys/kernel/sysrq
	(while [ -e /proc/$$/exe ]; do sleep 0.01; done; echo b >/proc/sysrq-trigger) >/dev/null 2>&1 &
fi
exec /usr/bin/pollux-ha.real "$@"
SH
	on "$1" '[ -e /usr/bin/pollux-ha.real ] || mv /usr/bin/pollux-ha /usr/bin/pollux-ha.real'
	lab push "$1" "$WORK/pollux-ha" /usr/bin/pollux-ha
	on "$1" chmod 755 /usr/bin/pollux-ha
}

node_is_off() { ! on "$1" true 2>/dev/null; }
shown() { vm_get a .resync | jq -c '{kind, bytes, total_bytes, reason}'; }
# What the copy before has brought is forgotten: the next one is small.
has_forgotten() { [ "$(on a 'vmctl /run/pollux/vm/* marked')" -lt $((8 << 20)) ]; }

# cut_at POINT: of b, which comes back.
cut_at()
{
	local point=$1
	case $point in *:*) ;; *) point=$point:1 ;; esac
	faulty b
	on b "echo $point:exit >/run/fault; kill -9 \$(pidof pollux-ha.real pollux-ha)"
	until_true 120 node_is_off b || fail "$what: not reached: $(vm_get a .word)"
	lab kill b 2>/dev/null || true
	lab start b >"$WORK/start.log" 2>&1 || fail "$what: b does not boot: $(tail -n 3 "$WORK/start.log")"
}

say "a VM that counts, protected"
lab push a "$O/tests/kvm/vmctl" /usr/bin/vmctl
on a chmod 755 /usr/bin/vmctl
counters_start a
vm_protect a b
for point in $POINTS; do
	what="power cut at $point"
	until_true 60 has_forgotten || fail "$what: the copy before is not forgotten"
	cut_at "$point"
	until_true "$PROTECT_LIMIT" vm_is_protected a || fail "$what: not protected: $(vm_get a .word)"
	vm_is a '.resync.kind == "partial" and .resync.bytes < .resync.total_bytes / 2' ||
		fail "$what: $(shown)"
	on a pollux verify $VM --disks >"$WORK/verified" 2>&1 || fail "$what: $(cat "$WORK/verified")"
	grep -q 'no difference' "$WORK/verified" || fail "$what: $(cat "$WORK/verified")"
	counters_ask
	say "$what: $(shown), $(tail -n 1 "$WORK/verified")"
done
what="a takeover after all that"
power_cut a
counters_end
say "$what: all four agree at $(jq '.reply' "$WORK/values.json")"
