# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The guest's two disks on DRBD, in the lab: resources r1 and r2 with the image files behind
# loop devices, replicated by the kernel's own module over the replication link. Sourced after
# counters.sh.
#
# The meta-data lie in files of their own, so that an image is what the guest sees. Both nodes
# begin with the same images: there is nothing to copy at first. After a boot DRBD comes up by
# itself (node-init), as a host's own service brings it up.

drbd_configuration()
{
	local i
	echo 'global { usage-count no; }'
	for i in 1 2; do
		cat <<-END
			resource r$i {
				protocol C;
				device /dev/drbd$i;
				flexible-meta-disk /dev/loop$((2 * i + 1));
				disk { c-plan-ahead 0; resync-rate 100M; }
				net { timeout 20; ping-int 2; ping-timeout 10; connect-int 2; verify-alg crc32c; }
				on a { disk /dev/loop$((2 * i)); address $1:$((7788 + i)); }
				on b { disk /dev/loop$((2 * i)); address $2:$((7788 + i)); }
			}
		END
	done
}

drbd_at_boot()
{
	cat <<-'END'
		modprobe -a loop drbd
		cp /var/lib/pollux/drbd.conf /etc/drbd.conf
		for i in 1 2; do
			losetup /dev/loop$((2 * i)) /var/lib/pollux/counters-$i.img
			losetup /dev/loop$((2 * i + 1)) /var/lib/pollux/drbd-$i.meta
		done
		[ -e /var/lib/pollux/drbd-made ] || drbdadm -- --force create-md all
		touch /var/lib/pollux/drbd-made
		drbdadm up all
	END
}

# drbd_is NODE VERB VALUE: of both resources, as drbdadm tells.
drbd_is() { [ "$(on "$1" "drbdadm $2 all" 2>/dev/null | sort -u)" = "$3" ]; }
drbd_say() { on "$1" "for v in role cstate dstate; do drbdadm \$v all; done" | tr '\n' ' '; }

# drbd_begin: both nodes have it, connected and alike.
drbd_begin()
{
	local node
	for node in a b; do
		drbd_configuration "192.168.78.11" "192.168.78.12" >"$WORK/drbd.conf"
		drbd_at_boot >"$WORK/at-boot"
		lab push $node "$WORK/drbd.conf" /var/lib/pollux/drbd.conf
		lab push $node "$WORK/at-boot" /var/lib/pollux/at-boot
		on $node "truncate -s 1M /var/lib/pollux/drbd-1.meta /var/lib/pollux/drbd-2.meta &&
			sh /var/lib/pollux/at-boot" >"$WORK/drbd-$node.log" 2>&1 ||
			fail "DRBD on $node: $(tail -n 3 "$WORK/drbd-$node.log")"
	done
	until_true 60 drbd_is a cstate Connected || fail "DRBD is not connected: $(drbd_say a)"
	on a "for i in 1 2; do drbdadm -- --clear-bitmap new-current-uuid r\$i; done" \
		>"$WORK/drbd.log" 2>&1
	until_true 60 drbd_is a dstate UpToDate/UpToDate || fail "DRBD: $(drbd_say a)"
}

# drbd_vm_file NODE: the guest's file with its disks there; VM_FILE from now on.
drbd_vm_file()
{
	VM_FILE=/run/counters-drbd.cfg
	on "$1" "sed -E \"s#'/var/lib/pollux/counters-([12]).img,raw,(xvd[ab]),rw'#'format=raw,vdev=\\2,access=rw,target=drbd:r\\1'#g\" \
		/srv/guest/counters.cfg >$VM_FILE && grep -q drbd:r2 $VM_FILE" || fail "no VM file on $1"
}
