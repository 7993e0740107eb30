# SPDX-License-Identifier: Apache-2.0
#
# What the demo, the drill and the lab's tests have in common: a VM with Redis on
# two nodes, a client with one connection, and the accounts afterwards. Sourced;
# wants LAB_NAME and WORK (a folder for logs and results).

SCENARIO_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
O=${O:-build}
O=$(cd "$SCENARIO_DIR/../.." && mkdir -p "$O" && cd "$O" && pwd)
export O LAB_NAME

# NETBUF=plug: who holds the VM's output, on both hosts.
if [ -n "${NETBUF-}" ]; then
	export LAB_PROTECTION="${LAB_PROTECTION:+$LAB_PROTECTION$'\n'}netbuf = $NETBUF"
fi

# LAB_PLATFORM=xen: the hosts run Xen, and xl makes the VM, which has no disk.
export LAB_PLATFORM=${LAB_PLATFORM:-kvm}
VM=redis
case $LAB_PLATFORM in
kvm) VM_FILE=/srv/guest/redis.cfg VM_DISK=/var/lib/pollux/redis.img VM_PROGRAM=pollux-vmm ;;
xen) VM_FILE=/srv/guest/redis-xen.cfg VM_DISK='' VM_PROGRAM=pollux-xen ;;
esac
VM_ADDRESS=192.168.77.100
CLIENT_BINARY=$O/bin/lab-client
# Emulated processors are slow and shared: these limits only end what hangs.
BOOT_LIMIT=${BOOT_LIMIT:-180}
PROTECT_LIMIT=${PROTECT_LIMIT:-300}
TAKEOVER_LIMIT=${TAKEOVER_LIMIT:-120}

lab() { "$SCENARIO_DIR/pollux-lab" "$@"; }
on() { lab sh "$@" </dev/null; }

# An aim was missed; the caller's trap tells where the logs are.
fail()
{
	echo "FAILED: $*" >&2
	exit 1
}

# until_true SECONDS COMMAND...
until_true()
{
	local limit=$((SECONDS + $1))
	shift
	until "$@"; do
		[ "$SECONDS" -le "$limit" ] || return 1
		sleep 0.3
	done
}

# --- the VM -------------------------------------------------------------------------------

vm_answers()
{
	[ "$(lab client timeout 2 redis-cli -h $VM_ADDRESS ping 2>/dev/null)" = PONG ]
}

# vm_create NODE: makes the VM and starts it.
vm_create()
{
	local with=(pollux vm create)
	[ "$LAB_PLATFORM" != xen ] || with=(xl create)
	on "$1" "${with[@]}" $VM_FILE >"$WORK/create.log" 2>&1 ||
		fail "${with[*]}: $(tail -n 3 "$WORK/create.log")"
}

# vm_start NODE: creates the VM and waits for its Redis.
vm_start()
{
	vm_create "$1"
	until_true "$BOOT_LIMIT" vm_answers || fail "Redis in the VM does not answer after $BOOT_LIMIT s"
}

# vm_status NODE: the VM's object of the status, or nothing.
vm_status()
{
	on "$1" pollux status $VM --format json 2>/dev/null |
		jq -c --arg vm $VM '.vms[]? | select(.name == $vm)' 2>/dev/null || true
}

# vm_get NODE PATH: one value of it; empty when it is not known.
vm_get() { vm_status "$1" | jq -r "$2 // empty" 2>/dev/null || true; }

vm_is_protected() { [ "$(vm_get "$1" .protected)" = true ]; }

vm_protect()
{
	on "$1" pollux protect $VM "$2" >"$WORK/protect.log" 2>&1 ||
		fail "pollux protect: $(tail -n 3 "$WORK/protect.log")"
	until_true "$PROTECT_LIMIT" vm_is_protected "$1" ||
		fail "not protected after $PROTECT_LIMIT s: $(vm_get "$1" .word)"
}

# The backup runs the VM, and says how long it took to notice and to take over.
vm_was_taken_over()
{
	# Not by the status of jq -e: it is 0 when there was nothing to read.
	[ "$(vm_status "$1" | jq '.takeover.takeover_ns != null' 2>/dev/null)" = true ]
}

# --- the client ---------------------------------------------------------------------------

# client_start [OPTION...]: writes until client_end.
client_start()
{
	rm -f "$WORK/client.status" "$WORK/client.json"
	# Not through lab(): the signal that ends it must reach the client itself.
	"$SCENARIO_DIR/pollux-lab" client "$CLIENT_BINARY" load --drain 20 \
		--status "$WORK/client.status" "$@" \
		>"$WORK/client.json" 2>"$WORK/client.log" </dev/null &
	CLIENT_PID=$!
}

client_get() { jq -r ".$1 // 0" "$WORK/client.status" 2>/dev/null || echo 0; }

client_acked_more_than() { [ "$(client_get acked)" -gt "$1" ]; }

# Its last answers are waited for: what is on the way must arrive as well.
client_end()
{
	[ -n "${CLIENT_PID-}" ] || return 0
	kill -TERM "$CLIENT_PID" 2>/dev/null || true
	wait "$CLIENT_PID" 2>/dev/null || true
	CLIENT_PID=
	[ -s "$WORK/client.json" ] || cp "$WORK/client.status" "$WORK/client.json" 2>/dev/null ||
		echo '{}' >"$WORK/client.json"
}

# client_check COUNT: every one of the keys 1..COUNT, read back from the VM.
client_check()
{
	lab client "$CLIENT_BINARY" check --count "$1" \
		>"$WORK/check.json" 2>"$WORK/check.log" || true
	[ -s "$WORK/check.json" ] || echo '{}' >"$WORK/check.json"
}

# --- the disk -----------------------------------------------------------------------------

# disk_check NODE COUNT: cuts the VM's power and looks at its disk as any machine
# would after that: replay the journal (on a copy), then e2fsck must find nothing;
# and the append-only file must hold every acknowledged write. (The totals in the
# superblock are brought up to date at unmount only: e2fsck says so, and rightly
# does not call it damage.)
# Leaves $WORK/fsck.log, $WORK/aof.json; prints clean or the exit status of e2fsck, or
# none when the VM has no disk.
disk_check()
{
	local node=$1 count=$2
	[ -n "$VM_DISK" ] || { echo none; return; }
	on "$node" pollux vm destroy $VM >"$WORK/destroy.log" 2>&1 || true
	on "$node" "rm -rf /var/lib/pollux/check && mkdir /var/lib/pollux/check &&
		cd /var/lib/pollux/check && cp --sparse=always $VM_DISK image &&
		{ e2fsck -E journal_only -y image; e2fsck -f -n image; echo status=\$?; } &&
		debugfs -R 'rdump /var/lib/redis/appendonlydir .' image" >"$WORK/fsck.log" 2>&1 || true
	echo '{}' >"$WORK/aof.json"
	if lab pull "$node" /var/lib/pollux/check/appendonlydir/appendonly.aof.1.incr.aof \
		"$WORK/appendonly.aof" 2>>"$WORK/fsck.log"; then
		"$CLIENT_BINARY" aof "$WORK/appendonly.aof" --count "$count" \
			>"$WORK/aof.json" 2>"$WORK/aof.log" || true
		rm -f "$WORK/appendonly.aof"
	fi
	on "$node" rm -rf /var/lib/pollux/check || true
	if grep -q '^status=0$' "$WORK/fsck.log"; then
		echo clean
	else
		sed -n 's/^status=/e2fsck exit status /p' "$WORK/fsck.log" | grep . ||
			echo 'not checked'
	fi
}

# accounts FSCK BEFORE: the result of a scenario as JSON, from the files in $WORK.
accounts()
{
	local file
	for file in primary backup client check aof; do
		[ -s "$WORK/$file.json" ] || echo '{}' >"$WORK/$file.json"
	done
	jq -n -f "$SCENARIO_DIR/accounts.jq" --arg fsck "$1" --argjson before "$2" \
		--arg platform "$LAB_PLATFORM" \
		--arg accelerator "$(cat "/run/pollux-lab/$LAB_NAME/accelerator")" \
		--slurpfile p "$WORK/primary.json" --slurpfile b "$WORK/backup.json" \
		--slurpfile c "$WORK/client.json" --slurpfile k "$WORK/check.json" \
		--slurpfile a "$WORK/aof.json"
}

# --- logs ---------------------------------------------------------------------------------

# What the nodes know, for whoever has to find out why.
collect_logs()
{
	local node
	for node in a b; do
		cp "$O/lab/run/$LAB_NAME/$node.console.log" "$WORK/" 2>/dev/null || true
		timeout 30 "$SCENARIO_DIR/pollux-lab" sh "$node" \
			'cd / && for pid in $(pidof pollux-vmm pollux-ha pollux-xen pollux-ha-xen); do
				for task in /proc/$pid/task/*; do
					echo "$pid $(cat $task/comm)" && cat $task/stack
				done
			done >/var/log/stacks; dmesg >/var/log/dmesg
			[ ! -e /proc/xen/capabilities ] || { xl list -l; xl dmesg; xenstore-ls; } >/var/log/xl 2>&1
			tar -c var/log run/pollux var/lib/pollux/*/record 2>/dev/null' \
			</dev/null >"$WORK/node-$node.tar" 2>/dev/null || true
		[ -s "$WORK/node-$node.tar" ] || rm -f "$WORK/node-$node.tar"
	done
}
