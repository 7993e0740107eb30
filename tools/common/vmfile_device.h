/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The `disk` and `vif` lists of a VM file. Disks are raw files or block devices; a vif
 * is a list of key=value: mac, bridge, and model and type, which are for xl.
 */
#ifndef POLLUX_TOOLS_VMFILE_DEVICE_H
#define POLLUX_TOOLS_VMFILE_DEVICE_H

#include <libxlutil.h>

#include "base/err.h"

struct json_object;

#define VMFILE_PATH_MAX 240u

/* Add "disks" and "nics" to `o`. */
int vmfile_take_disks(XLU_Config *cfg, struct json_object *o, struct reason *why);
int vmfile_take_nics(XLU_Config *cfg, struct json_object *o, struct reason *why);

#endif
