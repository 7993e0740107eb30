/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/daemon/http.h"

#include <microhttpd.h>
#include <netdb.h>
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>

#include "base/log.h"
#include "tools/common/json.h"
#include "tools/common/text.h"
#include "tools/daemon/assets.h"
#include "tools/daemon/daemon.h"
#include "tools/daemon/metrics.h"
#include "tools/daemon/status.h"

#define MAX_CONNECTIONS 64u
#define TIMEOUT_S	10u

struct http {
	struct daemon *d;
	struct MHD_Daemon *server;
};

static enum MHD_Result send_one(struct MHD_Connection *to, unsigned int code, const char *type,
				struct MHD_Response *response)
{
	enum MHD_Result r;

	if (!response)
		return MHD_NO;
	MHD_add_response_header(response, "Content-Type", type);
	MHD_add_response_header(response, "Cache-Control", "no-store");
	MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
	MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
	/* No request leaves the host: the browser enforces it. */
	MHD_add_response_header(response, "Content-Security-Policy",
				"default-src 'none'; script-src 'self'; connect-src 'self'; "
				"style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
				"frame-ancestors 'none'; base-uri 'none'; form-action 'none'");
	r = MHD_queue_response(to, code, response);
	MHD_destroy_response(response);
	return r;
}

static enum MHD_Result send_text(struct MHD_Connection *to, unsigned int code, const char *type,
				 char *text)
{
	if (!text)
		return MHD_NO;
	return send_one(to, code, type,
			MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE));
}

static enum MHD_Result send_error(struct MHD_Connection *to, unsigned int code, const char *text)
{
	return send_one(to, code, "text/plain; charset=utf-8",
			MHD_create_response_from_buffer(strlen(text), (void *)(uintptr_t)text,
							MHD_RESPMEM_PERSISTENT));
}

static enum MHD_Result send_status(struct http *h, struct MHD_Connection *to)
{
	struct json_object *status = status_make(h->d, NULL);
	char *text = strdup(json_line(status));

	json_object_put(status);
	return send_text(to, MHD_HTTP_OK, "application/json", text);
}

static enum MHD_Result send_metrics(struct http *h, struct MHD_Connection *to)
{
	struct json_object *status = status_make(h->d, NULL);
	char *text = metrics_text(status);

	json_object_put(status);
	return send_text(to, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", text);
}

/* A page of another origin can reach loopback by a name that it has pointed here; then
 * Host carries that name. */
static bool host_is_ours(struct MHD_Connection *from)
{
	static const char *const ours[] = { "localhost", "127.0.0.1", "::1" };
	const char *host = MHD_lookup_connection_value(from, MHD_HEADER_KIND, "Host");
	struct text_address a;

	if (!host || text_parse_address(host, 80, &a, NULL) < 0)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(ours); i++)
		if (!strcasecmp(a.host, ours[i]))
			return true;
	return !strncmp(a.host, "127.", 4);
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *from, const char *url,
				  const char *method, const char *version, const char *data,
				  size_t *data_size, void **state)
{
	const struct asset *asset;

	(void)version, (void)data, (void)data_size, (void)state;
	if (strcmp(method, "GET") && strcmp(method, "HEAD"))
		return send_error(from, MHD_HTTP_METHOD_NOT_ALLOWED, "read-only\n");
	if (!host_is_ours(from))
		return send_error(from, MHD_HTTP_FORBIDDEN, "ask for this as localhost\n");
	if (!strcmp(url, "/api/v1/status"))
		return send_status(user, from);
	if (!strcmp(url, "/metrics"))
		return send_metrics(user, from);
	asset = assets_find(url);
	if (!asset)
		return send_error(from, MHD_HTTP_NOT_FOUND,
				  "here are /, /api/v1/status and /metrics\n");
	return send_one(from, MHD_HTTP_OK, asset->type,
			MHD_create_response_from_buffer(asset->len, (void *)(uintptr_t)asset->data,
							MHD_RESPMEM_PERSISTENT));
}

static int resolve(const char *listen, struct sockaddr_storage *ret, struct reason *why)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM };
	struct addrinfo *found;
	struct text_address a;
	char port[8];
	int r = text_parse_address(listen, 7480, &a, why);

	if (r < 0)
		return r;
	snprintf(port, sizeof(port), "%u", a.port);
	if (getaddrinfo(a.host, port, &hints, &found))
		return reason_set(why, EINVAL, "[http] listen = %.60s: expected a numeric address",
				  listen);
	memcpy(ret, found->ai_addr, found->ai_addrlen);
	freeaddrinfo(found);
	return 0;
}

int http_open(struct daemon *d, struct http **ret, struct reason *why)
{
	struct sockaddr_storage at;
	struct http *h;
	unsigned int flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_AUTO;
	int r;

	if (!d->conf.http[0])
		return 0;
	r = resolve(d->conf.http, &at, why);
	if (r < 0)
		return r;
	h = calloc(1, sizeof(*h));
	if (!h)
		return reason_set(why, ENOMEM, "out of memory");
	h->d = d;
	if (at.ss_family == AF_INET6)
		flags |= MHD_USE_IPv6;
	h->server = MHD_start_daemon(flags, 0, NULL, NULL, on_request, h, MHD_OPTION_SOCK_ADDR,
				     (struct sockaddr *)&at, MHD_OPTION_CONNECTION_LIMIT,
				     MAX_CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT, TIMEOUT_S,
				     MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u, MHD_OPTION_END);
	if (!h->server) {
		free(h);
		return reason_set(why, EADDRINUSE,
				  "[http] listen = %.60s: cannot be opened; is it "
				  "in use?",
				  d->conf.http);
	}
	*ret = h;
	return 0;
}

void http_close(struct http *h)
{
	if (!h)
		return;
	MHD_stop_daemon(h->server);
	free(h);
}
