#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
#
# What a primary does without its backup, on two hosts on one machine (tests/lib/pair.sh).
#
#   handover  A standby that dies gives the right back: the VM runs on, loudly unprotected. The
#             host that held it takes nothing over any more, whatever happens to the primary.
#   stall     The same: the VM stands still, and says so, until it is protected again, or until
#             an operator says that it may run.
#
# A backup that is silent may have taken over: the VM stalls until it is back, with either.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/pair.sh
VALUES=${VALUES:-handover stall}

protected() { [ "$(status a .protected)" = true ]; }
says() { [[ $(status a .word) == "not protected: $1"* ]]; }
# A count is two looks at the serial port: the guest is busy, so a pause of both is enough.
counts() { local n; n=$(serial a | wc -c); until_true "${1:-10}" grown "$n"; }
grown() { [ "$(serial a | wc -c)" -gt "$1" ]; }
stands_still()
{
	local n
	n=$(serial a | wc -c)
	sleep 0.4
	[ "$(serial a | wc -c)" = "$n" ]
}
record() { od -An -tu1 -j32 -N1 "$T/$1/state/tiny/record" | tr -d ' '; } # 1: it may run
has_ended() { ! kill -0 "$1" 2>/dev/null; }
never_runs_on_b()
{
	[ "$(record b)" != 1 ] || fail "$what: b took over what it had handed over"
	[ -z "$(serial b)" ] || fail "$what: the guest runs on b"
}
# The standby ends, and nobody on b can make another.
lose_standby()
{
	cut_off b polluxd
	rm "$T/b/daemon.pid"
	engine=$(pids_of b ha)
	cut_off b vmm
}

begin()
{
	local host
	end_pair
	for host in a b; do
		rm -rf "$T/$host"/{run,state,log,daemon.log}
		sed -i "s/^on_peer_loss.*/on_peer_loss = $1/" "$T/$host/pollux.conf"
		start_host $host
	done
	on a vm create "$T/tiny.cfg" >/dev/null || fail "vm create"
	on a protect tiny b >/dev/null || fail "protect"
	await_protected
}
await_protected() { until_true 30 protected || fail "$what: not protected: $(status a .word)"; }

silent()
{
	what="$value, a silent backup"
	cut_off b all
	rm "$T/b/daemon.pid"
	until_true 10 says stalled || fail "$what: $(status a .word)"
	until_true 10 stands_still || fail "$what: the guest goes on"
	says stalled || fail "$what: $(status a .word)"
	start_host b
	await_protected
	counts || fail "$what: the guest stands still"
	echo "$what: stalled, and protected again"
}

try_handover()
{
	what="handover, a standby that dies"
	lose_standby
	until_true 10 says "handed over" || fail "$what: $(status a .word)"
	counts || fail "$what: the guest stands still"
	counts || fail "$what: the guest stands still"
	! protected || fail "$what: protected by nothing"
	grep -q "event=solo not protected: handed over" "$T/a/log/tiny-ha.log" || fail "$what: not told"
	start_host b
	await_protected
	what="handover, then the primary dies"
	lose_standby
	until_true 10 says "handed over" || fail "$what: $(status a .word)"
	until_true 10 has_ended "$engine" || fail "$what: the engine on b goes on"
	cut_off a all
	rm "$T/a/daemon.pid"
	start_host b
	for i in 1 2 3 4 5 6; do
		never_runs_on_b
		sleep 0.5 # in all three times the timeout after which it would have
	done
	expect 7 "last backup here" on b vm create "$T/tiny.cfg"
	echo "$what: not taken over"
}

try_stall()
{
	what="stall, a standby that dies"
	lose_standby
	until_true 10 says "stalled until it has a backup" || fail "$what: $(status a .word)"
	until_true 10 stands_still || fail "$what: the guest goes on"
	says "stalled until it has a backup" || fail "$what: $(status a .word)"
	start_host b
	await_protected
	counts || fail "$what: the guest stands still"
	echo "$what: stalled, and protected again"
	what="stall, an operator"
	lose_standby
	until_true 10 says "stalled until" || fail "$what: $(status a .word)"
	on a unprotect tiny >/dev/null || fail "$what: unprotect"
	counts || fail "$what: the guest stands still"
	! protected || fail "$what: protected by nothing"
	echo "$what: $(status a .word)"
}

make_pair 'interval = 50ms' 'timeout = 1s' 'on_peer_loss = '
for value in $VALUES; do
	what=$value
	begin $value
	[ $value = handover ] || silent # tests/lab/backup-return.sh has the other
	try_$value
done
end_pair
exit 0
