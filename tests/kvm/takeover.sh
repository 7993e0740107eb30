#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 180
#
# A takeover that fails, or is cut off, at each of its steps; two hosts on one machine
# (tests/lib/pair.sh), and a guest that writes to two disks (writer.c).
#
#   once  It fails one time: it is tried again, the guest runs, and its disks hold all that it had
#         written up to some request (replay.c).
#   fail  It fails again and again, and says so: the primary, which only hung, gets the right back.
#   exit  The backup's engine dies in the middle. The old primary, which only hung, is refused and
#         stops for good (P3): nobody can tell whether the guest has run. The VM is created anew
#         from the disks there, which tell whether they are whole.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/pair.sh
# EVERY=1 takes those, too, that leave behind what another one does.
POINTS=${POINTS:-apply.finish:1:once takeover.load:1:once takeover.load:1:fail
	marker.remove:1:exit takeover.load:1:exit ${EVERY:+marker.remove:1:once apply.finish:1:exit}}

make_pair 'interval = 50ms' 'timeout = 700ms' 'reprotect = manual'
faulty b
own_disks
sed -i "s#^kernel.*#kernel = \"$O/tests/kvm/writer\"#" "$T/tiny.cfg"
echo "disk = [ '$T/disks/d0,raw,xvda,rw', '$T/disks/d1,raw,xvdb,rw' ]" >>"$T/tiny.cfg"

protected() { [ "$(status a .protected)" = true ]; }
word_is() { [[ $(status "$1" .word) == $2 ]]; }
said() { grep -q "$1" "$T/b/log/tiny-ha.log"; }
has_ended() { ! kill -0 "$1" 2>/dev/null; }
printed() { printf '%d' "0x$(serial "$1" | grep -xE '[0-9a-f]{8}' | tail -n 1)" 2>/dev/null || echo 0; }
printed_past() { [ "$(printed "$1")" -gt "$2" ]; }
record() { od -An -tu1 -j32 -N1 "$T/$1/state/tiny/record" | tr -d ' '; } # 1: it may run

begin()
{
	local host
	end_pair
	for host in a b; do
		rm -rf "$T/$host"/{run,state,log,daemon.log,disks}
		mkdir -p "$T/$host/disks"
		truncate -s 8M "$T/$host/disks"/d{0,1}
	done
	echo "$1" >"$T/b/fault"
	start_host a
	start_host b
	on a vm create "$T/tiny.cfg" >/dev/null || fail "$what: vm create"
	on a protect tiny b >/dev/null || fail "$what: protect"
	until_true 20 protected || fail "$what: not protected: $(status a .word)"
	until_true 20 printed_past a 200 || fail "$what: the guest does not write"
	engine=$(pids_of b ha)
}
freeze() { frozen=$(pids_of a ha); kill -STOP "$frozen"; }

once()
{
	local before count
	before=$(printed a)
	cut_off a all
	rm "$T/a/daemon.pid"
	until_true 20 word_is b '*took over*' || fail "$what: $(status b .word)"
	said event=takeover-failed || fail "$what: it did not fail"
	until_true 20 printed_past b "$before" || fail "$what: the guest does not write on b"
	[ ! -e "$T/b/state/tiny/standby-disks" ] || fail "$what: the marker is left"
	cut_off b all
	count=$("$O/tests/kvm/replay" "$T/b/disks"/d{0,1}) || fail "$what: the disks are of no epoch"
	[ "$count" -ge "$before" ] || fail "$what: request $count, $before was acknowledged"
	echo "$what: tried again; it wrote up to request $count, $before before"
}

fails()
{
	freeze
	until_true 20 word_is b '*the takeover fails and is tried again*' || fail "$what: $(status b .word)"
	[ -z "$(serial b)" ] || fail "$what: the guest runs on b"
	kill -CONT "$frozen"
	until_true 20 protected || fail "$what: not protected again: $(status a .word)"
	before=$(printed a)
	until_true 20 printed_past a "$before" || fail "$what: the guest does not write on a"
	said event=handed-over || fail "$what: the right was not handed over"
	echo "$what: handed over, and protected again"
}

# dies HOW: `vm create` on b then goes on as HOW says.
dies()
{
	freeze
	until_true 20 has_ended "$engine" || fail "$what: the engine lives on"
	[ "$(record b)" = 1 ] || fail "$what: the record does not say that it may run on b"
	until_says 10 takeover.died cat "$T/b/daemon.log"
	kill -CONT "$frozen"
	until_true 20 word_is a '*generation 3 runs elsewhere' || fail "$what: $(status a .word)"
	until_true 20 test -z "$(serial a)" || fail "$what: the VM goes on on a"
	expect "$1" "$2" on b vm create "$T/tiny.cfg"
	[ "$1" = 0 ] || on b vm create "$T/tiny.cfg" --force --reason "nothing better is left" >/dev/null ||
		fail "$what: vm create --force"
	until_true 20 printed_past b 0 || fail "$what: the guest does not write on b"
	echo "$what: a has stopped, b begins from its disks"
}

for point in $POINTS; do
	what="takeover, $point"
	begin "$point"
	case $point in
	*:once) once ;;
	*:fail) fails ;;
	takeover.load:*:exit) dies 0 "runs" ;;
	*) dies 7 "The disks here are a standby's" ;;
	esac
done
end_pair
exit 0
