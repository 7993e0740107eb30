# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the lab's tests share beyond tools/lab/scenario.sh: the beginning and the end,
# statuses to wait for, captures to read. Sourced, with the test's name as argument;
# not executable, so that tests/run does not take it for a test.

. tools/lab/scenario.sh

TEST=${1:?name}
WORK=$O/tests/lab/$TEST
VM_MAC=52:54:00:77:01:00
# Emulated and shared: what takes a second may take many.
LIMIT=${LIMIT:-60}

say() { echo "# $*"; }

# What happened last, for who has the test's words alone.
tell_events()
{
	local node
	for node in a b; do
		timeout 20 "$SCENARIO_DIR/pollux-lab" sh $node 'pollux events | tail -n 6' \
			</dev/null 2>/dev/null | sed "s/^/# $node: /"
	done
}

finish()
{
	local status=$?
	trap - EXIT INT TERM
	client_end || true
	[ $status -eq 0 ] || { collect_logs; tell_events; } || true
	[ -n "${KEEP-}" ] || lab down || true
	[ $status -eq 0 ] || echo "logs: $WORK and $O/lab/run/$LAB_NAME"
	exit $status
}

# lab_begin: skips where there can be no lab, else boots it.
lab_begin()
{
	[ "$(id -u)" -eq 0 ] || { echo "needs root"; exit 77; }
	command -v qemu-system-x86_64 >/dev/null || { echo "needs qemu-system-x86_64"; exit 77; }
	rm -rf "$WORK"
	mkdir -p "$WORK"
	trap finish EXIT
	trap 'exit 130' INT TERM
	lab down
	lab up
	# Half the demo's memory: half the first copy.
	for node in a b; do
		on $node "sed 's/^memory = .*/memory = 128/' $VM_FILE >/run/vm.cfg" ||
			fail "no VM file on $node"
	done
	VM_FILE=/run/vm.cfg
}

# --- states -------------------------------------------------------------------------------

# vm_is NODE FILTER: whether the VM's status there is so.
# (Not by the status of jq -e: it is 0 when there was nothing to read.)
vm_is() { [ "$(vm_status "$1" | jq "$2" 2>/dev/null)" = true ]; }

# vm_becomes NODE FILTER [SECONDS]
vm_becomes()
{
	until_true "${3:-$LIMIT}" vm_is "$1" "$2" ||
		fail "on $1 never $2; it is: $(vm_get "$1" .word) ($(vm_get "$1" .state))"
}

# vm_has_left NODE: nothing runs there but, perhaps, the standby that the host has become.
vm_has_left()
{
	vm_status "$1" >"$WORK/left.json"
	! runs "$1" $VM_PROGRAM ||
		[ "$(jq '.vm_state == "standby"' "$WORK/left.json" 2>/dev/null)" = true ]
}

# has_event NODE PATTERN: whether a line of the events there matches.
has_event() { on "$1" pollux events 2>/dev/null | grep -E -- "$2" >/dev/null; }
event_comes()
{
	until_true "${3:-$LIMIT}" has_event "$1" "$2" ||
		fail "no event on $1 matches $2: $(on "$1" pollux events | tail -n 3)"
}

# refused WORDS COMMAND...: the command fails on a, with these words.
refused()
{
	local words=$1
	shift
	if on a "$@" >"$WORK/refused" 2>&1; then
		fail "not refused: $*"
	fi
	grep -qF "$words" "$WORK/refused" || fail "\"$words\" is not in: $(cat "$WORK/refused")"
	say "  $(tail -n 1 "$WORK/refused")"
}

# runs NODE PROGRAM: whether a process of that name lives there.
runs() { on "$1" "pidof $2" >/dev/null 2>&1; }
runs_not() { ! runs "$@"; }

# daemon_again NODE [VARIABLE=VALUE...]: polluxd ends and starts with that environment,
# which what it starts inherits. What it started before goes on.
daemon_again()
{
	local node=$1
	shift
	on "$node" "touch /run/lab-no-polluxd; kill \$(pidof polluxd); while pidof polluxd; do sleep 0.1; done
		(env $* setsid polluxd >>/var/log/polluxd.log 2>&1 </dev/null &)" >/dev/null
	until_true "$LIMIT" on "$node" pollux vm list >"$WORK/daemon.log" 2>&1 ||
		fail "polluxd on $node does not start again"
}

# --- captures -----------------------------------------------------------------------------

# What a node itself sends, with the VM's address as source; not what the LAN sends it.
vm_capture_start() { lab capture start "lan-$1" -Q in ether src "$VM_MAC"; }

# vm_frames FILE: one line a frame, its time first, in seconds.
vm_frames() { tcpdump -n -e -tt -r "$1" 2>/dev/null || true; }

# --- the client ---------------------------------------------------------------------------

client_goes_on()
{
	# More than the window: answers to what was sent after this.
	until_true "$LIMIT" client_acked_more_than "$(($(client_get sent) + 1))" ||
		fail "the client hears nothing: $1"
}

client_begin()
{
	client_start --window 16 "$@"
	until_true "$LIMIT" client_acked_more_than 20 || fail "no write is acknowledged"
}

# client_accounts: ends the client; one connection, nothing lost, nothing twice.
client_accounts()
{
	local acked
	client_end
	acked=$(jq -r '.acked // 0' "$WORK/client.json")
	client_check "$acked"
	jq -s -c '.[0] as $c | .[1] as $k | { acked: $c.acked, reconnects: $c.reconnects,
		missing: $c.missing, unanswered: $c.unanswered, refused: $c.refused,
		duplicated: $c.duplicated, garbled: $c.garbled, lost: $k.lost, wrong: $k.wrong,
		outage_ms: ($c.outage_ns / 1e6 | round) }' \
		"$WORK/client.json" "$WORK/check.json" >"$WORK/accounts.json" ||
		fail "the client left no accounts: $(cat "$WORK/client.json" "$WORK/check.json")"
	say "client: $(cat "$WORK/accounts.json")"
	jq -e '.acked > 0 and .reconnects == 0 and .missing == 0 and .unanswered == 0 and
		.refused == 0 and .duplicated == 0 and .garbled == 0 and .lost == 0 and
		.wrong == 0' "$WORK/accounts.json" >/dev/null || fail "the client was disturbed"
}
