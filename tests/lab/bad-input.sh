#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 700
#
# What people and hosts get wrong, each with what Pollux must say: VM files, disks, memory,
# names, certificates, a full file system, and each of its own processes killed.
set -euo pipefail
cd "$(dirname "$0")/../.."
export LAB_NAME=pollux-bad-input
# Longer than a killed engine needs to be back.
export LAB_TIMEOUT=10s
. tests/lab/common.sh bad-input
lab_begin
bad=0

ok() { echo "ok      $1"; }
bad()
{
	bad=$((bad + 1))
	echo "FAILED  $1: $2"
}

# refuses NAME STATUS PATTERN NODE COMMAND: it ends with one of these statuses (a pattern)
# and its words match.
refuses()
{
	local name=$1 wanted=$2 pattern=$3 words status=0
	shift 3
	words=$(on "$@" 2>&1) || status=$?
	if ! [[ $status =~ ^($wanted)$ ]]; then
		bad "$name" "exit status $status instead of $wanted: $words"
	elif ! grep -q -E -- "$pattern" <<<"$words"; then
		bad "$name" "nothing like \"$pattern\" in: $words"
	else
		ok "$name ($status: $(tail -n 1 <<<"$words"))"
	fi
}

# holds NAME SECONDS COMMAND...: it becomes true.
holds()
{
	local name=$1 limit=$2
	shift 2
	if until_true "$limit" "$@"; then
		ok "$name"
	else
		bad "$name" "not after $limit s; on a: $(vm_get a .word), on b: $(vm_get b .word)"
	fi
}

# vm_file NAME SED: a VM file on a, of another VM than the one that runs.
vm_file()
{
	on a "sed -e 's/^name.*/name = \"$1\"/' -e 's/de01/de77/' -e 's/77:01:00/77:01:07/' \
		-e '$2' $VM_FILE >/run/$1.cfg"
}

say "VM files"
vm_file unknown '3iflavour = "sweet"'
refuses "unknown key" 3 ':3: .*flavour|line 3.*flavour' a pollux vm create /run/unknown.cfg
vm_file nokernel 's,/srv/guest/vmlinuz,/srv/guest/nothing,'
refuses "missing kernel" 3 '/srv/guest/nothing' a pollux vm create /run/nokernel.cfg
vm_file nodisk 's,/var/lib/pollux/redis.img,/var/lib/pollux/nothing.img,'
refuses "absent disk" 3 '/var/lib/pollux/nothing.img' a pollux vm create /run/nodisk.cfg
refuses "no VM file" 3 '/run/nowhere.cfg' a pollux vm create /run/nowhere.cfg
[ "$(on a pollux vm list --format json | jq '.vms | length')" = 0 ] &&
	ok "nothing is left of them" || bad "nothing is left of them" "$(on a pollux vm list)"

vm_start a
client_begin
vm_file second ''
refuses "disk in use" "1|3" 'redis.img.*in use' a pollux vm create /run/second.cfg
refuses "a VM that exists" "1|3" 'exists' a pollux vm create $VM_FILE

say "hosts and names"
refuses "unknown host" 3 'host.*nohost' a pollux protect $VM nohost
refuses "itself as host" 3 'itself' a pollux protect $VM a
refuses "unknown VM" "1|3" 'novm' a pollux protect novm b
refuses "unprotect of what is not protected" "1|3" 'not protected' a pollux unprotect $VM

# protect_fails NAME PATTERN: refused with that reason, at once or, where the answer takes
# long, in the status and an event; nothing of it is left behind.
protect_fails()
{
	local words status=0
	words=$(on a pollux protect $VM b 2>&1) || status=$?
	if [ $status -eq 0 ]; then
		holds "$1" "$LIMIT" has_event a "$2"
		on a pollux unprotect $VM >/dev/null 2>&1 || true
	elif [ $status -eq 3 ] && grep -q -E -- "$2" <<<"$words"; then
		ok "$1 ($status: $words)"
	else
		bad "$1" "exit status $status: $words"
	fi
	! runs a pollux-ha || bad "$1" "an engine is left on a"
	! runs b pollux-vmm || bad "$1" "a standby is left on b"
}

say "a backup that cannot be one"
on b 'mv /var/lib/pollux/redis.img /var/lib/pollux/kept.img; truncate -s 100M /var/lib/pollux/redis.img'
protect_fails "disk too small on the backup" 'redis.img has 104857600 bytes'
on b 'rm -f /var/lib/pollux/redis.img; mv /var/lib/pollux/kept.img /var/lib/pollux/redis.img'

# All but 150 MiB; a tmpfs takes what is written to it from memory.
on b 'mkdir -p /run/fill && mount -t tmpfs -o size=90% fill /run/fill &&
	dd if=/dev/zero of=/run/fill/fill bs=1M 2>/dev/null \
		count=$(awk "/^MemAvailable/ { print int(\$2 / 1024) - 150 }" /proc/meminfo)'
protect_fails "memory that the backup has not got" 'of memory are available, the standby needs'
on b 'umount /run/fill'

say "a peer with a certificate of another authority"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 10 -subj /CN=a \
	-addext subjectAltName=DNS:a -keyout "$WORK/wrong.key" -out "$WORK/wrong.pem" 2>/dev/null
on a 'cp -a /etc/pollux/tls /etc/pollux/tls.kept'
lab push a "$WORK/wrong.key" /etc/pollux/tls/key.pem
lab push a "$WORK/wrong.pem" /etc/pollux/tls/cert.pem
on a 'chmod 600 /etc/pollux/tls/key.pem'
protect_fails "wrong certificate" 'certificate|TLS|alert|unknown ca'
on a 'rm -rf /etc/pollux/tls; mv /etc/pollux/tls.kept /etc/pollux/tls'

say "a full file system on the backup"
fill()
{
	# What is kept for root counts as well: it is root who writes.
	on b 'cd /var/lib/pollux && fallocate -l $(($(stat -f -c %f .) * 4096 - 4000000)) fill 2>/dev/null
		dd if=/dev/zero of=fill2 bs=4k 2>/dev/null; true'
}
fill
protect_fails "full" '[Nn]o space'
on b 'rm -f /var/lib/pollux/fill*'
vm_protect a b
fill
holds "full while protected: told" "$LIMIT" has_event a 'handed over: no space'
client_goes_on "while the backup is full"
on b 'rm -f /var/lib/pollux/fill*'
holds "room again: protected by itself" "$PROTECT_LIMIT" vm_is_protected a
refuses "a second protect" 3 'already protected' a pollux protect $VM b
refuses "protect of a standby" 3 'standby' b pollux protect $VM a

say "its own processes, killed"
epoch=$(vm_get b .epoch)
on a 'touch /run/lab-no-polluxd; kill -9 $(pidof polluxd)'
refuses "no daemon" 5 'polluxd' a pollux status
holds "protection goes on without polluxd" "$LIMIT" vm_is b ".protected and .epoch > $epoch + 10"
on a 'rm /run/lab-no-polluxd'
holds "polluxd finds the VM and its protection" "$LIMIT" vm_is_protected a
client_goes_on "after polluxd was killed"

on b 'kill -9 $(pidof polluxd)'
holds "the backup's polluxd likewise" "$LIMIT" vm_is_protected b

# Each of these ends the standby's life: protection is another one, of a later generation.
generation=$(vm_get a .generation)
protected_anew() { vm_is a ".protected and .generation > $generation"; }
# Who sees it first, the backup's polluxd or the primary that asks for another.
standbys_over() { on b pollux events 2>/dev/null | grep -c -E 'standby\.(ended|renewed)' || true; }
standbys_over_more_than() { [ "$(standbys_over)" -gt "$1" ]; }

over=$(standbys_over)
on b 'kill -9 $(pidof pollux-ha)'
holds "the backup's engine: told" "$LIMIT" standbys_over_more_than "$over"
holds "the backup's engine: protected again" "$PROTECT_LIMIT" protected_anew
client_goes_on "after the backup's engine was killed"

generation=$(vm_get a .generation)
on a 'kill -9 $(pidof pollux-ha)'
holds "the primary's engine: told" "$LIMIT" has_event a 'ha.died'
holds "the primary's engine: protected again" "$PROTECT_LIMIT" protected_anew
client_goes_on "after the primary's engine was killed"

generation=$(vm_get a .generation)
on b 'kill -9 $(pidof pollux-vmm)'
holds "the standby: told" "$LIMIT" has_event b 'vm.died'
holds "the standby: protected again" "$PROTECT_LIMIT" protected_anew
client_goes_on "after the standby was killed"
client_accounts

say "a host without KVM"
on a pollux vm destroy $VM >/dev/null 2>&1 || bad "destroy" "$VM on a"
on a 'mv /dev/kvm /dev/kvm.kept'
refuses "no /dev/kvm" '1|3' '/dev/kvm' a pollux vm create $VM_FILE
on a 'mv /dev/kvm.kept /dev/kvm'

say "a backup with other processors"
lab kill b
LAB_CPU_FEATURES=-aes lab start b
vm_start a
refuses "other processors" 3 'processors: the guest knows' a pollux protect $VM b

[ $bad -eq 0 ] || fail "$bad of the cases"
