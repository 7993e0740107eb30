#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 60
# The life of a VM under polluxd: create, list, console, restart of polluxd, reboot, crash,
# shutdown, destroy; and the refusals on the way.
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/tools.sh

expect 5 "no daemon" on a status
make_host a 1
start a
make_vm db
expect 0 "no VMs" on a vm list
expect 0 "VM db runs" on a vm create "$T/db.cfg"
expect 3 "exists here" on a vm create "$T/db.cfg"
expect 0 "running" on a vm list
expect 0 "not protected: never asked for" on a status db
expect 1 "does not exist" on a status web
expect 1 "pollux vm list" on a vm shutdown web
expect 0 '"schema_version": 1' on a status --format json
expect 0 "hello root" on a vm console db < <(echo root)
expect 1 "pollux protect db HOST" on a unprotect db
expect 3 "known peers: b" on a protect db nowhere
expect 3 "this host itself" on a protect db a
expect 2 "expected remus or kemari" on a protect db b --mode=fast
expect 2 "unknown option" on a protect db b --speed=9

# The VM survives polluxd and is found again.
pid=$(pid_in "$T/a/run/vm/1/vm.json")
stop a
kill -0 "$pid" || fail "the VM ended with polluxd"
expect 5 "no daemon" on a vm list
start a
expect 0 "running" on a vm list
[ "$(pid_in "$T/a/run/vm/1/vm.json")" = "$pid" ] || fail "not the same process"

# The guest reboots: a new process, the same VM.
until_says 5 "domid" cat "$T/a/run/vm/1/vm.json"
sleep 0.5
kill -USR1 "$pid"
until_says 10 "vm.restarted" on a events
expect 0 "running" on a vm list

# It crashes: preserved, as its file says, and shown as stopped.
sleep 0.7
pid=$(pid_in "$(echo "$T"/a/run/vm/*/vm.json)")
kill -USR2 "$pid"
until_says 10 "stopped" on a vm list
expect 3 "has stopped" on a protect db b
expect 0 "destroyed" on a vm destroy db
expect 0 "no VMs" on a vm list
kill -0 "$pid" 2>/dev/null && fail "the process is still there"

# Power button, then on_poweroff: gone.
expect 0 "runs" on a vm create "$T/db.cfg"
sleep 0.7
expect 0 "power button" on a vm shutdown db
until_says 10 "no VMs" on a vm list

# Its process is killed: said, and gone.
expect 0 "runs" on a vm create "$T/db.cfg"
kill -9 "$(pid_in "$(echo "$T"/a/run/vm/*/vm.json)")"
until_says 10 "no VMs" on a vm list
expect 0 "pollux-vmm has ended" on a events
[ -z "$(ls "$T/a/run/vm")" ] || fail "domain folders stay: $(ls "$T/a/run/vm")"

# Disks that a takeover left between two epochs are started from by force alone.
mkdir -p "$T/a/state/db"
echo torn >"$T/a/state/db/standby-disks"
expect 7 "between two epochs" on a vm create "$T/db.cfg"
expect 0 "no VMs" on a vm list
expect 0 "runs" on a vm create "$T/db.cfg" --force --reason "nothing better is left"
[ ! -e "$T/a/state/db/standby-disks" ] || fail "the disks still count as a standby's"
expect 0 "destroyed" on a vm destroy db
echo done
