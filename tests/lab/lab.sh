#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
#
# The lab itself: its verbs do what they say, links really drop, a disk survives a
# power cut, and a lab that was torn to pieces leaves nothing in the next one's way.
set -euo pipefail
cd "$(dirname "$0")/../.."
export LAB_NAME=pollux-lt
[ "$(id -u)" -eq 0 ] || { echo "needs root"; exit 77; }
lab=tools/lab/pollux-lab
trap '$lab down' EXIT

fail()
{
	echo "FAILED: $*"
	exit 1
}

lab() { $lab "$@" </dev/null; }
reaches() { lab client busybox ping -c 1 -W 2 "$1" >/dev/null 2>&1; }
nodes_reach() { lab sh a busybox ping -c 1 -W 2 192.168.78.12 >/dev/null 2>&1; }

lab up
lab status

echo '# commands, their status and their input'
[ "$(lab sh a hostname)" = a ] || fail "sh does not run in node a"
[ "$(lab sh b 'echo x >&2; exit 7' 2>&1; echo $?)" = $'x\n7' ] || fail "status or errors are lost"
head -c 3000000 /dev/urandom >"/tmp/lab-test.$$"
[ "$($lab sh a sha256sum <"/tmp/lab-test.$$")" = "$(sha256sum <"/tmp/lab-test.$$")" ] ||
	fail "standard input arrives changed"
lab push a "/tmp/lab-test.$$" /tmp/pushed
lab pull a /tmp/pushed "/tmp/lab-test.$$.back"
cmp "/tmp/lab-test.$$" "/tmp/lab-test.$$.back" || fail "push and pull change a file"
rm -f "/tmp/lab-test.$$"*

echo '# what a host needs'
lab sh a 'test -c /dev/kvm && grep -q -E "vmx|svm" /proc/cpuinfo' || fail "no KVM in the node"
lab sh a 'modprobe -a sch_plug ifb act_mirred cls_matchall sch_netem nbd drbd' ||
	fail "a module is missing"
lab sh a 'test "$(stat -c %a /etc/pollux/tls/key.pem)" = 600' || fail "the key is not private"

echo '# links'
reaches 192.168.77.11 && reaches 192.168.77.12 && nodes_reach || fail "a network is not there"
lab cut repl
! nodes_reach || fail "a cut replication link carries packets"
reaches 192.168.77.11 || fail "cutting repl cut the LAN"
lab heal repl
nodes_reach || fail "repl does not heal"
lab cut lan-a
! reaches 192.168.77.11 || fail "a cut LAN port carries packets"
reaches 192.168.77.12 || fail "cutting lan-a cut b"
lab heal lan-a
reaches 192.168.77.11 || fail "lan-a does not heal"

echo '# hang and power cut'
lab freeze a
! reaches 192.168.77.11 || fail "a frozen node answers"
lab thaw a
reaches 192.168.77.11 || fail "a thawed node does not answer"
lab sh a 'echo kept >/var/lib/pollux/kept; sync'
lab push a Makefile /var/lib/pollux/pushed
lab kill a
[[ $(lab status) == *'node a: off'* ]] || fail "a killed node is not off"
lab start a
[ "$(lab sh a cat /var/lib/pollux/kept)" = kept ] || fail "the disk did not survive"
lab sh a cat /var/lib/pollux/pushed | cmp - Makefile || fail "what was pushed did not survive"

echo '# captures'
lab capture start lan icmp
reaches 192.168.77.11
file=$(lab capture stop lan)
packets=$(tcpdump -n -r "$file" 2>/dev/null | wc -l)
[ "$packets" -eq 2 ] || fail "a ping is $packets packets, not two"

echo '# torn to pieces, then up again'
kill -9 "$(cut -d' ' -f1 /run/pollux-lab/$LAB_NAME/a.pid)"
ip netns exec $LAB_NAME ip link delete repl
# A record that is not ours any more: the process it names must live.
sleep 300 &
bystander=$!
echo "$bystander 12345" >/run/pollux-lab/$LAB_NAME/b.pid
echo "$bystander 12345" >/run/pollux-lab/$LAB_NAME/a.pid
lab up
kill -0 $bystander || fail "a bystander was killed"
kill $bystander
reaches 192.168.77.11 && nodes_reach || fail "a torn lab does not come up again"

lab down
[ ! -e /run/pollux-lab/$LAB_NAME ] && [ ! -e /run/netns/$LAB_NAME ] || fail "down leaves something"
