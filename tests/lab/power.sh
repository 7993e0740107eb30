#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 1800
#
# The power of a host is cut at named steps of the disks' protocol: its engine, or the hypervisor
# process of its VM, ends at a fault point and the node's kernel at once with it, without a sync. So
# what was not on stable storage is gone, unlike after the kill of a process (tests/kvm/resync.sh,
# resync-steps.sh). The client of the counters (tools/lab/counters.sh) sees none of it but silence.
#
# The backup's: it comes back, and what is copied is what may differ. The primary's: the other host
# takes over, memory, disks and replies agree, and what the power cut has left on the dead host's
# disks is what it may leave. Each time `pollux verify` finds no difference afterwards.
#
# At random instants that is done by the drill of the counters. POINTS: SIDE:POINT[:NTH]...; EVERY=1
# takes all of them. DISK=drbd: the disks are on DRBD, and `drbdadm verify` compares them.
set -euo pipefail
cd "$(dirname "$0")/../.."
export LAB_NAME=${LAB_NAME:-pollux-power} DISK=${DISK-}
. tests/lab/common.sh power
. "$SCENARIO_DIR/counters.sh"
COMMIT='commit.begin:3 commit.state:3 assemble.end:3'
case $DISK in
drbd) SOME='backup:commit.state:3 primary:blk.settle:1000'
	ALL="$(printf 'backup:%s ' $COMMIT) primary:blk.settle:1000 primary:blk.torn:1000 primary:blk.sync:400" ;;
*) SOME='backup:disk.apply:300'
	ALL="$(printf 'backup:%s ' disk.apply:300 apply.following durable.sync:2 regions.create regions.rename apply.open \
		apply.synced disk.flush:3 $COMMIT durable.report:2 marker.write marker.rename)
		primary:blk.write:1000 primary:blk.torn:1000 primary:blk.flush:400 primary:track.forget:2 primary:track.disk:2" ;;
esac
POINTS=${POINTS:-${EVERY:+$ALL}}
POINTS=${POINTS:-$SOME}
lab_begin

# faulty NODE: the scripts in the place of its programs, at once and after each boot.
# /var/lib/pollux/fault-PROGRAM arms the next of them: its end at a fault point is the host's.
faulty()
{
	cat >"$WORK/stand-in" <<-'END'
		#!/bin/sh
		program=${0##*/}
		fault=/var/lib/pollux/fault-$program
		[ -s $fault ] || exec /usr/bin/$program.real "$@"
		export POLLUX_FAULT="$(cat $fault)"
		rm $fault && sync
		/usr/bin/$program.real "$@" <&0 &
		child=$!
		trap 'kill -TERM $child' TERM INT
		while :; do
			wait $child
			status=$?
			[ $status != 86 ] || echo b >/proc/sysrq-trigger
			kill -0 $child 2>/dev/null || exit $status
		done
	END
	cat >"$WORK/faulty" <<-'END'
		for program in pollux-ha pollux-vmm; do
			mv /usr/bin/$program /usr/bin/$program.real
			cp /var/lib/pollux/stand-in /usr/bin/$program
			chmod 755 /usr/bin/$program
		done
	END
	lab push "$1" "$WORK/stand-in" /var/lib/pollux/stand-in
	lab push "$1" "$WORK/faulty" /var/lib/pollux/faulty
	on "$1" 'cat /var/lib/pollux/faulty >>/var/lib/pollux/at-boot && sync && sh /var/lib/pollux/faulty'
}

node_is_off() { ! on "$1" true 2>/dev/null; }
shown() { vm_get a .resync | jq -c '{kind, bytes, total_bytes, reason}'; }
# What the copy before has brought is forgotten: the next one is small.
has_forgotten() { [ "$(on a 'vmctl /run/pollux/vm/* marked')" -lt $((8 << 20)) ]; }
processes() { on b 'pidof pollux-vmm.real pollux-vmm pollux-ha.real pollux-ha'; }

# arm PROGRAM POINT: of b, whose standby is made anew.
arm()
{
	generation=$(vm_get a .generation)
	before=$(processes)
	on b "echo $2:exit >/var/lib/pollux/fault-$1; sync; kill -9 $before"
}

is_protected_anew() { vm_is a ".protected and .generation > $generation"; }
protected_anew()
{
	until_true "$PROTECT_LIMIT" is_protected_anew || fail "$what: not protected: $(vm_get a .word)"
}

# b is off, after at most SECONDS. Leaves what the client was answered before.
dies()
{
	local deadline=$((SECONDS + $1))
	answered=$(client_get replied)
	until node_is_off b; do
		[ $SECONDS -lt $deadline ] || fail "$what: not reached: $(vm_get b .word)"
		answered=$(client_get replied)
	done
	lab kill b 2>/dev/null || true
}

cut_backup()
{
	[ "$DISK" = drbd ] || until_true 60 has_forgotten || fail "$what: the copy before is not forgotten"
	arm pollux-ha "$1"
	dies 120
	lab start b >"$WORK/start.log" 2>&1 || fail "$what: b does not boot: $(tail -n 3 "$WORK/start.log")"
	protected_anew
	[ "$DISK" = drbd ] || vm_is a '.resync.kind == "partial" and .resync.bytes < .resync.total_bytes / 2' ||
		fail "$what: $(shown)"
}

# The point may be reached before it is seen that the VM is protected from there; that a takes over shows it.
b_is_protected_or_off() { vm_is_protected b || node_is_off b; }

# The VM moves to b, whose hypervisor process ends at the point, and comes back by a takeover.
cut_primary()
{
	arm pollux-vmm "$1"
	protected_anew
	on a pollux switchover $VM --timeout=30s >"$WORK/switchover.log" 2>&1 ||
		fail "$what: switchover: $(cat "$WORK/switchover.log")"
	until_true "$PROTECT_LIMIT" b_is_protected_or_off || fail "$what: not protected: $(vm_get b .word)"
	dies 300
	generation=0
	after_power_cut b "$answered"
	protected_anew
}

verified()
{
	local resource
	if [ "$DISK" != drbd ]; then
		on a pollux verify $VM --disks >"$WORK/verified" 2>&1 || fail "$what: $(cat "$WORK/verified")"
		grep -q 'no difference' "$WORK/verified" || fail "$what: $(cat "$WORK/verified")"
		return
	fi
	for resource in r1 r2; do
		on a drbdadm verify $resource >"$WORK/verified" 2>&1 || fail "$what: $(cat "$WORK/verified")"
	done
	until_true 120 drbd_is a cstate Connected || fail "$what: DRBD: $(drbd_say a)"
	[ "$(on a "grep -c ' oos:0\$' /proc/drbd")" = 2 ] || fail "$what: DRBD: $(on a cat /proc/drbd)"
	echo "drbdadm verify: nothing is out of sync" >"$WORK/verified"
}

say "a VM that counts, protected"
lab push a "$O/tests/kvm/vmctl" /usr/bin/vmctl
on a chmod 755 /usr/bin/vmctl
counters_start a
for node in a b; do faulty $node; done
vm_protect a b
for point in $POINTS; do
	what="${point%%:*}, power cut at ${point#*:}"
	step=${point#*:}
	case $step in *:*) ;; *) step=$step:1 ;; esac
	"cut_${point%%:*}" "$step"
	verified
	counters_ask
	[ "$DISK" = drbd ] && say "$what: $(tail -n 1 "$WORK/verified")" ||
		say "$what: $(shown), $(tail -n 1 "$WORK/verified")"
done
what="a takeover after all that"
power_cut a
counters_end
say "$what: all four agree at $(jq '.reply' "$WORK/values.json")"
