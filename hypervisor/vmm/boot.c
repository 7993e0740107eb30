/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/vmm/boot.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/cursor.h"
#include "hypervisor/vmm/acpi.h"
#include "hypervisor/vmm/chip_state.h"
#include "hypervisor/vmm/vcpu.h"
#include "hypervisor/vmm/vm.h"

#define GDT_GPA	      0x500u
#define ZERO_PAGE_GPA 0x7000u
#define CMDLINE_GPA   0x20000u
#define CMDLINE_MAX   0x10000u
#define KERNEL_GPA    0x100000u
#define LOW_RAM_END   0x9fc00u

#define CHUNK_BYTES 65536u

/* The setup header (boot.rst, "The real-mode kernel header"): offsets in the file, which
 * are those in the zero page. */
#define HDR_START	  0x1f1u
#define HDR_SETUP_SECTS	  0x1f1u
#define HDR_BOOT_FLAG	  0x1feu
#define HDR_JUMP_LEN	  0x201u
#define HDR_MAGIC	  0x202u
#define HDR_VERSION	  0x206u
#define HDR_TYPE	  0x210u
#define HDR_LOADFLAGS	  0x211u
#define HDR_RAMDISK	  0x218u
#define HDR_RAMDISK_BYTES 0x21cu
#define HDR_CMDLINE	  0x228u
#define HDR_INITRD_MAX	  0x22cu
#define HDR_CMDLINE_MAX	  0x238u
#define HDR_PREF_ADDRESS  0x258u
#define HDR_INIT_SIZE	  0x260u
#define HDR_END		  0x264u
#define HDR_BYTES	  0x400u /* what is read of the file: two sectors */

#define HDR_MAGIC_VALUE	 0x53726448u /* "HdrS" */
#define HDR_VERSION_MIN	 0x020au     /* pref_address and init_size */
#define LOADFLAG_HIGH	 0x01u
#define LOADER_UNDEFINED 0xffu

#define ZP_ACPI_RSDP  0x070u
#define ZP_E820_COUNT 0x1e8u
#define ZP_E820	      0x2d0u
#define E820_RAM      1u
#define E820_RESERVED 2u

struct boot {
	int kernel_fd, ramdisk_fd; /* -1: none */
	uint64_t kernel_bytes, ramdisk_bytes;
};

/* A kernel's header, read. */
struct image {
	uint8_t header[HDR_BYTES];
	uint64_t setup_bytes; /* in the file, before the part that is loaded */
	uint64_t end;	      /* guest address: below it the kernel unpacks itself */
	uint64_t initrd_max;
	uint32_t cmdline_max;
	unsigned int header_end;
};

static uint64_t get(const struct image *image, unsigned int offset, unsigned int len)
{
	struct cursor c = cursor_over(image->header + offset, 8);

	return cursor_get_u64(&c) & (len == 8 ? UINT64_MAX : (UINT64_C(1) << (len * 8)) - 1);
}

static void put32(uint8_t *page, unsigned int offset, uint32_t v)
{
	struct cursor c = cursor_over(page + offset, sizeof(v));

	cursor_put_u32(&c, v);
}

/* --- files ------------------------------------------------------------------------------- */

static int open_file(const char *path, const char *what, int *ret_fd, uint64_t *ret_bytes,
		     struct reason *why)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		return reason_set(why, errno, "%s %s: %s", what, path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return reason_set(why, EINVAL, "%s %s: not a file", what, path);
	*ret_bytes = (uint64_t)st.st_size;
	*ret_fd = take_fd(&fd);
	return 0;
}

int boot_open(struct vm *vm, struct reason *why)
{
	const struct vm_config *config = &vm->config;
	struct boot *boot = calloc(1, sizeof(*boot));
	int err = 0;

	if (!boot)
		return -ENOMEM;
	boot->kernel_fd = boot->ramdisk_fd = -1;
	if (config->kernel)
		err = open_file(config->kernel, "kernel", &boot->kernel_fd, &boot->kernel_bytes,
				why);
	if (!err && config->ramdisk)
		err = open_file(config->ramdisk, "ramdisk", &boot->ramdisk_fd, &boot->ramdisk_bytes,
				why);
	if (err && vm->standby) {
		if (boot->kernel_fd >= 0)
			close(take_fd(&boot->kernel_fd));
		err = 0;
	}
	if (err) {
		boot_close(boot);
		return err;
	}
	vm->boot = boot;
	return 0;
}

void boot_close(struct boot *boot)
{
	if (!boot)
		return;
	if (boot->kernel_fd >= 0)
		close(boot->kernel_fd);
	if (boot->ramdisk_fd >= 0)
		close(boot->ramdisk_fd);
	free(boot);
}

static int copy_file(struct vm *vm, int fd, uint64_t offset, uint64_t gpa, uint64_t bytes)
{
	uint8_t *chunk = malloc(CHUNK_BYTES);
	int err = chunk ? 0 : -ENOMEM;

	while (!err && bytes > 0) {
		ssize_t n = pread(fd, chunk, MIN(bytes, CHUNK_BYTES), (off_t)offset);

		if (n <= 0) {
			err = n < 0 ? -errno : -ENODATA;
			break;
		}
		err = guest_write(&vm->memory, gpa, chunk, (size_t)n);
		offset += (uint64_t)n;
		gpa += (uint64_t)n;
		bytes -= (uint64_t)n;
	}
	free(chunk);
	return err;
}

/* --- the kernel's header ----------------------------------------------------------------- */

static int read_image(struct vm *vm, struct image *image, struct reason *why)
{
	const char *path = vm->config.kernel;
	struct boot *boot = vm->boot;
	uint64_t setup_sects, pref, init_size;

	if (boot->kernel_bytes < HDR_BYTES ||
	    pread(boot->kernel_fd, image->header, HDR_BYTES, 0) != HDR_BYTES ||
	    get(image, HDR_BOOT_FLAG, 2) != 0xaa55 || get(image, HDR_MAGIC, 4) != HDR_MAGIC_VALUE)
		return reason_set(why, ENOEXEC, "kernel %s: not a bzImage", path);
	if (get(image, HDR_VERSION, 2) < HDR_VERSION_MIN ||
	    !(get(image, HDR_LOADFLAGS, 1) & LOADFLAG_HIGH))
		return reason_set(why, ENOEXEC, "kernel %s: boot protocol 0x%x, needs 0x%x", path,
				  (unsigned int)get(image, HDR_VERSION, 2), HDR_VERSION_MIN);

	setup_sects = get(image, HDR_SETUP_SECTS, 1);
	image->setup_bytes = ((setup_sects ? setup_sects : 4) + 1) * 512;
	if (image->setup_bytes >= boot->kernel_bytes)
		return reason_set(why, ENOEXEC, "kernel %s: cut short", path);
	image->header_end = HDR_MAGIC + (unsigned int)get(image, HDR_JUMP_LEN, 1);
	image->initrd_max = get(image, HDR_INITRD_MAX, 4);
	image->cmdline_max = (uint32_t)MIN(get(image, HDR_CMDLINE_MAX, 4), CMDLINE_MAX - 1);
	/* It may unpack itself where it lies or where it prefers to lie. */
	pref = get(image, HDR_PREF_ADDRESS, 8);
	init_size = get(image, HDR_INIT_SIZE, 4);
	image->end = MAX(KERNEL_GPA + boot->kernel_bytes - image->setup_bytes,
			 MIN(pref, GUEST_HOLE_START) + init_size);
	if (image->end > vm->memory.low_bytes)
		return reason_set(why, ENOMEM,
				  "memory: kernel %s needs %llu MiB to start, the VM has %llu",
				  path, (unsigned long long)(image->end >> 20) + 1,
				  (unsigned long long)(vm->config.memory_bytes >> 20));
	return 0;
}

/* --- loading ----------------------------------------------------------------------------- */

static int load_ramdisk(struct vm *vm, const struct image *image, uint64_t *ret_gpa,
			struct reason *why)
{
	struct boot *boot = vm->boot;
	uint64_t limit = MIN(image->initrd_max + 1, vm->memory.low_bytes);
	uint64_t gpa;

	*ret_gpa = 0;
	if (boot->ramdisk_fd < 0)
		return 0;
	if (boot->ramdisk_bytes > limit ||
	    ((limit - boot->ramdisk_bytes) & ~(uint64_t)(GUEST_PAGE_BYTES - 1)) < image->end)
		return reason_set(why, ENOMEM,
				  "ramdisk %s: %llu MiB do not fit beside the kernel in %llu MiB",
				  vm->config.ramdisk,
				  (unsigned long long)(boot->ramdisk_bytes >> 20),
				  (unsigned long long)(limit >> 20));
	gpa = (limit - boot->ramdisk_bytes) & ~(uint64_t)(GUEST_PAGE_BYTES - 1);
	*ret_gpa = gpa;
	return copy_file(vm, boot->ramdisk_fd, 0, gpa, boot->ramdisk_bytes);
}

static void put_e820(struct vm *vm, uint8_t *page)
{
	const struct {
		uint64_t start, end;
		uint32_t type;
	} map[] = {
		{ 0, LOW_RAM_END, E820_RAM },
		{ LOW_RAM_END, 0xa0000, E820_RESERVED },
		{ BOOT_ACPI_GPA, BOOT_ACPI_GPA + BOOT_ACPI_BYTES, E820_RESERVED },
		{ KERNEL_GPA, vm->memory.low_bytes, E820_RAM },
		{ GUEST_HIGH_START, GUEST_HIGH_START + vm->memory.high_bytes, E820_RAM },
	};
	struct cursor c = cursor_over(page + ZP_E820, ARRAY_SIZE(map) * 20);
	uint8_t n = vm->memory.high_bytes ? ARRAY_SIZE(map) : ARRAY_SIZE(map) - 1;

	for (unsigned int i = 0; i < n; i++) {
		cursor_put_u64(&c, map[i].start);
		cursor_put_u64(&c, map[i].end - map[i].start);
		cursor_put_u32(&c, map[i].type);
	}
	page[ZP_E820_COUNT] = n;
}

static int load_zero_page(struct vm *vm, const struct image *image, uint64_t ramdisk_gpa)
{
	uint8_t page[GUEST_PAGE_BYTES] = { 0 };
	unsigned int end = MIN(MAX(image->header_end, HDR_END), ZP_E820);

	memcpy(page + HDR_START, image->header + HDR_START, end - HDR_START);
	page[HDR_TYPE] = LOADER_UNDEFINED;
	put32(page, HDR_RAMDISK, (uint32_t)ramdisk_gpa);
	put32(page, HDR_RAMDISK_BYTES, ramdisk_gpa ? (uint32_t)vm->boot->ramdisk_bytes : 0);
	put32(page, HDR_CMDLINE, CMDLINE_GPA);
	put32(page, ZP_ACPI_RSDP, BOOT_ACPI_GPA);
	put_e820(vm, page);
	return guest_write(&vm->memory, ZERO_PAGE_GPA, page, sizeof(page));
}

/* The selectors that the protocol asks for, 0x10 and 0x18: flat code and data. */
static int load_descriptors(struct vm *vm)
{
	static const uint8_t gdt[32] = {
		[16] = 0xff, 0xff, 0, 0, 0, 0x9b, 0xcf, 0,
		[24] = 0xff, 0xff, 0, 0, 0, 0x93, 0xcf, 0,
	};

	return guest_write(&vm->memory, GDT_GPA, gdt, sizeof(gdt));
}

static int load_cmdline(struct vm *vm, const struct image *image, struct reason *why)
{
	const char *cmdline = vm->config.cmdline ? vm->config.cmdline : "";
	size_t len = strlen(cmdline);

	if (len > image->cmdline_max)
		return reason_set(why, E2BIG, "cmdline: %zu bytes, the kernel takes %u", len,
				  image->cmdline_max);
	return guest_write(&vm->memory, CMDLINE_GPA, cmdline, len + 1);
}

int boot_load(struct vm *vm, struct reason *why)
{
	struct boot *boot = vm->boot;
	struct image image;
	uint64_t ramdisk_gpa;
	int err;

	if (boot->kernel_fd < 0)
		return reason_set(why, ENOENT, "no kernel");
	err = read_image(vm, &image, why);
	if (err)
		return err;
	err = copy_file(vm, boot->kernel_fd, image.setup_bytes, KERNEL_GPA,
			boot->kernel_bytes - image.setup_bytes);
	if (err)
		return reason_set(why, -err, "kernel %s: %s", vm->config.kernel, strerror(-err));
	err = load_ramdisk(vm, &image, &ramdisk_gpa, why);
	if (!err)
		err = load_cmdline(vm, &image, why);
	if (!err)
		err = load_descriptors(vm);
	if (!err)
		err = load_zero_page(vm, &image, ramdisk_gpa);
	if (!err)
		err = acpi_load_tables(vm);
	if (!err)
		err = vcpu_set_entry(vm, KERNEL_GPA, ZERO_PAGE_GPA);
	return err;
}

int boot_reset(struct vm *vm)
{
	int err;

	if (vm->boot->kernel_fd < 0)
		return -ENOENT;
	err = vcpus_reset(vm);
	if (!err)
		err = chip_state_give(vm, &vm->chips->power_on);
	if (err)
		return err;
	for (struct vm_device *dev = vm->devices; dev; dev = dev->next)
		if (dev->ops->reset)
			dev->ops->reset(dev);
	return boot_load(vm, NULL);
}
