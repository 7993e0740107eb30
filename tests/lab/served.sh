# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Disks on a lab's nodes that an nbdkit server with Pollux's plugin gives away, and the tools
# for that. Sourced, after common.sh; skips where the tools are not installed.

for tool in nbdkit nbd-client fio; do
	PATH=/usr/sbin:$PATH command -v $tool >/dev/null || { echo "no $tool"; exit 77; }
done
TOOLS=/var/lib/pollux/tools

# pack_tools: with their libraries, to lie on the nodes' disks.
pack_tools()
(
	root=$WORK/tools
	. tools/lab/root.sh
	mkdir -p "$root"/{usr/bin,lib}
	root_add_programs "$root" nbdkit nbd-client fio
	cp "$O/lib/nbdkit-pollux-plugin.so" "$root/lib/"
	cp "$O/tests/unit/nbd_replica" "$root/usr/bin/"
	root_add_libraries "$root" "$O/tests/unit/nbd_replica"
	tar -C "$root" -c -f "$WORK/tools.tar" .
	rm -rf "$root"
)
give_tools()
{
	lab push "$1" "$WORK/tools.tar" /var/lib/pollux/tools.tar
	on "$1" "mkdir -p $TOOLS && cd $TOOLS && tar -x -f ../tools.tar && rm ../tools.tar"
}
with_tools()
{
	on "$1" "export PATH=$TOOLS/usr/bin:\$PATH LD_LIBRARY_PATH=$TOOLS/lib; $2"
}

# serve NODE NAME FILE
serve()
{
	with_tools "$1" "mkdir -p /run/nbd && rm -f /run/nbd/$2/nbd && mkdir -p /run/nbd/$2 &&
		nbdkit -P /run/nbd/$2/pid -U /run/nbd/$2/nbd $TOOLS/lib/nbdkit-pollux-plugin.so \
			file=$3 control=/run/nbd/$2" || fail "nbdkit on $1"
}
