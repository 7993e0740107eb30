#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 180
#
# Two hosts on one machine, with the real polluxd, pollux-vmm and pollux-ha over loopback
# and TLS, and a guest that counts. The memory of both sides agrees at every epoch; when
# everything of host a is killed, host b goes on counting from a committed epoch.
set -u
[ -c /dev/kvm ] && [ -r /dev/kvm ] || { echo "no /dev/kvm"; exit 77; }
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/tools.sh
O=$(realpath "$O") BIN=$O/bin
export POLLUX_LIBEXEC=$BIN
EPOCHS=${EPOCHS:-30}

cat >"$T/tiny.cfg" <<CFG
name = "tiny"
uuid = "0e4f6d0a-2b53-4b0c-9f0f-6f1f52a1c001"
kernel = "$O/tests/kvm/tiny"
memory = 64
vcpus = 1
CFG

status() { on "$1" status tiny --format json | jq -r ".vms[0]$2"; }
serial() { cat "$T/$1"/run/vm/*/serial.log 2>/dev/null; }

# until_true SECONDS COMMAND...
until_true()
{
	local limit=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $limit ] || return 1
		sleep 0.1
	done
}
enough_epochs() { [ "$(status a .epochs_committed)" -ge "$EPOCHS" ]; }
oracle_has_checked() { [ "$(status b .oracle.checked)" -ge "$EPOCHS" ]; }
has_taken_over() { [ "$(status b .role)" = active ]; }
counts_on_b() { [ "$(serial b | wc -l)" -ge 3 ]; }

for host in a b; do
	make_host $host $([ $host = a ] && echo 1 || echo 2)
	printf '[protection]\ninterval = 100ms\ntimeout = 1s\noracle = on\n' >>"$T/$host/pollux.conf"
	POLLUX_RUN_DIR=$T/$host/run start $host
done
on a vm create "$T/tiny.cfg" >/dev/null || fail "vm create"
on a protect tiny b >/dev/null || fail "protect"
on a wait tiny --for=protected --timeout=60s >/dev/null || fail "not protected: $(status a .word)"
until_true 60 enough_epochs || fail "only $(status a .epochs_committed) epochs in 60 s"
until_true 60 oracle_has_checked || fail "the oracle checked $(status b .oracle.checked) epochs"
[ "$(status b .oracle.failed)" = 0 ] || fail "memory differs: $(status b .oracle)"
echo "protected: $(status a .epochs_committed) epochs, pause p50 $(status a .pause_ns.p50) ns"

for f in "$T"/a/daemon.pid; do kill -9 "$(cat "$f")" && rm "$f"; done
last=$(serial a | tail -n 1)
for f in "$T"/a/run/ha/*.run "$T"/a/run/vm/*/vm.json; do
	kill -9 "$(grep -o '"pid":[0-9]*' "$f" | cut -d: -f2)"
done
until_true 30 has_taken_over || fail "host b did not take over: $(status b .word)"
until_true 60 counts_on_b || fail "the guest does not count on host b: $(serial b)"
first=$(serial b | sed -n 2p)
echo "counted to $last on a, on b from $first; takeover $(status b .takeover)"
[ $((16#$first)) -gt 0 ] || fail "the guest began anew"
serial b | sed 1d | sort -c || fail "the count ran backwards on host b"
# It goes on from an epoch of at most a second or so before the end.
[ $((16#$first)) -gt $((16#$last / 2)) ] || fail "the guest went back from $last to $first"
exit 0
