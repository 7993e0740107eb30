/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/common/pki.h"

#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "tools/common/text.h"

#define SERIAL_BITS 159 /* RFC 5280, 4.1.2.2: at most 20 bytes, positive */
#define PATH_ROOM   320u

static int failed(struct reason *why, const char *what)
{
	unsigned long e = ERR_get_error();
	const char *text = e ? ERR_reason_error_string(e) : NULL;

	ERR_clear_error();
	return reason_set(why, EINVAL, "%s: %s", what, text ? text : "OpenSSL does not say why");
}

/* --- files -------------------------------------------------------------------------------- */

static int path_of(char ret[PATH_ROOM], const char *dir, const char *name, struct reason *why)
{
	return snprintf(ret, PATH_ROOM, "%s/%s", dir, name) < (int)PATH_ROOM
		       ? 0
		       : reason_set(why, ENAMETOOLONG, "%.80s...: too long", dir);
}

static int write_whole(int fd, const char *text)
{
	size_t len = strlen(text);

	if (write(fd, text, len) != (ssize_t)len)
		return errno ? -errno : -ENOSPC;
	return fsync(fd) ? -errno : 0;
}

static int put_file(const char *dir, const char *name, const char *text, mode_t mode,
		    struct reason *why)
{
	char path[PATH_ROOM], temporary[PATH_ROOM + 4];
	cleanup_close int fd = -1;
	int r = path_of(path, dir, name, why);

	if (r)
		return r;
	snprintf(temporary, sizeof(temporary), "%s.new", path);
	unlink(temporary);
	fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
	r = fd < 0 ? -errno : write_whole(fd, text);
	if (!r && rename(temporary, path))
		r = -errno;
	if (r)
		unlink(temporary);
	return r ? reason_set(why, -r, "%s: %s", path, strerror(-r)) : 0;
}

static int get_file(const char *dir, const char *name, char **ret, struct reason *why)
{
	char path[PATH_ROOM];
	size_t len;
	int r = path_of(path, dir, name, why);

	return r ? r : text_read_file(path, PKI_PEM_MAX, ret, &len, why);
}

static int make_dir(const char *path, mode_t mode, struct reason *why)
{
	if (!mkdir(path, mode) || errno == EEXIST)
		return 0;
	return reason_set(why, errno, "%s: %s", path, strerror(errno));
}

/* --- PEM ---------------------------------------------------------------------------------- */

static BIO *reader(const char *text)
{
	return BIO_new_mem_buf(text, -1);
}

static X509 *parse_cert(const char *pem)
{
	BIO *in = reader(pem);
	X509 *x = in ? PEM_read_bio_X509(in, NULL, NULL, NULL) : NULL;

	BIO_free(in);
	return x;
}

/* A key is of nobody who would have to type a word for it. */
static int no_password(char *to, int room, int writing, void *opaque)
{
	(void)to, (void)room, (void)writing, (void)opaque;
	return -1;
}

static EVP_PKEY *parse_key(const char *pem)
{
	BIO *in = reader(pem);
	EVP_PKEY *k = in ? PEM_read_bio_PrivateKey(in, NULL, no_password, NULL) : NULL;

	BIO_free(in);
	return k;
}

static X509_REQ *parse_request(const char *pem)
{
	BIO *in = reader(pem);
	X509_REQ *q = in ? PEM_read_bio_X509_REQ(in, NULL, NULL, NULL) : NULL;

	BIO_free(in);
	return q;
}

/* Takes the BIO; its text, to be freed, or NULL. */
static char *text_of(BIO *out, bool written)
{
	char *bytes = NULL, *text = NULL;
	long len = out && written ? BIO_get_mem_data(out, &bytes) : 0;

	if (len > 0)
		text = strndup(bytes, (size_t)len);
	BIO_free(out);
	return text;
}

static char *cert_text(X509 *x)
{
	BIO *out = BIO_new(BIO_s_mem());

	return text_of(out, out && PEM_write_bio_X509(out, x) == 1);
}

static char *key_text(EVP_PKEY *key)
{
	BIO *out = BIO_new(BIO_s_secmem());

	return text_of(out,
		       out && PEM_write_bio_PrivateKey(out, key, NULL, NULL, 0, NULL, NULL) == 1);
}

/* --- certificates -------------------------------------------------------------------------- */

static bool add_extension(X509 *x, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *e;
	bool added;

	X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
	X509V3_set_ctx_nodb(&ctx);
	e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	added = e && X509_add_ext(x, e, -1) == 1;
	X509_EXTENSION_free(e);
	return added;
}

static bool set_serial(X509 *x)
{
	BIGNUM *n = BN_new();
	bool set = n && BN_rand(n, SERIAL_BITS, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
		   BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x));

	BN_free(n);
	return set;
}

/* A day of the past, for clocks that differ. */
static bool set_common(X509 *x, const char *name, EVP_PKEY *key, unsigned int days)
{
	X509_NAME *subject = X509_get_subject_name(x);

	return X509_set_version(x, X509_VERSION_3) == 1 && set_serial(x) &&
	       X509_gmtime_adj(X509_getm_notBefore(x), -86400L) &&
	       X509_time_adj_ex(X509_getm_notAfter(x), (int)days, 0, NULL) &&
	       X509_set_pubkey(x, key) == 1 &&
	       X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name,
					  -1, -1, 0) == 1;
}

static X509 *make_root(const char *cluster, EVP_PKEY *key)
{
	X509 *x = X509_new();

	if (x && set_common(x, cluster, key, PKI_CA_DAYS) &&
	    X509_set_issuer_name(x, X509_get_subject_name(x)) == 1 &&
	    add_extension(x, x, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
	    add_extension(x, x, NID_key_usage, "critical,keyCertSign,cRLSign") &&
	    add_extension(x, x, NID_subject_key_identifier, "hash") &&
	    X509_sign(x, key, EVP_sha256()))
		return x;
	X509_free(x);
	return NULL;
}

static X509 *make_leaf(const char *name, EVP_PKEY *key, X509 *ca, EVP_PKEY *ca_key)
{
	X509 *x = X509_new();
	char san[TEXT_NAME_MAX + 8];

	snprintf(san, sizeof(san), "DNS:%s", name);
	if (x && set_common(x, name, key, PKI_HOST_DAYS) &&
	    X509_set_issuer_name(x, X509_get_subject_name(ca)) == 1 &&
	    add_extension(x, ca, NID_basic_constraints, "critical,CA:FALSE") &&
	    add_extension(x, ca, NID_key_usage, "critical,digitalSignature") &&
	    add_extension(x, ca, NID_ext_key_usage, "serverAuth,clientAuth") &&
	    add_extension(x, ca, NID_subject_alt_name, san) &&
	    add_extension(x, ca, NID_authority_key_identifier, "keyid") &&
	    X509_sign(x, ca_key, EVP_sha256()))
		return x;
	X509_free(x);
	return NULL;
}

/* --- what others call ---------------------------------------------------------------------- */

int pki_make_ca(const char *dir, const char *cluster, struct reason *why)
{
	char path[PATH_ROOM];
	cleanup_free char *key_pem = NULL, *ca_pem = NULL;
	EVP_PKEY *key;
	X509 *ca;
	int r = make_dir(dir, 0755, why);

	if (!r)
		r = path_of(path, dir, PKI_CA_KEY, why);
	if (r)
		return r;
	if (!access(path, F_OK))
		return reason_set(why, EEXIST, "%s is there: this host has founded a cluster",
				  path);
	key = EVP_EC_gen("P-256");
	ca = key ? make_root(cluster, key) : NULL;
	if (ca) {
		key_pem = key_text(key);
		ca_pem = cert_text(ca);
	}
	r = key_pem && ca_pem ? 0 : failed(why, "the CA");
	if (!r)
		r = put_file(dir, PKI_CA_KEY, key_pem, 0600, why);
	if (!r)
		r = put_file(dir, PKI_CA, ca_pem, 0644, why);
	X509_free(ca);
	EVP_PKEY_free(key);
	return r;
}

bool pki_has_ca_key(const char *dir)
{
	char path[PATH_ROOM];

	return !path_of(path, dir, PKI_CA_KEY, NULL) && !access(path, R_OK);
}

int pki_make_request(const char *name, char **ret_key, char **ret_request, struct reason *why)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509_REQ *q = X509_REQ_new();
	BIO *out = BIO_new(BIO_s_mem());
	cleanup_free char *key_pem = NULL, *text = NULL;
	bool made = key && q && out &&
		    X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(q), "CN", MBSTRING_ASC,
					       (const unsigned char *)name, -1, -1, 0) == 1 &&
		    X509_REQ_set_pubkey(q, key) == 1 && X509_REQ_sign(q, key, EVP_sha256()) &&
		    PEM_write_bio_X509_REQ(out, q) == 1;

	text = text_of(out, made);
	key_pem = made ? key_text(key) : NULL;
	X509_REQ_free(q);
	EVP_PKEY_free(key);
	if (!text || !key_pem)
		return failed(why, "a key");
	*ret_key = take_ptr(&key_pem);
	*ret_request = take_ptr(&text);
	return 0;
}

static int keep_issued(const char *dir, const char *name, const char *cert, struct reason *why)
{
	char folder[PATH_ROOM], file[TEXT_NAME_MAX + 8];
	int r = path_of(folder, dir, PKI_ISSUED, why);

	if (!r)
		r = make_dir(folder, 0755, why);
	snprintf(file, sizeof(file), "%s.pem", name);
	return r ? r : put_file(folder, file, cert, 0644, why);
}

int pki_sign(const char *dir, const char *name, const char *request, char **ret_cert,
	     struct reason *why)
{
	cleanup_free char *ca_pem = NULL, *key_pem = NULL, *text = NULL;
	X509_REQ *q = parse_request(request);
	EVP_PKEY *own = q ? X509_REQ_get0_pubkey(q) : NULL, *ca_key = NULL;
	X509 *ca = NULL, *x = NULL;
	int r = text_check_name("host", name, why);

	if (!r && (!own || X509_REQ_verify(q, own) != 1))
		r = failed(why, "the request for a certificate");
	if (!r)
		r = get_file(dir, PKI_CA, &ca_pem, why);
	if (!r)
		r = get_file(dir, PKI_CA_KEY, &key_pem, why);
	if (!r) {
		ca = parse_cert(ca_pem);
		ca_key = parse_key(key_pem);
		x = ca && ca_key ? make_leaf(name, own, ca, ca_key) : NULL;
		text = x ? cert_text(x) : NULL;
		r = text ? keep_issued(dir, name, text, why) : failed(why, "the certificate");
	}
	if (key_pem)
		explicit_bzero(key_pem, strlen(key_pem));
	X509_free(x);
	X509_free(ca);
	EVP_PKEY_free(ca_key);
	X509_REQ_free(q);
	if (!r)
		*ret_cert = take_ptr(&text);
	return r;
}

/* The key is the certificate's, and the certificate the CA's. */
static int belong_together(const char *key_pem, const char *cert_pem, const char *ca_pem,
			   struct reason *why)
{
	EVP_PKEY *key = parse_key(key_pem);
	X509 *cert = parse_cert(cert_pem), *ca = parse_cert(ca_pem);
	EVP_PKEY *ca_key = ca ? X509_get0_pubkey(ca) : NULL;
	int r = 0;

	if (!key || !cert || !ca_key)
		r = failed(why, "what was sent is no certificate");
	else if (X509_check_private_key(cert, key) != 1)
		r = reason_set(why, EINVAL, "the certificate is not of this host's key");
	else if (X509_verify(cert, ca_key) != 1)
		r = reason_set(why, EINVAL, "the certificate is not signed by that CA");
	ERR_clear_error();
	EVP_PKEY_free(key);
	X509_free(cert);
	X509_free(ca);
	return r;
}

int pki_install(const char *dir, const char *key, const char *cert, const char *ca,
		struct reason *why)
{
	cleanup_free char *own_ca = NULL, *both = NULL;
	int r = make_dir(dir, 0755, why);

	if (!r && !ca)
		r = get_file(dir, PKI_CA, &own_ca, why);
	if (!r)
		r = belong_together(key, cert, ca ? ca : own_ca, why);
	if (!r && ca)
		r = put_file(dir, PKI_CA, ca, 0644, why);
	if (!r)
		r = asprintf(&both, "%s%s", key, cert) < 0 ? -ENOMEM : 0;
	if (!r)
		r = put_file(dir, PKI_HOST, both, 0600, why);
	if (both)
		explicit_bzero(both, strlen(both));
	return r;
}

int pki_read_ca(const char *dir, char **ret, struct reason *why)
{
	return get_file(dir, PKI_CA, ret, why);
}

int pki_expiry(const char *path, int64_t *ret, struct reason *why)
{
	cleanup_free char *pem = NULL;
	struct tm tm;
	size_t len;
	X509 *x;
	int r = text_read_file(path, PKI_PEM_MAX, &pem, &len, why);

	if (r)
		return r;
	x = parse_cert(pem);
	r = x && ASN1_TIME_to_tm(X509_get0_notAfter(x), &tm) == 1 ? 0 : failed(why, path);
	if (!r)
		*ret = (int64_t)timegm(&tm);
	X509_free(x);
	return r;
}
