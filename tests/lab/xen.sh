#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 900
#
# Hosts that run Xen: the lab's verbs do there what they do on KVM, and a guest that xl made
# is on the LAN.
set -euo pipefail
cd "$(dirname "$0")/../.."
export LAB_NAME=pollux-xen LAB_PLATFORM=xen
. tests/lab/common.sh xen
lab_begin

say "two hosts with Xen"
for node in a b; do
	on $node 'xl info | grep -E "^(host|xen_version|nr_cpus|total_memory|free_memory)"'
	on $node 'grep -q control_d /proc/xen/capabilities' || fail "$node is no dom0"
	[ "$(on $node xl info xen_major)$(on $node xl info xen_minor)" = 417 ] || fail "not Xen 4.17"
	on $node 'modprobe -a sch_plug ifb act_mirred cls_matchall nbd' || fail "a module is missing"
done
[ "$(on a "xl info nr_cpus")" = 2 ] || fail "the second processor is not there"

say "a guest that xl made"
vm_start a
on a xl list
on a 'ip link show master br0 | grep -q vif' || fail "no vif on the bridge"
