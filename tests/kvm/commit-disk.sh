#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 600
#
# Two hosts on one machine (tests/lib/pair.sh) with `commit = disk`, and a guest that writes to two
# disks (writer.c). The backup dies at every step of its log's protocol, one after the other, the
# primary with it, and the VM is to be created from the backup's disks: refused, with the word that
# they are those of an epoch; and they are what the guest had written up to some request, none
# left out (replay.c), and to no earlier one than was acknowledged. Then recovery itself dies at
# each of its steps, and is done again. No epoch outgrows the log.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/pair.sh
DISK_MIB=${DISK_MIB:-32}
LOG_MIB=4 # four times disk_ring
# Those of a file that is made anew are passed before anything is acknowledged.
MAKING=${MAKING:-log.allocate log.rename ${EVERY:+log.create log.header}}
# Some of the steps; EVERY=1 takes them all.
POINTS=${POINTS:-log.write:100 log.sync:20 disk.apply:2000 log.tail commit.state:9
	${EVERY:+log.seal:20 harden.tell:20 log.applied:4 log.flushed log.tail_sync commit.begin:9}}
RECOVERY=${RECOVERY:-recover.apply:50 recover.mark marker.rename
	${EVERY:+recover.begin recover.apply recover.flush marker.write}}

make_pair 'interval = 50ms' 'timeout = 2s' 'commit = disk' 'reprotect = manual' 'disk_ring = 1MiB'
own_disks
sed -i "s#^kernel.*#kernel = \"$O/tests/kvm/writer\"#" "$T/tiny.cfg"
echo "disk = [ '$T/disks/d0,raw,xvda,rw', '$T/disks/d1,raw,xvdb,rw' ]" >>"$T/tiny.cfg"
mkdir "$T/libexec"
ln -s "$BIN/pollux-vmm" "$T/libexec/pollux-vmm"
cat >"$T/libexec/pollux-ha" <<-SH
	#!/bin/sh
	grep -q '"role": *"backup"' "\$2" && [ -s "$T/fault" ] || exec "$BIN/pollux-ha" "\$@"
	POLLUX_FAULT=\$(cat "$T/fault")
	export POLLUX_FAULT
	: >"$T/fault"
	"$BIN/pollux-ha" "\$@"
	# Nobody makes a new standby: the whole host is gone.
	[ \$? -ne 86 ] || kill -9 \$(cat "$T/b/daemon.pid")
SH
chmod +x "$T/libexec/pollux-ha"
export POLLUX_LIBEXEC=$T/libexec

protected() { [ "$(status a .protected)" = true ]; }
engine_is_gone() { ! kill -0 "$1" 2>/dev/null; }
printed() { printf '%d' "0x$(serial a | tail -n 1)" 2>/dev/null; }
printed_past() { [ "$(printed)" -gt "$1" ]; }
epoch_past() { [ "$(status b .epoch)" -gt "$1" ]; }
stalled() { [[ $(status a .word) == *stalled* ]]; }
rss() { awk '/VmRSS/ { print $2 }' "/proc/$slow/status"; }

# begin FAULT: both hosts anew, with empty disks; the backup's engine will die at FAULT.
begin()
{
	local host
	for host in a b; do
		rm -rf "$T/$host"/{run,state,log,daemon.log,disks}
		mkdir -p "$T/$host/disks"
		truncate -s "${DISK_MIB}M" "$T/$host/disks"/d{0,1}
		start_host $host
	done
	printf %s "$1" >"$T/fault"
	on a vm create "$T/tiny.cfg" >/dev/null || fail "$what: vm create"
}

# Both hosts lose power at once; b comes back.
lose_both()
{
	cut_off a all
	cut_off b all
	rm -f "$T"/{a,b}/daemon.pid
	rm -rf "$T/b/run"
	start_host b
}

# recovered LEAST EPOCH: create is refused with the epoch that the disks are of, which is at least
# the one that was seen acknowledged; and they hold all requests up to one, at least LEAST.
recovered()
{
	local count epoch
	expect 7 "exactly as they were at the end of epoch" on b vm create "$T/tiny.cfg"
	epoch=$(on b vm create "$T/tiny.cfg" 2>&1 | grep -o 'end of epoch [0-9]*' | cut -d' ' -f4)
	[ "$epoch" -ge "$2" ] || fail "$what: recovered epoch $epoch, $2 was acknowledged"
	count=$("$O/tests/kvm/replay" "$T/b/disks"/d{0,1}) || fail "$what: the disks are of no epoch"
	[ "$count" -ge "$1" ] || fail "$what: recovered to request $count, acknowledged was $1"
	echo "$what: recovered epoch $epoch and request $count, acknowledged were at least $2 and $1"
}

for point in $MAKING; do
	what="fault $point"
	begin "$point"
	on a protect tiny b >/dev/null 2>&1
	until_true 20 grep -q "disk-log of .* cannot be made" "$T/b/log/tiny-ha.log" ||
		fail "$what: not said"
	until_true 20 protected || fail "$what: not protected by the next standby"
	echo "$what: $(grep -o "disk-log of .*" "$T/b/log/tiny-ha.log")"
	end_pair
done

for point in $POINTS; do
	what="fault $point"
	case $point in *:*) begin "$point:exit" ;; *) begin "$point:1:exit" ;; esac
	on a protect tiny b >/dev/null || fail "$what: protect"
	until_true 20 protected || until_true 1 test -s "$T/b/state/tiny/disk-log" ||
		fail "$what: never protected"
	engine=$(pids_of b ha)
	acked=0 seen=0
	while [ -n "$engine" ] && ! engine_is_gone "$engine"; do
		# What was printed before the status was asked is older than the epoch it tells of,
		# once another one has been acknowledged after it.
		before=$(printed) epoch=$(status b .epoch 2>/dev/null)
		[ "$epoch" -gt $seen ] 2>/dev/null && seen=$epoch
		until [ "$(status b .epoch)" -gt $((epoch + 1)) ] 2>/dev/null; do
			engine_is_gone "$engine" && break 2
			sleep 0.05
		done
		acked=$before
		[ $((waited=${waited:-0} + 1)) -lt 600 ] || fail "$what: the point is not passed"
	done
	waited=0
	lose_both
	recovered "$acked" $seen
	end_pair
done

# A disk that takes 20 ms for each change: the guest is slowed, not cut off, and nothing grows.
what="slow disk"
begin disk.slow:3000
on a protect tiny b >/dev/null || fail "$what: protect"
until_true 60 stalled || fail "$what: never stalled: $(status a .word)"
slow=$(pgrep -P "$(pids_of b ha)" pollux-ha)
before=$(rss) count=$(printed) generation=$(engine_status a .generation)
until_true 60 printed_past $((count + 100)) || fail "$what: the guest does not go on"
[ "$(rss)" -lt $((before + 4096)) ] || fail "$what: from $before to $(rss) KiB"
[ "$(engine_status a .generation)" = "$generation" ] || fail "$what: another standby: $(status a .word)"
echo "$what: the guest went from request $count to $(printed), the backup from $before to $(rss) KiB"
end_pair
kill -9 "$slow"

# Epochs that would be longer than the log, again and again: they end early, and nothing is refused.
what="long epochs"
begin ""
on a protect tiny b --interval=5s >/dev/null || fail "$what: protect"
until_true 20 protected || fail "$what: never protected"
count=$(printed) generation=$(engine_status a .generation)
until_true 60 printed_past $((count + 4 * LOG_MIB * 256)) || fail "$what: the guest does not write"
[ "$(engine_status a '[.generation, .protected]|tostring')" = "[$generation,true]" ] ||
	fail "$what: $(status a .word)"
echo "$what: the guest went from request $count to $(printed), in $(engine_status a .epochs_committed) epochs"
end_pair

what="recovery"
begin ""
on a protect tiny b >/dev/null || fail "$what: protect"
until_true 20 protected || fail "$what: never protected"
until_true 20 printed_past 500 || fail "$what: the guest does not write"
acked=$(printed)
seen=$(status b .epoch)
until_true 20 epoch_past $((seen + 2)) || fail "$what: no epochs"
lose_both
for point in $RECOVERY; do
	what="recovery, fault $point"
	cut_off b polluxd
	rm -rf "$T/b/run"
	case $point in *:*) f=$point:exit ;; *) f=$point:1:exit ;; esac
	POLLUX_FAULT=$f start_host b
	on b vm create "$T/tiny.cfg" >/dev/null 2>&1
	echo "$what: $(od -An -tu2 -j6 -N2 "$T/b/state/tiny/standby-disks")"
done
what="recovery"
cut_off b polluxd
rm -rf "$T/b/run"
start_host b
recovered "$acked" "$seen"
on b vm create "$T/tiny.cfg" --force --reason "both hosts were lost" >/dev/null ||
	fail "$what: vm create --force"
[ ! -e "$T/b/state/tiny/standby-disks" ] || fail "$what: the marker is still there"
exit 0
