/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /metrics: the status document in Prometheus' text format, version 0.0.4, in base units
 * (seconds, bytes). What is not known has no sample.
 */
#ifndef POLLUX_DAEMON_METRICS_H
#define POLLUX_DAEMON_METRICS_H

struct json_object;

/* From a document of status_make(); to be freed; NULL when memory ran out. */
char *metrics_text(struct json_object *status);

#endif
