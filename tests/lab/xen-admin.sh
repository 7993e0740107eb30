#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 1200
#
# What an administrator does with xl to a domain that is protected: each verb is refused, or
# followed, or ends the protection, and then it is said.
set -euo pipefail
cd "$(dirname "$0")/../.."
export LAB_NAME=${LAB_NAME:-pollux-xen} LAB_PLATFORM=xen
. tests/lab/common.sh xen-admin
lab_begin

# not_protected WORDS: it cannot be, and that is said; at once, or where hosts are slow, soon after.
not_protected()
{
	on a pollux protect $VM b >"$WORK/refused" 2>&1 || true
	event_comes a "(protect.refused|ha.died) .*$1"
	say "  $(on a pollux events | grep -oE "$1.*" | tail -n 1)"
	on a pollux unprotect $VM >/dev/null 2>&1 || true
}
domid() { on a xl domid $VM 2>/dev/null || true; }

say "what somebody else has suspended, or follows, is not taken; nor is it without sch_plug"
vm_start a
on a 'mv /lib/modules/*/sch_plug.ko /tmp/'
not_protected "this kernel has no sch_plug"
on a 'mv /tmp/sch_plug.ko /lib/modules/*/'
# A receiver that says hello and takes no more.
cat >"$WORK/receiver" <<'END'
echo $$ >/run/receiver.pid
echo 'xl migration receiver ready, send binary domain data.'
exec sleep 600
END
lab push a "$WORK/receiver" /run/receiver
on a "(xl migrate -s '' $VM 'sh /run/receiver' >/tmp/migrate.log 2>&1 &)"
until_true "$LIMIT" on a 'pidof libxl-save-helper' || fail "no migration: $(on a cat /tmp/migrate.log)"
sleep 1
not_protected "is being saved or migrated"
on a 'kill $(cat /run/receiver.pid)'
until_true "$LIMIT" on a '! pidof libxl-save-helper' || fail "the migration does not end"
# Its helper has left the domain's writes followed; the refusal says how to end that.
not_protected "if it broke off, .xl save -c 1 /dev/null. first"
on a "xl save -c $VM /dev/null" >"$WORK/save.log" 2>&1 || fail "xl save -c: $(tail -n 2 "$WORK/save.log")"

say "protected: xl save and xl migrate are refused"
vm_protect a b
# verb_refused WORDS COMMAND: it fails, with these words, and epochs go on.
verb_refused()
{
	local epochs
	refused "$@"
	epochs=$(vm_get a .epochs_committed)
	vm_becomes a ".protected and .epochs_committed > $epochs"
}
verb_refused "suspend" "xl save $VM /run/saved"
verb_refused "suspend" "xl migrate -s '' $VM 'sh /run/receiver'"

say "xl pause: nothing is committed meanwhile, and that is said"
on a xl pause $VM
vm_becomes a '.word | contains("stalled")'
on a xl unpause $VM
vm_becomes a .protected

say "xl mem-set: protection goes on or ends with a word, and a guest with less memory is refused"
epochs=$(vm_get a .epochs_committed)
on a xl mem-set $VM 100
vm_becomes a "(.protected and .epochs_committed > $epochs + 10) or (.word | contains(\"memory\"))"
say "  $(vm_get a .word)"
on a pollux unprotect $VM
memory_is() { [ "$(on a "xl list $VM" | awk 'END { print $3 }')" $1 ]; }
until_true "$LIMIT" memory_is "-le 110" || fail "it does not give memory away: $(on a xl list $VM)"
refused "below its maxmem" pollux protect $VM b
on a xl mem-set $VM 128
until_true "$LIMIT" memory_is "-eq 128" || fail "it does not take memory: $(on a xl list $VM)"
vm_protect a b

say "xl reboot, and no xl is there to see to it"
on a 'kill $(pidof xl) 2>/dev/null; true'
first=$(domid)
on a xl reboot $VM
event_comes a "vm.left.*action: restart" "$BOOT_LIMIT"
event_comes a "vm.restarted" "$BOOT_LIMIT"
[ "$(domid)" != "$first" ] || fail "it has not rebooted"
until_true "$PROTECT_LIMIT" vm_is_protected a || fail "not protected anew: $(vm_get a .word)"
until_true "$BOOT_LIMIT" vm_answers || fail "the guest does not answer"

# ended COMMAND: protection has ended, and the other host does not take over.
endings=0
endings() { on a pollux events | grep -cE "unprotected .*has ended"; }
has_ended_again() { [ "$(endings)" -gt "$endings" ]; }
ended()
{
	say "$*: protection has ended, and the other host does not take over"
	on a "$@"
	until_true "$LIMIT" has_ended_again || fail "not ended: $(vm_get a .word)"
	endings=$(endings)
	say "  $(on a pollux events | grep -oE 'vm\.(stopped|left).*' | tail -n 1)"
	until_true "$LIMIT" on b "! xl domid $VM" || fail "b has a domain still: $(on b xl list)"
	until_true "$LIMIT" on a "! xl domid $VM" || fail "a has the domain still: $(on a xl list)"
	! has_event b takeover || fail "b took over: $(on b pollux events | tail -n 5)"
}
ended xl destroy $VM

vm_start a
vm_protect a b
ended xl shutdown $VM

on a "sed -i 's/panic=1/panic=1 sysrq_always_enabled/' $VM_FILE"
vm_start a
vm_protect a b
ended xl sysrq $VM c

say "a backup with fewer features"
lab kill b
LAB_CPU_FEATURES=-aes lab start b
vm_start a
on a pollux protect $VM b >"$WORK/protect.log" 2>&1 || true
lacks_features() { grep -q 'lacks features' "$WORK/protect.log" || [[ $(vm_get a .word) == *"lacks features"* ]]; }
until_true "$LIMIT" lacks_features || fail "not refused: $(cat "$WORK/protect.log"), $(vm_get a .word)"
say "  $(vm_get a .word)"
