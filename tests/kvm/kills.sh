#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 1800
#
# Two hosts on one machine (tests/lib/pair.sh), and a kill -9 at an instant that a seed
# chooses: of one process or all of a host, while copying, protected, failing or switching over,
# or coming back; or an exit at a named fault point of the backup's engine. What must hold, always:
#
#   P3  never do both hosts hold the right to run, by their records, with a VM that lives
#   P5  nobody says protected later than the bound after what protects was lost
#       and the guest counts on, on one host alone, or the loss is one that
#       docs/failure-model.md names
#
# N=trials SEED=number; SCENE, VICTIM and FAULT choose one trial.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/pair.sh
N=${N:-6} SEED=${SEED:-1}
RANDOM=$SEED

SCENES=(copying protected failover switchover return takeover)
VICTIMS=(a:ha a:vmm a:polluxd a:all b:ha b:vmm b:polluxd b:standby b:all)
FAULTS=(record.rename:1:exit record.dirsync:1:exit assemble.end:2:exit commit.begin:3:exit
	commit.state:3:exit commit.begin:3:once takeover.load:1:exit takeover.load:1:once
	record.write:1:once)

begin()
{
	local host
	for host in a b; do
		rm -rf "$T/$host"/{run,state,log,daemon.log}
		start_host $host
	done
	on a vm create "$T/tiny.cfg" >/dev/null || fail "vm create"
	POLLUX_SOCKET=$T/a/run/polluxd.sock timeout 20 "$BIN/pollux" protect tiny b >"$T/protect.out" 2>&1 &
	asked=$!
}

end()
{
	wait $asked
	end_pair
}

# As an init system would.
revive()
{
	local host
	for host in a b; do
		kill -0 "$(cat "$T/$host/daemon.pid")" 2>/dev/null || start_host $host
	done
}

protected() { [ "$(status a .protected)" = true ]; }
# Not protected, or anew since then: a host asks for another standby at once.
lost_since() { ! protected || [ "$(status a .generation)" -gt "$1" ]; }
await_protected()
{
	until_true 20 protected || fail "$what: never protected: $(status a .word) $(cat "$T/protect.out")"
}

# record HOST: the role in the VM's record: 1 active, 2 primary, 3 backup, 4 stopped.
record() { od -An -tu1 -j32 -N1 "$T/$1/state/tiny/record" 2>/dev/null | tr -d ' '; }
lives() { kill -0 $(pids_of "$1" vmm) 2>/dev/null; }
size() { serial "$1" | wc -c; }
word() { status "$1" .word 2>/dev/null; }

never_two()
{
	[ "$(record a)" = 1 ] && [ "$(record b)" = 1 ] && lives a && lives b || return 0
	sleep 1 # what stops is about to
	[ "$(record a)" = 1 ] && [ "$(record b)" = 1 ] && lives a && lives b &&
		fail "$what: both hosts may run it: a \"$(word a)\", b \"$(word b)\""
}

# outcome: prints what has become of the VM, or nothing as long as that is not known.
outcome()
{
	local a b was_a was_b now_a now_b
	a=$(on a status --format json | jq -c '.vms[0] // {}')
	b=$(on b status --format json | jq -c '.vms[0] // {}')
	was_a=$(size a) was_b=$(size b)
	sleep 0.5
	now_a=$(size a) now_b=$(size b)
	if [ "$(jq .protected <<<"$a")" = true ]; then
		[ "$(jq .protected <<<"$b")" = true ] && lives b && [ "$now_a" -gt "$was_a" ] &&
			[ "$now_b" = "$was_b" ] && echo protected
	elif [ "$(jq -r .role <<<"$b")" = active ] && [ "$now_b" -gt "$was_b" ]; then
		[ "$now_a" = "$was_a" ] && echo active
	elif [ "$now_a" = "$was_a" ] && [ "$now_b" = "$was_b" ] && ! lives a && ! lives b; then
		echo lost
	fi
}

# What is cut off while the other host does not hold a whole epoch is lost with it.
may_be_lost()
{
	case $what in
	*polluxd*) return 1 ;;
	copying*a:vmm* | copying*a:all* | return*a:vmm* | return*a:all*) return 0 ;;
	takeover*b:* | failover*b:* | switchover*b:* | "fault takeover"* | "fault record"*) return 0 ;;
	esac
	return 1
}

settle()
{
	local limit=$((SECONDS + 30)) result=
	while [ $SECONDS -lt $limit ]; do
		never_two
		result=$(outcome)
		[ -n "$result" ] && break
	done
	[ -n "$result" ] || fail "$what: not settled: a $(record a) \"$(word a)\" $(size a)," \
		"b $(record b) \"$(word b)\" $(size b)"
	[ "$result" != lost ] || may_be_lost || fail "$what: the VM is lost"
	echo "$what: $result"
}

# scene NAME HOST:WHAT MS
scene()
{
	local host=${2%:*} part=${2#*:} pause generation
	what="$1 $2 after $3 ms"
	pause=$(printf '%d.%03d' $(($3 / 1000)) $(($3 % 1000)))
	begin
	[ "$1" = copying ] || await_protected
	case $1 in
	failover | switchover) POLLUX_SOCKET=$T/a/run/polluxd.sock timeout 20 "$BIN/pollux" "$1" tiny \
		>/dev/null 2>&1 & ;;
	return) cut_off b ha ;;
	takeover) cut_off a all ;;
	esac
	sleep "$pause"
	[ "$2" != b:standby ] || generation=$(status a .generation)
	cut_off "$host" "$part"
	if [ "$2" = b:standby ] && [ "$1" = protected ]; then
		until_true 4 lost_since "$generation" || fail "$what: still protected by a dead standby"
	fi
	sleep 0.7
	revive
	settle
	end
}

fault()
{
	what="fault $1"
	echo "$1" >"$T/b/fault"
	begin
	case $1 in
	takeover.* | record.*) await_protected && cut_off a all && sleep 2 && revive ;;
	*) sleep 2 ;;
	esac
	settle
	end
}

make_pair 'interval = 50ms' 'timeout = 1s' 'reprotect = manual'
faulty b
if [ -n "${FAULT:-}" ]; then
	fault "$FAULT"
	exit 0
fi
for ((i = 0; i < N; i++)); do
	s=${SCENE:-${SCENES[RANDOM % ${#SCENES[@]}]}}
	v=${VICTIM:-${VICTIMS[RANDOM % ${#VICTIMS[@]}]}}
	case $s in
	copying) ms=$((RANDOM % 1200)) ;;
	takeover) ms=$((RANDOM % 1500)) v=b:${v#*:} ;;
	*) ms=$((RANDOM % 600)) ;;
	esac
	scene "$s" "$v" "$ms"
	[ $((i % 3)) -ne 2 ] || fault "${FAULTS[RANDOM % ${#FAULTS[@]}]}"
done
exit 0
