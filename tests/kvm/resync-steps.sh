#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 180
#
# The power cut of either host at each step of a partial copy, small disks: two hosts on one
# machine (tests/lib/pair.sh), and a guest that writes to two of them (writer.c). The next copy is
# partial again, and then the disks are equal, byte by byte.
#
# A primary that is cut off while it copies has lost the VM: it is created anew from its disks, and
# what the region file there says is what is copied. EVERY=1: and once more after a failover, the
# other way round.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/pair.sh
DISK_MIB=64
# ROLE:POINT; the engine ends there, and all of its host with it. EVERY=1 takes all of them.
POINTS=${POINTS:-primary:resync.marked primary:copy.next:2 backup:regions.create
	${EVERY:+primary:resync.settle backup:regions.rename backup:apply.open backup:assemble.end
	backup:apply.synced backup:apply.following backup:disk.apply:300 backup:disk.flush:3
	backup:commit.begin:3 backup:commit.state:3 backup:durable.sync backup:durable.report}}
primary=a backup=b

make_pair 'interval = 50ms' 'timeout = 700ms' 'reprotect = manual'
own_disks
sed -i "s#^kernel.*#kernel = \"$O/tests/kvm/writer\"#" "$T/tiny.cfg"
echo "disk = [ '$T/disks/d0,raw,xvda,rw', '$T/disks/d1,raw,xvdb,rw' ]" >>"$T/tiny.cfg"

protected() { [ "$(engine_status $primary .protected)" = true ]; }
await_protected() { until_true 30 protected || fail "$what: not protected: $(status $primary .word)"; }
shown() { engine_status $primary .resync | jq -c '{kind, bytes, total_bytes, reason}'; }
# The primary has forgotten most of what was marked for the first copy.
has_forgotten() { [ "$(marked_bytes $primary)" -lt $((DISK_MIB << 20)) ]; }
await_forgotten() { until_true 20 has_forgotten || fail "$what: what the backup holds is not forgotten"; }
is_gone() { ! kill -0 "$1" 2>/dev/null; }
has_taken_over() { [[ $(status $1 .word) == *"took over"* ]]; }
protect() { on $primary protect tiny $backup; }

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
	on $primary unprotect tiny >/dev/null || fail "$what: unprotect"
	case $2 in *:*) echo "$2:exit" ;; *) echo "$2:1:exit" ;; esac >"$T/$1/fault"
	protect >/dev/null 2>&1 & # who asks may wait long
	until_true 20 test -s "$T/$1/armed" || fail "$what: not armed"
	until_true 20 is_gone "$(cat "$T/$1/armed")" || fail "$what: not reached: $(status $primary .word)"
	lose $1
	wait $!
	start_host $1
}

# partial: the copy was one, and has left nothing out.
partial()
{
	await_protected
	[ "$(engine_status $primary .resync.kind)" = partial ] || fail "$what: $(shown)"
	[ "$(engine_status $primary .resync.bytes)" -lt "$(engine_status $primary .resync.total_bytes)" ] ||
		fail "$what: $(shown)"
	equal_disks $primary $backup
	echo "$what: $(shown)"
}

cut_at_each()
{
	local point host
	for point in $POINTS; do
		what="$1$point"
		host=$backup
		[ "${point%%:*}" = backup ] || host=$primary
		cut_at $host "${point#*:}"
		if [ $host = $primary ]; then
			on $primary vm create "$T/tiny.cfg" >/dev/null || fail "$what: vm create"
			protect >/dev/null || fail "$what: protect"
		fi
		partial
	done
}

what="begin"
faulty a
faulty b
truncate -s ${DISK_MIB}M "$T"/{a,b}/disks/d{0,1}
start_host a
start_host b
on a vm create "$T/tiny.cfg" >/dev/null || fail "vm create"
protect >/dev/null || fail "protect"
await_protected
[ "$(engine_status a .resync.kind)" = full ] || fail "the first copy is $(shown)"
await_forgotten
cut_at_each ""
if [ -n "${EVERY:-}" ]; then
	what="failover"
	await_forgotten
	lose a
	until_true 20 has_taken_over b || fail "$what: no takeover: $(status b .word)"
	start_host a
	primary=b backup=a
	protect >/dev/null || fail "$what: protect"
	partial
	await_forgotten
	cut_at_each "after a failover, "
fi
end_pair
exit 0
