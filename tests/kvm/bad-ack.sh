#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
#
# A backup that acknowledges what it did not get: the digest in one acknowledgement is not the
# epoch's. The primary takes none of it, ends the connection, and says so; then the two begin anew.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/pair.sh
EPOCH=12

refused() { grep -q "event=disconnected an acknowledgement" "$T/a/log/tiny-ha.log"; }
protected_again() { [ "$(status a .protected)" = true ] && [ "$(status b .epochs_committed)" -ge 1 ]; }

make_pair 'interval = 50ms' 'timeout = 2s'
mkdir "$T/libexec"
ln -s "$BIN/pollux-vmm" "$T/libexec/pollux-vmm"
cat >"$T/libexec/pollux-ha" <<-SH
	#!/bin/sh
	grep -q '"role": *"backup"' "\$2" && mkdir "$T/once" 2>/dev/null &&
		POLLUX_FAULT=ack.digest:$EPOCH:once && export POLLUX_FAULT
	exec "$BIN/pollux-ha" "\$@"
SH
chmod +x "$T/libexec/pollux-ha"
export POLLUX_LIBEXEC=$T/libexec
start_host a
start_host b
on a vm create "$T/tiny.cfg" >/dev/null || fail "vm create"
on a protect tiny b >/dev/null || fail "protect"
until_true 40 refused || fail "the primary took a wrong acknowledgement"
until_true 40 protected_again || fail "not protected again: $(status a .word)"
echo "refused, and protected again"
exit 0
