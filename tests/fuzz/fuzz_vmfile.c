/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VM files: whatever the bytes, a configuration within its limits or a refusal with a
 * reason. libxlutil itself is under test as much as our use of it.
 */
#include <stddef.h>
#include <stdint.h>

#include "tools/common/json.h"
#include "tools/common/text.h"
#include "tools/common/vmfile.h"

/* libxlutil forgets the half-read list on a syntax error. A command line that reads one
 * file and ends can bear that; ours would still be found. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:xlu__cfg_\nleak:xlu__cfgl_\n";
}

static void check_whole(struct json_object *o)
{
	struct reason why;
	uint64_t memory = json_number(o, "memory_mib", 0), vcpus = json_number(o, "vcpus", 0);

	assert(text_check_name("name", json_text(o, "name", ""), &why) == 0);
	assert(text_is_uuid(json_text(o, "uuid", "")));
	assert(json_text(o, "kernel", "")[0] == '/');
	assert(strlen(json_text(o, "cmdline", "")) <= VMFILE_MAX_CMDLINE);
	assert(memory >= VMFILE_MIN_MEMORY_MIB && memory <= VMFILE_MAX_MEMORY_MIB);
	assert(vcpus >= 1 && vcpus <= VMFILE_MAX_VCPUS);
	assert(json_object_array_length(json_member(o, "disks")) <= VMFILE_MAX_DISKS);
	assert(json_object_array_length(json_member(o, "nics")) <= VMFILE_MAX_NICS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct json_object *o = NULL;
	struct reason why = { "" };
	int r = vmfile_parse((const char *)data, size, "fuzz", &o, &why);

	if (r == 0) {
		check_whole(o);
		json_object_put(o);
	} else {
		assert(r < 0 && why.text[0] && !o);
	}
	return 0;
}
