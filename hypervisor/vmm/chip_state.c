/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/vmm/chip_state.h"

#include <sys/ioctl.h>

#include "base/err.h"
#include "hypervisor/vmm/state.h"
#include "hypervisor/vmm/vm.h"

/* Three pages that Intel's processors need for real mode, and a page table for it: in the
 * hole, below the BIOS area, where no BAR can be put by us. */
#define TSS_GPA		 UINT64_C(0xfffbd000)
#define IDENTITY_MAP_GPA UINT64_C(0xfffbc000)

/*
 * Lines to pins: the PICs' as on every PC; at the IOAPIC the PIT sits on pin 2, which is
 * where kernels look for it and what the MADT says.
 */
static int route_lines(int vm_fd)
{
	struct {
		struct kvm_irq_routing header;
		struct kvm_irq_routing_entry entry[16 + KVM_IOAPIC_NUM_PINS];
	} routes = { 0 };

	for (uint32_t line = 0; line < KVM_IOAPIC_NUM_PINS; line++) {
		struct kvm_irq_routing_entry *e = &routes.entry[routes.header.nr];

		if (line == 2)
			continue;
		*e = (struct kvm_irq_routing_entry){ .gsi = line, .type = KVM_IRQ_ROUTING_IRQCHIP };
		e->u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
		e->u.irqchip.pin = line == 0 ? 2 : line;
		routes.header.nr++;
		if (line >= 16)
			continue;
		e[1] = e[0];
		e[1].u.irqchip.irqchip = line < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE;
		e[1].u.irqchip.pin = line % 8;
		routes.header.nr++;
	}
	return ioctl(vm_fd, KVM_SET_GSI_ROUTING, &routes.header) ? -errno : 0;
}

int chip_state_open(struct vm *vm, struct chip_state **ret)
{
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	uint64_t identity = IDENTITY_MAP_GPA;
	struct chip_state *chips;
	int err;

	if (ioctl(vm->fd, KVM_SET_TSS_ADDR, TSS_GPA) ||
	    ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity) ||
	    ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0) || ioctl(vm->fd, KVM_CREATE_PIT2, &pit))
		return -errno;
	err = route_lines(vm->fd);
	if (err)
		return err;
	chips = calloc(1, sizeof(*chips));
	if (!chips)
		return -ENOMEM;
	*ret = chips;
	return 0;
}

void chip_state_close(struct chip_state *chips)
{
	free(chips);
}

int chip_state_take(struct vm *vm, struct chips_saved *saved)
{
	struct kvm_clock_data clock = { 0 };

	saved->pic[0].chip_id = KVM_IRQCHIP_PIC_MASTER;
	saved->pic[1].chip_id = KVM_IRQCHIP_PIC_SLAVE;
	saved->ioapic.chip_id = KVM_IRQCHIP_IOAPIC;
	if (ioctl(vm->fd, KVM_GET_IRQCHIP, &saved->pic[0]) ||
	    ioctl(vm->fd, KVM_GET_IRQCHIP, &saved->pic[1]) ||
	    ioctl(vm->fd, KVM_GET_IRQCHIP, &saved->ioapic) ||
	    ioctl(vm->fd, KVM_GET_PIT2, &saved->pit) || ioctl(vm->fd, KVM_GET_CLOCK, &clock))
		return -errno;
	saved->clock_ns = clock.clock;
	saved->tsc_khz = vm->chips->tsc_khz;
	saved->cpuid_digest = vm->chips->cpuid_digest;
	return 0;
}

int chip_state_give(struct vm *vm, struct chips_saved *saved)
{
	struct kvm_clock_data clock = { .clock = saved->clock_ns };

	saved->pic[0].chip_id = KVM_IRQCHIP_PIC_MASTER;
	saved->pic[1].chip_id = KVM_IRQCHIP_PIC_SLAVE;
	saved->ioapic.chip_id = KVM_IRQCHIP_IOAPIC;
	if (ioctl(vm->fd, KVM_SET_IRQCHIP, &saved->pic[0]) ||
	    ioctl(vm->fd, KVM_SET_IRQCHIP, &saved->pic[1]) ||
	    ioctl(vm->fd, KVM_SET_IRQCHIP, &saved->ioapic) ||
	    ioctl(vm->fd, KVM_SET_PIT2, &saved->pit) || ioctl(vm->fd, KVM_SET_CLOCK, &clock))
		return -errno;
	return 0;
}

static void visit_pic(struct kvm_pic_state *p, struct state *s)
{
	uint8_t *bytes[] = { &p->last_irr,
			     &p->irr,
			     &p->imr,
			     &p->isr,
			     &p->priority_add,
			     &p->irq_base,
			     &p->read_reg_select,
			     &p->poll,
			     &p->special_mask,
			     &p->init_state,
			     &p->auto_eoi,
			     &p->rotate_on_auto_eoi,
			     &p->special_fully_nested_mode,
			     &p->init4,
			     &p->elcr,
			     &p->elcr_mask };

	for (size_t i = 0; i < ARRAY_SIZE(bytes); i++)
		state_u8(s, bytes[i]);
}

static void visit_ioapic(struct kvm_ioapic_state *p, struct state *s)
{
	state_u64(s, (uint64_t *)&p->base_address);
	state_u32(s, &p->ioregsel);
	state_u32(s, &p->id);
	state_u32(s, &p->irr);
	for (size_t i = 0; i < KVM_IOAPIC_NUM_PINS; i++) {
		uint64_t bits = p->redirtbl[i].bits;

		state_u64(s, &bits);
		p->redirtbl[i].bits = bits;
	}
}

static void visit_pit(struct kvm_pit_state2 *p, struct state *s)
{
	for (size_t i = 0; i < ARRAY_SIZE(p->channels); i++) {
		struct kvm_pit_channel_state *c = &p->channels[i];
		uint8_t *bytes[] = { &c->count_latched, &c->status_latched, &c->status,
				     &c->read_state,	&c->write_state,    &c->write_latch,
				     &c->rw_mode,	&c->mode,	    &c->bcd,
				     &c->gate };
		uint64_t load_time = (uint64_t)c->count_load_time;

		state_u32(s, &c->count);
		state_u16(s, &c->latched_count);
		for (size_t b = 0; b < ARRAY_SIZE(bytes); b++)
			state_u8(s, bytes[b]);
		state_u64(s, &load_time);
		c->count_load_time = (int64_t)load_time;
	}
	state_u32(s, &p->flags);
}

void chip_state_visit(struct chips_saved *saved, struct state *s)
{
	visit_pic(&saved->pic[0].chip.pic, s);
	visit_pic(&saved->pic[1].chip.pic, s);
	visit_ioapic(&saved->ioapic.chip.ioapic, s);
	visit_pit(&saved->pit, s);
	state_u64(s, &saved->clock_ns);
	state_u32(s, &saved->tsc_khz);
	state_u64(s, &saved->cpuid_digest);
}
