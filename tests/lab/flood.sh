#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 600
#
# netbuf = plug and a guest with two NICs that sends as fast as it can, on both: in an interval more than
# may wait. Epochs end before that limit is reached: no frame is dropped. With the replication link cut no
# frame of either leaves the host (P1). When nobody ends epochs (the engine stands still) the limit
# is reached: what is dropped is counted, and told. Devices are set down and deleted at random
# instants while held output is let go; the connection lives, and nothing is left behind.
#
#   SEED    of those instants
set -euo pipefail
cd "$(dirname "$0")/../.."
export LAB_NAME=${LAB_NAME:-pollux-flood} NETBUF=plug
# Patience: the engine is to stand still.
export LAB_INTERVAL=1s LAB_TIMEOUT=90s
export LAB_PROTECTION='min_interval = 10ms'
. tests/lab/common.sh flood
SEED=${SEED:-1}
TIMES=${TIMES:-10}
SECOND_ADDRESS=192.168.80.100
SECOND_MAC=52:54:00:77:01:01
RANDOM=$SEED
lab_begin
. tests/lab/typed.sh

held() { vm_get a .netbuf.held_bytes; }
dropped() { vm_status a | jq .netbuf.dropped_frames; }
answers() { lab client busybox ping -c 1 -W 10 "$1" >/dev/null 2>&1; }
flood_begins()
{
	says a '' 'for to in 192.168.77.1 192.168.80.1; do for i in 1 2; do
		ping -q -s 8000 -i 0.001 $to >/dev/null 2>&1 & done; done'
}
flood_ends() { says a '' 'killall ping; sleep 1'; }
tap_packets() { on a cat /sys/class/net/$1/statistics/rx_packets; }
have_sent() { [ "$(tap_packets px1.0)" -gt $((first + $1)) ] && [ "$(tap_packets px1.1)" -gt $((second + $1)) ]; }
what_guest_says()
{
	for i in 1 2; do
		typed a 'grep virtio /proc/interrupts; ip -s link; ps | grep ping; dmesg | tail -n 3' || true
		on a 'grep . /sys/class/net/px1.*/statistics/*; tc -s qdisc show'
	done >"$WORK/guest-says"
}
# both_send FRAMES: so many more of each NIC.
both_send()
{
	first=$(tap_packets px1.0) second=$(tap_packets px1.1)
	until_true "$LIMIT" have_sent "$1" && return
	what_guest_says
	fail "the guest's NICs sent $(($(tap_packets px1.0) - first)) and $(($(tap_packets px1.1) - second)) frames"
}
remains() { on a "ip -br link | grep ^plug; tc qdisc show | grep -v 'dev lo ' | grep -E 'plug|clsact'
	tc actions list action mirred | grep mirred" 2>/dev/null || true; }

say "seed $SEED; a VM with two NICs, protected"
on a "sed -i \"s/^vif.*/vif = [ 'mac=$VM_MAC,bridge=br0', 'mac=$SECOND_MAC,bridge=br0' ]/\" $VM_FILE"
vm_start a
lab client ip addr replace 192.168.80.1/24 dev eth0
says a '' "echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore; ip addr replace $SECOND_ADDRESS/24 dev eth1; ip link set eth1 up"
daemon_again a POLLUX_FAULT=plug.small_limit
vm_protect a b
vm_is a '.netbuf.kind == "plug"' || fail "not by plug: $(vm_get a .netbuf)"
until_true "$LIMIT" answers $SECOND_ADDRESS || fail "the second NIC does not answer"
limit=$(vm_get a .netbuf.limit_bytes)
client_begin

say "a flood on both"
flood_begins
most=0
epochs=$(vm_get a .epochs_committed) frames=$(($(tap_packets px1.0) + $(tap_packets px1.1)))
began=$EPOCHSECONDS
for ((i = 0; i < 20; i++)); do
	both_send 200
	now=$(held)
	[ "${now:-0}" -le "$most" ] || most=$now
done
took=$((EPOCHSECONDS - began + 1))
epochs=$(($(vm_get a .epochs_committed) - epochs)) frames=$(($(tap_packets px1.0) + $(tap_packets px1.1) - frames))
say "$frames frames in $took s and $epochs epochs, at most $most of $limit bytes were seen to wait"
[ "$(dropped)" = 0 ] || fail "frames were dropped: $(vm_get a .netbuf)"
[ $epochs -gt $((took * 3 / 2)) ] || fail "no epoch has ended early"
vm_is_protected a || fail "no longer protected: $(vm_get a .word)"
client_goes_on "in a flood"

say "the replication link is cut"
lab capture start lan-a -Q in "ether src $VM_MAC or ether src $SECOND_MAC"
sleep 1 # the capture has begun
first=$(tap_packets px1.0) second=$(tap_packets px1.1)
lab cut repl
sleep 1 # an acknowledgement that was on its way has arrived, or never will
cut=$(date +%s.%N)
until_true "$LIMIT" have_sent 0 || fail "the guest said nothing while nobody acknowledged"
sleep 3
say "since then the guest has sent $(($(tap_packets px1.0) - first)) and $(($(tap_packets px1.1) - second)) frames; $(held) bytes wait: $(vm_get a .word)"
healed=$(date +%s.%N)
[ "$(dropped)" = 0 ] || fail "frames were dropped: $(vm_get a .netbuf)"
lab heal repl
until_true "$PROTECT_LIMIT" vm_is_protected a || fail "not protected again: $(vm_get a .word)"
client_goes_on "after the link healed"
tcpdump -n -e -tt -r "$(lab capture stop lan-a)" 2>/dev/null >"$WORK/lan-a" || true
for mac in $VM_MAC $SECOND_MAC; do
	grep -q "$mac" "$WORK/lan-a" || fail "the capture has no frame of $mac at all"
done
awk -v cut="$cut" -v healed="$healed" '$1 > cut && $1 < healed' "$WORK/lan-a" >"$WORK/early"
[ ! -s "$WORK/early" ] || fail "$(wc -l <"$WORK/early") frames left uncommitted: $(head -n 3 "$WORK/early")"
say "$(wc -l <"$WORK/lan-a") frames of both NICs on the LAN, none between the cut and its healing"

say "the engine stands still"
on a 'kill -STOP $(pidof pollux-ha)'
has_dropped() { [ "$(on a "tc -s qdisc show | awk '/^qdisc plug/ { p = 1; next } /^qdisc/ { p = 0 } p && /dropped/ { sub(/,/, \"\", \$7); n += \$7 } END { print n + 0 }'")" -gt 0 ]; }
until_true "$LIMIT" has_dropped || fail "nothing is dropped: $(on a tc -s qdisc show | grep -A 2 plug)"
on a 'kill -CONT $(pidof pollux-ha)'
event_comes a output-dropped
say "told: $(on a pollux events | grep output-dropped | tail -n 1)"
vm_becomes a '.netbuf.dropped_frames > 0 and .protected'
client_goes_on "after frames were dropped"

say "devices are set down and deleted, $TIMES times"
for ((i = 0; i < TIMES; i++)); do
	device=$((RANDOM % 3)) nic=$((RANDOM % 2))
	case $device in
	0) what="ip link set px1.$nic down; sleep 0.$((RANDOM % 10)); ip link set px1.$nic up" ;;
	1) what="ip link set \$(ip -br link | grep -o '^plug[0-9.]*' | sed -n $((RANDOM % 4 + 1))p) down" ;;
	2) what="ip link del \$(ip -br link | grep -o '^plug[0-9.]*' | sed -n $((RANDOM % 4 + 1))p)" ;;
	esac
	sleep 0.$((RANDOM % 10)) # at random
	on a "$what" || fail "$what"
	client_goes_on "after $what"
	vm_is_protected a || until_true "$LIMIT" vm_is_protected a || fail "after $what: $(vm_get a .word)"
	both_send 20
	say "after $what: both NICs send"
done
has_event a netbuf-repaired || fail "no event tells of a repair"

say "the end leaves nothing"
flood_ends
on a pollux unprotect $VM >"$WORK/unprotect.log" 2>&1 || fail "unprotect: $(cat "$WORK/unprotect.log")"
[ -z "$(remains)" ] || fail "left behind: $(remains)"
client_goes_on "after unprotect"
client_accounts
