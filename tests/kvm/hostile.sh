#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 600
#
# Hostile guests, while a checkpoint is taken ten times a second; then each is moved into a standby
# and goes on there. First one that breaks every rule of virtqueues at every queue (rings.c): each
# time the device needs a reset, and serves again after it, here and there. Then guests that write
# nonsense to every port, register and ring (hostile.S): a device may refuse service, the guest may
# end itself, its state may be refused. With all of them pollux-vmm lives, in its sandbox, and
# answers (P4).
#
# Their NICs share a bridge, in a network namespace that ends with the test, with somebody who
# pings: a queue that receives is looked at when there is a frame.
#
# N=guests SEED=number of the first. For a build with sanitizers: VMM_OPTIONS=--no-sandbox
# ASAN_OPTIONS=detect_leaks=0.
set -u
[ -c /dev/kvm ] && [ -r /dev/kvm ] || { echo "no /dev/kvm"; exit 77; }
[ -c /dev/net/tun ] || { echo "no /dev/net/tun"; exit 77; }
command -v busybox >/dev/null || { echo "no busybox"; exit 77; }
if [ -z "${OWN_NETWORK:-}" ]; then
	unshare -n true 2>/dev/null || { echo "no network namespaces"; exit 77; }
	OWN_NETWORK=1 exec unshare -n "$0" "$@"
fi
cd "$(dirname "$0")/../.." || exit 1
O=$(realpath "${O:-build}")
N=${N:-3} SEED=${SEED:-1} EPOCHS=${EPOCHS:-20}
T=$(mktemp -d /tmp/pollux-hostile.XXXXXX)
pids=()
pinger=
trap 'kill -9 "${pids[@]}" $pinger 2>/dev/null; rm -rf "$T"' EXIT
trap 'exit 130' INT TERM

fail()
{
	echo "FAILED: $guest: $*"
	tail -n 20 "$T"/*.log "$T"/[12]/serial.log
	exit 1
}
vmctl() { timeout 60 "$O/tests/kvm/vmctl" "$@"; }

# configure NUMBER: with a disk of its own, for that is locked.
configure()
{
	truncate -s 4M "$T/disk$1" "$T/shared"
	cat >"$T/config$1" <<-JSON
		{"name": "hostile", "uuid": "0e4f6d0a-2b53-4b0c-9f0f-6f1f52a1c002",
		 "memory_mib": 64, "kernel": "$T/kernel", "vcpus": 1,
		 "disks": [{"path": "$T/disk$1"}, {"path": "$T/shared", "readonly": true}],
		 "nics": [{"mac": "52:54:00:77:01:01", "bridge": "hostile"}],
		 "on_poweroff": "preserve", "on_reboot": "restart", "on_crash": "preserve"}
	JSON
}

# run NUMBER [OPTION]: a pollux-vmm, until it answers.
run()
{
	mkdir -p "$T/$1"
	configure "$1"
	"$O/bin/pollux-vmm" ${VMM_OPTIONS:-} --domid $((100 + $1)) --run-dir "$T/$1" \
		--config "$T/config$1" "${@:2}" >"$T/$1.log" 2>&1 &
	pids[$1]=$!
	for _ in {1..100}; do
		vmctl "$T/$1" info >/dev/null 2>&1 && return
		sleep 0.05
	done
	fail "pollux-vmm does not answer"
}

# lives NUMBER WHEN: it answers; what it says is in $T/info. A call beyond its sandbox kills it.
lives()
{
	vmctl "$T/$1" info >"$T/info" 2>&1 && return
	kill -0 "${pids[$1]}" 2>/dev/null && fail "$2: pollux-vmm hangs"
	wait "${pids[$1]}"
	fail "$2: pollux-vmm ended with status $?"
}
has_ended() { grep -q ^stopped "$T/info"; }
cpu_ms() { grep -o 'cpu_ms=[0-9]*' "$T/info" | cut -d= -f2; }

# checkpoint NUMBER EPOCHS WHEN: all are taken of a guest that runs, unless it ends itself.
checkpoint()
{
	local before
	lives "$1" "$3"
	before=$(cpu_ms)
	vmctl "$T/$1" epochs "$2" 100 >"$T/out" 2>&1
	status=$?
	lives "$1" "$3"
	[ -z "${DEBUG:-}" ] || cat "$T/out" "$T/info" "$T/$1.log"
	if has_ended; then
		said+=" it ended itself $3 ($(cat "$T/info"));"
	elif [ $status != 0 ]; then
		fail "$3: no checkpoints: exit $status: $(cat "$T/out")"
	elif [ "$(cpu_ms)" -le "$before" ]; then
		fail "$3: it does not run: $(cat "$T/info"), $before before"
	fi
}

# move: from 1 into a standby, 2, which goes on. False: it was refused, $T/out says why.
move()
{
	run 2 --standby
	vmctl "$T/1" move "$T/2" 2 >"$T/out" 2>&1
	status=$?
	lives 1 "after the move"
	lives 2 "with the state of a hostile guest"
	[ $status -le 1 ] && ! grep -q differ "$T/out" || fail "move: exit $status: $(cat "$T/out")"
	return $status
}

# broken NUMBER: what its log says needed a reset.
broken() { sed -n 's/.*event=device_needs_reset device=//p' "$T/$1.log" | sort | tr '\n' ' '; }

end()
{
	kill -9 "${pids[@]}"
	wait "${pids[@]}" 2>/dev/null
	pids=()
	rm -rf "$T"/[12]
}

# all_rings NUMBER: since it runs there each queue was served, and broken in every way.
all_rings()
{
	local limit=$((SECONDS + 60)) queue missing
	while missing=; do
		# The first and the last line may be a part of one.
		sed '1d;$d' "$T/$1/serial.log" >"$T/lines"
		grep -vqE '^[1-4]\.[01] ox{19}$' "$T/lines" && fail "host $1: $(cat "$T/lines")"
		for queue in 1.0 1.1 2.0 3.1 4.0; do
			grep -q "^$queue " "$T/lines" || missing+=" $queue"
		done
		[ -n "$missing" ] || return 0
		[ $SECONDS -lt $limit ] || fail "host $1: not broken:$missing"
		sleep 0.2
	done
}

ip link add hostile type bridge || { echo "no bridges"; exit 77; }
ip addr add 192.168.77.1/24 dev hostile
ip link set hostile up
busybox ping -q -c 100000 -i 0.05 192.168.77.255 >"$T/ping.log" 2>&1 &
pinger=$!
disown

guest="rings" said=
cp "$O/tests/kvm/rings" "$T/kernel"
run 1
checkpoint 1 10 "while checkpoints were taken"
all_rings 1
move || fail "not moved: $(cat "$T/out")"
checkpoint 2 10 "on the other host"
all_rings 2
[ -z "$said" ] || fail "$said"
for host in 1 2; do
	[ "$(broken $host)" = "blk0 blk1 console0 net0 rng0 " ] ||
		fail "host $host: its log says that these needed a reset: $(broken $host)"
done
echo "$guest: $(sed '1d;$d' "$T/1/serial.log" | wc -l) and $(wc -l <"$T/lines") queues"
end

for ((seed = SEED; seed < SEED + N; seed++)); do
	guest="guest $seed" said=
	cp "$O/tests/kvm/hostile" "$T/kernel"
	printf "$(printf '\\x%02x\\x%02x\\x5a\\xa5' $((seed % 256)) $((seed / 256 % 256)))" |
		dd of="$T/kernel" bs=1 seek=2044 conv=notrunc status=none
	run 1
	checkpoint 1 "$EPOCHS" "while checkpoints were taken"
	[ -n "$(broken 1)" ] || has_ended || fail "no device needed a reset"
	if move; then
		checkpoint 2 10 "on the other host"
	else
		said+=" not moved ($(cat "$T/out"));"
	fi
	echo "$guest:$said needed a reset: $(broken 1)and then $(broken 2)- $(cat "$T/info")"
	end
done
exit 0
