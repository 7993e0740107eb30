#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 180
#
# A VM with a disk of its own and one that an NBD server beside it serves, on two hosts on
# one machine. A client writes to the served disk while the VM is protected: what it was told
# to be done before the last epochs is on the backup's disk after a takeover, and what the
# server's end would hide from the epochs makes the backup go on instead.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/pair.sh
PLUGIN=$O/lib/nbdkit-pollux-plugin.so
for tool in nbdkit nbdcopy nbdinfo unshare; do
	command -v $tool >/dev/null || { echo "no $tool"; exit 77; }
done
unshare -m true 2>/dev/null || { echo "no mount namespaces"; exit 77; }
servers=()
trap 'status=$?; kill -9 "${servers[@]}" 2>/dev/null; (exit $status); cleanup' EXIT

# Both hosts have the same paths: all that runs on one sees its own folder at $T/host.
mkdir "$T/bin" "$T/host"
ln -s "$BIN"/pollux* "$T/bin/"
rm "$T/bin/polluxd" "$T/bin/pollux"
cat >"$T/bin/in-host" <<SH
#!/bin/sh
exec unshare -m --propagation private sh -c \
	'mount --bind "\$0/host" $T/host && exec "\$@"' "\$@"
SH
cat >"$T/bin/polluxd" <<SH
#!/bin/sh
exec $T/bin/in-host "\$(dirname "\$2")" $BIN/polluxd "\$@"
SH
cat >"$T/bin/pollux" <<SH
#!/bin/sh
exec $T/bin/in-host "\${POLLUX_SOCKET%/run/*}" $BIN/pollux "\$@"
SH
chmod +x "$T"/bin/{in-host,polluxd,pollux}
BIN=$T/bin

cat >>"$T/tiny.cfg" <<CFG
disk = [ 'format=raw,vdev=xvda,access=rw,target=nbd:unix:$T/host/nbd/nbd',
	'$T/host/own.img,raw,xvdb,rw' ]
CFG

# make_disks HOST: the backup's differ from the primary's everywhere.
make_disks()
{
	mkdir "$T/$1/host" "$T/$1/host/nbd"
	head -c 8M /dev/urandom >"$T/$1/host/own.img"
	head -c 16M /dev/urandom >"$T/$1/host/served.img"
}

# The server knows nothing of the namespaces: it says where its disk is for all.
serve()
{
	local at=$T/$1/host/nbd
	rm -f "$at/nbd"
	nbdkit -f -U "$at/nbd" "$PLUGIN" file="$T/$1/host/served.img" control="$at" \
		>>"$T/$1/nbdkit.log" 2>&1 &
	echo $! >"$T/$1/nbdkit.pid"
	servers+=($!)
	disown
	until_true 10 nbdinfo --size "nbd+unix:///?socket=$at/nbd" >/dev/null 2>&1 ||
		fail "nbdkit on $1"
}
write_all() { nbdcopy --connections=2 "$1" "nbd+unix:///?socket=$T/a/host/nbd/nbd" || fail nbdcopy; }

epochs() { status a .epochs_committed; }
more_epochs() { [ "$(epochs)" -gt "$1" ]; }
has_taken_over() { [ "$(status b ".takeover.takeover_ns | numbers")" ]; }
server_forgot() { [ "$("$O/tests/kvm/vmctl" "$T/a/host/nbd" marked)" = 0 ]; }
vm_forgot() { [ "$(marked_bytes a)" = 0 ]; }
b_is_protected() { [ "$(status b .protected)" = true ]; }
protected() { [ "$(status a .protected)" = true ]; }

# begin: two fresh hosts with the VM protected, and the client's first writes on both.
begin()
{
	local host
	for host in a b; do
		rm -rf "$T/$host"/{run,state,log,host,daemon.log}
		make_disks $host
		serve $host
		start_host $host
	done
	on a vm create "$T/tiny.cfg" >/dev/null || fail "$scene: vm create"
	on a protect tiny b >/dev/null || fail "$scene: protect"
	on a wait tiny --for=protected --timeout=60s >/dev/null ||
		fail "$scene: not protected: $(status a .word)"
	write_all "$T/first"
	# An epoch that began after the last write: the second from here.
	until_true 30 more_epochs $(($(epochs) + 2)) || fail "$scene: no more epochs"
	protected || fail "$scene: writing ended protection: $(status a .word)"
	cmp "$T/first" "$T/a/host/served.img" || fail "$scene: the server's disk"
}

end()
{
	end_pair
	kill_all $(cat "$T"/{a,b}/nbdkit.pid)
}

# The backup runs the VM, from the disks of the last epochs that knew of the writes.
b_goes_on()
{
	until_true 30 has_taken_over || fail "$scene: b did not take over: a $(status a .word), b $(status b .word)"
	cmp "$T/first" "$T/b/host/served.img" || fail "$scene: the served disk on b"
	cmp "$T/a/host/own.img" "$T/b/host/own.img" || fail "$scene: the VM's own disk on b"
	echo "$scene: taken over, disks as they were: $(status b .takeover | tr -d '\n ')"
}

make_pair 'interval = 50ms' 'timeout = 1s'
head -c 16M /dev/urandom >"$T/first"
head -c 16M /dev/urandom >"$T/second"

scene='the host dies'
begin
until_true 60 server_forgot || fail "$scene: the server's marks are not forgotten"
until_true 60 vm_forgot || fail "$scene: $(marked_bytes a) bytes are still marked"
cut_off a polluxd
cut_off a ha
cut_off a vmm
kill_all "$(cat "$T/a/nbdkit.pid")"
b_goes_on

# Both servers have kept count: of what a wrote last, and of what is written on b.
scene='the way back'
dd if="$T/second" of="$T/little" bs=1M count=1 status=none
nbdcopy "$T/little" "nbd+unix:///?socket=$T/b/host/nbd/nbd" || fail "$scene: nbdcopy"
serve a
start_host a
until_true 90 b_is_protected || fail "$scene: $(status b .word)"
[ "$(status b .resync.kind)" = partial ] ||
	fail "$scene: all was copied: $(status b .resync | tr -d '\n ')"
[ "$(status b .resync.bytes)" -le $((4 << 20)) ] ||
	fail "$scene: copied $(status b .resync.bytes) of $(status b .resync.total_bytes) bytes"
on b switchover tiny >/dev/null || fail "$scene: switchover"
cmp "$T/a/host/served.img" "$T/b/host/served.img" || fail "$scene: the served disk on a"
echo "$scene: $(status b .resync | tr -d '\n ')"
end

# The one that comes after it is told of no mirror: its changes must not be part of an epoch.
scene='the server dies, and another comes'
begin
kill_all "$(cat "$T/a/nbdkit.pid")"
serve a
# Where b was quicker, a's disk is a backup's by now, and no client's.
nbdcopy "$T/second" "nbd+unix:///?socket=$T/a/host/nbd/nbd" || until_true 10 has_taken_over ||
	fail "$scene: nbdcopy"
b_goes_on
end
exit 0
