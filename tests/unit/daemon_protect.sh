#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 90
# Two hosts, TLS between them: protect, prepare and its refusals, restarts, takeover and back.
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/tools.sh
command -v openssl >/dev/null || { echo "no openssl"; exit 77; }

make_host a 1
make_host b 2
start a
start b
make_vm db
expect 0 "VM db runs" on a vm create "$T/db.cfg"

# Both hosts share this file system: b must refuse what it would share with a. Here it is
# the size that differs from what the primary says.
truncate -s 2M "$T/db.img"
expect 3 "2097152 bytes, the primary's has 1048576" on a protect db b
expect 0 "never asked for" on a status db
expect 6 "still" on a wait db --for=protected --timeout=300ms
truncate -s 1M "$T/db.img"
mv "$T/kernel" "$T/kernel.away"
expect 3 "kernel $T/kernel: No such file" on a protect db b
mv "$T/kernel.away" "$T/kernel"
expect 0 "begins" on a protect db b
expect 0 "protected" on a wait db --for=protected --timeout=10s
expect 0 "standby" on b vm list
expect 3 "already protected to b" on a protect db b
expect 3 "it is protected there" on b protect db a
expect 3 "standby of a" on b vm destroy db
expect 7 "still heard" on a failover db
expect 2 "unknown option" on a failover db --force

# polluxd's restart drops no protection, on neither side.
ha=$(pid_in "$T/a/run/ha/db.run")
stop a
stop b
start a
start b
expect 0 "protected" on a wait db --for=protected --timeout=5s
[ "$(pid_in "$T/a/run/ha/db.run")" = "$ha" ] || fail "pollux-ha was started anew"
expect 0 "standby" on b vm list

# A silent pollux-ha is no evidence (P5).
kill -STOP "$ha"
until_says 5 "no answer from pollux-ha" on a status db
kill -CONT "$ha"
expect 0 "protected" on a wait db --for=protected --timeout=5s

# It dies: started again, a new standby is made at a higher generation.
old=$(on a status db --format json | grep -o '"generation": *[0-9]*' | grep -o '[0-9]*$')
kill -9 "$ha"
until_says 10 "standby.renewed" on b events
expect 0 "protected" on a wait db --for=protected --timeout=10s
sleep 0.5
new=$(on a status db --format json | grep -o '"generation": *[0-9]*' | grep -o '[0-9]*$')
[ "$new" -gt "$old" ] || fail "generation $old -> $new"

# The backup's pollux-ha dies: its standby goes with it.
kill -9 "$(pid_in "$T/b/run/ha/db.run")"
until_says 10 "no VMs" on b vm list

# Unprotect, protect, unprotect: as often as one likes.
expect 0 "has ended" on a unprotect db
expect 0 "never asked for" on a status db
expect 0 "begins" on a protect db b --interval=50ms --codec=zstd
expect 0 "protected" on a wait db --for=protected --timeout=10s
grep -q '"interval_ns":50000000' "$T/a/run/ha/db.json" || fail "the option was not taken"

# Takeover. The old primary, asking again, is refused; a VM file there too, without force.
kill -9 "$(pid_in "$T/a/run/ha/db.run")" "$(pid_in "$(echo "$T"/a/run/vm/*/vm.json)")"
kill -USR1 "$(pid_in "$T/b/run/ha/db.run")"
until_says 10 "takeover" on b events
expect 7 "may run there" on a vm create "$T/db.cfg"

# The way back, by itself: the options of the first protection hold there, too.
expect 0 "protected" on b wait db --for=protected --timeout=10s
expect 0 "running" on b vm list
expect 0 "standby" on a vm list
grep -q '"interval_ns":50000000' "$T/b/run/ha/db.json" || fail "the options did not move along"
[ "$(ls "$T/a/run/vm" "$T/b/run/vm" | grep -c '^[0-9]')" = 2 ] || fail "folders were left behind"

# Told to wait for the operator, it does; a restart of polluxd forgets none of it.
expect 0 "has ended" on b unprotect db
expect 0 "begins" on b protect db a --reprotect=manual
expect 0 "protected" on b wait db --for=protected --timeout=10s
kill -9 "$(pid_in "$T/b/run/ha/db.run")" "$(pid_in "$(echo "$T"/b/run/vm/*/vm.json)")"
kill -USR1 "$(pid_in "$T/a/run/ha/db.run")"
until_says 10 "took over: no backup" on a status db
stop a
start a
until_says 10 "running" on a vm list
expect 0 "took over: no backup" on a status db
expect 0 "waits until" on a reprotect db
expect 0 "protected" on a wait db --for=protected --timeout=10s
expect 0 "standby" on b vm list
expect 3 "already protected to b" on a reprotect db

# A reboot ends the run of the VM and not its protection.
kill -USR1 "$(pid_in "$(echo "$T"/a/run/vm/*/vm.json)")"
until_says 10 "vm.restarted" on a events
expect 0 "protected" on a wait db --for=protected --timeout=10s
# A switchover: only from the primary, within its time, and then the VM is the other host's.
expect 3 "VM db runs on a: pollux switchover db there" on b switchover db
expect 2 "not between 100ms and 60s" on a switchover db --timeout=61s
expect 6 "nothing has changed" on a switchover db --timeout=500ms
expect 0 "protected" on a wait db --for=protected --timeout=1s
expect 0 "given to the other host" on a switchover db
kill -9 "$(pid_in "$T/a/run/ha/db.run")" "$(pid_in "$(echo "$T"/a/run/vm/*/vm.json)")"
until_says 10 "stopped: generation" on a vm list
expect 0 "runs elsewhere" on a status db
kill "$(pid_in "$T/b/run/ha/db.run")"
until_says 10 "no VMs" on b vm list

# The operator's word: above what anybody can have who took over from what is known here.
old=$(on a status db --format json | grep -o '"generation": *[0-9]*' | grep -o '[0-9]*$')
expect 7 "may run there" on a vm create "$T/db.cfg"
expect 0 "runs" on a vm create "$T/db.cfg" --force --reason "b is off"
expect 0 "begins" on a protect db b
expect 0 "protected" on a wait db --for=protected --timeout=10s
new=$(on a status db --format json | grep -o '"generation": *[0-9]*' | grep -o '[0-9]*$')
[ "$new" -gt $((old + 1)) ] || fail "generation $old -> $new by force"
stop a
stop b
echo done
