# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Commands for the guest, typed at its console. Sourced after lab_begin; not executable, so that
# tests/run does not take it for a test.

# Types a line at the console and prints what the guest says to it. The marks are computed
# by the guest, so that the echo of what was typed is not taken for them.
cat >"$WORK/typed" <<'END'
#!/bin/bash
coproc console { exec pollux vm console "$1" 2>/dev/null; }
printf 'echo begin-$((6*7)); %s; echo end-$((6*7))-$?\n' "$2" >&"${console[1]}"
status=1 begun=
while IFS= read -r -t 180 line <&"${console[0]}"; do
	line=${line%$'\r'}
	case $line in
	*begin-42) begun=1 ;;
	*end-42-*) status=${line##*-} && break ;;
	*) [ -z "$begun" ] || echo "$line" ;;
	esac
done
kill "$console_PID"
exit "$status"
END
chmod +x "$WORK/typed"
for node in a b; do
	lab push $node "$WORK/typed" /run/typed
done

# typed NODE COMMAND
typed() { on "$1" /run/typed $VM "$2"; }

# says NODE EXPECTED COMMAND
says()
{
	local words
	words=$(typed "$1" "$3") || fail "in the guest, $3: $words"
	[ "$words" = "$2" ] || fail "in the guest, $3: \"$words\" instead of \"$2\""
}
