# SPDX-License-Identifier: Apache-2.0
# Sourced by tests of two hosts, a and b, on one machine: the real polluxd, pollux-vmm and
# pollux-ha over loopback and TLS, and the guest that counts (tests/kvm/tiny.S).

[ -c /dev/kvm ] && [ -r /dev/kvm ] || { echo "no /dev/kvm"; exit 77; }
. tests/lib/tools.sh
O=$(realpath "$O") BIN=$O/bin
export POLLUX_LIBEXEC=$BIN

cat >"$T/tiny.cfg" <<CFG
name = "tiny"
uuid = "0e4f6d0a-2b53-4b0c-9f0f-6f1f52a1c001"
kernel = "$O/tests/kvm/tiny"
memory = 64
vcpus = 1
CFG

status() { on "$1" status tiny --format json | jq -r ".vms[0]$2"; }
# engine_status HOST FILTER: what its pollux-ha says now. What polluxd says is up to 300 ms old: no
# word of what comes after something that has just been seen.
engine_status() { "$O/tests/kvm/ask" "$T/$1/run/ha/tiny.sock" 2>/dev/null | jq -r "$2"; }
serial() { cat "$T/$1"/run/vm/*/serial.log 2>/dev/null; }

# until_true SECONDS COMMAND...
until_true()
{
	local limit=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $limit ] || return 1
		sleep 0.1
	done
}

# make_pair LINE...: folders of both hosts; the lines go into [protection].
make_pair()
{
	local host
	for host in a b; do
		make_host $host $([ $host = a ] && echo 1 || echo 2)
		printf '%s\n' '[protection]' "$@" >>"$T/$host/pollux.conf"
	done
}
# own_disks: from here on $T/disks is each host's own, $T/HOST/disks.
own_disks()
{
	unshare -m true 2>/dev/null || { echo "no mount namespaces"; exit 77; }
	mkdir -p "$T/disks"
	as_host()
	{
		local own=$T/$1/disks
		shift
		exec unshare -m sh -c 'mount --bind "$1" "$2" && shift 2 && exec "$@"' - "$own" \
			"$T/disks" "$@"
	}
}
# faulty HOST: its next pollux-ha and pollux-vmm get their fault points from $T/HOST/fault and
# $T/HOST/fault-vmm, and leave their pid in $T/HOST/armed; polluxd's own would count for all.
faulty()
{
	local program file
	mkdir -p "$T/$1/libexec"
	for program in ha vmm; do
		file=$T/$1/fault$([ $program = ha ] || echo -vmm)
		cat >"$T/$1/libexec/pollux-$program" <<-SH
			#!/bin/sh
			if [ -s "$file" ]; then
				POLLUX_FAULT=\$(cat "$file")
				export POLLUX_FAULT
				echo \$\$ >"$T/$1/armed"
				: >"$file"
			fi
			exec "$BIN/pollux-$program" "\$@"
		SH
		chmod +x "$T/$1/libexec/pollux-$program"
	done
}
start_host()
{
	local libexec=$T/$1/libexec
	[ -d "$libexec" ] || libexec=$POLLUX_LIBEXEC
	POLLUX_LIBEXEC=$libexec POLLUX_RUN_DIR=$T/$1/run start "$1"
}

# pids_of HOST polluxd|vmm|ha|standby|all: of what runs there for tiny. `standby` leaves the
# engine alone, and nobody who would notice.
pids_of()
{
	case $2 in
	polluxd) cat "$T/$1/daemon.pid" ;;
	vmm) pid_in <(cat "$T/$1"/run/vm/*/vm.json) ;;
	ha) pid_in "$T/$1/run/ha/tiny.run" ;;
	standby) pids_of "$1" polluxd; pids_of "$1" vmm ;;
	all) pids_of "$1" polluxd; pgrep -f "pollux-(ha|vmm) .*$T/$1/" ;;
	esac 2>/dev/null
}
# gone PID...: they have ended, reaped or not, and hold no port and no file any more.
gone()
{
	local pid state
	for pid; do
		read -r state < <(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null) || continue
		[ "${state%% *}" = Z ] || return 1
	done
	return 0
}
# kill_all PID...: at once, and waits until they have ended.
kill_all()
{
	[ $# -gt 0 ] || return 0
	kill -9 "$@" 2>/dev/null
	until_true 10 gone "$@" || fail "not killed within 10 s: $*"
}
# cut_off HOST WHAT: kills it at once, as if it had never been able to say a word. Of `all`
# polluxd is first, so that nothing is started meanwhile that nobody would know of.
cut_off()
{
	[ "$2" != all ] || kill_all $(pids_of "$1" polluxd)
	kill_all $(pids_of "$1" "$2")
}

# marked_bytes HOST: how much of the disks of its VM may differ from the other host's.
marked_bytes() { "$O/tests/kvm/vmctl" "$(echo "$T/$1"/run/vm/*)" marked; }

# equal_disks FROM TO: the guest stands still, and the backup has applied what there is; then the
# images of d0 and d1 are compared.
equal_disks()
{
	local from=$1 to=$2 vm disk last
	vm=$(echo "$T/$from"/run/vm/*)
	"$O/tests/kvm/vmctl" "$vm" pause || fail "$what: pause"
	# Epochs go on while the guest stands still.
	last=$(engine_status "$from" .epoch)
	until_true 20 has_applied "$from" "$last" ||
		fail "$what: epoch $last is not applied: $(engine_status "$from" .backup)"
	for disk in d0 d1; do
		cmp "$T/$from/disks/$disk" "$T/$to/disks/$disk" || fail "$what: $disk differs"
	done
	"$O/tests/kvm/vmctl" "$vm" unpause
}
# has_applied HOST EPOCH: the backup of the VM there, by what it says itself.
has_applied() { [ "$(engine_status "$1" .backup.committed_epoch)" -ge "$2" ]; } 2>/dev/null

# end_pair: both hosts' programs, at once.
end_pair()
{
	local host
	for host in a b; do
		cut_off $host all
		rm -f "$T/$host/daemon.pid"
	done
}
