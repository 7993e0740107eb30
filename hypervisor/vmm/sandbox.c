/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/vmm/sandbox.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "base/urgent.h"

#define NOBODY 65534

/*
 * By purpose. A call that glibc may use in place of another stands beside it, so that the
 * list holds for the versions of Debian 12 and after.
 */
static const int allowed[] = {
	/* guest, devices, sockets */
	SCMP_SYS(ioctl),
	SCMP_SYS(read),
	SCMP_SYS(readv),
	SCMP_SYS(write),
	SCMP_SYS(writev),
	SCMP_SYS(pread64),
	SCMP_SYS(preadv),
	SCMP_SYS(preadv2),
	SCMP_SYS(pwrite64),
	SCMP_SYS(pwritev),
	SCMP_SYS(pwritev2),
	SCMP_SYS(fdatasync),
	SCMP_SYS(fsync),
	SCMP_SYS(fallocate),
	SCMP_SYS(lseek),
	SCMP_SYS(fstat),
	SCMP_SYS(newfstatat),
	SCMP_SYS(fcntl),
	SCMP_SYS(ftruncate),
	SCMP_SYS(close),
	SCMP_SYS(accept4),
	SCMP_SYS(recvmsg),
	SCMP_SYS(recvfrom),
	SCMP_SYS(sendmsg),
	SCMP_SYS(sendto),
	SCMP_SYS(shutdown),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(eventfd2),
	SCMP_SYS(memfd_create),
	SCMP_SYS(unlink),
	SCMP_SYS(unlinkat),
	/* memory */
	SCMP_SYS(mmap),
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(mprotect),
	SCMP_SYS(madvise),
	SCMP_SYS(brk),
	/* threads, signals, time */
	SCMP_SYS(clone),
	SCMP_SYS(clone3),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq),
	SCMP_SYS(prctl),
	SCMP_SYS(futex),
	SCMP_SYS(gettid),
	SCMP_SYS(getpid),
	SCMP_SYS(tgkill),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(sigaltstack),
	SCMP_SYS(sched_yield),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(sched_setscheduler),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(nanosleep),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(getrandom),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
};

/*
 * Refused, not deadly: a C library looks for a file of its own accord and goes on without it.
 * glibc's malloc() counts the machine's processors in one once threads are many.
 */
static const int refused[] = {
	SCMP_SYS(open),
	SCMP_SYS(openat),
};

/* Without a C library's look into files of users, which an initramfs may not have. */
static void find_user(uid_t *ret_uid, gid_t *ret_gid)
{
	char line[512];
	FILE *file = fopen("/etc/passwd", "re");

	*ret_uid = *ret_gid = NOBODY;
	while (file && fgets(line, sizeof(line), file)) {
		unsigned int uid, gid;

		if (sscanf(line, "pollux:%*[^:]:%u:%u:", &uid, &gid) != 2 || uid == 0)
			continue;
		*ret_uid = uid;
		*ret_gid = gid;
		break;
	}
	if (file)
		fclose(file);
}

static int drop_capabilities(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { 0 };

	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	return syscall(SYS_capset, &header, none) ? -errno : 0;
}

static int drop_user(struct reason *why)
{
	uid_t uid;
	gid_t gid;
	int err;

	if (geteuid() != 0)
		return 0;
	find_user(&uid, &gid);
	/* The bounding set first: it takes a capability to drop the others. */
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	if (setgroups(0, NULL) || setresgid(gid, gid, gid) || setresuid(uid, uid, uid)) {
		err = errno;
		return reason_set(why, err, "sandbox: user %u: %s", uid, strerror(err));
	}
	return 0;
}

static int filter_calls(struct reason *why)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int err = filter ? 0 : -ENOMEM;

	for (size_t i = 0; !err && i < ARRAY_SIZE(allowed); i++)
		err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
	for (size_t i = 0; !err && i < ARRAY_SIZE(refused); i++)
		err = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), refused[i], 0);
	if (!err)
		err = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	if (!err)
		err = seccomp_load(filter);
	seccomp_release(filter);
	if (err)
		return reason_set(why, -err, "sandbox: system call filter: %s", strerror(-err));
	return 0;
}

int sandbox_enter(struct reason *why)
{
	int err, parent_death = 0;

	/* Changing the user makes the kernel forget what a test's parent has asked for. */
	prctl(PR_GET_PDEATHSIG, &parent_death);
	urgent_keep_right();
	err = drop_user(why);
	prctl(PR_SET_PDEATHSIG, parent_death);
	if (err)
		return err;
	err = drop_capabilities();
	if (err)
		return reason_set(why, -err, "sandbox: capabilities: %s", strerror(-err));
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return reason_set(why, errno, "sandbox: no_new_privs: %s", strerror(errno));
	return filter_calls(why);
}
