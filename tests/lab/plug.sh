#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 600
#
# netbuf = plug: the kernel holds the VM's output. The tests of netbuf/plug.h on a kernel that
# has sch_plug; a host that lacks it refuses before anything changes; with the backup cut off,
# no frame that the guest sends meanwhile, IPv4, ARP or IPv6, leaves the host, and all do once
# it is back (P1); the death of pollux-ha lets nothing out; the end leaves nothing behind.
set -euo pipefail
cd "$(dirname "$0")/../.."
export LAB_NAME=pollux-plug NETBUF=plug
# Long epochs, and patience: the guest sends for seconds before the stall stops it.
export LAB_INTERVAL=2s LAB_TIMEOUT=90s
. tests/lab/common.sh plug
lab_begin

# run_there TEST: a unit test, with its libraries, on node a.
run_there()
{
	local there=$WORK/there library
	rm -rf "$there"
	mkdir -p "$there"
	cp "$O/tests/unit/$1" "$there/test"
	for library in $(ldd "$there/test" | awk '$3 ~ /^\// { print $3 }'); do
		cp -L "$library" "$there/"
	done
	tar -C "$there" -cf "$there.tar" .
	lab push a "$there.tar" /tmp/there.tar
	on a 'rm -rf /tmp/there && mkdir /tmp/there && tar -C /tmp/there -xf /tmp/there.tar &&
		LD_LIBRARY_PATH=/tmp/there /tmp/there/test' >"$WORK/$1.log" 2>&1 ||
		fail "$1: $(grep -E 'ERROR|LINE|FAILED|skipped' "$WORK/$1.log")"
	say "$1: $(grep -E 'test\(s\) run' "$WORK/$1.log")"
}

held() { vm_get a .netbuf.held_bytes; }
holds_some() { [ "$(held)" -gt 0 ]; }
# What lo has is the node's own (node-init).
remains() { on a "ip -br link | grep ^plug; tc qdisc show | grep -v 'dev lo ' | grep -E 'plug|clsact'
	tc actions list action mirred | grep mirred" 2>/dev/null || true; }

say "a kernel without sch_plug"
vm_start a
# Before anything has loaded it: a namespace that goes may use it for long.
on a 'mv /lib/modules/*/sch_plug.ko /tmp/' || fail "sch_plug is not where it should be"
! on a pollux protect $VM b >"$WORK/refused.log" 2>&1 || fail "protected without sch_plug"
grep -q 'this kernel has no sch_plug' "$WORK/refused.log" ||
	fail "the refusal does not say why: $(cat "$WORK/refused.log")"
say "a says: $(tail -n 1 "$WORK/refused.log")"
[ -z "$(remains)" ] || fail "left behind: $(remains)"
on a 'mv /tmp/sch_plug.ko /lib/modules/*/'

say "the tests of the module"
run_there test_plug
run_there test_plug_faults
until_true "$LIMIT" on a 'grep -q "^sch_plug [0-9]* 0 " /proc/modules' || fail "something of the tests is left"

say "protected, under load, with pings, ARP and IPv6"
vm_capture_start a
vm_protect a b
vm_is a '.netbuf.kind == "plug"' || fail "not by plug: $(vm_get a .netbuf)"
client_begin
lab client sh -c 'echo 0 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6'
TALK='busybox arping -q -I eth0 192.168.77.100 & a=$!
	busybox ping -q 192.168.77.100 & b=$!
	while :; do ip -6 neigh flush dev eth0; sleep 0.2
		busybox ping6 -q -c 1 -W 1 -I eth0 fe80::5054:ff:fe77:100
	done & trap "kill $a $b $!; exit" TERM; wait'
(exec "$SCENARIO_DIR/pollux-lab" client sh -c "$TALK" >"$WORK/talk.log" 2>&1 </dev/null) &
TALKER=$!
KINDS=('ethertype IPv4' 'ethertype ARP' 'ethertype IPv6')
# What the guest gives its tap, seen before it is held.
on a 'setsid tcpdump -Z root -i px1.0 -Q in -n -e -l ether src '"$VM_MAC"' \
		>/tmp/tap.log 2>/tmp/tap.err </dev/null &
	until grep -q listening /tmp/tap.err; do sleep 0.1; done' >/dev/null
tap_count() { on a "grep -c '$1' /tmp/tap.log" 2>/dev/null || true; }
all_kinds() { local k; for k in "${KINDS[@]}"; do [ "$(tap_count "$k")" -gt "$1" ] || return 1; done; }
until_true "$LIMIT" all_kinds 2 || fail "the guest does not speak: $(on a cat /tmp/tap.log | tail -n 3)"

say "the replication link is cut"
lab cut repl
sleep 1 # an acknowledgement that was on its way has arrived, or never will
cut=$(date +%s.%N)
declare -A before
for kind in "${KINDS[@]}"; do before[$kind]=$(tap_count "$kind"); done
spoke() { local k; for k in "${KINDS[@]}"; do [ "$(tap_count "$k")" -gt "${before[$k]}" ] || return 1; done; }
until_true "$LIMIT" spoke || fail "the guest said nothing while nobody acknowledged"
until_true "$LIMIT" holds_some || fail "nothing is held: $(vm_get a .netbuf)"
for kind in "${KINDS[@]}"; do
	say "$kind since the cut: $(($(tap_count "$kind") - ${before[$kind]})) frames from the guest"
done
say "a holds $(held) bytes: $(vm_get a .word)"

say "pollux-ha is killed: what is held stays held"
on a 'kill -9 $(pidof pollux-ha)'
until_true "$LIMIT" runs a pollux-ha || fail "pollux-ha is not started again"
sleep 2
healed=$(date +%s.%N)
lab heal repl
until_true "$PROTECT_LIMIT" vm_is_protected a || fail "not protected again: $(vm_get a .word)"
client_goes_on "after the link healed"
kill -TERM $TALKER 2>/dev/null || true

say "the capture"
vm_frames "$(lab capture stop lan-a)" >"$WORK/lan-a"
for kind in "${KINDS[@]}"; do
	grep -q "$kind" "$WORK/lan-a" || fail "the capture has no $kind at all"
done
awk -v cut="$cut" -v healed="$healed" '$1 > cut && $1 < healed' "$WORK/lan-a" >"$WORK/early"
[ ! -s "$WORK/early" ] || fail "$(wc -l <"$WORK/early") frames left uncommitted: $(head -n 3 "$WORK/early")"
say "$(wc -l <"$WORK/lan-a") frames of the VM on the LAN, none between the cut and its healing"

say "an ifb is deleted under a protected VM"
on a "ip link del \$(ip -br link | grep -o -m1 '^plug[0-9.]*')" >/dev/null
event_comes a netbuf-repaired
client_goes_on "after an ifb was deleted"
vm_is a '.netbuf.dropped_frames == 0' || fail "frames were dropped: $(vm_get a .netbuf)"

say "the end leaves nothing"
on a pollux unprotect $VM >"$WORK/unprotect.log" 2>&1 ||
	fail "unprotect: $(cat "$WORK/unprotect.log")"
[ -z "$(remains)" ] || fail "left behind: $(remains)"
client_goes_on "after unprotect"
client_accounts
