#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
#
# A guest that dirties more in an interval than a slot holds, always: the first epoch that is too
# large is found by a checkpoint that is for nothing; from then on a round comes early, and what is left
# fits. All memory is compared at each epoch.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/pair.sh
EPOCHS=40

protected() { [ "$(status a .protected)" = true ]; }
number() { engine_status a "$1"; }
has_committed() { [ "$(number .epochs_committed)" -ge "$1" ]; }
oracle_has_checked() { [ "$(engine_status b .oracle.checked)" -ge "$EPOCHS" ]; }
# protect_every MILLISECONDS [OPTION]: anew, and some epochs of it.
protect_every()
{
	on a protect tiny b --interval="$1ms" ${2-} >/dev/null || fail "protect"
	until_true 60 protected || fail "not protected: $(status a .word)"
	until_true 60 has_committed $EPOCHS || fail "only $(number .epochs_committed) epochs"
}

# Two slots of 1 MiB, 256 pages.
make_pair 'timeout = 2s' 'oracle = on' 'stage = 2MiB' 'max_in_flight = 2'
sed -i "s#^kernel.*#kernel = \"$O/tests/kvm/dirtier\"#" "$T/tiny.cfg"
start_host a
start_host b
on a vm create "$T/tiny.cfg" >/dev/null || fail "vm create"

# How fast it is, where all fits.
protect_every 100 --stage=64MiB
pages=$(number .dirty_pages.p50)
echo "every 100 ms: $pages pages, $(number .live_rounds) rounds"
[ "$(number .epochs_too_large)" = 0 ] || fail "they do not fit 8192 pages"
on a unprotect tiny >/dev/null || fail "unprotect"

interval=$((100 * 256 * 14 / 10 / pages))
protect_every $interval
committed=$(number .epochs_committed) large=$(number .epochs_too_large) rounds=$(number .live_rounds)
echo "every $interval ms: $committed epochs, $rounds rounds, $large too large, $(number .dirty_pages.p50) pages at a checkpoint"
[ "$large" -ge 1 ] || fail "none was too large: this tests nothing"
[ "$large" -le $((committed / 4)) ] || fail "they go on being too large"
[ "$rounds" -ge $((committed / 2)) ] || fail "no early rounds"
until_true 60 oracle_has_checked || fail "the oracle checked $(engine_status b .oracle.checked) epochs"
[ "$(engine_status b .oracle.failed)" = 0 ] || fail "memory differs: $(engine_status b .oracle)"
exit 0
