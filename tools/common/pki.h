/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keys and certificates of a cluster, as PEM files in one folder: a CA (P-256), on the host
 * that founded it, and on each host its own key and a certificate that carries the host's name as
 * SAN, which is what hosts believe (ha/tls.h). A key never leaves its host. Files with keys are
 * 0600, and all are replaced whole.
 */
#ifndef POLLUX_TOOLS_PKI_H
#define POLLUX_TOOLS_PKI_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define PKI_CA_DAYS   3650u
#define PKI_HOST_DAYS 730u
#define PKI_PEM_MAX   16384u

/* In the folder. */
#define PKI_CA_KEY "ca.key"
#define PKI_CA	   "ca.pem"
#define PKI_HOST   "host.pem" /* key and certificate: one file, so that they change together */
#define PKI_ISSUED "issued"   /* folder: NAME.pem of each host that the CA has signed */

/* A CA of that name. -EEXIST: there is one. */
int pki_make_ca(const char *dir, const char *cluster, struct reason *why);
bool pki_has_ca_key(const char *dir);

/* A new key, in memory, and a request for a certificate of that name; both to be freed. */
int pki_make_request(const char *name, char **ret_key, char **ret_request, struct reason *why);
/* Signs the request, for `name` and nothing else that it may ask for; a copy stays in `issued`. */
int pki_sign(const char *dir, const char *name, const char *request, char **ret_cert,
	     struct reason *why);
/* Key and certificate of this host, and the CA's certificate where it is given: checked to belong
 * together, then put in place. */
int pki_install(const char *dir, const char *key, const char *cert, const char *ca,
		struct reason *why);
int pki_read_ca(const char *dir, char **ret, struct reason *why);

/* Seconds since 1970 at which the certificate in a file ends. */
int pki_expiry(const char *path, int64_t *ret, struct reason *why);

#endif
