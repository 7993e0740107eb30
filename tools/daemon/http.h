/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP on loopback, read-only: `/` the dashboard, /api/v1/status, /metrics. Served by
 * threads of libmicrohttpd's. A request whose Host names anything but this machine is
 * refused, so that no web page can read it through a name that it controls.
 */
#ifndef POLLUX_DAEMON_HTTP_H
#define POLLUX_DAEMON_HTTP_H

#include "base/err.h"

struct daemon;
struct http;

int http_open(struct daemon *d, struct http **ret, struct reason *why);
void http_close(struct http *h);

#endif
