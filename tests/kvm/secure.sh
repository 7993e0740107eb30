#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 180
#
# What stands between the parts: pollux-vmm is nobody, with a filter on its system calls, in each of
# its threads; the stream is encrypted, or status, CLI and metrics say aloud that it is not; hosts
# that do not agree on that do not speak with each other.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/pair.sh

protected() { [ "$(status a .protected)" = true ]; }

# confined HOST: of the user, the groups, the capabilities and the filter of its pollux-vmm.
confined()
{
	local pid task line wrong
	pid=$(pids_of "$1" vmm)
	[ -n "$pid" ] || fail "no pollux-vmm on $1"
	for task in /proc/"$pid"/task/*/status; do
		wrong=$(awk '
			$1 ~ /^[UG]id:$/ { for (i = 2; i <= 5; i++) if ($i == 0) print }
			$1 == "Groups:" && NF > 1
			$1 ~ /^Cap/ && $2 !~ /^0+$/
			$1 == "NoNewPrivs:" && $2 != 1
			$1 == "Seccomp:" && $2 != 2
			$1 ~ /^([UG]id|Groups|Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp):$/ { seen++ }
			END { if (seen != 10) print seen " of 10 lines" }' "$task")
		[ -z "$wrong" ] || fail "$1, $task: $wrong"
	done
	echo "$1: $(ls "/proc/$pid/task" | wc -l) threads without rights: $(grep ^Uid: "/proc/$pid/status" | tr '\t' ' ')"
}
# encrypted JSON WORDS METRIC: who says it, and how.
encrypted()
{
	local port
	[ "$(status a .encryption)" = "$1" ] || fail "status: $(status a .encryption)"
	on a status tiny | grep -qw "$2" || fail "not \"$2\": $(on a status tiny)"
	port=$(sed -n '/^\[http\]/,/^\[paths\]/s/^listen = .*://p' "$T/a/pollux.conf")
	until_true 10 metric "$port" "$3" || fail "no pollux_vm_encrypted{...} $3"
}
metric() { curl -sS "http://127.0.0.1:$1/metrics" | grep -q "^pollux_vm_encrypted{.*} $2"; }

make_pair 'interval = 50ms' 'timeout = 2s'
start_host a
start_host b
on a vm create "$T/tiny.cfg" >/dev/null || fail "vm create"
on a protect tiny b >/dev/null || fail "protect"
until_true 40 protected || fail "not protected: $(status a .word)"
if [ "$(id -u)" = 0 ]; then
	confined a
	confined b
fi
encrypted true "encrypted" 1
end_pair

sed -i 's/^\[tls\]$/&\nencryption = off/' "$T/a/pollux.conf"
rm -rf "$T"/[ab]/{run,state}
start_host a
start_host b
on a vm create "$T/tiny.cfg" >/dev/null || fail "vm create"
on a protect tiny b >/dev/null 2>"$T/refused" && fail "protected, and only one host encrypts"
grep -q "encryption is off here" "$T/refused" || fail "one host encrypts: $(cat "$T/refused")"
echo "one host encrypts: $(cat "$T/refused")"
end_pair

sed -i 's/^\[tls\]$/&\nencryption = off/' "$T/b/pollux.conf"
rm -rf "$T"/[ab]/{run,state}
start_host a
start_host b
on a vm create "$T/tiny.cfg" >/dev/null || fail "vm create"
on a protect tiny b >/dev/null || fail "protect"
until_true 40 protected || fail "not protected: $(status a .word)"
encrypted false "NOT ENCRYPTED" 0
echo "encryption = off: said"
end_pair
exit 0
