/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CMOS clock at 0x70 and 0x71: the host's time of day plus an offset, which changes
 * when the guest sets its clock and is saved. No alarm and no interrupt. Motorola
 * MC146818A data sheet; the century at 0x32, as the FADT says.
 */
#ifndef POLLUX_VMM_RTC_H
#define POLLUX_VMM_RTC_H

struct rtc;
struct vm;

int rtc_open(struct vm *vm, struct rtc **ret);
void rtc_close(struct rtc *rtc);

#endif
