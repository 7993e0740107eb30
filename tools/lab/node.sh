# SPDX-License-Identifier: Apache-2.0
#
# The lab's nodes: QEMU processes, their disks, keys and configuration. Sourced
# by pollux-lab.
#
# A process is known by its pid *and* its start time, so that a stale record
# never makes us signal somebody else's process.

process_start_time()
{
	# The name, in brackets, may hold anything: count fields after it.
	sed -E 's/^.*\) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20
}

process_record() { echo "$2 $(process_start_time "$2")" >"$STATE/$1.pid"; }

# process_pid NAME: its pid, when it is alive and really the one recorded.
process_pid()
{
	local pid started
	[ -r "$STATE/$1.pid" ] || return 1
	read -r pid started <"$STATE/$1.pid" || return 1
	[ -n "$started" ] && [ "$(process_start_time "$pid")" = "$started" ] || return 1
	[ "$(process_state "$pid")" != Z ] || return 1
	echo "$pid"
}

process_state() { sed -E 's/^.*\) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f1; }
process_alive() { process_pid "$1" >/dev/null; }

# process_end NAME SIGNAL: sends it and waits until the process is gone.
process_end()
{
	local pid
	if pid=$(process_pid "$1"); then
		kill -s "$2" "$pid" 2>/dev/null || true
		wait_until 5 process_gone "$1" || kill -9 "$pid" 2>/dev/null || true
		wait_until 5 process_gone "$1" || true
	fi
	rm -f "$STATE/$1.pid"
}

process_gone() { ! process_alive "$1"; }

# A lock or a pipe of the caller must not live on in a daemon of the lab.
close_descriptors()
{
	local fd
	for fd in /proc/"$BASHPID"/fd/*; do
		fd=${fd##*/}
		[ "$fd" -le 2 ] || eval "exec $fd>&-"
	done
}

# --- what kind of machine a node is -------------------------------------------------------

# Hardware is used when the processor really has the extension, KVM opens, and a
# guest may be nested in a guest. LAB_ACCEL=tcg or kvm decides otherwise.
accelerator()
{
	local module nested
	if [ -n "${LAB_ACCEL-}" ]; then
		echo "$LAB_ACCEL"
		return
	fi
	case $(grep -o -w -m1 -E 'vmx|svm' /proc/cpuinfo | head -1) in
	vmx) module=kvm_intel ;;
	svm) module=kvm_amd ;;
	*) module= ;;
	esac
	nested=$(cat "/sys/module/$module/parameters/nested" 2>/dev/null || echo N)
	if [ -n "$module" ] && [ -w /dev/kvm ] && [[ $nested == [Y1] ]]; then
		echo kvm
	else
		echo tcg
	fi
}

# clearcpuid=112, REP_GOOD: the kernel's own copies use a loop as well. tsc=reliable: emulated
# processors have one TSC, but the kernel compares them while threads come and go, and would
# take the HPET instead, of which each reading is a system call and leaves the machine. Its
# frequency is said: what the kernel measures on a busy machine may be wrong by a factor. The
# other processors come up when the kernel has patched itself for the last time (node-init).
machine_append()
{
	[ "$1" = kvm ] || echo "clearcpuid=112 tsc=reliable tsc_early_khz=$("$IMAGES/agent" tsc) maxcpus=1 noreplace-smp"
}

# What a node is: kvm, a Linux host, or xen, Xen with a Linux dom0.
platform() { cat "$STATE/platform"; }

# Emulated, the first processor is no VM's (node-init); of Xen's it is dom0's.
node_cpus()
{
	local cpus=${LAB_CPUS:-2}
	case $(cat "$STATE/accelerator")-$(platform) in
	tcg-kvm) cpus=$((cpus + 1)) ;;
	esac
	echo "$cpus"
}

machine_flags()
{
	case $1-$(platform) in
	kvm-*) echo "-accel kvm -cpu host${LAB_CPU_FEATURES:+,$LAB_CPU_FEATURES}" ;;
	tcg-xen) echo "-accel tcg,thread=multi -cpu $XEN_CPU${LAB_CPU_FEATURES:+,$LAB_CPU_FEATURES}" ;;
	# Emulated, `rep movsb` takes 50 times as long as a loop; hardware has it the other way
	# round. So the nodes' processors do not offer it (see also machine_append).
	*) echo "-accel tcg,thread=multi -cpu max,-erms,-fsrm${LAB_CPU_FEATURES:+,$LAB_CPU_FEATURES}" ;;
	esac
}

# Dom0's kernel does not start on `-cpu max`. Without +npt, Xen has no PVH and no HVM.
# +invtsc is forced: emulated processors do have one steady TSC, but QEMU does not offer to say
# so, and without it Xen emulates each guest's readings of it, at twice the guest's time.
XEN_CPU=qemu64,+svm,+npt,+ssse3,+sse4.1,+sse4.2,+popcnt,+movbe,+aes,+invtsc,x-force-features=on

# Nothing of what Xen does for real processors' faults, or when nothing else is to do, is
# worth its time when emulated. One processor is the guests': with two of its own, dom0's kernel
# would patch itself while another processor runs it (agent_keys.c).
xen_append()
{
	echo "console=com1 loglvl=warning guest_loglvl=error dom0_mem=$((${LAB_MEM:-2048} / 2))M,max:$((${LAB_MEM:-2048} / 2))M \
dom0_max_vcpus=$((${LAB_CPUS:-2} - 1)) dom0_vcpus_pin spec-ctrl=no xpti=no pcid=0 ${LAB_XEN_APPEND-}"
}

# What QEMU boots, in `boot`: dom0's kernel, or Xen, whose modules dom0's kernel with its
# command line and its initrd are. QEMU separates modules by commas.
boot_arguments()
{
	local node=$1 linux append=${LAB_APPEND-}
	append=${append//,/,,}
	linux="quiet loglevel=4 panic=-1 net.ifnames=0 mitigations=off no_timer_check nowatchdog \
random.trust_cpu=on"
	case $(platform) in
	kvm) boot=(-kernel "$IMAGES/kernel/vmlinuz" -initrd "$LAB_DIR/$node.initrd"
		-append "console=ttyS0 $linux $(machine_append "$(cat "$STATE/accelerator")") ${LAB_APPEND-}") ;;
	xen) boot=(-kernel "$IMAGES/xen/xen" -append "$(xen_append)"
		-initrd "$IMAGES/vmlinux console=hvc0 $linux clearcpuid=112 $append,$LAB_DIR/$node.initrd") ;;
	esac
}

# --- keys and configuration ---------------------------------------------------------------

# One authority for the lab, one certificate a node; made at every `up`.
keys_make()
{
	local tls=$1 node
	mkdir -p "$tls"
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 3650 \
		-subj "/CN=pollux lab authority" -keyout "$tls/ca.key" -out "$tls/ca.pem" 2>/dev/null
	for node in "${NODES[@]}"; do
		openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 3650 \
			-CA "$tls/ca.pem" -CAkey "$tls/ca.key" -subj "/CN=$node" \
			-addext "subjectAltName=DNS:$node,IP:$(repl_address "$node")" \
			-addext "basicConstraints=critical,CA:FALSE" \
			-addext "extendedKeyUsage=serverAuth,clientAuth" \
			-keyout "$tls/$node.key" -out "$tls/$node.pem" 2>/dev/null
	done
	chmod 600 "$tls"/*.key
}

node_peer() { case $1 in a) echo b ;; b) echo a ;; esac; }

node_configuration()
{
	local node=$1 peer
	peer=$(node_peer "$node")
	cat <<-END
		[host]
		name = $node
		listen = $(repl_address "$node"):7400

		[tls]
		ca = /etc/pollux/tls/ca.pem
		cert = /etc/pollux/tls/cert.pem
		key = /etc/pollux/tls/key.pem

		[network]
		bridge = br0

		[peer $peer]
		address = $(repl_address "$peer"):7400

		[protection]
		interval = ${LAB_INTERVAL:-100ms}
		timeout = ${LAB_TIMEOUT:-2s}
	END
	[ -z "${LAB_PROTECTION-}" ] || echo "$LAB_PROTECTION"
}

# The node's own part of its file system; the last archive of its initramfs.
node_overlay()
{
	local node=$1 out=$2 root
	root=$LAB_DIR/$node.overlay
	rm -rf "$root"
	mkdir -p "$root/etc/pollux/tls"
	cat >"$root/etc/lab-node" <<-END
		NODE=$node
		LAN_ADDR=$(lan_address "$node")/24
		REPL_ADDR=$(repl_address "$node")/24
		MGMT_ADDR=$(mgmt_address "$node")/24
		HOSTS='$(repl_address a) a
		$(repl_address b) b'
	END
	node_configuration "$node" >"$root/etc/pollux/pollux.conf"
	cp "$LAB_DIR/tls/ca.pem" "$root/etc/pollux/tls/ca.pem"
	cp "$LAB_DIR/tls/$node.pem" "$root/etc/pollux/tls/cert.pem"
	cp "$LAB_DIR/tls/$node.key" "$root/etc/pollux/tls/key.pem"
	(cd "$root" && find . | cpio --quiet -o -H newc -R 0:0) >"$out"
	rm -rf "$root"
}

node_prepare()
{
	local node=$1 archives
	node_overlay "$node" "$LAB_DIR/$node.overlay.cpio"
	case $(platform) in
	kvm) archives=(node.cpio programs.cpio) ;;
	xen) archives=(node-xen.cpio programs.cpio programs-xen.cpio ${LAB_HVM:+hvm.cpio}) ;;
	esac
	(cd "$IMAGES" && cat "${archives[@]}" "$LAB_DIR/$node.overlay.cpio") >"$LAB_DIR/$node.initrd"
	rm -f "$LAB_DIR/$node.overlay.cpio"
	cp --sparse=always "$IMAGES/data.img" "$LAB_DIR/$node.disk"
}

# --- the process --------------------------------------------------------------------------

node_start()
{
	local node=$1 network order=0 net=() boot=()
	boot_arguments "$node"
	for network in "${NETWORKS[@]}"; do
		order=$((order + 1))
		net+=(-netdev "tap,id=$network,ifname=$network-$node,script=no,downscript=no"
			-device "virtio-net-pci,netdev=$network,romfile=,mac=52:54:00:00:0$order:$(mac_tail "$node")")
	done
	: >"$LAB_DIR/$node.console.log"
	rm -f "$STATE/$node.qemu-pid" "$STATE/$node.console" "$STATE/$node.qmp"
	# shellcheck disable=SC2046
	(close_descriptors
		exec ip netns exec "$NETNS" qemu-system-x86_64 \
			-name "$LAB_NAME-$node" -nodefaults -no-user-config -display none -no-reboot \
			-machine "${LAB_MACHINE:-q35}" $(machine_flags "$(cat "$STATE/accelerator")") \
			-smp "$(node_cpus)" -m "${LAB_MEM:-2048}" \
			"${boot[@]}" \
			-chardev "socket,id=console,path=$STATE/$node.console,server=on,wait=off,logfile=$LAB_DIR/$node.console.log,logappend=on" \
			-serial chardev:console \
			-qmp "unix:$STATE/$node.qmp,server=on,wait=off" \
			-drive "file=$LAB_DIR/$node.disk,format=raw,if=none,id=data,cache=unsafe,discard=unmap" \
			-device virtio-blk-pci,drive=data \
			-drive "file=$IMAGES/guest.img,format=raw,if=none,id=guest,readonly=on" \
			-device virtio-blk-pci,drive=guest \
			"${net[@]}" -device virtio-rng-pci \
			-daemonize -pidfile "$STATE/$node.qemu-pid" \
			</dev/null >"$LAB_DIR/$node.qemu.log" 2>&1) || {
		cat "$LAB_DIR/$node.qemu.log" >&2
		die "QEMU of node $node did not start"
	}
	process_record "$node" "$(cat "$STATE/$node.qemu-pid")"
}

mac_tail() { case $1 in a) echo 0a ;; b) echo 0b ;; esac; }

node_is_ready_or_dead()
{
	grep -q "lab: node $1 ready" "$LAB_DIR/$1.console.log" || ! process_alive "$1"
}

node_wait_ready()
{
	local node=$1
	wait_until "${LAB_BOOT_LIMIT:-180}" node_is_ready_or_dead "$node" ||
		die "node $node is not ready after ${LAB_BOOT_LIMIT:-180} s: see $LAB_DIR/$node.console.log"
	process_alive "$node" || {
		tail -n 20 "$LAB_DIR/$node.console.log" >&2
		die "node $node ended while it booted: see $LAB_DIR/$node.console.log"
	}
}

node_status()
{
	local pid
	if ! pid=$(process_pid "$1"); then
		echo off
	elif [ "$(process_state "$pid")" = T ]; then
		echo "frozen (pid $pid)"
	elif grep -q "lab: node $1 ready" "$LAB_DIR/$1.console.log"; then
		echo "up (pid $pid)"
	else
		echo "booting (pid $pid)"
	fi
}

node_signal()
{
	local pid
	pid=$(process_pid "$1") || die "node $1 is not running"
	kill -s "$2" "$pid"
}

# --- inside -------------------------------------------------------------------------------

node_sh()
{
	local node=$1 mode=call
	shift
	if [ "${1-}" = -t ]; then
		mode=terminal
		shift
	fi
	if [ $# -eq 0 ]; then
		set -- 'exec bash -l'
		[ ! -t 0 ] || mode=terminal
	fi
	process_alive "$node" || die "node $node is not running"
	exec ip netns exec "$NETNS" "$IMAGES/agent" "$mode" "$(mgmt_address "$node")" "$@"
}

# Until interrupted: what connects to 127.0.0.1:HERE on this machine reaches
# 127.0.0.1:THERE in the node.
node_forward()
{
	exec "$IMAGES/agent" forward "$3" ip netns exec "$NETNS" "$IMAGES/agent" call \
		"$(mgmt_address "$1")" nc 127.0.0.1 "$2"
}

# What is pushed outlives a power cut.
node_push()
{
	local mode=644
	[ -r "$2" ] || die "cannot read $2"
	[ ! -x "$2" ] || mode=755
	in_lab "$IMAGES/agent" call "$(mgmt_address "$1")" sh -c \
		'cat >"$1.part" && chmod "$2" "$1.part" && mv -f "$1.part" "$1" && sync "$1"' \
		sh "$3" $mode <"$2"
}

node_pull()
{
	in_lab "$IMAGES/agent" call "$(mgmt_address "$1")" cat "$2" >"$3.part" </dev/null ||
		{ rm -f "$3.part"; return 1; }
	mv -f "$3.part" "$3"
}
