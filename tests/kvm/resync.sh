#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 600
#
# Two hosts on one machine (tests/lib/pair.sh), and a guest that writes to two disks
# (writer.c). The backup's engine dies at every step of the disks' protocol, one after the
# other, and comes back: each time only regions that may differ are copied, and the disks are
# equal in the end, byte by byte. Then a copy that is interrupted ten times; a takeover, and the
# way back; a disk that somebody else has written to.
#
# Each host sees disks of its own by the same path: a mount namespace.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/pair.sh
DISK_MIB=${DISK_MIB:-256}
POINTS=${POINTS:-apply.open apply.synced apply.following regions.create regions.rename
	disk.apply:3000 disk.flush:3 assemble.end:2 commit.begin:3 commit.state:3 durable.sync
	durable.report:2}

mkdir -p "$T/disks"
truncate -s ${DISK_MIB}M "$T/disks/disk"{0,1} # for the command line, which looks

for host in a b; do mkdir -p "$T/$host/own"; truncate -s ${DISK_MIB}M "$T/$host/own/disk"{0,1}; done
sed -i "s#^kernel.*#kernel = \"$O/tests/kvm/writer\"#" "$T/tiny.cfg"
echo "disk = [ '$T/disks/disk0,raw,xvda,rw', '$T/disks/disk1,raw,xvdb,rw' ]" >>"$T/tiny.cfg"

# The programs of a host, in a namespace of their own; the engine with a fault point.
for host in a b; do
	mkdir -p "$T/$host/bin"
	cat >"$T/$host/bin/polluxd" <<-SH
		#!/bin/sh
		exec unshare -m sh -c 'mount --bind "$T/$host/own" "$T/disks" && exec "$BIN/polluxd" "\$@"' sh "\$@"
	SH
	cat >"$T/$host/bin/pollux-ha" <<-SH
		#!/bin/sh
		[ -s "$T/$host/fault" ] && POLLUX_FAULT=\$(cat "$T/$host/fault") && export POLLUX_FAULT
		: >"$T/$host/fault"
		exec "$BIN/pollux-ha" "\$@"
	SH
	ln -s "$BIN/pollux-vmm" "$T/$host/bin/pollux-vmm"
	chmod +x "$T/$host/bin"/*
done
unshare -m true 2>/dev/null || { echo "no mount namespaces here"; exit 77; }

begin_host()
{
	local bin=$BIN
	BIN=$T/$1/bin
	ln -sf "$bin/pollux" "$BIN/pollux"
	POLLUX_LIBEXEC=$T/$1/bin start_host "$1"
	BIN=$bin
}
protected() { [ "$(status "$1" .protected)" = true ]; }
unprotected() { ! protected "$1"; }
has_taken_over() { [ "$(status "$1" .role)" = active ]; }
engine() { pids_of "$1" ha; }
is_new_engine() { local now; now=$(engine "$1"); [ -n "$now" ] && [ "$now" != "$2" ]; }
bytes() { status "$1" .resync.bytes; }
kind() { status "$1" .resync.kind; }
shown() { status "$1" .resync | jq -c '{kind, bytes, total_bytes, reason}'; }

# equal WHAT: the guest stands still, the backup has applied what there is; then the images are
# compared. `stopped` host keeps its standby paused, so it is the primary that is stopped.
marked() { on a vm list >/dev/null; }
equal()
{
	local from=$1 to=$2 what=$3 vm disk last
	vm=$(echo "$T/$from"/run/vm/*)
	"$O/tests/kvm/vmctl" "$vm" pause || fail "$what: pause"
	# Epochs go on while the guest stands still: three more, and the backup has everything.
	last=$(status "$to" .epochs_committed)
	until_true 20 more_epochs "$to" $((last + 3)) || fail "$what: no epochs while paused"
	for disk in disk0 disk1; do
		cmp "$T/$from/own/$disk" "$T/$to/own/$disk" || fail "$what: $disk differs"
	done
	"$O/tests/kvm/vmctl" "$vm" unpause
}
more_epochs() { [ "$(status "$1" .epochs_committed)" -ge "$2" ]; }
await_protected() { until_true 60 protected "$1" || fail "$what: not protected: $(status "$1" .word)"; }
# Until the backup has confirmed most of what was written, so that few regions are left.
settle() { sleep 6; }

make_pair 'interval = 50ms' 'timeout = 2s'
begin_host a
begin_host b
what="first copy"
on a vm create "$T/tiny.cfg" >/dev/null || fail "vm create"
on a protect tiny b >/dev/null || fail "protect"
await_protected a
[ "$(kind a)" = full ] || fail "the first copy is $(shown a)"
total=$(status a .resync.total_bytes)
echo "$what: $(shown a)"
equal a b "$what"

for point in $POINTS; do
	what="fault $point"
	settle
	old=$(engine b)
	# The engine that dies is the one of the next link: so two are lost.
	case $point in
	*:*) echo "$point:exit" ;;
	*) echo "$point:1:exit" ;;
	esac >"$T/b/fault"
	kill -9 $old
	until_true 30 unprotected a || fail "$what: still protected"
	until_true 60 is_new_engine b "$old" || fail "$what: no new standby"
	until_true 60 test ! -s "$T/b/fault" || fail "$what: the point was not armed"
	await_protected a
	[ "$(kind a)" = partial ] || fail "$what: $(shown a)"
	[ "$(bytes a)" -lt $((total / 2)) ] || fail "$what: copied $(bytes a) of $total"
	equal a b "$what"
	echo "$what: $(shown a)"
done
