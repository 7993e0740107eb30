/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "base/clock.h"
#include "base/fault.h"
#include "netbuf/plug.h"

#define MBIT_LEAST  1000u /* where no device tells its speed */
#define SMALL_BYTES (512u << 10)

/* In Mbit/s, of the bridge that the device is a port of: Linux gives it the fastest port's. */
static unsigned int link_mbit(const char *device)
{
	unsigned int mbit = 0;
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/sys/class/net/%s/master/speed", device);
	file = fopen(path, "re");
	if (file && fscanf(file, "%u", &mbit) != 1)
		mbit = 0;
	if (file)
		fclose(file);
	return mbit > 1000000 ? 0 : mbit;
}

uint64_t plug_limit_bytes(const struct plug_config *config, uint64_t interval_ns,
			  uint64_t least_bytes)
{
	uint64_t mbit = MBIT_LEAST, bytes;

	/* So little that a guest can reach it whose processor is emulated. */
	if (fault_at("plug.small_limit"))
		return SMALL_BYTES;
	for (unsigned int i = 0; i < config->nr_devices; i++)
		mbit = MAX(mbit, link_mbit(config->device[i]));
	bytes = mbit * 125000 * (interval_ns / NS_PER_MS) / 1000 * 2;
	return MIN(MAX(bytes, least_bytes), PLUG_LIMIT_MAX);
}
