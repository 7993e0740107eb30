# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# A guest that keeps patterns in its vector registers (tests/guest/vectors.c), asked whether
# they are still there. Sourced, after common.sh.

VECTORS_PORT=7200

vectors_answer()
{
	lab client timeout "$LIMIT" busybox nc $VM_ADDRESS $VECTORS_PORT >"$WORK/vectors" 2>"$WORK/nc.log" </dev/null || true
	[ -s "$WORK/vectors" ]
}

# vectors_are_right: leaves what the guest says of its registers in vectors.
vectors_are_right()
{
	until_true "$LIMIT" vectors_answer || fail "no word of its registers: $(cat "$WORK/nc.log")"
	grep -q 'wrong=0 ' "$WORK/vectors" || fail "vector registers: $(cat "$WORK/vectors")"
}

# vectors_rounds: how often it has looked, as it said last.
vectors_rounds() { sed -n 's/.*rounds=\([0-9]*\).*/\1/p' "$WORK/vectors"; }

# vectors_went_on ROUNDS
vectors_went_on() { [ "$1" -lt "$(vectors_rounds)" ] || fail "the guest began anew"; }
