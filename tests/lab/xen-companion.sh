#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 900
#
# pollux-xen alone, on one host with Xen: what it refuses to adopt and to keep as a standby, each
# with its reason; a checkpoint by hand (xen-move) that a standby of it goes on from, with the
# processors that it had by then; and what is left when a companion is killed.
set -euo pipefail
cd "$(dirname "$0")/../.."
export LAB_NAME=${LAB_NAME:-pollux-xen} LAB_PLATFORM=xen
. tests/lab/common.sh xen-companion
lab_begin
lab push a "$O/bin/xen-move" /bin/xen-move

# refused_domain WORDS LINE...: a paused domain with these lines in its file cannot be adopted.
refused_domain()
{
	local words=$1
	shift
	printf '%s\n' 'name = "r"' 'kernel = "/srv/guest/vmlinuz"' 'memory = 128' "$@" >"$WORK/r.cfg"
	lab push a "$WORK/r.cfg" /run/r.cfg
	on a xl create -p /run/r.cfg >"$WORK/create" 2>&1 || fail "xl create: $(cat "$WORK/create")"
	refused "$words" pollux-xen --adopt r --run-dir /run/r
	on a xl destroy r
}

# serve WHAT...: a companion in the background, until it serves.
serve()
{
	on a "rm -rf /run/c; pollux-xen $* --run-dir /run/c >/tmp/c.log 2>&1 & echo \$! >/run/c.pid"
	until_true "$LIMIT" on a '[ -S /run/c/control ] || ! kill -0 $(cat /run/c.pid)' ||
		fail "pollux-xen $* does not serve"
	on a '[ -S /run/c/control ]' || fail "pollux-xen $*: $(on a cat /tmp/c.log)"
}
companion_gone() { on a '! kill -0 $(cat /run/c.pid) 2>/dev/null'; }
ended() { until_true "$LIMIT" companion_gone || fail "the companion does not end"; }
domains() { on a "xl list | grep -c '^redis '" || true; }
has_domains()
{
	until_true "$LIMIT" eval "[ \"\$(domains)\" = $1 ]" || fail "$(domains) domains, not $1"
}

say "what cannot be protected"
refused "there is no domain nobody" pollux-xen --adopt nobody --run-dir /run/r
refused_domain "no shadow paging" 'type = "pv"'
shim=usr/lib/xen-$(cat "$O/lab/xen/version")/boot/xen-shim
lab push a "$O/lab/xen/$shim" "/$shim"
refused_domain "pvshim" 'type = "pvh"' 'pvshim = 1'
on a "rm /$shim"
refused_domain "is below its maxmem" 'type = "pvh"' 'maxmem = 160'
refused_domain "nomigrate" 'type = "pvh"' 'nomigrate = 1'
refused_domain "I/O ports of the host" 'type = "pvh"' 'ioports = [ "2f8-2ff" ]'
refused_domain "is called web0" 'type = "pvh"' 'vif = [ "bridge=br0,vifname=web0" ]'

# vcpu_is STATE: of the second processor, as xl shows it; "--p": it is down.
vcpu_is() { on a 'xl vcpu-list redis' | awk '$3 == 1 { print $5 }' | grep -q -- "$1"; }
becomes_vcpu() { until_true "$LIMIT" vcpu_is "$1" || fail "not $1: $(on a xl vcpu-list redis)"; }

say "a checkpoint by hand, with one processor less than when it was described"
on a "sed -i 's/^vcpus = .*/vcpus = 2/' $VM_FILE"
vm_start a
becomes_vcpu '[^p]$'
lab client redis-cli -h $VM_ADDRESS set key before >/dev/null
serve --adopt redis
on a 'mkdir -p /run/m && xen-move describe /run/c /run/m && mv /run/m/config.json /run/described.json'
on a xl vcpu-set redis 1
becomes_vcpu '--p'
on a 'xen-move save /run/c /run/m && mv /run/described.json /run/m/config.json'
refused "has the same uuid" pollux-xen --standby --config /run/m/config.json --run-dir /run/r
on a xen-move destroy /run/c
ended
has_domains 0

say "what a host cannot keep a standby of"
# refused_standby WORDS SED: the description, bent.
refused_standby()
{
	on a "sed -E '$2' /run/m/config.json >/run/bent.json"
	refused "$1" pollux-xen --standby --config /run/bent.json --run-dir /run/r
}
refused_standby "not the same" 's/"version":"4.17/"version":"4.16/'
refused_standby "there is no bridge nowhere" 's/br0/nowhere/g'
refused_standby "lacks features" 's/(0700000000000000.{8}).{8}/\1ffffffff/'
refused_standby "MiB free" 's/("[a-z]*_memkb": ?)131072/\113107200/g'
refused_standby "is no JSON object" 's/^.//'
has_domains 0

say "what a companion that is killed leaves behind, the next clears away"
serve --standby --config /run/m/config.json
on a 'kill -9 $(cat /run/c.pid)'
ended
has_domains 1
serve --standby --config /run/m/config.json
has_domains 1
on a 'kill $(cat /run/c.pid)'
ended
has_domains 0

say "the standby goes on from the checkpoint"
serve --standby --config /run/m/config.json
on a 'xen-move load /run/c /run/m'
until_true "$LIMIT" vm_answers || fail "the guest does not answer"
[ "$(lab client redis-cli -h $VM_ADDRESS get key)" = before ] || fail "what was written is lost"
vcpu_is '--p' || fail "its second processor: $(on a xl vcpu-list redis)"
on a 'xenstore-read /local/domain/$(xl domid redis)/cpu/1/availability' | grep -qx offline ||
	fail "xenstore has its second processor plugged"

say "it outlives its companion, and another one adopts it"
on a 'kill -9 $(cat /run/c.pid)'
ended
vm_answers || fail "the guest has ended with its companion"
serve --adopt redis

say "xl destroys it"
on a xl destroy redis
ended
on a 'grep -q "event=domain_ended reason=destroy" /tmp/c.log' || fail "$(on a cat /tmp/c.log)"
