/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/xen/create.h"

#include <stdio.h>

#include "hypervisor/xen/domain.h"
#include "hypervisor/xen/journal.h"

static int check_free(struct xen_domain *d, const struct xen_description *about, struct reason *why)
{
	uint32_t domid;
	int err = xen_domain_find(d, about->uuid, &domid);

	if (!err)
		return reason_set(why, EEXIST, "domain %u here has the same uuid", domid);
	if (err != -ESRCH)
		return reason_set(why, -err, "the domains here are not known: %s", strerror(-err));
	if (!libxl_name_to_domid(d->ctx, about->name, &domid))
		return reason_set(why, EEXIST, "domain %u here is called %s too", domid,
				  about->name);
	return 0;
}

static int make(struct xen_domain *d, libxl_domain_config *config, struct reason *why)
{
	uint32_t domid = XEN_NO_DOMAIN;

	config->c_info.domid = XEN_NO_DOMAIN;
	xen_journal_clear();
	if (libxl_domain_create_new(d->ctx, config, &domid, NULL, NULL))
		return xen_domain_failed(why, "libxl does not make the domain");
	d->domid = domid;
	xen_domain_set_own(d);
	if (!libxl_domain_unpause(d->ctx, domid, NULL))
		return 0;
	xen_domain_failed(why, "the domain cannot be let run");
	xen_domain_destroy(d);
	return -EIO;
}

int xen_create(struct xen_domain *d, const char *path, struct reason *why)
{
	struct xen_description about;
	libxl_domain_config config;
	char number[16];
	int err = xen_description_read(path, &about, why);

	if (err)
		return err;
	libxl_domain_config_init(&config);
	xen_journal_clear();
	err = check_free(d, &about, why);
	if (!err && libxl_domain_config_from_json(d->ctx, &config, about.libxl))
		err = xen_domain_failed(why, "libxl does not know the domain's configuration");
	if (!err)
		err = make(d, &config, why);
	libxl_domain_config_dispose(&config);
	xen_description_free(&about);
	if (err)
		return err;
	snprintf(number, sizeof(number), "%u", d->domid);
	return xen_domain_adopt(d, number, why);
}
