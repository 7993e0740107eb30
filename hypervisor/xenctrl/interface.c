/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening, closing and errors. The last error is kept per thread: it is valid until the
 * thread's next failing call, and no lock is needed.
 */
#include "hypervisor/xenctrl/interface.h"

#include <stdio.h>

static __thread xc_error last_error;
static __thread char strerror_text[64];

static enum xc_error_code code_of(int err)
{
	switch (err) {
	case ENOMEM:
		return XC_OUT_OF_MEMORY;
	case EINVAL:
		return XC_INVALID_PARAM;
	default:
		return XC_INTERNAL_ERROR;
	}
}

int interface_result(int err, const struct reason *why)
{
	if (err >= 0)
		return err;
	last_error.code = code_of(-err);
	snprintf(last_error.message, sizeof(last_error.message), "%s",
		 why && why->text[0] ? why->text : strerrordesc_np(-err));
	errno = -err;
	return -1;
}

xc_interface *xc_interface_open(xentoollog_logger *logger, xentoollog_logger *dombuild_logger,
				unsigned open_flags)
{
	struct xc_interface_core *xch = malloc(sizeof(*xch));

	(void)logger;
	(void)dombuild_logger;
	(void)open_flags;
	if (!xch) {
		interface_result(-ENOMEM, NULL);
		return NULL;
	}
	link_table_init(&xch->links, true);
	return xch;
}

int xc_interface_close(xc_interface *xch)
{
	if (!xch)
		return 0;
	link_table_close(&xch->links);
	free(xch);
	return 0;
}

const xc_error *xc_get_last_error(xc_interface *handle)
{
	(void)handle;
	return &last_error;
}

void xc_clear_last_error(xc_interface *xch)
{
	(void)xch;
	last_error.code = XC_ERROR_NONE;
	last_error.message[0] = '\0';
}

const char *xc_error_code_to_desc(int code)
{
	static const char *const desc[] = {
		[XC_ERROR_NONE] = "No error details",
		[XC_INTERNAL_ERROR] = "Internal error",
		[XC_INVALID_KERNEL] = "Invalid kernel",
		[XC_INVALID_PARAM] = "Invalid configuration",
		[XC_OUT_OF_MEMORY] = "Out of memory",
	};

	if (code < 0 || (size_t)code >= ARRAY_SIZE(desc))
		return "Unknown error code";
	return desc[code];
}

const char *xc_strerror(xc_interface *xch, int errcode)
{
	const char *text = strerrordesc_np(errcode);

	(void)xch;
	snprintf(strerror_text, sizeof(strerror_text), "%s", text ? text : "Unknown error");
	return strerror_text;
}
