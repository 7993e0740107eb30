#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
#
# Two hosts on one machine (tests/lib/pair.sh), and a guest with 32 MiB that nothing can
# compress. What a host still has of the VM's memory is not sent to it again: after its engine
# was killed, after its standby was, and on the way back after a failover. The memory oracle
# agrees each time; a page that was damaged meanwhile is sent, and a hash that lies is noticed.
# What is kept of another VM, or of one of another size, is not used.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/pair.sh
NOISE_MIB=32
NOISE_PAGES=$((NOISE_MIB * 256))

head -c ${NOISE_MIB}M /dev/urandom >"$T/noise"
echo "ramdisk = \"$T/noise\"" >>"$T/tiny.cfg"

generation() { status "$1" .generation; }
# resumed HOST OLD-GENERATION: protected anew; one answer, since two may tell of two times.
resumed()
{
	now=$(on "$1" status tiny --format json | jq .vms[0])
	[ "$(jq .protected <<<"$now")" = true ] && [ "$(jq .generation <<<"$now")" -gt "$2" ]
}
checked() { [ "$(status "$1" .oracle.checked)" -ge 10 ]; }
lied() { [ "$(status "$1" .oracle.failed)" -ge 1 ]; }

# again PRIMARY BACKUP WHAT: after what was done the VM is protected again by a copy of what
# differs alone.
again()
{
	local kept wire
	until_true 40 resumed "$1" "$gen" || fail "$3: not protected again: $(status "$1" .word)"
	kept=$(jq .memory_kept.pages <<<"$now")
	wire=$(($(jq .bytes_wire <<<"$now") - wire_before))
	[ "$kept" != null ] || fail "$3: the memory was not kept"
	[ "$kept" -ge $NOISE_PAGES ] || fail "$3: only $kept pages were kept"
	[ $wire -lt $((first_wire / 8)) ] || fail "$3: $wire bytes were sent, $first_wire at first"
	echo "$3: $kept pages kept, $wire bytes sent instead of $first_wire"
}

agrees()
{
	until_true 40 checked "$1" || fail "$2: the oracle checked $(status "$1" .oracle.checked) epochs"
	[ "$(status "$1" .oracle.failed)" = 0 ] || fail "$2: memory differs: $(status "$1" .oracle)"
}

# before PRIMARY: the figures that again() compares with.
before()
{
	gen=$(generation "$1")
	wire_before=$(status "$1" .bytes_wire)
}

make_pair 'interval = 100ms' 'timeout = 2s' 'oracle = on'
faulty b
start_host a
start_host b
on a vm create "$T/tiny.cfg" >/dev/null || fail "vm create"
on a protect tiny b >/dev/null || fail "protect"
on a wait tiny --for=protected --timeout=60s >/dev/null || fail "not protected: $(status a .word)"
[ "$(status a .memory_kept)" = null ] || fail "memory was kept where there was none"
first_wire=$(status a .bytes_wire)
[ "$first_wire" -ge $((NOISE_MIB << 20)) ] || fail "the first copy was only $first_wire bytes"
agrees b "first copy"

before a
cut_off b ha
again a b "backup's engine killed"
agrees b "backup's engine killed"

# A polluxd that found the VM running knows of its memory, too.
stop b
start_host b
before a
cut_off b vmm
again a b "standby killed"
agrees b "standby killed"

before a
echo memory.damage >"$T/b/fault"
cut_off b ha
again a b "a page damaged"
grep -q 'is damaged' "$T/b/log/tiny-ha.log" || fail "no page was damaged"
agrees b "a page damaged"

before a
echo memory.damage,offer.blind >"$T/b/fault"
cut_off b ha
again a b "hashes that lie"
until_true 40 lied b || fail "hashes lied, and the oracle did not notice: $(status b .oracle)"

# What lay there by a lie is repaired by the truth.
before a
cut_off b ha
again a b "the truth again"
agrees b "the truth again"

# Back again, by itself: what is left of the old VM becomes the memory of its standby.
before a
wire_before=0
on a failover tiny >/dev/null || fail "failover"
again b a "failover and back"
agrees a "failover and back"

# another UUID MIB WHAT: b keeps the memory of a VM whose host is lost; another one of that name
# comes, to whom it is of no use.
keeps_more() { [ "$(grep -c event=memory.kept "$T/b/daemon.log")" -gt "$1" ]; }
another()
{
	local had
	had=$(grep -c event=memory.kept "$T/b/daemon.log")
	kill -STOP "$(pids_of a ha)"
	cut_off b ha
	until_true 20 keeps_more "$had" || fail "$3: b keeps nothing"
	cut_off a all
	rm -rf "$T"/a/{run,state,daemon.pid} "$T/b/state/tiny"
	start_host a
	sed -i "s/^uuid.*/uuid = \"$1\"/; s/^memory.*/memory = $2/" "$T/tiny.cfg"
	on a vm create "$T/tiny.cfg" >/dev/null || fail "$3: vm create"
	on a protect tiny b >/dev/null || fail "$3: protect"
	on a wait tiny --for=protected --timeout=60s >/dev/null || fail "$3: $(status a .word)"
	[ "$(status a .memory_kept)" = null ] || fail "$3: its memory was used: $(status a .memory_kept)"
	[ "$(status a .bytes_wire)" -ge $((NOISE_MIB << 20)) ] || fail "$3: not everything was sent"
	agrees b "$3"
	echo "$3: copied in full, $(status a .bytes_wire) bytes"
}
until_true 40 resumed b "$gen" || fail "not protected: $(status b .word)"
POLLUX_SOCKET=$T/b/run/polluxd.sock "$BIN/pollux" failover tiny >/dev/null || fail "failover"
until_true 40 resumed a "$(generation b)" || fail "not protected: $(status a .word)"
another 11111111-2b53-4b0c-9f0f-6f1f52a1c001 64 "another VM"
another 11111111-2b53-4b0c-9f0f-6f1f52a1c001 80 "another size"
exit 0
