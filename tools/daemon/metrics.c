/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/daemon/metrics.h"

#include <stdio.h>

#include "base/clock.h"
#include "tools/common/json.h"
#include "tools/common/version.h"

enum unit { PLAIN, SECONDS, FLAG };

/* One row a family: where its value lies in a VM's status, and as which quantile. */
static const struct family {
	const char *name, *type, *help;
	enum unit unit;
	const char *key;
	struct {
		const char *key, *label;
	} part[4]; /* of an object; none: the key itself is the value */
} families[] = {
	{ "pollux_vm_protected",
	  "gauge",
	  "1 with fresh evidence from the backup, else 0.",
	  FLAG,
	  "protected",
	  { { NULL, NULL } } },
	{ "pollux_vm_lag_seconds",
	  "gauge",
	  "Age of the last epoch that the backup has.",
	  SECONDS,
	  "lag_ns",
	  { { "now", "" } } },
	{ "pollux_vm_lag_peak_seconds",
	  "gauge",
	  "Age of an epoch when the next one came.",
	  SECONDS,
	  "lag_ns",
	  { { "p50", "quantile=\"0.5\"" },
	    { "p99", "quantile=\"0.99\"" },
	    { "max", "quantile=\"1\"" } } },
	{ "pollux_vm_lag_bytes",
	  "gauge",
	  "Bytes that the backup has not acknowledged.",
	  PLAIN,
	  "lag_bytes",
	  { { NULL, NULL } } },
	{ "pollux_vm_lag_epochs",
	  "gauge",
	  "Epochs that the backup has not acknowledged.",
	  PLAIN,
	  "lag_epochs",
	  { { NULL, NULL } } },
	{ "pollux_vm_generation",
	  "gauge",
	  "Rises at every change of who may run the VM.",
	  PLAIN,
	  "generation",
	  { { NULL, NULL } } },
	{ "pollux_vm_epochs_committed_total",
	  "counter",
	  "Epochs that the backup committed.",
	  PLAIN,
	  "epochs_committed",
	  { { NULL, NULL } } },
	{ "pollux_vm_interval_seconds",
	  "gauge",
	  "Time between checkpoints.",
	  SECONDS,
	  "interval_ns",
	  { { NULL, NULL } } },
	{ "pollux_vm_pause_seconds",
	  "gauge",
	  "Time the VM does not run for a checkpoint.",
	  SECONDS,
	  "pause_ns",
	  { { "p50", "quantile=\"0.5\"" },
	    { "p99", "quantile=\"0.99\"" },
	    { "max", "quantile=\"1\"" } } },
	{ "pollux_vm_pause_step_seconds",
	  "gauge",
	  "Median of each step of a pause.",
	  SECONDS,
	  "steps_ns",
	  { { "stop", "step=\"stop\"" },
	    { "dirty", "step=\"dirty\"" },
	    { "state", "step=\"state\"" },
	    { "copy", "step=\"copy\"" } } },
	{ "pollux_vm_hold_seconds",
	  "gauge",
	  "Time a packet waited for its epoch.",
	  SECONDS,
	  "hold_ns",
	  { { "p50", "quantile=\"0.5\"" },
	    { "p99", "quantile=\"0.99\"" },
	    { "max", "quantile=\"1\"" } } },
	{ "pollux_vm_held_bytes",
	  "gauge",
	  "Of packets that wait for their epoch.",
	  PLAIN,
	  "netbuf",
	  { { "held_bytes", "" } } },
	{ "pollux_vm_dropped_frames_total",
	  "counter",
	  "Packets that found no room to wait in.",
	  PLAIN,
	  "netbuf",
	  { { "dropped_frames", "" } } },
	{ "pollux_vm_dirty_pages",
	  "gauge",
	  "Pages changed in an epoch.",
	  PLAIN,
	  "dirty_pages",
	  { { "p50", "quantile=\"0.5\"" }, { "max", "quantile=\"1\"" } } },
	{ "pollux_vm_raw_bytes_total",
	  "counter",
	  "Bytes to be sent, before encoding.",
	  PLAIN,
	  "bytes_raw",
	  { { NULL, NULL } } },
	{ "pollux_vm_wire_bytes_total",
	  "counter",
	  "Bytes sent.",
	  PLAIN,
	  "bytes_wire",
	  { { NULL, NULL } } },
	{ "pollux_vm_copy_done_bytes",
	  "gauge",
	  "Of the copy that precedes protection.",
	  PLAIN,
	  "copy",
	  { { "done_bytes", "" } } },
	{ "pollux_vm_copy_size_bytes",
	  "gauge",
	  "Of the copy that precedes protection.",
	  PLAIN,
	  "copy",
	  { { "total_bytes", "" } } },
	{ "pollux_vm_encrypted",
	  "gauge",
	  "1 when the stream is encrypted.",
	  FLAG,
	  "encryption",
	  { { NULL, NULL } } },
	{ "pollux_vm_takeover_seconds",
	  "gauge",
	  "From detection to the first instruction.",
	  SECONDS,
	  "takeover",
	  { { "takeover_ns", "" } } },
	{ "pollux_vm_status_age_seconds",
	  "gauge",
	  "Since pollux-ha was last heard.",
	  SECONDS,
	  "status_age_ns",
	  { { NULL, NULL } } },
};

/* Names are checked where they come in; what a label cannot hold is replaced all the same. */
static void put_label(FILE *to, const char *key, const char *value)
{
	fprintf(to, "%s=\"", key);
	for (; *value; value++)
		fputc(*value == '"' || *value == '\\' || *value == '\n' ? '_' : *value, to);
	fputc('"', to);
}

static void put_sample(FILE *to, const struct family *f, struct json_object *vm,
		       struct json_object *v, const char *label)
{
	if (!v)
		return;
	fprintf(to, "%s{", f->name);
	put_label(to, "vm", json_text(vm, "name", ""));
	fprintf(to, ",");
	put_label(to, "role", json_text(vm, "role", "none"));
	fprintf(to, "%s%s} ", label && *label ? "," : "", label ?: "");
	switch (f->unit) {
	case FLAG:
		fprintf(to, "%d\n", json_object_get_boolean(v));
		break;
	case SECONDS:
		fprintf(to, "%.9f\n", (double)json_object_get_uint64(v) / 1e9);
		break;
	case PLAIN:
		fprintf(to, "%llu\n", (unsigned long long)json_object_get_uint64(v));
		break;
	}
}

static void put_vm(FILE *to, const struct family *f, struct json_object *vm)
{
	struct json_object *v = json_member(vm, f->key);

	if (!f->part[0].key) {
		put_sample(to, f, vm, v, NULL);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(f->part) && f->part[i].key; i++)
		put_sample(to, f, vm, json_member(v, f->part[i].key), f->part[i].label);
}

char *metrics_text(struct json_object *status)
{
	struct json_object *vms = json_member(status, "vms");
	size_t len, n = json_object_array_length(vms);
	char *text = NULL;
	FILE *to = open_memstream(&text, &len);

	if (!to)
		return NULL;
	fprintf(to, "# HELP pollux_info This host.\n# TYPE pollux_info gauge\npollux_info{");
	put_label(to, "host", json_text(status, "host", ""));
	fprintf(to, ",version=\"" POLLUX_VERSION "\"} 1\n");
	if (json_member(status, "certificate_expires_ns"))
		fprintf(to,
			"# HELP pollux_certificate_expiry_timestamp_seconds When this host's "
			"certificate ends.\n"
			"# TYPE pollux_certificate_expiry_timestamp_seconds gauge\n"
			"pollux_certificate_expiry_timestamp_seconds %llu\n",
			(unsigned long long)(json_number(status, "certificate_expires_ns", 0) /
					     NS_PER_S));
	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		const struct family *f = &families[i];

		fprintf(to, "# HELP %s %s\n# TYPE %s %s\n", f->name, f->help, f->name, f->type);
		for (size_t k = 0; k < n; k++) {
			struct json_object *vm = json_object_array_get_idx(vms, k);

			/* One that only was here is the other host's to report. */
			if (json_member(vm, "domid"))
				put_vm(to, f, vm);
		}
	}
	if (fclose(to) != 0) {
		free(text);
		return NULL;
	}
	return text;
}
