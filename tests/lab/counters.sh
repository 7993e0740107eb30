#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 600
#
# The drill of the counters, short: each host loses its power once, and comes back. One VM
# and one TCP connection live through both. `make drill SCENARIO=counters` is the long one.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "$(id -u)" -eq 0 ] || { echo "needs root"; exit 77; }
command -v qemu-system-x86_64 >/dev/null || { echo "needs qemu-system-x86_64"; exit 77; }
export LAB_NAME=pollux-counters DRILL_OUT=tests/lab/counters
tools/lab/drill-counters 2 "${SEED:-1}"
