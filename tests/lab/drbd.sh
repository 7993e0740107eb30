#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 900
#
# A VM with its disks on the kernel's own DRBD. What DRBD is not ready for is refused by name.
# Protected and under load the VM outlives its host's power cut, and the old host becomes the
# backup once DRBD has copied to it. A switchover leads back. When DRBD's connection alone goes, or
# the backup's disk, protection ends aloud; when the primary's does, the VM goes on with the other
# host's, which is told. A split brain is told, and nobody's data is discarded.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=/usr/sbin:$PATH command -v drbdadm >/dev/null || { echo "no drbdadm"; exit 77; }
export LAB_NAME=${LAB_NAME:-pollux-drbd} DISK=drbd
. tests/lab/common.sh drbd
. tools/lab/counters.sh

# refuses TEXT: pollux protect does, and says so.
refuses()
{
	! on a pollux protect $VM b >"$WORK/refused.log" 2>&1 || fail "protected, although: $1"
	grep -q -- "$1" "$WORK/refused.log" || fail "refused, not by \"$1\": $(cat "$WORK/refused.log")"
	say "refused: $(tail -n 1 "$WORK/refused.log")"
}
whole() { drbd_is "$1" cstate Connected && drbd_is "$1" dstate UpToDate/UpToDate; }
becomes_whole() { until_true 60 whole "$1" || fail "DRBD on $1: $(drbd_say "$1")"; }
# DRBD noticed: of each resource at one end at least. The other may go on to wait.
split()
{
	local resource
	for resource in r1 r2; do
		{ on a drbdadm cstate $resource; on b drbdadm cstate $resource; } | grep -q StandAlone || return 1
	done
}

protected_again()
{
	until_true "$PROTECT_LIMIT" vm_is_protected "$1" ||
		fail "not protected after $PROTECT_LIMIT s: $(vm_get "$1" .word)"
	say "protected again, by $(peer_of "$1"): $(drbd_say "$1")"
}

refusals()
{
	on b drbdadm disconnect r1
	refuses 'DRBD r1: \(WFConnection\|StandAlone\)'
	on b drbdadm connect r1
	becomes_whole a
	on b "drbdadm disconnect r2 && drbdadm detach r2 && drbdadm connect r2"
	until_true 30 drbd_is a cstate Connected || fail "DRBD: $(drbd_say a)"
	refuses 'DRBD r2: disks UpToDate/Diskless'
	on b drbdadm attach r2
	becomes_whole a
}

lab_begin
VM=counters
counters_start a
say "the VM runs, DRBD is $(drbd_say a)"
refusals
say "protected, under load"
vm_protect a b
counters_ask
say "its host loses its power"
power_cut a
say "all agree: $(cat "$WORK/values.json"); takeover in $(jq -r \
	'.takeover.takeover_ns / 1e6 | round' "$WORK/backup.json") ms"
protected_again b
counters_ask

say "switchover"
on b pollux switchover $VM --timeout=20s >"$WORK/switchover.log" 2>&1 ||
	fail "switchover: $(cat "$WORK/switchover.log")"
vm_becomes a '.vm_state == "running" and .switchover.pause_max_ns > 0'
say "stood still for at most $(vm_get a '(.switchover.pause_max_ns / 1e6 | round)') ms"
counters_ask
! on a "dmesg" | grep -q 'Split-Brain' || fail "a planned move split DRBD"
protected_again a

say "DRBD's connection alone goes"
on b drbdadm disconnect r1
vm_becomes a '.protected == false'
event_comes a 'drbd-apart'
counters_ask
on b drbdadm connect r1
protected_again a

say "the backup's disk goes"
on b drbdadm detach r2
vm_becomes a '.protected == false'
event_comes a "drbd-apart.*minor 2: Connected, the other host's disk is (Failed|Diskless)"
counters_ask
on b drbdadm attach r2
protected_again a

say "the primary's disk goes"
on a drbdadm detach r2
event_comes a "drbd-bare.*minor 2: this host's disk is (Failed|Diskless)"
counters_ask
vm_is_protected a || fail "no longer protected: $(vm_get a .word)"
on a drbdadm attach r2
becomes_whole a
counters_ask
vm_is_protected a || protected_again a

say "a split brain"
counters_ask
lab cut repl
until_true "$TAKEOVER_LIMIT" vm_was_taken_over b || fail "b did not take over"
until_true 60 counted_more_than "$(client_get sent)" || fail "the client hears nothing from b"
counters_ask
lab heal repl
until_true 60 split || fail "no split brain: $(drbd_say a), $(drbd_say b)"
event_comes b 'reprotect.failed.*DRBD r[12]: (StandAlone|WFConnection).*split brain' 120
say "told: $(on b pollux events | grep 'split brain' | tail -n 1)"
! vm_is_protected b || fail "protected with a split brain"
until_true 60 drbd_is a role Secondary/Unknown || fail "a still has DRBD: $(drbd_say a)"
say "an operator decides"
on a "for i in 1 2; do drbdadm disconnect r\$i 2>/dev/null; drbdadm connect --discard-my-data r\$i; done"
on b "for i in 1 2; do drbdadm disconnect r\$i 2>/dev/null; drbdadm connect r\$i; done"
protected_again b
counters_ask
say "memory, both disks and replies: $(cat "$WORK/values.json")"
say "protection ends: what waited is in DRBD"
on b pollux unprotect $VM >"$WORK/unprotect.log" 2>&1 || fail "unprotect: $(cat "$WORK/unprotect.log")"
counters_ask
counters_end
sent=$(client_get replied)
on b pollux vm destroy $VM
becomes_whole b
lab kill b
DISK= disks_check b "$sent" "$(client_get sent)"
