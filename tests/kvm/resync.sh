#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 900
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
INTERRUPTIONS=${INTERRUPTIONS:-10}
REWRITTEN=$((16 << 20)) # what the guest may write between two looks, in whole regions
# Four of the steps; EVERY=1 takes them all, some four minutes more.
POINTS=${POINTS-apply.following disk.apply:3000 commit.state:3 durable.sync
	${EVERY:+apply.open apply.synced regions.create regions.rename disk.flush:3 assemble.end:2
	commit.begin:3 durable.report:2}}

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
		if [ -s "$T/$host/fault" ]; then
			POLLUX_FAULT=\$(cat "$T/$host/fault")
			export POLLUX_FAULT
			echo \$\$ >"$T/$host/armed"
			: >"$T/$host/fault"
		fi
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
has_taken_over() { case $(status "$1" .word) in *"took over"*) ;; *) return 1 ;; esac; }
engine() { pids_of "$1" ha; }
is_new_engine() { local now; now=$(engine "$1"); [ -n "$now" ] && [ "$now" != "$2" ]; }
has_died() { ! kill -0 "$1" 2>/dev/null; }
copying() { [ "$(status a .state)" = copying ]; }
is_wanted() { [ "$(kind "$1")" = "$2" ]; }
bytes() { status "$1" .resync.bytes; }
kind() { status "$1" .resync.kind; }
shown() { status "$1" .resync | jq -c '{kind, bytes, total_bytes, reason}'; }

# equal FROM TO WHAT: the guest stands still, and the backup has applied what there is; then the
# images are compared.
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
# A copy in full takes a minute by the cap alone.
await_protected() { until_true 180 protected "$1" || fail "$what: not protected: $(status "$1" .word)"; }
# Until the backup has confirmed most of what was written, so that few regions are left.
settle() { sleep 6; }

# The first copy takes its time, by the cap, and is interrupted ten times.
make_pair 'interval = 50ms' 'timeout = 2s' 'resync_cap = 8MiB'
dd if=/dev/urandom of="$T/a/own/disk0" bs=1M count=64 conv=notrunc status=none
begin_host a
begin_host b
what="first copy"
on a vm create "$T/tiny.cfg" >/dev/null || fail "vm create"
on a protect tiny b >/dev/null || fail "protect"
until_true 30 copying || fail "$what: $(status a .word)"
[ "$(kind a)" = full ] || fail "the first copy is $(shown a)"
total=$(status a .resync.total_bytes)
left=$total
echo "$what: $(shown a)"
for ((i = 1; i <= INTERRUPTIONS; i++)); do
	what="interruption $i"
	old=$(engine b)
	sleep 2.$((i % 10)) # somewhere in the copy
	kill -9 $old
	until_true 60 is_new_engine b "$old" || fail "$what: no new standby"
	until_true 30 is_wanted a partial || fail "$what: $(shown a)"
	echo "$what: $(bytes a) bytes are left"
	# What the guest writes meanwhile is copied again; what was copied and confirmed is not.
	[ "$(bytes a)" -le $((left + REWRITTEN)) ] || fail "$what: it began anew: $(shown a), $left were left"
	left=$(bytes a)
done
await_protected a
[ "$INTERRUPTIONS" = 0 ] || [ "$(bytes a)" -lt "$total" ] || fail "it began anew: $(shown a)"
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
	until_true 60 has_died "$(cat "$T/b/armed")" || fail "$what: the point was not reached"
	await_protected a
	[ "$(kind a)" = partial ] || fail "$what: $(shown a)"
	[ "$(bytes a)" -lt $((total / 2)) ] || fail "$what: copied $(bytes a) of $total"
	equal a b "$what"
	echo "$what: $(shown a)"
done

# The host that ran it dies, with writes that were never committed. It comes back as the backup.
what="takeover and the way back"
cut_off a polluxd
rm "$T/a/daemon.pid"
cut_off a ha
cut_off a vmm
until_true 30 has_taken_over b || fail "$what: no takeover: $(status b .word)"
sleep 3 # of writes that only host b has
begin_host a
await_protected b
is_wanted b partial || fail "$what: $(shown b)"
[ "$(bytes b)" -lt $((total / 2)) ] || fail "$what: copied $(bytes b) of $total"
equal b a "$what"
echo "$what: $(shown b)"

what="somebody else"
on b unprotect tiny >/dev/null || fail "$what: unprotect"
until_true 30 test -z "$(engine a)" || sleep 2
dd if=/dev/urandom of="$T/a/own/disk1" bs=4096 count=1 seek=9000 conv=notrunc status=none
on b protect tiny a >/dev/null || fail "$what: protect"
await_protected b
is_wanted b full || fail "$what: not noticed: $(shown b)"
case $(shown b) in *"somebody else"*) ;; *) fail "$what: $(shown b)" ;; esac
equal b a "$what"
echo "$what: $(shown b)"
exit 0
