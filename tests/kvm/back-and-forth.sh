#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 600
#
# A VM goes back and forth between two hosts (tests/lib/pair.sh), by switchovers and, every third
# time, a power cut, and the host that it left becomes its backup again by itself. After a
# switchover the guest's next count on its serial port is one step beyond its last one:
# nothing of what it did is lost or done again. Neither host collects anything: folders,
# sockets, processes, descriptors.
#
# N=moves; MOVES=switchover|cut: no others.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/pair.sh
N=${N:-9} MOVES=${MOVES:-}
STEP=64 # tests/kvm/tiny.S prints each 64th count

peer_of() { case $1 in a) echo b ;; b) echo a ;; esac; }
is_protected() { [ "$(status "$1" .protected)" = true ]; }
has_moved_to() { [ "$(status "$1" '| select(.vm_state == "running") | .takeover.takeover_ns')" -gt 0 ] 2>/dev/null; }
last_count() { serial "$1" | grep -xE '[0-9a-f]{8}' | tail -n 1; }
counts_beyond() { local n; n=$(last_count "$1"); [ -n "$n" ] && [ $((16#$n)) -gt "$2" ]; }

# What is there of a VM on a host, whichever it is.
check_leaks()
{
	local host runs=0 left
	for host in a b; do
		[ "$(ls "$T/$host/run/vm" | grep -c '^[0-9]')" = 1 ] ||
			fail "folders on $host: $(ls "$T/$host/run/vm")"
		left=$(ls "$T/$host/run/ha" | sort | tr '\n' ' ')
		[ "$left" = "tiny.json tiny.run tiny.sock tiny.sock.blackbox " ] ||
			fail "left in run/ha of $host: $left"
		[ "$(ls "$T/$host/state/tiny")" = record ] ||
			fail "left in the state of $host: $(ls "$T/$host/state/tiny")"
		lives=$(pgrep -c -f "pollux-(ha|vmm) .*$T/$host/" || true)
		[ "$lives" = 2 ] || fail "$lives processes of tiny on $host"
		left=$(ls "/proc/$(pids_of $host polluxd)/fd" | wc -l)
		[ "${fds[$host]:-}" ] || fds[$host]=$left
		[ "$left" -le $((${fds[$host]} + 4)) ] ||
			fail "polluxd of $host has $left descriptors, had ${fds[$host]}"
	done
}
declare -A fds

# power_cut HOST: nothing of it lives on, and it comes back a moment later.
power_cut()
{
	cut_off "$1" polluxd
	cut_off "$1" ha
	cut_off "$1" vmm
	rm -f "$T/$1/daemon.pid"
}

move_by_cut()
{
	count=$((16#$(last_count $here)))
	power_cut $here
	until_true 30 has_moved_to $there || fail "move $i: $there has not taken over: $(status $there .word)"
	until_true 60 counts_beyond $there $((count / 2)) || fail "move $i: the guest began anew on $there"
	start_host $here
	echo "move $i: power cut of $here at $count, on $there: $(status $there .word)"
}

# The old host's serial log goes with its VM: it is read as long as it is open here.
move_by_switchover()
{
	local log out last first
	log=$(echo "$T/$here"/run/vm/*/serial.log)
	exec 7<"$log"
	out=$(on $here switchover tiny 2>&1) || fail "move $i: switchover: $out"
	until_true 30 has_moved_to $there || fail "move $i: not running on $there: $(status $there .word)"
	until_true 60 counts_beyond $there 0 || fail "move $i: the guest does not count on $there"
	last=$(tr -d '\r' <&7 | tail -n 1) first=$(serial $there | head -n 1)
	exec 7<&-
	# The move may fall between the digits of one count, or behind them.
	case ${#last}:${#first} in
	8:8) [ $((16#$first - 16#$last)) -eq $STEP ] ;;
	8:0) first=$(serial $there | sed -n 2p); [ $((16#$first - 16#$last)) -eq $STEP ] ;;
	*) last=$last$first; [ ${#last} -eq 8 ] ;;
	esac || fail "move $i: the last count on $here is \"$last\", the first on $there \"$first\""
	echo "move $i: switchover from $here at $last, on $there from $first; stood still for" \
		"$(status $there '.switchover | "\(.pause_min_ns / 1e4 | round / 100) to \(.pause_max_ns / 1e4 | round / 100) ms"')"
}

make_pair 'interval = 50ms' 'timeout = 1s'
start_host a
start_host b
on a vm create "$T/tiny.cfg" >/dev/null || fail "vm create"
on a protect tiny b >/dev/null || fail "protect"
here=a

# A backup that hangs: the VM stays, and goes on here once there is an answer again.
until_true 60 is_protected a || fail "not protected: $(status a .word)"
kill -STOP "$(pids_of b ha)"
expect 6 "nothing has changed, VM tiny runs on here" on a switchover tiny --timeout=300ms
kill -CONT "$(pids_of b ha)"
until_true 60 is_protected a || fail "not protected after a hang: $(status a .word)"
count=$((16#$(last_count a)))
until_true 30 counts_beyond a $count || fail "the guest stands still after a switchover undone"
echo "switchover to a backup that hangs: undone"

for ((i = 1; i <= N; i++)); do
	there=$(peer_of $here)
	until_true 60 is_protected $here || fail "move $i: not protected on $here: $(status $here .word)"
	count=$((16#$(last_count $here)))
	until_true 30 counts_beyond $here $count || fail "move $i: the guest does not count on $here"
	check_leaks
	move=${MOVES:-$([ $((i % 3)) = 0 ] && echo cut || echo switchover)}
	case $move in
	cut) move_by_cut ;;
	switchover) move_by_switchover ;;
	esac
	here=$there
done
until_true 60 is_protected $here || fail "not protected in the end: $(status $here .word)"
check_leaks
exit 0
