#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 60
#
# What monitoring is given, by the real promtool: the metrics of a protected VM, and the alerts, each
# of which fires (monitoring_rules.yml). Rules and Grafana's dashboard ask for no metric that there
# is none of.
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/tools.sh
for tool in promtool openssl jq; do
	command -v $tool >/dev/null || { echo "no $tool"; exit 77; }
done

make_host a 1
make_host b 2
start a
start b
make_vm db
expect 0 "VM db runs" on a vm create "$T/db.cfg"
expect 0 "begins" on a protect db b
expect 0 "protected" on a wait db --for=protected --timeout=10s
for host in 1 2; do
	curl -sS "http://127.0.0.1:$((BASE_PORT + host * 10 + 1))/metrics" >"$T/metrics.$host" || fail "no metrics"
	promtool check metrics <"$T/metrics.$host" >"$T/said" 2>&1 || fail "promtool: $(cat "$T/said")"
	[ ! -s "$T/said" ] || fail "promtool: $(cat "$T/said")"
done
grep -q '^pollux_vm_protected{vm="db",role="primary"} 1$' "$T/metrics.1" || fail "$(cat "$T/metrics.1")"

promtool check rules tools/monitoring/pollux.rules.yml >"$T/said" 2>&1 || fail "promtool: $(cat "$T/said")"
cp tests/unit/monitoring_rules.yml tools/monitoring/pollux.rules.yml "$T"
promtool test rules "$T/monitoring_rules.yml" >"$T/said" 2>&1 || fail "promtool: $(cat "$T/said")"
# Each alert has a test.
for alert in $(sed -n 's/.*alert: //p' "$T/pollux.rules.yml"); do
	grep -q "\"$alert\"" "$T/monitoring_rules.yml" || fail "$alert is not tested"
done

sed -n 's/^# TYPE \([a-z_]*\) .*/\1/p' "$T/metrics.1" | sort -u >"$T/offered"
jq -r '.. | .expr? // empty' tools/monitoring/grafana.json >"$T/asked" || fail "grafana.json is no JSON"
[ -s "$T/asked" ] || fail "grafana.json asks for nothing"
sed -n 's/.*expr: //p; /expr: >-/,/for:\|labels:/p' "$T/pollux.rules.yml" >>"$T/asked"
grep -oE 'pollux_[a-z_]+' "$T/asked" | sort -u >"$T/names"
[ "$(wc -l <"$T/names")" -gt 10 ] || fail "few are asked for: $(cat "$T/names")"
comm -23 "$T/names" "$T/offered" >"$T/missing"
[ ! -s "$T/missing" ] || fail "not offered: $(cat "$T/missing")"
echo done
