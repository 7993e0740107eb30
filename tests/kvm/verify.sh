#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
#
# Two hosts on one machine (tests/lib/pair.sh), and a guest that writes to two disks (writer.c):
# `pollux verify` finds no difference; then a page of the standby's memory, and bytes of its disks,
# are changed behind its back: each is found, named by its place, and repaired. The backup dies in
# the middle: a clear word, and all is as it was. A takeover after all that works.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/pair.sh
DISK_MIB=32

make_pair 'interval = 20ms' 'timeout = 2s' 'reprotect = manual' "resync_cap = ${CAP:-256MiB}"
own_disks
sed -i "s#^kernel.*#kernel = \"$O/tests/kvm/writer\"#" "$T/tiny.cfg"
echo "disk = [ '$T/disks/d0,raw,xvda,rw', '$T/disks/d1,raw,xvdb,rw' ]" >>"$T/tiny.cfg"
for host in a b; do truncate -s ${DISK_MIB}M "$T/$host/disks"/d{0,1}; done
dd if=/dev/urandom of="$T/a/disks/d0" bs=1M count=16 conv=notrunc status=none
# The last chunk of a disk may be shorter than the others.
truncate -s $(((DISK_MIB << 20) - 4096)) "$T"/{a,b}/disks/d1

protected() { [ "$(status a .protected)" = true ]; }
is_running() { [ "$(status a .verify.state)" = running ]; }
has_taken_over() { [ "$(status b .role)" = active ]; }
vmm() { pids_of "$1" vmm; }
verify() { on a verify tiny "$@" >"$T/out" 2>&1; }
says() { grep -q -- "$1" "$T/out" || fail "$what: \"$1\" is missing in: $(cat "$T/out")"; }
events() { on a events | grep -c " $1 "; }

# The standby's memory, and a page that the guest has no use for.
PAGE=8192
memory()
{
	local fd
	for fd in /proc/"$(vmm "$1")"/fd/*; do
		case $(readlink "$fd") in */memfd:pollux-guest*) echo "$fd" && return ;; esac
	done
	fail "no guest memory on $1"
}
spoil() { printf '\xa5' | dd of="$1" bs=1 seek="$2" conv=notrunc status=none || fail "spoil $1"; }

start_host a
start_host b
what="before protection"
on a vm create "$T/tiny.cfg" >/dev/null || fail "vm create"
expect 1 "not protected" on a verify tiny
on a protect tiny b >/dev/null || fail "protect"
on a wait tiny --for=protected --timeout=60s >/dev/null || fail "not protected: $(status a .word)"
expect 3 "runs on a" on b verify tiny

what="clean"
before=$(status a .pause_ns.p50)
for i in 1 2; do
	verify || fail "$what: exit $?: $(cat "$T/out")"
	says "no difference"
	says "memory: 64.0 MiB compared; 0 pages differed"
	says "disks: 64.0 MiB compared; 0 chunks of 64 KiB differed"
done
echo "$what: took $(status a .verify.took_ns) ns; pause p50 $before ns before, $(status a .pause_ns.p50) ns since"
[ "$(events verified)" = 2 ] || fail "$what: $(on a events)"

what="memory"
spoil "$(memory b)" $((PAGE * 4096 + 77))
verify --disks || fail "$what: the disks were to be compared alone: $(cat "$T/out")"
verify --memory
[ $? = 8 ] || fail "$what: exit $?: $(cat "$T/out")"
says "1 pages differed, 0 repaired"
says "memory, bytes 0x2000000 to 0x2000fff: different"
[ "$(status a .verify.left)" = 1 ] || fail "$what: $(status a .verify)"
verify --repair || fail "$what: exit $?: $(cat "$T/out")"
says "memory, bytes 0x2000000 to 0x2000fff: repaired"
verify || fail "$what, repaired: $(cat "$T/out")"
says "no difference"

what="disks"
# Where the guest, which wanders over its disks, does not come by soon.
at=$(((((16#$(serial a | tail -n 1) >> 7) + 200) % 400) << 16))
spoil "$T/b/disks/d0" $at
spoil "$T/b/disks/d0" $((at + 70000))
spoil "$T/b/disks/d1" $(((DISK_MIB << 20) - 4097))
verify
[ $? = 8 ] || fail "$what: exit $?: $(cat "$T/out")"
says "3 chunks of 64 KiB differed, 0 repaired"
says "$(printf "disk 0, bytes 0x%x to 0x%x: different" $at $((at + 0x1ffff)))"
says "disk 1, bytes 0x1ff0000 to 0x1ffefff: different"
verify --repair --format json || fail "$what: exit $?: $(cat "$T/out")"
[ "$(jq -c '[.left, .disks.repaired, (.places | map(.repaired))]' "$T/out")" = '[0,3,[true,true]]' ] ||
	fail "$what: $(cat "$T/out")"
verify || fail "$what, repaired: $(cat "$T/out")"
says "no difference"

what="a backup that dies"
old=$(pids_of b ha)
spoil "$T/b/disks/d0" $((5 << 20))
verify --repair &
pid=$!
until_true 10 is_running || fail "$what: $(status a .verify)"
cut_off b ha
wait $pid
[ $? = 1 ] || fail "$what: exit $?: $(cat "$T/out")"
says "broken off: the connection to the backup has ended"
until_true 60 protected || fail "$what: $(status a .word)"
[ "$(pids_of b ha)" != "$old" ] || fail "$what: it lives"

what="takeover"
cut_off a all
rm "$T/a/daemon.pid"
until_true 30 has_taken_over || fail "$what: $(status b .word)"
exit 0
