#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
#
# A backup that says what is not so: the digest in one acknowledgement is not the epoch's; an epoch
# is called durable that was never sent. The primary takes none of it, ends the connection, and
# says so; then the two begin anew.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/pair.sh

said() { grep -q "event=disconnected $1" "$T/a/log/tiny-ha.log"; }
protected_again() { [ "$(status a .protected)" = true ] && [ "$(status b .epochs_committed)" -ge 1 ]; }

make_pair 'interval = 50ms' 'timeout = 2s'
faulty b
own_disks
sed -i "s#^kernel.*#kernel = \"$O/tests/kvm/writer\"#" "$T/tiny.cfg"
echo "disk = [ '$T/disks/d0,raw,xvda,rw', '$T/disks/d1,raw,xvdb,rw' ]" >>"$T/tiny.cfg"
truncate -s 8M "$T"/{a,b}/disks/d{0,1}
echo ack.digest:12:once >"$T/b/fault"
start_host a
start_host b
on a vm create "$T/tiny.cfg" >/dev/null || fail "vm create"
on a protect tiny b >/dev/null || fail "protect"
until_true 40 said "an acknowledgement" || fail "the primary took a wrong acknowledgement"
until_true 40 protected_again || fail "not protected again: $(status a .word)"
echo "a wrong digest: refused, and protected again"

echo durable.ahead:2:once >"$T/b/fault"
cut_off b ha
until_true 40 said "an epoch called durable that was not sent" || fail "the primary believed it"
until_true 40 protected_again || fail "not protected again: $(status a .word)"
echo "durable too early: refused, and protected again"
end_pair
exit 0
