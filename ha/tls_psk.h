/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS 1.3 between two that share a secret and have no certificates yet: RFC 8446, 2.2, with an
 * ephemeral Diffie-Hellman exchange, so that a secret which comes out later opens nothing. Whoever
 * does not know the secret fails in the handshake, on either side.
 */
#ifndef POLLUX_HA_TLS_PSK_H
#define POLLUX_HA_TLS_PSK_H

#include <openssl/ssl.h>

#include "ha/tls.h"

/* `key` is copied. Nobody who shows a certificate instead is believed. */
int tls_psk_setup(SSL_CTX *ctx, const uint8_t key[TLS_PSK_BYTES]);
/* After the handshake: the secret was used. */
bool tls_psk_proven(SSL *ssl);

#endif
