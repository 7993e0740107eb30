/* SPDX-License-Identifier: Apache-2.0 */
/* pollux host init, list, renew, remove: what a host knows of itself and others (pair.c: invite,
 * join). */
#include "tools/cli/host.h"

#include <stdio.h>
#include <time.h>

#include "tools/common/conf_edit.h"
#include "tools/common/json.h"
#include "tools/common/pki.h"

#define RESTART "; systemctl restart polluxd takes it up, and no protection ends by that"

int host_paths(struct host_paths *ret)
{
	const char *conf = getenv("POLLUX_CONF") ?: CONF_FILE, *slash = strrchr(conf, '/');

	if (!slash || strlen(conf) >= sizeof(ret->conf))
		return cli_fail(CLI_USAGE, "%.80s: no absolute path of at most %zu bytes", conf,
				sizeof(ret->conf) - 1);
	strcpy(ret->conf, conf);
	snprintf(ret->pki, sizeof(ret->pki), "%.*s/pki", (int)(slash - conf), conf);
	return CLI_DONE;
}

int host_failed(int r, const struct reason *why)
{
	return cli_fail(r == -EACCES || r == -EPERM ? CLI_NOT_PERMITTED
			: r == -EEXIST		    ? CLI_REFUSED
						    : CLI_FAILED,
			"%s%s", why->text, r == -EACCES || r == -EPERM ? "; run this as root" : "");
}

int host_name(const struct cli *cli, char ret[TEXT_NAME_MAX + 1])
{
	char own[TEXT_NAME_MAX + 1] = "";
	struct reason why;

	if (!cli->name && gethostname(own, sizeof(own) - 1))
		return cli_fail(CLI_FAILED, "this host's name: %s", strerror(errno));
	own[strcspn(own, ".")] = '\0';
	if (text_check_name("host", cli->name ? cli->name : own, &why))
		return cli_fail(CLI_USAGE, "%s; --name=NAME gives another", why.text);
	snprintf(ret, TEXT_NAME_MAX + 1, "%s", cli->name ? cli->name : own);
	return CLI_DONE;
}

int host_make_conf(const struct cli *cli, const struct host_paths *p, const char *name,
		   struct reason *why)
{
	const char *listen = cli->listen ? cli->listen : HOST_LISTEN;
	char text[2048];

	snprintf(text, sizeof(text),
		 "# pollux.conf(5). Made by pollux host.\n"
		 "[host]\nname = %s\nlisten = %s\n\n"
		 "[tls]\nca = %s/" PKI_CA "\ncert = %s/" PKI_HOST "\nkey = %s/" PKI_HOST "\n",
		 name, listen, p->pki, p->pki, p->pki);
	return conf_create(p->conf, text, why);
}

/* --- init ---------------------------------------------------------------------------------- */

static int sign_own(const struct host_paths *p, const char *name, struct reason *why)
{
	cleanup_free char *key = NULL, *request = NULL, *cert = NULL;
	int r = pki_make_request(name, &key, &request, why);

	if (!r)
		r = pki_sign(p->pki, name, request, &cert, why);
	if (!r)
		r = pki_install(p->pki, key, cert, NULL, why);
	if (key)
		explicit_bzero(key, strlen(key));
	return r;
}

int cli_host_init(const struct cli *cli)
{
	struct host_paths p;
	char name[TEXT_NAME_MAX + 1], cluster[TEXT_NAME_MAX + 32];
	struct reason why = { "" };
	int r = host_paths(&p);

	if (!r)
		r = host_name(cli, name);
	if (r)
		return r;
	if (!access(p.conf, F_OK))
		return cli_fail(CLI_REFUSED,
				"%s is there: this host is set up; remove it to begin anew",
				p.conf);
	snprintf(cluster, sizeof(cluster), "Pollux, founded by %s", name);
	r = pki_make_ca(p.pki, cluster, &why);
	if (!r)
		r = sign_own(&p, name, &why);
	if (!r)
		r = host_make_conf(cli, &p, name, &why);
	if (r)
		return host_failed(r, &why);
	printf("this is host %s, by %s\nnext: systemctl restart polluxd, and pollux host invite "
	       "NAME, for each other host\n",
	       name, p.conf);
	return CLI_DONE;
}

/* --- list ---------------------------------------------------------------------------------- */

static struct json_object *describe(const struct host_paths *p, const char *name,
				    const char *address, bool self)
{
	struct json_object *o = json_object_new_object();
	char path[400], text[40];
	struct reason why;
	int64_t expiry;

	json_add_string(o, "name", name);
	json_add_string(o, "address", address && *address ? address : NULL);
	json_add_bool(o, "self", self);
	if (self)
		snprintf(path, sizeof(path), "%s/" PKI_HOST, p->pki);
	else
		snprintf(path, sizeof(path), "%s/" PKI_ISSUED "/%s.pem", p->pki, name);
	if (pki_expiry(path, &expiry, &why)) {
		json_add_null(o, "certificate_expires");
	} else {
		text_time((uint64_t)expiry * 1000000000u, text, sizeof(text));
		json_add_string(o, "certificate_expires", text);
	}
	return o;
}

static void print_hosts(struct json_object *hosts)
{
	printf("%-20s  %-28s  %s\n", "HOST", "ADDRESS", "CERTIFICATE UNTIL");
	for (size_t i = 0; i < json_object_array_length(hosts); i++) {
		struct json_object *o = json_object_array_get_idx(hosts, i);

		printf("%-20s  %-28s  %.10s%s\n", json_text(o, "name", "-"),
		       json_text(o, "address", "-"), json_text(o, "certificate_expires", "-"),
		       json_flag(o, "self") ? "  (this host)" : "");
	}
}

int cli_host_list(const struct cli *cli)
{
	cleanup_json struct json_object *top = json_object_new_object();
	struct json_object *hosts = json_object_new_array();
	struct host_paths p;
	struct reason why;
	struct conf conf;
	int r = host_paths(&p);

	if (r)
		return r;
	r = conf_read(p.conf, &conf, &why);
	if (r)
		return host_failed(r, &why);
	json_object_array_add(hosts, describe(&p, conf.name, conf.listen, true));
	for (unsigned int i = 0; i < conf.nr_peers; i++)
		json_object_array_add(hosts,
				      describe(&p, conf.peer[i].name, conf.peer[i].address, false));
	json_add_u64(top, "schema_version", 1);
	json_add(top, "hosts", hosts);
	if (cli->json)
		cli_print_json(top);
	else
		print_hosts(hosts);
	return CLI_DONE;
}

/* --- renew, remove ---------------------------------------------------------------------------- */

int cli_host_renew(const struct cli *cli)
{
	struct host_paths p;
	struct reason why = { "" };
	struct conf conf;
	int r = host_paths(&p);

	(void)cli;
	if (r)
		return r;
	r = conf_read(p.conf, &conf, &why);
	if (r)
		return host_failed(r, &why);
	if (!pki_has_ca_key(p.pki))
		return cli_fail(CLI_REFUSED,
				"this host cannot sign: pollux host invite %s on the one that "
				"founded the cluster, and pollux host join here, which renews key "
				"and certificate",
				conf.name);
	r = sign_own(&p, conf.name, &why);
	if (r)
		return host_failed(r, &why);
	puts("key and certificate are new" RESTART);
	return CLI_DONE;
}

/* Whether a VM of this host is protected to that one; a polluxd that is down protects to nobody
 * anew. */
static bool is_in_use(const char *name, char *ret_vm, size_t room)
{
	cleanup_json struct json_object *reply = NULL;
	struct json_object *vms;

	if (cli_ask(cli_request("status", NULL), &reply) ||
	    json_get_array(reply, "vms", &vms, NULL))
		return false;
	for (size_t i = 0; i < json_object_array_length(vms); i++) {
		struct json_object *vm = json_object_array_get_idx(vms, i);

		snprintf(ret_vm, room, "%s", json_text(vm, "name", "-"));
		if (!strcmp(json_text(vm, "peer", ""), name))
			return true;
	}
	return false;
}

int cli_host_remove(const struct cli *cli)
{
	const char *name = cli->args[0];
	struct host_paths p;
	struct reason why = { "" };
	char vm[TEXT_NAME_MAX + 1], path[400];
	int r = host_paths(&p);

	if (r)
		return r;
	if (text_check_name("host", name, &why))
		return cli_fail(CLI_USAGE, "%s", why.text);
	if (is_in_use(name, vm, sizeof(vm)))
		return cli_fail(CLI_REFUSED,
				"VM %s is protected between here and %s; pollux unprotect %s first",
				vm, name, vm);
	r = conf_remove_peer(p.conf, name, &why);
	if (r)
		return host_failed(r, &why);
	snprintf(path, sizeof(path), "%s/" PKI_ISSUED "/%s.pem", p.pki, name);
	unlink(path);
	printf("%s is no peer of this host any more%s\n", name, RESTART);
	return CLI_DONE;
}
