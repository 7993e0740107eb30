#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Checks the model of commit, takeover and hand-over with spin, whole; then breaks one rule at
# a time and expects spin to find an error. timeout: 600

set -u
for tool in spin gcc; do
	command -v $tool >/dev/null || { echo "skipped: $tool is not installed"; exit 77; }
done
model=commit.pml
source=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d /tmp/pollux-model.XXXXXX) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" && cp "$source/$model" . || exit 1
failed=0

# Builds and runs the verifier: its report in report.txt.
verify() { # DEFINES...
	rm -f pan.* report.txt ./*.trail
	spin -a "$@" "$model" >spin.txt 2>&1 || { cat spin.txt; return 2; }
	gcc -O2 -w -DSAFETY -DCOLLAPSE -DMEMLIM=2048 -o pan pan.c || return 2
	./pan -m200000 -w22 >report.txt 2>&1
	if ! grep -q 'errors:' report.txt || grep -q 'max search depth' report.txt ||
		grep -q 'memory bound' report.txt; then
		tail -n 30 report.txt
		return 2
	fi
	grep -q 'errors: 0' report.txt
}

verify
case $? in
0) grep -E 'states, stored|errors' report.txt ;;
*)
	echo 'the model violates a promise:'
	grep -E 'assert|invalid|errors' report.txt
	spin -t -p "$model" 2>/dev/null | grep proc | tail -n 60
	failed=1
	;;
esac

count=$(grep -oE 'MUTATE_[0-9]+' $model | sort -u | wc -l)
for n in $(seq "$count"); do
	verify -DMUTATE_"$n"
	case $? in
	1) echo "mutation $n: caught: $(grep -oE 'assertion violated.*|invalid end.*' report.txt |
		head -n 1)" ;;
	0)
		echo "mutation $n: NOT caught"
		failed=1
		;;
	*)
		echo "mutation $n: spin failed"
		failed=1
		;;
	esac
done
exit $failed
