# SPDX-License-Identifier: Apache-2.0
#
# What the lab benches have in common: one lab with room for a guest of 4 GiB, the
# guest of tests/guest/dirty.c in any size, and the results' folder. Sourced by
# bash programs; the folder of this file is BENCH_DIR.
#
#   BENCH_SECONDS   how long a figure is measured (60)
#   BENCH_SIZES     memory of the guests, in MiB ("256 4096")
#   BENCH_ROUNDS    repetitions of what happens once a run (3)

BENCH_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
LAB_NAME=${LAB_NAME:-pollux-bench}
export LAB_MEM=${LAB_MEM:-6500} LAB_INTERVAL=${LAB_INTERVAL:-100ms}
. "$BENCH_DIR/../lab/scenario.sh"
BENCH_SECONDS=${BENCH_SECONDS:-60}
BENCH_SIZES=${BENCH_SIZES:-256 4096}
BENCH_ROUNDS=${BENCH_ROUNDS:-3}
RESULTS=$O/bench
WORK=$RESULTS/log/${0##*/}
# An emulated host copies 4 GiB slowly.
PROTECT_LIMIT=${BENCH_PROTECT_LIMIT:-900}

# The dirty guest writes that many pages in each period; with what its kernel adds,
# an epoch of 100 ms finds 550 to 900 of them.
DIRTY_PAGES=${DIRTY_PAGES:-650}
DIRTY_PERIOD_US=${DIRTY_PERIOD_US:-100000}

say() { echo "  $*" >&2; }

# What else the machine does at the same time shows in each figure.
load_now() { cut -d' ' -f1 /proc/loadavg; }

# bench_begin: a fresh lab, and its end whatever happens.
bench_begin()
{
	rm -rf "$WORK"
	mkdir -p "$WORK"
	trap bench_end EXIT
	trap 'exit 130' INT TERM
	lab_fresh
}

bench_end()
{
	local status=$?
	trap - EXIT INT TERM
	[ -z "${CLIENT_PID-}" ] || client_end
	if [ $status -ne 0 ]; then
		collect_logs
		echo "${0##*/}: not finished; logs: $WORK" >&2
	fi
	lab down || true
	exit $status
}

lab_fresh()
{
	lab down
	lab up >"$WORK/up.log" 2>&1 || fail "the lab did not come up: $(tail -n 3 "$WORK/up.log")"
}

# --- the dirty guest ----------------------------------------------------------------------

dirty_is_ready() { on "$1" "grep -q 'dirty: ready' /run/pollux/vm/*/serial.log" 2>/dev/null; }

# dirty_start NODE MIB
dirty_start()
{
	VM=dirty
	VM_FILE=/run/dirty.cfg
	on "$1" "sed -e 's/^memory = .*/memory = $2/' \
		-e 's/dirty_pages=[0-9]*/dirty_pages=$DIRTY_PAGES/' \
		-e 's/dirty_period_us=[0-9]*/dirty_period_us=$DIRTY_PERIOD_US/' \
		/srv/guest/dirty.cfg >$VM_FILE"
	on "$1" pollux vm create $VM_FILE >"$WORK/create.log" 2>&1 ||
		fail "pollux vm create: $(tail -n 3 "$WORK/create.log")"
	until_true "$BOOT_LIMIT" dirty_is_ready "$1" ||
		fail "the dirty guest is not ready after $BOOT_LIMIT s"
}

vm_end() { on "$1" pollux vm destroy "$VM" >>"$WORK/destroy.log" 2>&1 || true; }

vm_unprotect() { on "$1" pollux unprotect "$VM" >>"$WORK/unprotect.log" 2>&1; }

# --- epochs -------------------------------------------------------------------------------

vm_has_committed() { [ "$(vm_get "$1" .epochs_committed)" -ge "$2" ] 2>/dev/null; }

# epochs_wait NODE COUNT: as many epochs since it was protected; they are 100 ms
# long, but an emulated host may need longer for each. To ask means to start processes
# on the host, which an emulated one feels in the pause: so it is asked late and seldom.
epochs_wait()
{
	local limit=$((SECONDS + $2 / 2 + 60))
	sleep $(($2 / 10 + 1))
	until vm_has_committed "$1" "$2"; do
		[ "$SECONDS" -le "$limit" ] ||
			fail "only $(vm_get "$1" .epochs_committed) of $2 epochs were committed"
		sleep 5
	done
}
