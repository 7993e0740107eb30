#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 60
# The command line: exit codes, refusals, what it says without a daemon and without rights.
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/tools.sh

expect 2 "usage: pollux COMMAND" on a
expect 2 "unknown command \"vm\"" on a vm
expect 2 "unknown command \"vm sing\"" on a vm sing
expect 0 "usage: pollux COMMAND" on a help
expect 0 "usage: pollux COMMAND" on a --help
expect 0 "pollux 0" on a version
expect 2 "usage: pollux protect VM HOST" on a protect db
expect 2 "is too much" on a protect db b c
expect 2 "unknown option" on a vm list --force
expect 2 "--force needs --reason" on a unprotect db --force
expect 2 "--reason needs a text" on a unprotect db --force --reason=
expect 2 "expected json or text" on a status --format=xml
expect 2 "wait needs --for" on a wait db
expect 2 "no duration" on a wait db --for=protected --timeout=5
expect 2 "expected --OPTION=VALUE" on a protect db b --interval

# Without a daemon: 5, for each command that needs one.
for command in "vm list" "vm shutdown db" "vm destroy db" "vm console db" "protect db b" \
	"unprotect db" "status" "failover db" "events" "wait db --for=protected"; do
	expect 5 "no daemon" on a $command
done
make_vm db
expect 5 "no daemon" on a vm create "$T/db.cfg"

# VM files are judged before anybody is asked.
expect 3 "no.cfg: No such file" on a vm create "$T/no.cfg"
sed -i 's/memory/memroy/' "$T/db.cfg"
expect 3 "db.cfg:3: unknown key \"memroy\"" on a vm create "$T/db.cfg"
make_vm db
rm "$T/kernel"
expect 3 "kernel $T/kernel: No such file" on a vm create "$T/db.cfg"
make_vm db
rm "$T/db.img"
expect 3 "disk $T/db.img: No such file" on a vm create "$T/db.cfg"
make_vm db

# polluxd itself: a bad configuration is named with its line.
make_host a 1
expect 0 "" "$BIN/polluxd" --config "$T/a/pollux.conf" --check
echo 'colour = red' >>"$T/a/pollux.conf"
expect 1 "unknown key \"colour\" in [peer b]" "$BIN/polluxd" --config "$T/a/pollux.conf" --check
sed -i '/colour/d' "$T/a/pollux.conf"
expect 1 "/nowhere: No such file" "$BIN/polluxd" --config /nowhere --check
expect 2 "usage: polluxd" "$BIN/polluxd" --colour

start a
expect 1 "another polluxd runs" "$BIN/polluxd" --config "$T/a/pollux.conf"
# A program that cannot start says why.
FAKE_VMM_FAILS=why expect 0 "VM db runs" on a vm create "$T/db.cfg"
expect 0 "destroyed" on a vm destroy db
stop a
export FAKE_VMM_FAILS="/dev/kvm is not there"
start a
expect 1 "pollux-vmm: cannot start: /dev/kvm is not there" on a vm create "$T/db.cfg" 2>/dev/null
unset FAKE_VMM_FAILS
[ -z "$(ls "$T/a/run/vm")" ] || fail "a domain folder stays"

# Others than root and the group may look, and not touch.
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
	chmod 755 "$T" "$T/a"
	cp "$BIN/pollux" "$T/pollux"
	as_nobody() {
		POLLUX_SOCKET=$T/a/run/polluxd.sock setpriv --reuid 65534 --regid 65534 \
			--clear-groups "$T/pollux" "$@"
	}
	expect 0 "no VMs" as_nobody status
	expect 4 "only root and members of the group pollux" as_nobody vm create "$T/db.cfg"
	expect 4 "only root" as_nobody vm console db
	expect 4 "only root" as_nobody failover db
fi
echo done
