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
	server=$!
	servers+=($server)
	disown
	until_true 10 nbdinfo --size "nbd+unix:///?socket=$at/nbd" >/dev/null 2>&1 ||
		fail "nbdkit on $1"
}
write_all() { nbdcopy --connections=2 "$1" "nbd+unix:///?socket=$T/a/host/nbd/nbd" || fail nbdcopy; }

epochs() { status a .epochs_committed; }
more_epochs() { [ "$(epochs)" -gt "$1" ]; }
has_taken_over() { [ "$(status b ".takeover.takeover_ns | numbers")" ]; }
protected() { [ "$(status a .protected)" = true ]; }
same() { cmp "$T/a/host/$1" "$T/b/host/$1" || fail "$2: $1 differs"; }

make_pair 'interval = 50ms' 'timeout = 1s'
make_disks a
make_disks b
serve a
on_a=$server
serve b
start_host a
start_host b
on a vm create "$T/tiny.cfg" >/dev/null || fail "vm create: $(on a vm create "$T/tiny.cfg" 2>&1)"
on a protect tiny b >/dev/null || fail "protect"
on a wait tiny --for=protected --timeout=60s >/dev/null || fail "not protected: $(status a .word)"

head -c 16M /dev/urandom >"$T/first"
write_all "$T/first"
# An epoch that began after the last write: the second from here.
until_true 30 more_epochs $(($(epochs) + 2)) || fail "no more epochs"
protected || fail "writing ended protection: $(status a .word)"
cmp "$T/first" "$T/a/host/served.img" || fail "the server's disk"
case ${1:-host} in
host)
	cut_off a polluxd
	rm "$T/a/daemon.pid"
	cut_off a ha
	cut_off a vmm
	;;
server) ;;
esac
kill -9 $on_a
until_true 30 has_taken_over || fail "b did not take over: a $(status a .word), b $(status b .word)"
same served.img "after the takeover"
same own.img "after the takeover"
echo "the backup went on: $(status b .takeover)"
exit 0
