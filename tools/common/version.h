/* SPDX-License-Identifier: Apache-2.0 */
/* The version of all programs of this tree. */
#ifndef POLLUX_TOOLS_VERSION_H
#define POLLUX_TOOLS_VERSION_H

#define POLLUX_VERSION "0.1"

#endif
