#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 900
#
# Two hosts on one machine (tests/lib/pair.sh), and a guest that writes to two disks
# (writer.c). A copy is interrupted ten times. Then the backup's power is cut at every step of the
# disks' protocol, one after the other, and it comes back: each time only regions that may differ
# are copied, `pollux verify` finds no difference, and the disks are equal, byte by byte. A
# takeover, and the way back; a disk that somebody else has written to.
#
# The steps are the fault points in the sources that the backup goes through.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/pair.sh
DISK_MIB=${DISK_MIB:-64}
INTERRUPTIONS=${INTERRUPTIONS:-10}
REWRITTEN=$((16 << 20)) # what the guest may write between two looks, in whole regions
SOURCES="disk-replica/recover.c disk-replica/recover_scan.c disk-replica/log_file.c disk-replica/regions.c
	disk-replica/marker.c disk-replica/apply.c disk-replica/log.c disk-replica/target.c ha/assemble.c
	ha/harden.c ha/commit.c ha/durable.c ha/backup_durable.c"
# Those of a takeover: tests/kvm/takeover.sh.
ELSEWHERE='apply\.finish|marker\.remove'
# What is passed at once is to be passed in the midst of epochs.
declare -A NTH=([disk.apply]=1500 [disk.space]=1500 [disk.slow]=1500 [disk.flush]=3 [disk.log]=300
	[log.applied]=20 [log.write]=300 [log.seal]=20 [log.sync]=20 [harden.tell]=20
	[commit.begin]=3 [commit.state]=3 [assemble.end]=2 [durable.report]=2)

every_point()
{
	grep -ho 'fault_at("[a-z_.]*")' $SOURCES | cut -d'"' -f2 | grep -vxE "$ELSEWHERE" | awk '!seen[$0]++'
}
# Four of the steps; EVERY=1 takes them all, those of a log on disk, too: some five minutes more.
POINTS=${POINTS-apply.following disk.apply commit.state durable.sync}
[ -z "${EVERY:-}" ] || POINTS=$(every_point)

make_pair 'interval = 50ms' 'timeout = 2s' ${EVERY:+'commit = disk' 'disk_ring = 1MiB'}
faulty b
own_disks
sed -i "s#^kernel.*#kernel = \"$O/tests/kvm/writer\"#" "$T/tiny.cfg"
echo "disk = [ '$T/disks/d0,raw,xvda,rw', '$T/disks/d1,raw,xvdb,rw' ]" >>"$T/tiny.cfg"
for host in a b; do truncate -s ${DISK_MIB}M "$T/$host/disks"/d{0,1}; done
for disk in d0 d1; do
	dd if=/dev/urandom of="$T/a/disks/$disk" bs=1M count="$DISK_MIB" conv=notrunc status=none
done

protected() { [ "$(engine_status "$1" .protected)" = true ]; }
has_taken_over() { case $(status "$1" .word) in *"took over"*) ;; *) return 1 ;; esac; }
engine() { pids_of "$1" ha; }
is_new_engine() { local now; now=$(engine "$1"); [ -n "$now" ] && [ "$now" != "$2" ]; }
has_none() { [ -z "$(engine "$1")" ]; }
is_armed() { [ ! -s "$T/b/fault" ]; }
has_died() { ! kill -0 "$1" 2>/dev/null; }
copying() { [ "$(engine_status a .state)" = copying ]; }
is_wanted() { [ "$(kind "$1")" = "$2" ]; }
bytes() { engine_status "$1" .resync.bytes; }
kind() { engine_status "$1" .resync.kind; }
shown() { engine_status "$1" .resync | jq -c '{kind, bytes, total_bytes, reason}'; }
# What the copy before has brought is on the backup's disks, and the primary knows.
has_forgotten() { [ "$(marked_bytes a)" -lt $((total / 4)) ]; }
await_protected() { until_true 180 protected "$1" || fail "$what: not protected: $(status "$1" .word)"; }

# verified HOST: by the product, while the guest runs.
verified()
{
	on "$1" verify tiny --disks >"$T/verified" 2>&1 || fail "$what: $(cat "$T/verified")"
	grep -q 'no difference' "$T/verified" || fail "$what: $(cat "$T/verified")"
}
# partial FROM TO: the copy was one, and has left nothing out.
partial()
{
	[ "$(kind "$1")" = partial ] || fail "$what: $(shown "$1")"
	[ "$(bytes "$1")" -lt $((total / 2)) ] || fail "$what: copied $(bytes "$1") of $total"
	verified "$1"
	equal_disks "$1" "$2"
	echo "$what: $(shown "$1"), verified: $(tail -n 1 "$T/verified")"
}

# The first copy takes its time, by the cap, and is interrupted ten times.
start_host a
start_host b
what="first copy"
on a vm create "$T/tiny.cfg" >/dev/null || fail "vm create"
began=$SECONDS
on a protect tiny b --resync-cap=8MiB >/dev/null || fail "protect"
until_true 30 copying || fail "$what: $(status a .word)"
[ "$(kind a)" = full ] || fail "the first copy is $(shown a)"
total=$(engine_status a .resync.total_bytes)
left=$total
echo "$what: $(shown a)"
for ((i = 1; i <= INTERRUPTIONS; i++)); do
	what="interruption $i"
	old=$(engine b)
	sleep 1.$((i % 10)) # somewhere in the copy
	kill -9 $old
	until_true 60 is_new_engine b "$old" || fail "$what: no new standby"
	until_true 30 is_wanted a partial || fail "$what: $(shown a)"
	echo "$what: $(bytes a) bytes are left"
	# What the guest writes meanwhile is copied again; what was copied and confirmed is not.
	[ "$(bytes a)" -le $((left + REWRITTEN)) ] || fail "$what: it began anew: $(shown a), $left were left"
	left=$(bytes a)
	[ $((total - left)) -le $(((SECONDS - began + 1) * 8 << 20)) ] || fail "$what: beyond the cap"
done
[ "$INTERRUPTIONS" = 0 ] || [ "$(bytes a)" -lt "$total" ] || fail "it began anew: $(shown a)"
# The rest takes several timeouts; heartbeats do not wait for it.
until_true 30 copying || fail "$what: $(status a .word)"
generation=$(engine_status a .generation) began=$SECONDS
await_protected a
[ "$(engine_status a .generation)" = "$generation" ] ||
	fail "the connection was lost during the copy: generation $generation, now $(engine_status a .generation)"
echo "the rest: one connection, $((SECONDS - began)) s"

what="protection anew, without a cap"
on a unprotect tiny >/dev/null || fail "$what: unprotect"
until_true 30 has_none b || fail "$what: host b keeps its engine"
on a protect tiny b >/dev/null || fail "$what: protect"
await_protected a
[ "$(kind a)" = partial ] || fail "$what: $(shown a)"
verified a
equal_disks a b
echo "$what: $(shown a)"

for point in $POINTS; do
	what="power cut at $point"
	until_true 60 has_forgotten || fail "$what: $(marked_bytes a) bytes are still marked"
	old=$(engine b)
	# The engine that dies is the one of the next link: so two are lost.
	echo "$point:${NTH[$point]:-1}:exit" >"$T/b/fault"
	kill -9 $old
	until_true 60 is_armed || fail "$what: the point was not armed"
	until_true 60 has_died "$(cat "$T/b/armed")" || fail "$what: the point was not reached"
	# There is one because the primary has noticed and asked: what is protected then is anew.
	until_true 60 is_new_engine b "$(cat "$T/b/armed")" || fail "$what: no new standby"
	await_protected a
	partial a b
done

# The host that ran it dies, with writes that were never committed. It comes back as the backup.
what="takeover and the way back"
until_true 60 has_forgotten || fail "$what: $(marked_bytes a) bytes are still marked"
cut_off a all
rm "$T/a/daemon.pid"
until_true 30 has_taken_over b || fail "$what: no takeover: $(status b .word)"
printed=$(serial b | wc -l)
wrote() { [ "$(serial b | wc -l)" -ge $((printed + 5)) ]; }
until_true 30 wrote || fail "$what: the guest does not write on b" # what only host b has
start_host a
await_protected b
partial b a

what="somebody else"
on b unprotect tiny >/dev/null || fail "$what: unprotect"
until_true 30 has_none a || fail "$what: host a keeps its engine"
dd if=/dev/urandom of="$T/a/disks/d1" bs=4096 count=1 seek=9000 conv=notrunc status=none
on b protect tiny a >/dev/null || fail "$what: protect"
await_protected b
is_wanted b full || fail "$what: not noticed: $(shown b)"
case $(shown b) in *"somebody else"*) ;; *) fail "$what: $(shown b)" ;; esac
verified b
equal_disks b a
echo "$what: $(shown b)"
end_pair
exit 0
