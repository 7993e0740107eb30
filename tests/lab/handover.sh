#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 420
#
# A backup that cannot go on, and one that is told to leave or to take over, all under the
# load of one connection: its disk fails, its disk is full, `pollux failover`, `pollux
# unprotect`. The VM goes on each time, and status is loud while nothing protects it.
set -euo pipefail
cd "$(dirname "$0")/../.."
export LAB_NAME=pollux-handover
. tests/lab/common.sh handover
lab_begin

say "a protected VM; after some hundred writes the backup's disk fails"
daemon_again b POLLUX_FAULT=disk.apply:250
vm_start a
vm_protect a b
client_begin
event_comes a 'handed over: disk error' 120
client_goes_on "after the backup's disk failed"
event_comes b 'failed.*(Input/output|EIO)'

say "then it is full"
daemon_again b POLLUX_FAULT=disk.space:20
event_comes a 'handed over: no space' 120
client_goes_on "after the backup's disk was full"
# It tries again and again, and is protected until the disk is written to.
vm_becomes a '.protected == false'
say "a says: $(vm_get a .word)"

say "then it is mended"
daemon_again b
until_true "$PROTECT_LIMIT" vm_is_protected a || fail "not protected again: $(vm_get a .word)"

say "a planned failover"
on a pollux failover $VM >"$WORK/failover.log" 2>&1 || fail "failover: $(cat "$WORK/failover.log")"
until_true "$TAKEOVER_LIMIT" vm_was_taken_over b || fail "b did not take over"
client_goes_on "after the failover"
until_true "$LIMIT" vm_has_left a || fail "the VM still runs on a"
say "b says: $(vm_get b .word)"

say "back the other way, then unprotected"
until_true "$PROTECT_LIMIT" vm_is_protected b || fail "not protected by itself: $(vm_get b .word)"
on b pollux unprotect $VM >"$WORK/unprotect.log" 2>&1 ||
	fail "unprotect: $(cat "$WORK/unprotect.log")"
until_true "$LIMIT" runs_not a pollux-vmm || fail "the standby on a was left behind"
vm_becomes b '.protected == false'
say "b says: $(vm_get b .word)"
client_goes_on "after unprotect"
client_accounts
