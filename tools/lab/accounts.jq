# SPDX-License-Identifier: Apache-2.0
#
# What became of the writes, from what the parts of a scenario left in its folder:
# $c the client, $k the keys read back, $a the append-only file, $b the backup's
# status, $p the primary's; $fsck ("none": the VM has no disk), and $before: how many were
# acknowledged before the power cut. A value that nobody measured is null, and null is
# never a pass.

def us: if . == null then null else . / 1000 | round end;
def ms: if . == null then null else . / 1000000 | round end;
def sum(x; y): if x == null or y == null then null else x + y end;

($p[0] // {}) as $p | ($b[0] // {}) as $b | ($c[0] // {}) as $c | ($k[0] // {}) as $k |
($a[0] // {}) as $a |
(if $fsck == "none" then { twice: 0, lost: 0, wrong: 0 } else $a end) as $a |
{
	platform: $platform,
	accelerator: $accelerator,
	epochs_committed: $p.epochs_committed,
	interval_ms: ($p.interval_ns | ms),
	pause_us: { p50: ($p.pause_ns.p50 | us), p99: ($p.pause_ns.p99 | us),
		max: ($p.pause_ns.max | us) },
	dirty_pages: { p50: $p.dirty_pages.p50, max: $p.dirty_pages.max },
	bytes_raw: $p.bytes_raw,
	bytes_wire: $p.bytes_wire,
	hold_us: { p50: ($p.hold_ns.p50 | us), p99: ($p.hold_ns.p99 | us) },
	netbuf: $p.netbuf.kind,
	dropped_frames: $p.netbuf.dropped_frames,
	lag_ms: { p50: ($p.lag_ns.p50 | ms), max: ($p.lag_ns.max | ms) },
	failover: { detect_ms: ($b.takeover.detect_ns | ms),
		takeover_ms: ($b.takeover.takeover_ns | ms) },
	client: {
		acked: $c.acked,
		lost: sum(sum($k.lost; $k.wrong); sum($c.missing; $c.unanswered)),
		duplicated: sum(sum($c.duplicated; $c.garbled); $a.twice),
		reconnects: $c.reconnects,
		outage_ms: ($c.outage_ns | ms)
	},
	disk: { fsck: $fsck, lost: sum($a.lost; $a.wrong) }
} |
. + { verdict: (if (.client.acked // 0) > $before and .client.lost == 0 and
	.client.duplicated == 0 and .client.reconnects == 0 and $c.refused == 0 and
	.dropped_frames == 0 and (.disk.fsck == "clean" or .disk.fsck == "none") and .disk.lost == 0 and (.epochs_committed // 0) > 0 and
	.failover.takeover_ms != null then "pass" else "fail" end) }
