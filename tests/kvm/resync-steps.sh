#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 180
#
# The power cut of either host at each step of a partial copy, small disks: two hosts on one
# machine (tests/lib/pair.sh), and a guest that writes to two of them (writer.c). The next copy is
# partial again, and then the disks are equal, byte by byte.
#
# A primary that is cut off while it copies has lost the VM: it is created anew from its disks, and
# what the region file there says is what is copied.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/pair.sh
DISK_MIB=64
# HOST:POINT; the engine ends there, and all of its host with it. EVERY=1 takes all of them.
POINTS=${POINTS:-a:resync.marked a:copy.next:2 b:regions.create
	${EVERY:+a:resync.settle b:regions.rename b:apply.open b:assemble.end b:apply.synced b:apply.following
	b:disk.apply:300 b:disk.flush:3 b:commit.begin:3 b:commit.state:3 b:durable.sync b:durable.report}}

make_pair 'interval = 50ms' 'timeout = 700ms' 'reprotect = manual'
own_disks
sed -i "s#^kernel.*#kernel = \"$O/tests/kvm/writer\"#" "$T/tiny.cfg"
echo "disk = [ '$T/disks/d0,raw,xvda,rw', '$T/disks/d1,raw,xvdb,rw' ]" >>"$T/tiny.cfg"

protected() { [ "$(engine_status a .protected)" = true ]; }
await_protected() { until_true 30 protected || fail "$what: not protected: $(status a .word)"; }
shown() { engine_status a .resync | jq -c '{kind, bytes, total_bytes, reason}'; }
# The primary has forgotten most of what was marked for the first copy.
has_forgotten() { [ "$(marked_bytes a)" -lt $((DISK_MIB << 20)) ]; }
is_gone() { ! kill -0 "$1" 2>/dev/null; }
begin() { start_host a; start_host b; on a vm create "$T/tiny.cfg" >/dev/null || fail "$what: vm create"; }

lose()
{
	cut_off $1 all
	rm -f "$T/$1/daemon.pid"
	rm -rf "$T/$1/run"
}

# cut_at HOST POINT
cut_at()
{
	rm -f "$T/$1/armed"
	on a unprotect tiny >/dev/null || fail "$what: unprotect"
	case $2 in *:*) echo "$2:exit" ;; *) echo "$2:1:exit" ;; esac >"$T/$1/fault"
	on a protect tiny b >/dev/null 2>&1 & # who asks may wait long
	until_true 20 test -s "$T/$1/armed" || fail "$what: not armed"
	until_true 20 is_gone "$(cat "$T/$1/armed")" || fail "$what: not reached: $(status a .word)"
	lose $1
	wait $!
	start_host $1
}

what="begin"
faulty a
faulty b
truncate -s ${DISK_MIB}M "$T"/{a,b}/disks/d{0,1}
begin
on a protect tiny b >/dev/null || fail "protect"
await_protected
[ "$(engine_status a .resync.kind)" = full ] || fail "the first copy is $(shown)"
until_true 20 has_forgotten || fail "what the backup holds is not forgotten"
for point in $POINTS; do
	what=$point
	host=${point%%:*}
	cut_at $host "${point#*:}"
	if [ $host = a ]; then
		on a vm create "$T/tiny.cfg" >/dev/null || fail "$what: vm create"
		on a protect tiny b >/dev/null || fail "$what: protect"
	fi
	await_protected
	[ "$(engine_status a .resync.kind)" = partial ] || fail "$what: $(shown)"
	[ "$(engine_status a .resync.bytes)" -lt "$(engine_status a .resync.total_bytes)" ] || fail "$what: $(shown)"
	equal_disks a b
	echo "$what: $(shown)"
done
end_pair
exit 0
