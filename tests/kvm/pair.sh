#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 180
#
# Two hosts on one machine, with the real polluxd, pollux-vmm and pollux-ha over loopback
# and TLS, and a guest that counts. The memory of both sides agrees at every epoch; when
# everything of host a is killed, host b goes on counting from a committed epoch.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/pair.sh
EPOCHS=${EPOCHS:-30}

enough_epochs() { [ "$(status a .epochs_committed)" -ge "$EPOCHS" ]; }
oracle_has_checked() { [ "$(status b .oracle.checked)" -ge "$EPOCHS" ]; }
has_taken_over() { [ "$(status b .role)" = active ]; }
counts_on_b() { [ "$(serial b | wc -l)" -ge 3 ]; }

make_pair 'interval = 100ms' 'timeout = 1s' 'oracle = on' 'reprotect = manual'
start_host a
start_host b
on a vm create "$T/tiny.cfg" >/dev/null || fail "vm create"
on a protect tiny b >/dev/null || fail "protect"
on a wait tiny --for=protected --timeout=60s >/dev/null || fail "not protected: $(status a .word)"
until_true $((60 + EPOCHS / 2)) enough_epochs || fail "only $(status a .epochs_committed) epochs in time"
until_true $((60 + EPOCHS / 2)) oracle_has_checked || fail "the oracle checked $(status b .oracle.checked) epochs"
[ "$(status b .oracle.failed)" = 0 ] || fail "memory differs: $(status b .oracle)"
echo "protected: $(status a .epochs_committed) epochs, pause p50 $(status a .pause_ns.p50) ns"

cut_off a polluxd
rm "$T/a/daemon.pid"
last=$(serial a | tail -n 1)
cut_off a ha
cut_off a vmm
until_true 30 has_taken_over || fail "host b did not take over: $(status b .word)"
until_true 60 counts_on_b || fail "the guest does not count on host b: $(serial b)"
first=$(serial b | sed -n 2p)
echo "counted to $last on a, on b from $first; takeover $(status b .takeover)"
[ $((16#$first)) -gt 0 ] || fail "the guest began anew"
serial b | sed 1d | sort -c || fail "the count ran backwards on host b"
# It goes on from an epoch of at most a second or so before the end.
[ $((16#$first)) -gt $((16#$last / 2)) ] || fail "the guest went back from $last to $first"

# A backup that is not there is asked again and again, and that is told once.
asked_again() { [ "$(grep -c 'event=no-backup' "$T/b/log/tiny-ha.log")" -ge 3 ]; }
on b reprotect tiny >/dev/null 2>"$T/again.err"
until_true 30 asked_again || fail "host a is not asked again: $(cat "$T/again.err"; on b events | tail -n 3)"
[ "$(on b events | grep -c no-backup)" = 1 ] || fail "told each time: $(on b events | tail -n 5)"
exit 0
