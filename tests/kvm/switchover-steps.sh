#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
#
# The power cut of a host at each step at which a switchover changes hands: the old host writes
# "stopped" (its fourth record), the new one "active" (its first). Two hosts on one machine
# (tests/lib/pair.sh), and the guest that counts.
#
#   a  The last epoch was acknowledged: b runs exactly that, told so or by silence. Nothing of the
#      count is lost or done again, and a, once it is back, does not run the VM (P3).
#   b  Nobody runs the VM from then on: its memory was on b. Neither host says anything else.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/pair.sh
POINTS=${POINTS:-a:record.write:4 a:record.rename:4 b:record.rename:1
	${EVERY:+a:record.create:4 a:record.fsync:4 a:record.dirsync:4 b:record.write:1 b:record.dirsync:1
	b:takeover.load:1}}
STEP=64 # tests/kvm/tiny.S prints each 64th count

protected() { [ "$(status a .protected)" = true ]; }
is_gone() { ! kill -0 "$1" 2>/dev/null; }
has_moved() { [ "$(status b .role)" = active ] && [ "$(serial b | wc -l)" -ge 3 ]; }
record() { od -An -tu1 -j32 -N1 "$T/$1/state/tiny/record" | tr -d ' '; } # 1: it may run
never_two() { [ "$(record a)" != 1 ] || [ "$(record b)" != 1 ] || fail "$what: both may run it"; }

# What a printed last, and b first: one step apart. The move may fall between the digits of one.
check_count()
{
	local last first
	last=$(tr -d '\r' <&7 | tail -n 1) first=$(serial b | head -n 1)
	case ${#last}:${#first} in
	8:8) [ $((16#$first - 16#$last)) -eq $STEP ] ;;
	8:0) first=$(serial b | sed -n 2p); [ $((16#$first - 16#$last)) -eq $STEP ] ;;
	*) last=$last$first; [ ${#last} -eq 8 ] ;;
	esac || fail "$what: the last count on a is \"$last\", the first on b \"$first\""
}

begin()
{
	local host
	end_pair
	for host in a b; do rm -rf "$T/$host"/{run,state,log,daemon.log,armed}; done
	echo "$2:exit" >"$T/$1/fault"
	start_host a
	start_host b
	on a vm create "$T/tiny.cfg" >/dev/null || fail "$what: vm create"
	on a protect tiny b >/dev/null || fail "$what: protect"
	until_true 20 protected || fail "$what: not protected: $(status a .word)"
	! is_gone "$(cat "$T/$1/armed")" || fail "$what: reached before the switchover"
	exec 7<"$(echo "$T"/a/run/vm/*/serial.log)"
}

make_pair 'interval = 50ms' 'timeout = 700ms' 'reprotect = manual'
faulty a
faulty b
for point in $POINTS; do
	what="switchover, $point"
	host=${point%%:*}
	begin $host "${point#*:}"
	on a switchover tiny >/dev/null 2>&1 &
	until_true 20 is_gone "$(cat "$T/$host/armed")" || fail "$what: not reached"
	cut_off $host all
	wait $!
	never_two
	rm -rf "$T/$host"/{run,daemon.pid}
	if [ $host = a ]; then
		until_true 20 has_moved || fail "$what: not running on b: $(status b .word)"
		check_count
		start_host a
		expect 7 "last" on a vm create "$T/tiny.cfg"
	else
		start_host b
		[ "$(record a)" != 1 ] || fail "$what: a goes on"
		# Whose record says that it may run there, there it is created anew.
		expect $([ "$(record b)" = 1 ] && echo 0 || echo 7) "" on b vm create "$T/tiny.cfg"
	fi
	never_two
	exec 7<&-
	echo "$what: a \"$(status a .word)\", b \"$(status b .word)\""
done
end_pair
exit 0
