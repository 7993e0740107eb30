/* SPDX-License-Identifier: Apache-2.0 */
/* pollux vm ...: VMs as such. */
#include <stdio.h>

#include "base/err.h"
#include "tools/cli/cli.h"
#include "tools/common/json.h"
#include "tools/common/vmfile.h"

static struct json_object *forced(const struct cli *cli, struct json_object *request)
{
	json_add_bool(request, "force", cli->force);
	json_add_string(request, "reason", cli->reason);
	return request;
}

int cli_vm_create(const struct cli *cli)
{
	struct json_object *config, *request, *reply;
	struct reason why;
	int r = vmfile_read(cli->args[0], &config, &why);

	if (r < 0)
		return cli_fail(CLI_REFUSED, "%s", why.text);
	request = forced(cli, cli_request("vm.create", NULL));
	json_add(request, "config", config);
	r = cli_ask(request, &reply);
	if (r)
		return r;
	printf("VM %s runs: uuid %s, domain %llu\n", json_text(reply, "name", "?"),
	       json_text(reply, "uuid", "?"), (unsigned long long)json_number(reply, "domid", 0));
	json_object_put(reply);
	return CLI_DONE;
}

int cli_vm_list(const struct cli *cli)
{
	struct json_object *reply;
	int r = cli_ask(cli_request("vm.list", NULL), &reply);

	if (r)
		return r;
	if (cli->json)
		cli_print_json(reply);
	else
		cli_print_list(reply);
	json_object_put(reply);
	return CLI_DONE;
}

int cli_vm_shutdown(const struct cli *cli)
{
	return cli_order(cli_request("vm.shutdown", cli->args[0]),
			 "power button pressed; pollux vm list shows when it is off");
}

int cli_vm_destroy(const struct cli *cli)
{
	return cli_order(forced(cli, cli_request("vm.destroy", cli->args[0])), "destroyed");
}
