#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
#
# The primary's host hangs for longer than the backup's patience, and wakes after the
# takeover. What it held back and what its VM would say now never leaves it (P3): the
# lease ran out while it slept. Its VM stops for good.
set -euo pipefail
cd "$(dirname "$0")/../.."
export LAB_NAME=pollux-freeze
. tests/lab/common.sh freeze
lab_begin

say "a VM under load, protected"
vm_start a
vm_protect a b
vm_capture_start b
client_begin

say "host a hangs"
lab freeze a
until_true "$TAKEOVER_LIMIT" vm_was_taken_over b || fail "b did not take over"
client_goes_on "after the takeover"
[ "$(vm_frames "$(lab capture stop lan-b)" | wc -l)" -gt 0 ] ||
	fail "the capture saw nothing of the VM on b: it would see nothing on a either"

say "host a wakes"
vm_capture_start a
lab thaw a
until_true "$LIMIT" vm_has_left a || fail "the old VM still runs on a: $(vm_get a .word)"
client_goes_on "after a woke"
daemon_again a
vm_has_left a || fail "polluxd on a started the old VM again"
frames=$(vm_frames "$(lab capture stop lan-a)" | tee "$WORK/lan-a" | wc -l)
say "frames of the VM from a since it woke: $frames"
[ "$frames" -eq 0 ] || fail "host a sent as the VM after it woke: $(head -n 3 "$WORK/lan-a")"
event_comes a '(stopped|ended here): generation [0-9]+ runs'

client_accounts
