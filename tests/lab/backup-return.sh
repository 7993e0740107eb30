#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 420
#
# The backup loses its power under load. The primary cannot know whether it runs the VM,
# so it stalls: it emits nothing, and says so. The backup returns with nothing in its
# hands, gives the right back, and protection resumes by itself. The client's connection
# lives through all of it, and through the loss of the primary after that.
set -euo pipefail
cd "$(dirname "$0")/../.."
export LAB_NAME=pollux-backup-return
. tests/lab/common.sh backup-return
lab_begin

say "a VM under load, protected"
vm_start a
vm_protect a b
client_begin

say "the backup loses its power"
lab kill b
vm_becomes a '.protected == false and .state == "stalled"'
heard=$(client_get acked)
# Three more timeouts without a word.
vm_becomes a '.lag_ns.now > 10e9'
say "a says: $(vm_get a .word)"
vm_is a '.protected == false and (.word | test("^not protected: stalled"))' ||
	fail "a is not loud about it: $(vm_get a .word)"
[ "$(client_get acked)" -eq "$heard" ] ||
	fail "the stalled primary let output go: $heard answers, then $(client_get acked)"

say "the backup returns"
lab start b
event_comes a 'handed over: backup returned \(generation [3-9]' 120
client_goes_on "after the backup returned"
until_true "$PROTECT_LIMIT" vm_is_protected a || fail "protection did not resume: $(vm_get a .word)"
say "a says: $(vm_get a .word)"

say "now the primary loses its power"
lab kill a
until_true "$TAKEOVER_LIMIT" vm_was_taken_over b || fail "b did not take over"
client_goes_on "after the takeover"
client_accounts
