#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
# Domains of Xen under polluxd: found, protected, taken over, followed through a reboot, and what
# is refused. The domains are files (tests/unit/fake_programs.c).
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/tools.sh
command -v openssl >/dev/null || { echo "no openssl"; exit 77; }

as_host()
{
	local name=$1
	shift
	export FAKE_XEN=$T/$name/xen POLLUX_XEN_CAPABILITIES=$T/$name/capabilities
	exec "$@"
}
# xl_create HOST NAME NUMBER
xl_create() { echo "$3" >"$T/$1/xen/$2"; }

make_host a 1
make_host b 2
for h in a b; do
	mkdir "$T/$h/xen"
	echo control_d >"$T/$h/capabilities"
done
start a
start b
make_vm db
expect 3 "xl create" on a vm create "$T/db.cfg"
expect 3 "there is none" on a protect web b
expect 1 "does not exist" on a status web
xl_create a web 7
echo "it is a PV domain, and this Xen has no shadow paging" >"$T/a/xen/web.bad"
expect 3 "it is a PV domain" on a protect web b
rm "$T/a/xen/web.bad"
expect 3 "known peers: b" on a protect web nowhere
[ -z "$(ls "$T/a/run/vm")" ] || fail "what was refused is served: $(ls "$T/a/run/vm")"
[ -e "$T/a/xen/web" ] || fail "what was refused is gone"

# The other host must run Xen, too.
mv "$T/b/capabilities" "$T/b/away"
expect 3 "this host does not run Xen" on a protect web b
mv "$T/b/away" "$T/b/capabilities"

# An engine that ends, later than protect looks, and again: there is a way out.
mkdir -p "$T/a/state/web"
echo 5 >"$T/a/state/web/ends"
expect 0 "begins" on a protect web b
echo 0 >"$T/a/state/web/ends"
expect 3 "already protected" on a protect web b
until_says 10 "it cannot be protected" on a events
expect 0 "ended" on a unprotect web
expect 0 "pollux-ha could not be asked" on a events
expect 0 "never asked for" on a status web
rm "$T/a/state/web/ends"

expect 0 "begins" on a protect web b
expect 0 "protected" on a wait web --for=protected --timeout=10s
expect 0 "standby" on b vm list
expect 0 '"platform": "xen"' on a status web --format json
expect 0 '"domid": 7' on a status web --format json
expect 3 "xl console 7" on a vm console web
expect 3 "already protected" on a protect web b
grep -q '"libxl"' "$T/b/run/vm/1/config.json" || fail "the description did not come"

# The companion dies: the domain lives, and is served again. So does polluxd.
companion=$(pid_in "$(echo "$T"/a/run/vm/*/vm.json)")
kill -9 "$companion"
until_says 10 "served again" on a events
expect 0 "protected" on a wait web --for=protected --timeout=5s
stop a
kill -9 "$(pid_in "$(echo "$T"/a/run/vm/*/vm.json)")"
start a
until_says 10 "served again" on a events
expect 0 "protected" on a wait web --for=protected --timeout=5s

# xl reboots the domain: gone, and there again under another number.
until_says 5 "running" on a vm list
sleep 0.5
rm "$T/a/xen/web"
until_says 10 "was destroyed" on a events
xl_create a web 8
until_says 15 "runs as domain 8" on a events
expect 0 "protected" on a wait web --for=protected --timeout=10s

# It reboots and xl takes it away, once it gets to it; then xl is gone, and polluxd has to.
until_says 5 "running" on a vm list
sleep 0.5
kill -USR1 "$(pid_in "$(echo "$T"/a/run/vm/*/vm.json)")"
until_says 10 "wants to reboot; action: left" on a events
sleep 0.5
rm "$T/a/xen/web"
xl_create a web 9
until_says 15 "runs as domain 9" on a events
expect 0 "protected" on a wait web --for=protected --timeout=10s
kill -USR1 "$(pid_in "$(echo "$T"/a/run/vm/*/vm.json)")"
until_says 30 "nobody has seen to its end; action: restart" on a events
until_says 10 "runs as domain $(cat "$T/a/xen/web")" on a events
[ "$(cat "$T/a/xen/web")" != 9 ] || fail "it is the same domain"
expect 0 "protected" on a wait web --for=protected --timeout=10s
reborn=$(cat "$T/a/xen/web")

# Takeover: from now on it is b's, and a, the old one destroyed there, the backup.
kill -9 "$(pid_in "$T/a/run/ha/web.run")"
kill -USR1 "$(pid_in "$T/b/run/ha/web.run")"
until_says 10 "takeover" on b events
until_says 15 "standby" on a vm list
expect 0 "protected" on b wait web --for=protected --timeout=10s
[ "$(cat "$T/a/xen/web")" != "$reborn" ] || fail "the old domain lives"

# A reboot there: nobody but polluxd can make it anew.
domain=$(cat "$T/b/xen/web")
kill -USR1 "$(pid_in "$(echo "$T"/b/run/vm/*/vm.json)")"
until_says 25 "vm.restarted" on b events
[ "$(cat "$T/b/xen/web")" != "$domain" ] || fail "it is the same domain"
expect 0 "protected" on b wait web --for=protected --timeout=10s

# Destroyed by somebody else, and not made anew: protection has ended.
rm "$T/b/xen/web"
until_says 35 "protection has ended with the run of the VM" on b events
expect 0 "no VMs" on b vm list

# Without protection the domain is let be.
xl_create b web 9
expect 0 "begins" on b protect web a
expect 0 "protected" on b wait web --for=protected --timeout=10s
expect 0 "has ended" on b unprotect web
expect 0 "never asked for" on b status web
[ -e "$T/b/xen/web" ] || fail "the domain is gone"
expect 0 "destroyed" on b vm destroy web
[ ! -e "$T/b/xen/web" ] || fail "the domain is there"
stop a
stop b
echo done
