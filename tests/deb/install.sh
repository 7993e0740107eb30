#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 600
#
# What `make deb` has left in $O/deb is installed, used and purged, as apt does it, on this machine's
# files seen through an overlay: nothing of it stays, neither there nor here. `make check-deb`.
set -euo pipefail
cd "$(dirname "$0")/../.."
O=${O:-build}
[ "$(id -u)" = 0 ] || { echo "needs root"; exit 77; }
if [ -z "${POLLUX_DEB_INSIDE-}" ]; then
	POLLUX_DEB_INSIDE=$(mktemp -d /tmp/pollux-test.XXXXXX)
	export POLLUX_DEB_INSIDE
	trap 'rmdir "$POLLUX_DEB_INSIDE"' EXIT
	unshare -m --propagation private "$0"
	exit
fi

fail() { echo "FAILED: $*"; exit 1; }
say() { echo "# $*"; }
T=$POLLUX_DEB_INSIDE
mount -t tmpfs tmpfs "$T"
mkdir "$T/upper" "$T/work" "$T/root" "$T/debs"
mount -t overlay overlay -o "lowerdir=/,upperdir=$T/upper,workdir=$T/work" "$T/root"
for dir in proc sys dev; do
	mount --rbind /$dir "$T/root/$dir"
done
mount -t tmpfs tmpfs "$T/root/run"
mount -t tmpfs tmpfs "$T/root/tmp"
cp --dereference /etc/resolv.conf "$T/root/etc/resolv.conf" 2>/dev/null || true
cp "$O"/deb/*.deb "$T/root/tmp/"
printf '#!/bin/sh\nexit 101\n' >"$T/root/usr/sbin/policy-rc.d"
chmod 755 "$T/root/usr/sbin/policy-rc.d"

inside() { chroot "$T/root" /usr/bin/env DEBIAN_FRONTEND=noninteractive LC_ALL=C "$@"; }
apt() { inside apt-get -q -y -o Dpkg::Use-Pty=0 "$@"; }
ours() { (cd "$T/root" && find etc usr var opt -xdev -iname '*pollux*' -not -path 'var/cache/*' -not -path 'var/lib/apt/*' -not -path 'var/lib/dpkg/*' | sort); }

before=$(ours)
say "installed"
apt install --no-install-recommends /tmp/pollux_*.deb /tmp/pollux-xen_*.deb /tmp/pollux-doc_*.deb >"$T/log" 2>&1 ||
	fail "apt install: $(tail -n 15 "$T/log")"
[ "$(inside dpkg-query -W -f '${db:Status-Status} ' pollux pollux-xen pollux-doc)" = "installed installed installed " ] ||
	fail "not installed: $(tail -n 5 "$T/log")"
inside getent group pollux >/dev/null || fail "there is no group pollux"
inside systemd-analyze verify polluxd.service >"$T/said" 2>&1 || fail "the unit: $(cat "$T/said")"
inside nbdkit --dump-plugin pollux | grep -q '^name=pollux' || fail "nbdkit does not find the plugin"
for page in pollux.1 pollux.conf.5 pollux-vm.5 polluxd.8 pollux-ha.8 pollux-vmm.8 pollux-xen.8; do
	ls "$T/root"/usr/share/man/man?/$page.gz >/dev/null || fail "no man page $page"
done
[ -e "$T/root/etc/xen/scripts/block-pollux" ] || fail "no script for Xen's disks"
inside bash -c '. /usr/share/bash-completion/completions/pollux && complete -p pollux' >/dev/null || fail "no completion"

say "used"
printf '[host]\nname = here\n[http]\nlisten = off\n' >"$T/root/etc/pollux/pollux.conf"
inside pollux config check | grep -q 'this is host here' || fail "the configuration is not taken"
inside polluxd >"$T/daemon.log" 2>&1 &
daemon=$!
for _ in $(seq 100); do
	inside pollux status >"$T/said" 2>&1 && break
	kill -0 $daemon 2>/dev/null || fail "polluxd: $(cat "$T/daemon.log")"
	sleep 0.1
done
grep -q 'no VMs' "$T/said" || fail "pollux status: $(cat "$T/said")"
inside pollux version
kill $daemon
wait $daemon || fail "polluxd ends with $?"

say "removed: what says who may run a VM stays"
apt remove pollux pollux-xen pollux-doc >"$T/log" 2>&1 || fail "apt remove: $(tail -n 15 "$T/log")"
[ -d "$T/root/var/lib/pollux" ] || fail "/var/lib/pollux is gone"
say "purged: nothing stays"
apt purge pollux pollux-xen pollux-doc >"$T/log" 2>&1 || fail "apt purge: $(tail -n 15 "$T/log")"
# The operator's own file is his; everything else was ours.
left=$(comm -13 <(echo "$before") <(ours) | grep -v '^etc/pollux' || true)
[ -z "$left" ] || fail "left behind: $left"
