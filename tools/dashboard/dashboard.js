// SPDX-License-Identifier: Apache-2.0
//
// The dashboard: asks /api/v1/status twice a second and shows it. All text goes through
// textContent. What was not heard for OLD_MS is marked as old, by a clock of its own, so
// that a page whose host is gone never looks alive.
"use strict";

const ASK_MS = 500;
const OLD_MS = 2000;
const KEEP_MS = 5 * 60 * 1000;

const cards = new Map(); // VM name -> card
let heardAt = 0; // performance.now() of the last good answer
let asking = false;

const $ = (id) => document.getElementById(id);
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// --- numbers for people ---------------------------------------------------------------------

function three(v) {
	return v >= 99.95 ? v.toFixed(0) : v >= 9.995 ? v.toFixed(1) : v.toFixed(2);
}

function duration(ns) {
	if (ns == null) return "–";
	if (ns < 1e6) return three(ns / 1e3) + " µs";
	if (ns < 1e9) return three(ns / 1e6) + " ms";
	return three(ns / 1e9) + " s";
}

function size(bytes) {
	if (bytes == null) return "–";
	const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
	let u = 0;
	while (bytes >= 1024 && u + 1 < units.length) {
		bytes /= 1024;
		u++;
	}
	return (u ? three(bytes) : bytes) + " " + units[u];
}

function count(n) {
	return n == null ? "–" : n.toLocaleString("en");
}

// --- charts ---------------------------------------------------------------------------------

const charts = {
	lag: { labels: ["time", "lag"], colors: ["--blue"], names: ["now"],
		take: (vm) => [vm.lag_ns && vm.lag_ns.now] },
	pause: { labels: ["time", "p50", "p99"], colors: ["--blue", "--violet"], names: ["p50", "p99"],
		take: (vm) => [vm.pause_ns && vm.pause_ns.p50, vm.pause_ns && vm.pause_ns.p99] },
};

function axisLabel(ms) {
	if (ms >= 1000) return +(ms / 1000).toPrecision(3) + " s";
	if (ms >= 1 || ms === 0) return +ms.toPrecision(3) + " ms";
	return +(ms * 1000).toPrecision(3) + " µs";
}

function makeChart(element, spec) {
	const legend = element.parentNode.querySelector(".legend");
	for (let i = 0; i < spec.names.length; i++) {
		const name = document.createElement("span");
		name.textContent = spec.names[i];
		name.style.setProperty("--c", `var(${spec.colors[i]})`);
		legend.append(name);
	}
	const start = [new Date(), ...spec.names.map(() => null)];
	return new Dygraph(element, [start], {
		labels: spec.labels,
		colors: spec.colors.map(css),
		strokeWidth: 1.8,
		fillGraph: spec.names.length === 1,
		fillAlpha: 0.12,
		connectSeparatedPoints: false,
		includeZero: true,
		drawGapEdgePoints: true,
		legend: "never",
		interactionModel: {},
		axisLineColor: css("--line"),
		gridLineColor: css("--line"),
		gridLineWidth: 1,
		rightGap: 4,
		axes: {
			x: { drawGrid: false, pixelsPerLabel: 90 },
			y: { axisLabelFormatter: axisLabel, axisLabelWidth: 58, pixelsPerLabel: 36 },
		},
	});
}

function recolor() {
	for (const card of cards.values())
		for (const [key, spec] of Object.entries(charts))
			card.charts[key].updateOptions({ colors: spec.colors.map(css),
				axisLineColor: css("--line"), gridLineColor: css("--line") });
}

// A gap where nothing is known: a line must not bridge what nobody measured.
function addPoint(card, key, now, values) {
	const rows = card.rows[key];
	rows.push([now, ...values.map((v) => (v == null ? null : v / 1e6))]);
	while (rows.length && now - rows[0][0] > KEEP_MS) rows.shift();
}

function drawCharts(card, now) {
	// At least one minute wide, so that the first points do not race across.
	for (const key of Object.keys(charts)) {
		const rows = card.rows[key];
		const from = Math.min(rows[0][0].getTime(), now.getTime() - 60 * 1000);
		card.charts[key].updateOptions({ file: rows, dateWindow: [from, now.getTime()] });
	}
}

// --- cards ----------------------------------------------------------------------------------

function makeCard(name) {
	const element = $("card").content.firstElementChild.cloneNode(true);
	$("vms").append(element);
	element.querySelector(".name").textContent = name;
	const card = { element, rows: {}, charts: {}, tiles: new Map(), at: 0 };
	for (const [key, spec] of Object.entries(charts)) {
		card.rows[key] = [];
		card.charts[key] = makeChart(element.querySelector(".chart." + key), spec);
	}
	return card;
}

function setTile(card, label, value, note) {
	let tile = card.tiles.get(label);
	if (!tile) {
		const box = document.createElement("div");
		const dt = document.createElement("dt");
		const dd = document.createElement("dd");
		const main = document.createElement("span");
		const small = document.createElement("small");
		dt.textContent = label;
		dd.append(main, small);
		box.append(dt, dd);
		card.element.querySelector(".tiles").append(box);
		tile = { main, small };
		card.tiles.set(label, tile);
	}
	tile.main.textContent = value;
	tile.small.textContent = note || "\u00a0";
}

function kindOf(vm) {
	if (vm.protected) return "good";
	if (vm.role == null) return "none";
	if (/^(copying|starting|taking over)/.test(vm.reason || "")) return "busy";
	return "bad";
}

function showWho(card, vm) {
	const parts = [];
	if (vm.role) {
		const arrow = { primary: "→", backup: "←", active: "· took over from", stopped: "· the VM runs elsewhere; peer" };
		parts.push(`${vm.role} ${arrow[vm.role] || "·"} ${vm.peer || "?"}`);
		if (vm.generation != null) parts.push(`generation ${vm.generation}`);
	}
	parts.push(vm.domid == null ? vm.vm_state : `${vm.vm_state}, domain ${vm.domid}`);
	if (vm.memory_bytes != null) parts.push(`${size(vm.memory_bytes)}, ${vm.vcpus} vCPU`);
	if (vm.mode) parts.push(`${vm.mode}, ${vm.codec}${vm.encryption ? ", encrypted" : ""}`);
	card.element.querySelector(".who").textContent = parts.join("  ·  ");
	card.element.querySelector(".plain").hidden = vm.encryption !== false;
}

function showTiles(card, vm) {
	const pause = vm.pause_ns || {}, hold = vm.hold_ns || {}, lag = vm.lag_ns || {};
	const pages = vm.dirty_pages || {};
	const ratio = vm.bytes_raw && vm.bytes_wire ? (vm.bytes_raw / vm.bytes_wire).toFixed(1) + " : 1" : "";
	setTile(card, "Lag now", duration(lag.now), lag.p50 != null ? `p50 ${duration(lag.p50)}` : "");
	setTile(card, "Behind", size(vm.lag_bytes), vm.lag_epochs != null ? vm.lag_epochs === 1 ? "1 epoch" : `${vm.lag_epochs} epochs` : "");
	setTile(card, "Pause p50", duration(pause.p50), pause.p99 != null ? `p99 ${duration(pause.p99)}` : "");
	setTile(card, "Pause max", duration(pause.max));
	setTile(card, "Hold p50", duration(hold.p50), hold.p99 != null ? `p99 ${duration(hold.p99)}` : "");
	setTile(card, "Epochs", count(vm.epochs_committed), vm.interval_ns != null ? `every ${duration(vm.interval_ns)}` : "");
	setTile(card, "Dirty pages", count(pages.p50), pages.max != null ? `max ${count(pages.max)}` : "");
	setTile(card, "Sent", size(vm.bytes_wire), ratio);
}

function showCopy(card, vm) {
	const box = card.element.querySelector(".copy");
	const copy = vm.copy;
	const busy = copy && copy.total_bytes > 0 && copy.done_bytes < copy.total_bytes && !vm.protected;
	box.hidden = !busy;
	if (!busy) return;
	const percent = Math.floor(100 * copy.done_bytes / copy.total_bytes);
	box.querySelector(".fill").style.width = percent + "%";
	box.querySelector(".text").textContent =
		`${size(copy.done_bytes)} of ${size(copy.total_bytes)} copied (${percent} %)`;
}

function showTakeover(card, vm) {
	const box = card.element.querySelector(".takeover");
	box.hidden = !vm.takeover;
	if (vm.takeover)
		box.textContent = `Took over from ${vm.peer || "the other host"}: silence noticed after ` +
			`${duration(vm.takeover.detect_ns)}, running after ${duration(vm.takeover.takeover_ns)} more.`;
}

function showVm(vm, now) {
	let card = cards.get(vm.name);
	if (!card) {
		card = makeCard(vm.name);
		cards.set(vm.name, card);
	}
	const word = card.element.querySelector(".word");
	word.className = "word " + kindOf(vm);
	word.querySelector(".text").textContent = vm.word;
	showWho(card, vm);
	showTiles(card, vm);
	showCopy(card, vm);
	showTakeover(card, vm);
	const fresh = vm.status_age_ns != null && vm.status_age_ns < OLD_MS * 1e6;
	card.at = fresh || vm.role == null ? performance.now() : card.at;
	card.element.querySelector(".tiles").hidden = vm.role == null;
	for (const [key, spec] of Object.entries(charts))
		addPoint(card, key, now, fresh ? spec.take(vm) : spec.names.map(() => null));
	const known = Object.values(card.rows).some((rows) => rows.some((r) => r.slice(1).some((v) => v != null)));
	const box = card.element.querySelector(".charts");
	const appears = box.hidden && known;
	box.hidden = !known;
	if (known) drawCharts(card, now);
	if (appears) for (const chart of Object.values(card.charts)) chart.resize();
}

function showAll(status) {
	const now = new Date();
	const names = new Set(status.vms.map((vm) => vm.name));
	for (const [name, card] of cards) {
		if (names.has(name)) continue;
		for (const chart of Object.values(card.charts)) chart.destroy();
		card.element.remove();
		cards.delete(name);
	}
	for (const vm of status.vms) showVm(vm, now);
	const safe = status.vms.filter((vm) => vm.protected).length;
	const summary = $("summary");
	summary.replaceChildren();
	const strong = document.createElement("b");
	strong.textContent = `${safe} of ${status.vms.length}`;
	if (status.vms.length) summary.append(strong, status.vms.length === 1 ? " VM protected" : " VMs protected");
	$("empty").hidden = status.vms.length > 0;
	$("host").textContent = status.host;
	document.title = (safe === status.vms.length ? "" : "⚠ ") + `Pollux · ${status.host}`;
}

// --- freshness ------------------------------------------------------------------------------

function age(ms) {
	return ms < 60000 ? Math.floor(ms / 1000) + " s" : Math.floor(ms / 60000) + " min";
}

function showAge() {
	const now = performance.now();
	const old = !heardAt || now - heardAt > OLD_MS;
	if (old && heardAt) $("summary").textContent = "protection unknown";
	$("link").className = "link " + (old ? "old" : "live");
	$("link-text").textContent = !old ? "live" : heardAt ? `old: nothing for ${age(now - heardAt)}` : "no answer yet";
	for (const card of cards.values()) {
		const stale = now - card.at > OLD_MS;
		const note = card.element.querySelector(".age");
		card.element.classList.toggle("old", stale);
		note.hidden = !stale;
		if (!stale) continue;
		note.textContent = card.at ? `data is ${age(now - card.at)} old` : "no data yet";
		if (old) {
			card.element.querySelector(".word").className = "word bad";
			card.element.querySelector(".word .text").textContent = "not protected: polluxd does not answer";
		}
	}
}

async function ask() {
	if (asking) return;
	asking = true;
	try {
		const answer = await fetch("/api/v1/status", { cache: "no-store", signal: AbortSignal.timeout(OLD_MS) });
		if (answer.ok) {
			const status = await answer.json();
			heardAt = performance.now();
			showAll(status);
		}
	} catch (e) {
		// Silence is shown by showAge().
	} finally {
		asking = false;
		showAge();
	}
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolor);
setInterval(ask, ASK_MS);
setInterval(showAge, 250);
ask();
