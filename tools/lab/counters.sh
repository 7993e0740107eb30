# SPDX-License-Identifier: Apache-2.0
#
# The scenario of the counters: one VM with a counter in memory, on two disks and in its
# replies (tests/guest/counters.c), one client with one connection, and hosts that lose
# their power in turn. Sourced after scenario.sh by the drill and by a test; both bring a
# lab that is up.
#
# What is checked at each power cut:
#   P1  the replies that the client sees rise by exactly one, on the one connection
#   P2  memory, both disks and the replies agree when the VM runs on the other host: the
#       guest compares them before each number, the client asks for them afterwards
#   the disks of the host that died, as the power cut left them: the file systems are
#       clean once their journal is replayed, both hold every number that was answered,
#       and none that was not asked for
#
# A node's data disk is a file here, and QEMU runs with cache=unsafe: to kill QEMU loses
# what the node itself had not yet written, the page cache of its kernel, and nothing that
# it had: that is in the page cache of this machine, which stays up. So a flush that the
# node saw complete survives the power cut, and only such a write does.

VM=counters
VM_FILE=/srv/guest/counters.cfg
VM_ADDRESS=192.168.77.101
COUNTERS_PORT=7100
COUNTERS_WINDOW=${COUNTERS_WINDOW:-4}
. "$SCENARIO_DIR/drbd.sh"

now_ms() { echo $((${EPOCHREALTIME/./} / 1000)); }

peer_of() { case $1 in a) echo b ;; b) echo a ;; esac; }

guest_is_ready()
{
	on "$1" "cat /run/pollux/vm/*/serial.log /var/log/xen/console/guest-$VM.log 2>/dev/null |
		grep -q 'counters: ready'"
}

# counters_start NODE: the VM and its client, counting. DISK=drbd: its disks are on DRBD.
counters_start()
{
	if [ "${DISK-}" = drbd ]; then
		drbd_begin
		drbd_vm_file "$1"
	fi
	vm_create "$1"
	until_true "$BOOT_LIMIT" guest_is_ready "$1" || fail "the guest with counters is not ready"
	rm -f "$WORK/client.status" "$WORK/client.json"
	# Not through lab(): signals must reach the client itself.
	"$SCENARIO_DIR/pollux-lab" client "$CLIENT_BINARY" counters --host $VM_ADDRESS \
		--port $COUNTERS_PORT --window "$COUNTERS_WINDOW" --drain 60 \
		--status "$WORK/client.status" \
		>"$WORK/client.json" 2>"$WORK/client.log" </dev/null &
	CLIENT_PID=$!
	until_true 60 counted_more_than 0 || fail "the guest does not count"
}

# The client ends at the first thing that is not as promised.
client_is_content()
{
	kill -0 "$CLIENT_PID" 2>/dev/null || fail "the client ended: $(tail -n 1 "$WORK/client.log")"
}

counted_more_than()
{
	client_is_content
	[ "$(client_get replied)" -gt "$1" ]
}

told_more_than()
{
	client_is_content
	[ "$(client_get told)" -gt "$1" ]
}

# counters_ask: the values of all four, which the client compares; left in values.json.
counters_ask()
{
	local told
	told=$(client_get told)
	kill -USR1 "$CLIENT_PID"
	until_true 60 told_more_than "$told" || fail "the guest does not tell its values"
	jq -c .values "$WORK/client.status" >"$WORK/values.json"
}

# counters_end: what is on the way is waited for.
counters_end()
{
	[ -n "${CLIENT_PID-}" ] || return 0
	kill -TERM "$CLIENT_PID" 2>/dev/null || true
	wait "$CLIENT_PID" || { CLIENT_PID=; fail "the client: $(tail -n 1 "$WORK/client.log")"; }
	CLIENT_PID=
}

# disks_check NODE ANSWERED SENT: the VM's disks on a node that is off. What the node does
# at its next boot is done here: the journal of its own file system is replayed.
disks_check()
{
	local node=$1 answered=$2 sent=$3 data=$O/lab/run/$LAB_NAME/$1.disk disk at status last
	at=$WORK/disks
	rm -rf "$at"
	mkdir -p "$at"
	e2fsck -p "$data" >"$at/node.log" 2>&1 || [ $? -eq 1 ] ||
		fail "the data disk of $node is damaged: $(cat "$at/node.log")"
	for disk in 1 2; do
		debugfs -R "dump /counters-$disk.img $at/$disk.img" "$data" >>"$at/node.log" 2>&1
		e2fsck -E journal_only -y "$at/$disk.img" >"$at/$disk.log" 2>&1 || true
		status=0
		e2fsck -f -n "$at/$disk.img" >>"$at/$disk.log" 2>&1 || status=$?
		[ $status -eq 0 ] ||
			fail "disk $disk on $node: e2fsck exit status $status: $(cat "$at/$disk.log")"
		debugfs -R "dump /ring $at/$disk.ring" "$at/$disk.img" >>"$at/$disk.log" 2>&1
		"$CLIENT_BINARY" ring "$at/$disk.ring" --count $disk >"$at/$disk.json" 2>>"$at/$disk.log" ||
			fail "disk $disk on $node: $(cat "$at/$disk.json" "$at/$disk.log")"
		last=$(jq .last "$at/$disk.json")
		# What was answered may wait for DRBD here still; the other host has it.
		[ "${DISK-}" != drbd ] || answered=0
		[ "$last" -ge "$answered" ] && [ "$last" -le "$sent" ] ||
			fail "disk $disk on $node ends with $last; answered $answered, asked for $sent"
	done
	[ "$(jq .last "$at/1.json")" -ge "$last" ] ||
		fail "disk 2 on $node is ahead of disk 1: $(cat "$at"/?.json)"
	rm -rf "$at"
}

# power_cut PRIMARY: it dies, the other runs the VM, the client goes on, all agrees, the old
# primary's disks are what a power cut may leave, and it boots again: from then on the two
# hosts find together by themselves. Leaves backup.json, values.json, and BOOT_MS.
power_cut()
{
	client_is_content
	lab kill "$1"
	after_power_cut "$1" "$(client_get replied)"
}

# after_power_cut PRIMARY ANSWERED: the same of one that is off already.
after_power_cut()
{
	local backup answered=$2 sent booting
	backup=$(peer_of "$1")
	until_true "$TAKEOVER_LIMIT" vm_was_taken_over "$backup" || fail "$backup did not take over"
	vm_status "$backup" >"$WORK/backup.json"
	sent=$(client_get sent)
	disks_check "$1" "$answered" "$sent"
	BOOT_MS=$(now_ms)
	lab start "$1" >"$WORK/start.log" 2>&1 &
	booting=$!
	until_true 60 counted_more_than "$sent" ||
		fail "the client hears nothing from the VM on $backup"
	counters_ask
	wait $booting || fail "$1 does not boot again: $(tail -n 3 "$WORK/start.log")"
	BOOT_MS=$(($(now_ms) - BOOT_MS))
}
