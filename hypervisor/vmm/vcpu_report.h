/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is known of a processor that failed, for whoever has to find out why.
 *
 * Two lines in the log, and the same in the flight recorder (base/blackbox.h), where the
 * pauses and checkpoints before it stand as well: `now`, its registers and pending events
 * as KVM gives them, and `then`, those of the last checkpoint and its age. The second is
 * there because the first may say nothing: on AMD, KVM resets a processor that shut down
 * before it tells us (the VMCB is undefined then: AMD64 manual, volume 2, 15.14.3), which
 * reads rip=0xfff0 cr3=0. Anything else there means that KVM itself found the fault, while it
 * injected or emulated.
 */
#ifndef POLLUX_VMM_VCPU_REPORT_H
#define POLLUX_VMM_VCPU_REPORT_H

struct vcpu;

/* On the processor's own thread, which has left the guest and has not parked. */
void vcpu_report(const struct vcpu *vcpu);

#endif
