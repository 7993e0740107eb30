#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
#
# The nbdkit plugin under the usual clients of NBD, while its disk is replicated: what they
# read is what they wrote, and at the end the replica equals the disk.
set -u
cd "$(dirname "$0")/../.." || exit 1
O=$(realpath "${O:-build}")
PLUGIN=$O/lib/nbdkit-pollux-plugin.so
MIB=$((1 << 20))
for tool in nbdkit nbdinfo nbdcopy nbdsh qemu-img fio; do
	command -v $tool >/dev/null || { echo "no $tool"; exit 77; }
done
[ -e "$PLUGIN" ] || { echo "$PLUGIN was not built"; exit 77; }
# Debian's own Python, whichever comes first in the path.
PATH=/usr/bin:$PATH
T=$(mktemp -d /tmp/pollux-nbd.XXXXXX)
URI="nbd+unix:///?socket=$T/run/nbd"
pids=()

cleanup()
{
	local pid
	for pid in "${pids[@]}"; do kill -9 "$pid" 2>/dev/null; done
	rm -rf "$T"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

fail()
{
	echo "FAILED: $*"
	tail -n 20 "$T"/*.log 2>/dev/null
	exit 1
}

# until_true SECONDS COMMAND...
until_true()
{
	local limit=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $limit ] || return 1
		sleep 0.05
	done
}

answers() { nbdinfo --size "$URI" >/dev/null 2>&1; }
serve()
{
	mkdir -p "$T/run"
	nbdkit -f -U "$T/run/nbd" "$PLUGIN" file="$T/disk" control="$T/run" >>"$T/nbdkit.log" 2>&1 &
	server=$!
	pids+=($server)
	until_true 10 answers || fail "nbdkit does not serve"
}
end_server()
{
	kill $server
	wait $server
	rm -f "$T/run/nbd"
}

says() { grep -qs "$2" "$1"; }
# replicate RING_BYTES
replicate()
{
	# The last one's word is not this one's.
	rm -f "$T/replica.log"
	"$O/tests/unit/nbd_replica" "$T/run" "$T/replica" "$T" "$1" >"$T/replica.log" 2>&1 &
	replica=$!
	pids+=($replica)
	until_true 30 says "$T/replica.log" following || fail "nothing is replicated"
}
end_replica()
{
	kill -TERM $replica
	wait $replica || fail "the replica"
	tail -n 1 "$T/replica.log"
	cmp "$T/disk" "$T/replica" || fail "$1: the replica differs"
}

# refused TEXT PARAMETER...
refused()
{
	local text=$1 out
	shift
	out=$(timeout 10 nbdkit -f -U "$T/refused" "$PLUGIN" "$@" 2>&1) && fail "not refused: $*"
	case $out in *"$text"*) ;; *) fail "\"$text\" is missing in: $out" ;; esac
}

make_disks()
{
	truncate -s 32M "$T/disk" "$T/replica"
	head -c $((8 * MIB)) /dev/urandom | dd of="$T/disk" conv=notrunc bs=1M seek=3 status=none
	head -c $((8 * MIB)) /dev/urandom | dd of="$T/replica" conv=notrunc bs=1M seek=20 status=none
	head -c $((32 * MIB)) /dev/urandom >"$T/random"
}

bad_parameters()
{
	local long
	long=$(printf 'd%.0s' {1..100})
	truncate -s 1000 "$T/odd"
	refused 'colour=red: not a parameter' file="$T/disk" control="$T/x" colour=red
	refused 'control is missing' file="$T/disk"
	refused 'file is missing' control="$T/x"
	refused 'file is given twice' file="$T/disk" file="$T/disk" control="$T/x"
	refused 'file is empty' file= control="$T/x"
	refused "$T/absent: No such file" file="$T/absent" control="$T/x"
	refused 'neither a file nor a block device' file=/dev/zero control="$T/x"
	refused '1000 bytes, not a multiple of 512' file="$T/odd" control="$T/x"
	refused 'at most 107 bytes' file="$T/disk" control="$T/$long"
}

capabilities()
{
	local what
	for what in connect write flush fua multi-conn trim zero 'fast-zero' cache; do
		nbdinfo --can $what "$URI" || fail "nbdinfo --can $what"
	done
	[ "$(nbdinfo --size "$URI")" = $((32 * MIB)) ] || fail "size $(nbdinfo --size "$URI")"
	nbdinfo --map --totals "$URI" >"$T/map.log" || fail "nbdinfo --map"
	grep -q "$((8 * MIB)) .*data" "$T/map.log" || fail "extents"
}

copies()
{
	nbdcopy --connections=4 "$T/random" "$URI" || fail nbdcopy
	nbdcopy --connections=4 "$URI" "$T/back" || fail nbdcopy
	cmp "$T/random" "$T/back" || fail "nbdcopy read something else"
	qemu-img convert -n -f raw -O raw -W -m 8 "$T/sparse" "$URI" || fail "qemu-img convert"
	qemu-img compare -f raw -F raw "$T/sparse" "$URI" || fail "qemu-img compare"
}

fio_verify()
{
	fio --name=nbd --ioengine=nbd --uri="$URI" --rw=randwrite --bsrange=4k-64k --size=12M \
		--iodepth=32 --fsync=16 --verify=crc32c --verify_fatal=1 --verify_state_save=0 --randseed=7 \
		>"$T/fio.log" 2>&1 || fail fio
}

# Flags, pieces beyond one record of the ring, and clients that write the same bytes at once.
flags_and_overlap()
{
	timeout 60 nbdsh -u "$URI" -c "
h.pwrite(b'f' * 300000, 12345, nbd.CMD_FLAG_FUA)
h.zero(100000, 20001, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
h.zero(1 << 20, 4 << 20, 0)
h.zero(65536, 1 << 20, nbd.CMD_FLAG_FAST_ZERO)
h.trim(2 << 20, 8 << 20, nbd.CMD_FLAG_FUA)
h.cache(1 << 20, 0)
assert h.pread(100000, 20001) == bytearray(100000)
assert h.pread(1 << 20, 4 << 20) == bytearray(1 << 20)
assert h.pread(7656, 12345) == b'f' * 7656
h.flush()
other = nbd.NBD()
other.connect_uri('$URI')
for i in range(600):
    both = [(c, c.aio_pwrite(nbd.Buffer.from_bytearray(bytearray([(2 * i + n) % 256]) * 150000),
             50000 + 999 * (i % 7) * n)) for n, c in enumerate((h, other, h, other))]
    for c, cookie in both:
        while not c.aio_command_completed(cookie):
            c.poll(-1)
" || fail "nbdsh"
}

# pause; resume: of what takes the changes.
pause()
{
	: >"$T/replica.log"
	kill -USR1 $replica
	until_true 10 says "$T/replica.log" paused || fail "the replica does not pause"
}
resume() { kill -USR2 $replica; }

# Writes of the same bytes that wait for room after the disk has them: the order in which they
# reached the disk must be that in which they go on.
overlap_at_full_ring()
{
	local round writer
	for round in 1 2 3; do
		pause
		timeout 60 nbdsh -u "$URI" -c "
clients = [h] + [nbd.NBD() for i in range(3)]
for c in clients[1:]:
    c.connect_uri('$URI')
left = [(c, c.aio_pwrite(nbd.Buffer.from_bytearray(bytearray([i * 4 + n + $round]) * 300000), 1000 * n))
        for i in range(6) for n, c in enumerate(clients)]
for i in range(200):
    for c in clients:
        c.poll(1)
open('$T/sent$round', 'w').close()
for c, cookie in left:
    while not c.aio_command_completed(cookie):
        c.poll(-1)
" &
		writer=$!
		pids+=($writer)
		until_true 10 test -e "$T/sent$round" || fail "the writers are not there"
		resume
		wait $writer || fail "the writers"
	done
}

# What is replicated slower than it is written stops the writer, and takes no memory.
full_ring()
{
	local before after writer
	pause
	before=$(awk '/VmRSS/ { print $2 }' /proc/$server/status)
	nbdcopy --connections=4 "$T/random" "$URI" &
	writer=$!
	pids+=($writer)
	sleep 1.5
	kill -0 $writer 2>/dev/null || fail "the writer did not wait for room"
	after=$(awk '/VmRSS/ { print $2 }' /proc/$server/status)
	[ $((after - before)) -lt 40000 ] || fail "the server grew from $before to $after kB"
	resume
	wait $writer || fail "the writer that had waited"
}

# A consumer that is gone stops the writers as a full ring does, until another comes.
lost_consumer()
{
	local writer
	kill -9 $replica
	wait $replica 2>/dev/null
	nbdcopy "$T/sparse" "$URI" &
	writer=$!
	pids+=($writer)
	sleep 0.5
	kill -0 $writer 2>/dev/null || fail "the writer did not wait for the consumer"
	replicate $((4 * MIB))
	wait $writer || fail "the writer that had waited for a consumer"
}

# Its ring is full, and it is told to end: it does, and the client learns that.
end_while_full()
{
	local writer
	pause
	nbdcopy "$T/random" "$URI" 2>"$T/writer.log" &
	writer=$!
	pids+=($writer)
	sleep 1
	kill $server
	until_true 10 gone $server || fail "the server hangs in a full ring"
	wait $writer && fail "a write that was not replicated seemed to succeed"
	kill -9 $replica
	wait $server $replica 2>/dev/null
}
gone() { ! kill -0 "$1" 2>/dev/null || [ "$(awk '{ print $3 }' "/proc/$1/stat")" = Z ]; }

# Two servers over one disk; a standby's disk; two servers at one socket.
shared_disk()
{
	local out
	out=$(timeout 10 nbdkit -f -U "$T/refused" "$PLUGIN" file="$T/disk" control="$T/run" 2>&1) &&
		fail "a second server took the first one's socket"
	case $out in *"another server's"*) ;; *) fail "second server: $out" ;; esac
	nbdsh -u "$URI" -c "
h.pread(512, 0)
import subprocess
r = subprocess.run(['nbdkit', '-U', '-', '$PLUGIN', 'file=$T/disk', 'control=$T/run2',
	'--run', 'nbdsh -u \"\$uri\" -c \"h.pread(512, 0)\"'], capture_output=True, text=True)
assert r.returncode != 0 and 'busy' in r.stderr, r.stderr
" || fail "two servers share one disk"
}

make_disks
head -c $((5 * MIB)) /dev/urandom >"$T/sparse"
truncate -s 32M "$T/sparse"
bad_parameters
serve
capabilities
replicate $((4 * MIB))
copies
fio_verify
flags_and_overlap
shared_disk
end_replica "after everything"
replicate $MIB
overlap_at_full_ring
end_replica "after writes of the same bytes"
replicate $MIB
full_ring
lost_consumer
end_replica "after the writer waited"
replicate $MIB
end_while_full
echo "the disk and its replica agree"
exit 0
