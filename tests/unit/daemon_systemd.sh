#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 60
# What polluxd says to systemd: that it is ready, when it is, and from then on that it is alive; and
# no more once its loop hangs. systemd takes the unit.
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/tools.sh
command -v python3 >/dev/null || { echo "no python3"; exit 77; }

cat >"$T/listen" <<'PY'
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
while True:
    for line in s.recv(4096).decode().split("\n"):
        print(line, flush=True)
PY
python3 "$T/listen" "$T/notify" >"$T/said" &
listener=$!
trap 'kill $listener; cleanup' EXIT
until [ -S "$T/notify" ]; do sleep 0.05; done
make_host a 1
(export NOTIFY_SOCKET=$T/notify WATCHDOG_USEC=400000 && start a)
heartbeats() { grep -c '^WATCHDOG=1' "$T/said" || true; }
# comes PATTERN: within 10 s.
comes()
{
	local deadline=$((SECONDS + 10))
	until grep -q "$1" "$T/said"; do
		[ $SECONDS -lt $deadline ] || fail "\"$1\" is not said: $(cat "$T/said")"
		sleep 0.05
	done
}
comes '^READY=1'
comes '^WATCHDOG=1'
first=$(heartbeats)
deadline=$((SECONDS + 10))
until [ "$(heartbeats)" -gt $((first + 3)) ]; do
	[ $SECONDS -lt $deadline ] || fail "it is said once: $(cat "$T/said")"
	sleep 0.05
done
kill -STOP "$(cat "$T/a/daemon.pid")"
sleep 0.2
first=$(heartbeats)
sleep 1
[ "$(heartbeats)" -le "$first" ] || fail "a stopped polluxd says that it is alive"
kill -CONT "$(cat "$T/a/daemon.pid")"
stop a
comes '^STOPPING=1'

if command -v systemd-analyze >/dev/null; then
	sed "s|@PREFIX@/sbin|$(realpath "$BIN")|" tools/systemd/polluxd.service >"$T/polluxd.service"
	# man: the page is not installed here.
	systemd-analyze verify --man=no "$T/polluxd.service" >"$T/verified" 2>&1 || fail "the unit: $(cat "$T/verified")"
	! grep -q 'polluxd.service' "$T/verified" || fail "the unit: $(cat "$T/verified")"
fi
echo done
