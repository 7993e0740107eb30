/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/tls_psk.h"

#include <openssl/crypto.h>

#include "base/err.h"

static const unsigned char identity[] = "pollux";
static const unsigned char suite[] = { 0x13, 0x01 }; /* TLS_AES_128_GCM_SHA256 */

static void free_key(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int index, long argl, void *argp)
{
	(void)parent, (void)ad, (void)index, (void)argl, (void)argp;
	OPENSSL_clear_free(ptr, TLS_PSK_BYTES);
}

static int key_index(void)
{
	static int index = -1;

	if (index < 0)
		index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_key);
	return index;
}

/* What OpenSSL calls a session: the secret, and the hash that goes with it. */
static SSL_SESSION *make_session(SSL *ssl)
{
	const uint8_t *key = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), key_index());
	const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, suite);
	SSL_SESSION *s = key && cipher ? SSL_SESSION_new() : NULL;

	if (s && SSL_SESSION_set1_master_key(s, key, TLS_PSK_BYTES) == 1 &&
	    SSL_SESSION_set1_id_context(s, identity, sizeof(identity) - 1) == 1 &&
	    SSL_SESSION_set_cipher(s, cipher) == 1 &&
	    SSL_SESSION_set_protocol_version(s, TLS1_3_VERSION) == 1)
		return s;
	SSL_SESSION_free(s);
	return NULL;
}

static int use_session(SSL *ssl, const EVP_MD *md, const unsigned char **ret_id, size_t *ret_len,
		       SSL_SESSION **ret)
{
	(void)md;
	*ret = make_session(ssl);
	*ret_id = identity;
	*ret_len = sizeof(identity) - 1;
	return *ret != NULL;
}

static int find_session(SSL *ssl, const unsigned char *id, size_t len, SSL_SESSION **ret)
{
	*ret = NULL;
	if (len == sizeof(identity) - 1 && !memcmp(id, identity, len))
		*ret = make_session(ssl);
	return 1;
}

int tls_psk_setup(SSL_CTX *ctx, const uint8_t key[TLS_PSK_BYTES])
{
	uint8_t *own = OPENSSL_memdup(key, TLS_PSK_BYTES);

	if (!own || SSL_CTX_set_ex_data(ctx, key_index(), own) != 1) {
		OPENSSL_clear_free(own, TLS_PSK_BYTES);
		return -ENOMEM;
	}
	if (SSL_CTX_set_session_id_context(ctx, identity, sizeof(identity) - 1) != 1)
		return -EINVAL;
	SSL_CTX_set_psk_use_session_callback(ctx, use_session);
	SSL_CTX_set_psk_find_session_callback(ctx, find_session);
	return 0;
}

bool tls_psk_proven(SSL *ssl)
{
	return SSL_session_reused(ssl) == 1;
}
