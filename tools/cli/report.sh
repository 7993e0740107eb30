#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# pollux report [FILE]: what whoever looks into a problem asks for, in one tar.gz that only its
# owner may read: what the hosts say, the configuration, logs, the kernel, the network, Xen, DRBD. No
# memory, no disk, no key of a VM or of a host; what looks like a secret in a log is taken out.
set -euo pipefail
umask 077
LOG_BYTES=$((2 << 20)) # of each, the end

stamp=$(date -u +%Y%m%dT%H%M%SZ)
name=pollux-report-$(hostname)-$stamp
file=${1:-$name.tar.gz}
[ ! -e "$file" ] || { echo "pollux: $file exists; name another" >&2; exit 3; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
dir=$work/$name
mkdir -p "$dir/log"

# take NAME COMMAND...: what it says, if it is there at all.
take()
{
	local to=$dir/$1
	shift
	command -v "$1" >/dev/null || return 0
	timeout 20 "$@" >"$to" 2>&1 </dev/null || echo "(exit status $?)" >>"$to"
}
# key FILE SECTION KEY: of the configuration as polluxd has it.
key() { sed -n "/^\[$1\]/,/^\[/s/^$2 = //p" "$dir/config"; }

take status.json pollux status --format json
take config pollux config dump
take version pollux version
take events.jsonl pollux events --format json
take uname uname -a
take processors lscpu
take memory free -b
take modules lsmod
take disks lsblk -b
take space df -B1
take links ip -s -d link
take addresses ip addr
take qdiscs tc -s qdisc
take processes ps -eo pid,ppid,stat,etimes,rss,comm
take unit systemctl show polluxd
take journal journalctl -u polluxd -n 5000 --no-pager
take kernel-log dmesg -T
take xl-info xl info
take xl-list xl list
take xl-dmesg xl dmesg
take drbd drbdadm status
for setting in cert ca; do
	path=$(key tls $setting)
	[ -z "$path" ] || take "$setting" openssl x509 -in "$path" -noout -subject -issuer -dates -ext subjectAltName
done
logs=$(key paths log)
for log in "${logs:-/var/log/pollux}"/*.log; do
	[ -f "$log" ] && tail -c $LOG_BYTES "$log" >"$dir/log/${log##*/}"
done
# The host's records, without the disks' logs and regions beside them.
state=$(key paths state)
for record in "${state:-/var/lib/pollux}"/*/record; do
	[ -f "$record" ] && mkdir -p "$dir/record" && xxd "$record" >"$dir/record/$(basename "$(dirname "$record")")" || true
done
find "$dir" -type f -exec sed -i -E \
	-e '/-----BEGIN [A-Z ]*PRIVATE KEY-----/,/-----END [A-Z ]*PRIVATE KEY-----/s/.*/(a private key was here)/' \
	-e 's/((passw(or)?d|passphrase|secret|token)["]?[ =:]+["]?)[^ "]+/\1(removed)/Ig' {} +
tar -C "$work" -c -z -f "$file.new" "$name"
mv "$file.new" "$file"
echo "$file: $(stat -c %s "$file") bytes; look through it before you hand it on"
