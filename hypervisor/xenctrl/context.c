/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processor and device state, as Xen's framed save records, through the area that the VM
 * shares. What is in them is not looked at here.
 */
#include "hypervisor/xenctrl/interface.h"

/* The length of the state now in the shared area. */
static int get_context(struct link *link, struct reason *why, uint64_t *ret_length)
{
	struct control_call call = { .op = CONTROL_GET_CONTEXT, .why = why };
	struct cursor reply;
	uint64_t length;
	int err = link_call(link, &call, &reply);

	if (err)
		return err;
	length = cursor_get_u64(&reply);
	if (!cursor_ok(&reply) || !length || length > link->context_max)
		return reason_set(why, EPROTO, "state of %llu bytes, the limit is %llu",
				  (unsigned long long)length,
				  (unsigned long long)link->context_max);
	*ret_length = length;
	return 0;
}

static int fetch(struct link *link, uint8_t *buf, uint32_t size, struct reason *why)
{
	uint64_t length = 0;
	int err = get_context(link, why, &length);

	if (err)
		return err;
	if (length > size)
		return reason_set(why, ENOSPC, "state of %llu bytes, the buffer has %u",
				  (unsigned long long)length, size);
	memcpy(buf, link->context, length);
	return (int)length;
}

/* Without a buffer: the most that the state can take, which needs no pause. */
int xc_domain_hvm_getcontext(xc_interface *xch, uint32_t domid, uint8_t *ctxt_buf, uint32_t size)
{
	struct reason why = { 0 };
	struct link *link;
	int result = link_get(&xch->links, domid, &link, &why);

	if (!result) {
		result = ctxt_buf ? fetch(link, ctxt_buf, size, &why) : (int)link->context_max;
		link_put(&xch->links, link);
	}
	return interface_result(result, &why);
}

static int store(struct link *link, const uint8_t *buf, uint32_t size, struct reason *why)
{
	uint8_t request[8];
	struct cursor put = cursor_over(request, sizeof(request));
	struct control_call call = {
		.op = CONTROL_SET_CONTEXT,
		.request = request,
		.request_len = sizeof(request),
		.why = why,
	};
	struct cursor reply;

	if (!size || size > link->context_max)
		return reason_set(why, EINVAL, "state of %u bytes, the limit is %llu", size,
				  (unsigned long long)link->context_max);
	memcpy(link->context, buf, size);
	cursor_put_u64(&put, size);
	return link_call(link, &call, &reply);
}

int xc_domain_hvm_setcontext(xc_interface *xch, uint32_t domid, uint8_t *hvm_ctxt, uint32_t size)
{
	struct reason why = { 0 };
	struct link *link;
	int err = link_get(&xch->links, domid, &link, &why);

	if (!err) {
		err = store(link, hvm_ctxt, size, &why);
		link_put(&xch->links, link);
	}
	return interface_result(err, &why);
}
