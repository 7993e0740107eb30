#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 60
# What monitoring, shells and whoever waits ask the command line: check, top, completion, config, wait.
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/tools.sh
command -v openssl >/dev/null || { echo "no openssl"; exit 77; }

make_host a 1
make_host b 2
expect 3 "POLLUX UNKNOWN" on a check
expect 3 "above --critical" on a check --warning=2s --critical=1s
expect 2 "no duration" on a check --warning=5
start a
start b
make_vm db

expect 0 "POLLUX OK: 0 of 0 VMs protected" on a check
expect 0 "VM db runs" on a vm create "$T/db.cfg"
expect 0 "POLLUX OK: 0 of 0 VMs protected, 1 never asked for" on a check
expect 2 "POLLUX CRITICAL: db is not protected: never asked for; 0 of 1" on a check db
expect 3 "POLLUX UNKNOWN" on a check nobody
expect 0 "db: not protected" on a wait db --for=running --timeout=5s
expect 6 "still" on a wait db --for=standby --timeout=300ms
expect 2 "protected, unprotected, running" on a wait db --for=happy
expect 0 "begins" on a protect db b
expect 0 "protected" on a wait db --for=protected --timeout=10s
expect 0 "POLLUX OK: 1 of 1 VMs protected | db_lag=0." on a check
expect 0 "db: protected" on b wait db --for=standby --timeout=5s
expect 1 "POLLUX WARNING: db lags by" on a check --warning=1ns
expect 2 "POLLUX CRITICAL: db lags by" on a check db --critical=1ns
expect 0 "protected" on a top
expect 0 "EPOCH/s" on a top db
expect 1 "does not exist" on a top nobody

# A certificate that ends within a month, and within a week.
CERT_DAYS=20 make_host c 3
CERT_DAYS=3 make_host d 4
start c
start d
expect 1 "POLLUX WARNING: this host's certificate ends on 20" on c check
expect 2 "POLLUX CRITICAL: this host's certificate ends on 20" on d check

# A silent engine is no evidence of protection (P5).
ha=$(pid_in "$T/a/run/ha/db.run")
kill -STOP "$ha"
until_says 5 "no answer from pollux-ha" on a status db
expect 2 "POLLUX CRITICAL: db is not protected: no answer" on a check
kill -CONT "$ha"
expect 0 "protected" on a wait db --for=protected --timeout=5s

# The configuration, as polluxd would read it: what is dumped is taken again.
expect 0 "this is host a, 1 peers" on a config check "$T/a/pollux.conf"
on a config dump "$T/a/pollux.conf" >"$T/dumped" || fail "config dump"
grep -q '^interval = 100ms$' "$T/dumped" || fail "no defaults: $(cat "$T/dumped")"
expect 0 "this is host a, 1 peers" on a config check "$T/dumped"
on a config dump "$T/dumped" | cmp - "$T/dumped" || fail "it is dumped otherwise"
sed -i 's/^interval = .*/interval = 1ms/' "$T/dumped"
expect 1 "interval: 1ms is not between" on a config check "$T/dumped"
expect 1 "No such file" on a config dump "$T/nothing"

# A report has what was said, and no key.
cat "$T/a/key.pem" >>"$T/a/log/db-ha.log"
echo 'password=hunter2' >>"$T/a/log/db-ha.log"
PATH=$(realpath "$BIN"):$PATH POLLUX_CONF=$T/a/pollux.conf expect 0 "look through it" on a report "$T/report.tar.gz"
[ "$(stat -c %a "$T/report.tar.gz")" = 600 ] || fail "others may read the report"
mkdir "$T/report"
tar -C "$T/report" --strip-components=1 -x -f "$T/report.tar.gz" || fail "the report is no tar"
jq -e '.vms[0].name == "db"' "$T/report/status.json" >/dev/null || fail "no status: $(cat "$T/report/status.json")"
grep -q '^interval = 100ms$' "$T/report/config" || fail "no configuration"
grep -q 'subject=CN = a' "$T/report/cert" || fail "no certificate: $(cat "$T/report/cert")"
grep -q 'a private key was here' "$T/report/log/db-ha.log" || fail "no log: $(ls -R "$T/report")"
[ -s "$T/report/record/db" ] || fail "no record: $(ls -R "$T/report")"
! grep -rqF -e "$(sed -n 2p "$T/a/key.pem")" -e hunter2 "$T/report" || fail "a secret is in the report"
expect 3 "exists" on a report "$T/report.tar.gz"

# bash completes what there is. complete WORD...: what may come, for the last of them.
cat >"$T/complete" <<'SH'
eval "$(pollux completion bash)"
COMP_WORDS=(pollux "$@")
COMP_CWORD=$#
compopt() { :; }
_pollux
printf '%s\n' "${COMPREPLY[@]}"
SH
mkdir -p "$T/bin"
ln -s "$(realpath "$BIN/pollux")" "$T/bin/pollux"
completed()
{
	local wanted=$1 got
	shift
	got=$(cd "$T" && POLLUX_SOCKET=$T/a/run/polluxd.sock PATH=$T/bin:$PATH bash complete "$@" | tr '\n' ' ')
	[ "$got" = "$wanted " ] || fail "completion of \"$*\": $got, not $wanted"
}
completed "config completion" co
completed "reprotect report" rep
completed "create list console shutdown destroy" vm ""
completed "db" protect d
completed "db --force --reason=" unprotect ""
completed "--force" unprotect db --f
completed "--for=stopped --for=standby" wait db --for=st
completed "db.cfg" vm create db.c
expect 2 "expected bash" on a completion fish
# Each command that is in the help can be completed.
on a help | sed -n 's/^  \([a-z][a-z]*\) .*/\1/p' | sort -u >"$T/helped"
on a completion words | sort -u >"$T/completable"
cmp "$T/helped" "$T/completable" || fail "help and completion differ"
echo done
