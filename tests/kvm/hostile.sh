#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 600
#
# A guest that writes nonsense to every port, register and ring (hostile.S), while a checkpoint
# is taken ten times a second; then it is moved into a standby and goes on there. Its devices
# may refuse service, it may end itself, its state may be refused: pollux-vmm lives, in its
# sandbox, and answers (P4).
#
# N=guests SEED=number of the first. VMM_OPTIONS=--no-sandbox for a build with sanitizers.
set -u
[ -c /dev/kvm ] && [ -r /dev/kvm ] || { echo "no /dev/kvm"; exit 77; }
cd "$(dirname "$0")/../.." || exit 1
O=$(realpath "${O:-build}")
N=${N:-3} SEED=${SEED:-1} EPOCHS=${EPOCHS:-30}
T=$(mktemp -d /tmp/pollux-hostile.XXXXXX)
pids=()
trap 'kill -9 "${pids[@]}" 2>/dev/null; rm -rf "$T"' EXIT
trap 'exit 130' INT TERM

fail()
{
	echo "FAILED: guest $seed: $*"
	tail -n 20 "$T"/*.log
	exit 1
}
vmctl() { timeout 60 "$O/tests/kvm/vmctl" "$@"; }

# run NUMBER [OPTION]: a pollux-vmm, until it answers.
run()
{
	mkdir -p "$T/$1"
	"$O/bin/pollux-vmm" ${VMM_OPTIONS:-} --domid $((100 + $1)) --run-dir "$T/$1" --config "$T/config$1" \
		"${@:2}" >"$T/$1.log" 2>&1 &
	pids[$1]=$!
	for _ in {1..100}; do
		vmctl "$T/$1" info >/dev/null 2>&1 && return
		sleep 0.05
	done
	fail "pollux-vmm does not answer"
}

# lives NUMBER: it answers and is where it was; or the guest has ended itself, as it may.
lives()
{
	vmctl "$T/$1" info >"$T/info" 2>&1 && return
	kill -0 "${pids[$1]}" 2>/dev/null && fail "$2: pollux-vmm hangs"
	wait "${pids[$1]}"
	fail "$2: pollux-vmm ended with status $?"
}

for ((seed = SEED; seed < SEED + N; seed++)); do
	rm -rf "$T"/[12]
	cp "$O/tests/kvm/hostile" "$T/kernel"
	printf "$(printf '\\x%02x\\x%02x\\x5a\\xa5' $((seed % 256)) $((seed / 256 % 256)))" |
		dd of="$T/kernel" bs=1 seek=2044 conv=notrunc status=none
	truncate -s 4M "$T"/disk{1,2}
	# The standby has disks of its own: these are locked.
	for i in 1 2; do cat >"$T/config$i" <<-JSON; done
		{"name": "hostile", "uuid": "0e4f6d0a-2b53-4b0c-9f0f-6f1f52a1c002",
		 "memory_mib": 64, "kernel": "$T/kernel", "vcpus": 1,
		 "disks": [{"path": "$T/disk$i"}, {"path": "$T/kernel", "readonly": true}],
		 "on_poweroff": "preserve", "on_reboot": "restart", "on_crash": "preserve"}
	JSON
	run 1
	vmctl "$T/1" epochs "$EPOCHS" 100 >"$T/out" 2>&1 || said=$(cat "$T/out")
	lives 1 "while checkpoints were taken"
	[ -z "${DEBUG:-}" ] || cat "$T/out" "$T/info" "$T/1.log"
	run 2 --standby
	vmctl "$T/1" move "$T/2" 2 >"$T/out" 2>&1 || said=$(cat "$T/out")
	lives 1 "after the move"
	lives 2 "with the state of a hostile guest"
	vmctl "$T/2" epochs 10 100 >"$T/out2" 2>&1
	lives 2 "as the hostile guest went on"
	echo "guest $seed: ${said:-as if nothing was} $(tr '\n' ' ' <"$T/info")"
	said=
	kill -9 "${pids[@]}"
	wait "${pids[@]}" 2>/dev/null
	pids=()
done
exit 0
