#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 90
# Hooks: told of events, in order, one at a time; one that hangs, fails, or that others may write holds up
# nothing. And the audit log: who ordered what, before and after, also where the disk does not take it.
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/tools.sh
for tool in openssl jq; do
	command -v $tool >/dev/null || { echo "no $tool"; exit 77; }
done

# hook NAME MODE: the script on standard input becomes one.
hook() { { echo '#!/bin/bash'; cat; } >"$T/hooks/$1" && chmod "$2" "$T/hooks/$1"; }
# ended PID...: within 5 s, reaped or not.
ended()
{
	local pid state deadline=$((SECONDS + 5))
	for pid; do
		while read -r state < <(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null) && [ "${state%% *}" != Z ]; do
			[ $SECONDS -lt $deadline ] || fail "process $pid lives on: $(tr '\0' ' ' <"/proc/$pid/cmdline")"
			sleep 0.05
		done
	done
}
make_host a 1
make_host b 2
mkdir "$T/hooks"
printf '[hooks]\ndirectory = %s\ntimeout = 500ms\n' "$T/hooks" >>"$T/a/pollux.conf"
hook 10-log 755 <<-SH
	echo "first \$POLLUX_KIND \$POLLUX_VM \$POLLUX_HOST" >>$T/told
	jq -r .text <<<"\$POLLUX_EVENT" >>$T/texts
	[ "\$(jq -r .text <<<"\$POLLUX_EVENT")" = "\$POLLUX_TEXT" ] || echo differs >>$T/told
	env | cut -d= -f1 | sort >$T/env
SH
hook 20-log 700 <<<"echo \"second \$POLLUX_KIND\" >>$T/told"
hook 30-written 777 <<<"touch $T/written"
hook 40-hook.bak 755 <<<"touch $T/backup"
hook 50-plain 644 <<<"touch $T/plain"
start a
start b
make_vm db
expect 0 "VM db runs" on a vm create "$T/db.cfg"
until_says 5 "second vm.created" cat "$T/told"
[ "$(head -n 2 "$T/told" | tr '\n' ,)" = "first vm.created db a,second vm.created," ] || fail "told: $(cat "$T/told")"
grep -q 'runs as domain' "$T/texts" || fail "texts: $(cat "$T/texts")"
! grep -q differs "$T/told" || fail "told: $(cat "$T/told")"
grep -qE '^(NOTIFY_SOCKET|POLLUX_LIBEXEC)$' "$T/env" && fail "what is polluxd's own is in it: $(cat "$T/env")"
[ ! -e "$T/written" ] && [ ! -e "$T/backup" ] && [ ! -e "$T/plain" ] || fail "what is no hook was run"
grep -q 'others than root may write it' "$T/a/daemon.log" || fail "nothing is said of it"

# One fails, one hangs with what it has started: protection is reached meanwhile, and the next event is told.
hook 60-fails 755 <<<"exit 3"
hook 70-hangs 755 <<<"echo \$\$ >$T/hanging; sleep 1000 & echo \$! >>$T/hanging; trap '' TERM; wait; sleep 1000"
expect 0 "begins" on a protect db b
expect 0 "protected" on a wait db --for=protected --timeout=10s
until_says 10 "hook 60-fails: exit status 3" on a events
until_says 10 "hook 70-hangs was ended after 500 ms" on a events
until_says 20 "first protect db a" cat "$T/told"
! grep -q hook.failed "$T/told" || fail "hooks are told of hooks"
hung=$(cat "$T/hanging")

# polluxd does not wait for one that hangs, and leaves none behind.
rm -f "$T/hanging"
sed -i 's/^timeout = 500ms/timeout = 60s/' "$T/a/pollux.conf"
stop a
ended $hung
start a
expect 0 "has ended" on a unprotect db
deadline=$((SECONDS + 20))
until [ -s "$T/hanging" ]; do
	[ $SECONDS -lt $deadline ] || fail "the hook is not run"
	sleep 0.1
done
began=$SECONDS
stop a
[ $((SECONDS - began)) -lt 10 ] || fail "polluxd waits for a hook"
ended $(cat "$T/hanging")
rm "$T/hooks/60-fails" "$T/hooks/70-hangs"

# The audit log: asked and done, with the refusal; what only looks is not in it.
log=$T/a/state/audit.jsonl
jq -e -s --argjson uid "$(id -u)" --arg user "$(id -un)" '
	(map(select(.phase == "asked" and .request.verb == "protect"))[0]) as $p |
	$p.uid == $uid and $p.user == $user and $p.pid > 1 and $p.request.host == "b" and
	any(.[]; .phase == "done" and .order == $p.order and .code == null) and
	all(.[]; .phase == "done" or .request.verb != "status")' "$log" >/dev/null || fail "audit: $(cat "$log")"
start a
expect 1 "not protected" on a unprotect db
jq -e -s '.[-1].code == "not-protected" and .[-1].order == .[-2].order and .[-2].phase == "asked"' "$log" >/dev/null ||
	fail "audit: $(tail -n 2 "$log")"
[ "$(stat -c %a "$log")" = 640 ] || fail "others may read who ordered what"
# polluxd dies in the middle: the order stays, without its end.
kill -STOP "$(cat "$T/b/daemon.pid")"
on a protect db b >/dev/null 2>&1 &
asked() { [ "$(jq -s '.[-1].phase == "asked" and .[-1].request.verb == "protect"' "$log")" = true ]; }
deadline=$((SECONDS + 10))
until asked; do
	[ $SECONDS -lt $deadline ] || fail "audit: $(tail -n 2 "$log")"
	sleep 0.05
done
kill -9 "$(cat "$T/a/daemon.pid")"
kill -CONT "$(cat "$T/b/daemon.pid")"
while kill -0 "$(cat "$T/a/daemon.pid")" 2>/dev/null; do sleep 0.05; done
jq -e -s '.[-1].phase == "asked"' "$log" >/dev/null || fail "audit: $(tail -n 2 "$log")"
# What cannot be written is told, and done all the same.
mv "$log" "$log.kept"
mkdir "$log"
start a
expect 0 "destroyed" on a vm destroy db --force --reason=test
until_says 5 "audit.failed" on a events
# What it had begun there is known, so that it can be ended.
stop b
echo done
