/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What we read of the kernel's own structures: only the fields we use, found at load time by CO-RE. Differences
 * between kernels stand here and nowhere else, each with the commit that made it.
 */
#ifndef GPA_KERNEL_H
#define GPA_KERNEL_H

#include <stdbool.h>
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1
#define SOL_SOCKET 1
#define SO_BINDTODEVICE 25
#define LOOPBACK_IFINDEX 1

/* User space sets this before it loads, when the first try was refused. Two things came with 5.15: sockops may ask for a
 * namespace's cookie (6cf1770d63dd), before which its inode number serves; and programs like ours get a pointer to the
 * task whose type the verifier knows (a396eda5517a). */
const volatile bool before_5_15 = false;

/* A field of the kernel's memory: one load where the verifier knows what the pointer is, else a call that copies. Where
 * a pointer on the way is null the field is 0. */
#define READ_1(from, field)                                                                                            \
	({                                                                                                             \
		__auto_type at = (from);                                                                               \
		before_5_15 ? BPF_CORE_READ(at, field) : at->field;                                                    \
	})
#define READ_2(from, a, b) READ_1(READ_1(from, a), b)
#define READ_3(from, a, b, c) READ_1(READ_2(from, a, b), c)
#define READ_OF(_1, _2, _3, which, ...) which
#define READ(from, ...) READ_OF(__VA_ARGS__, READ_3, READ_2, READ_1)(from, __VA_ARGS__)

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	__u32 val;
} kuid_t;

typedef struct {
	__u32 val;
} kgid_t;

struct ns_common {
	unsigned int inum;
};

struct user_namespace {
	struct ns_common ns;
};

struct mnt_namespace {
	struct ns_common ns;
};

struct net {
	struct ns_common ns;
};

struct nsproxy {
	struct mnt_namespace *mnt_ns;
};

struct cred {
	kuid_t uid, euid;
	kgid_t gid, egid;
	struct user_namespace *user_ns;
};

struct super_block {
	__u32 s_dev;
	unsigned long s_magic;
};

struct timespec64 {
	__s64 tv_sec;
	long tv_nsec;
};

struct inode {
	unsigned long i_ino;
	__u32 i_generation;
	struct super_block *i_sb;
};

/* ctime has had three shapes: a timespec64 named i_ctime; renamed by 13bc24457850 (6.6); two numbers of which the
 * second lends a bit since 3aa63a569c64 and 4e40eff0b573 (6.11-6.13). */
struct inode___timespec {
	struct timespec64 i_ctime;
};

struct inode___renamed {
	struct timespec64 __i_ctime;
};

struct inode___split {
	__s64 i_ctime_sec;
	__u32 i_ctime_nsec;
};

struct qstr {
	const unsigned char *name;
};

struct dentry {
	struct qstr d_name;
};

struct vfsmount {
	int mnt_flags;
};

struct mount {
	struct vfsmount mnt;
	struct mnt_namespace *mnt_ns;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	unsigned int f_flags;
	const struct cred *f_cred;
	struct inode *f_inode;
	struct path f_path;
};

struct mm_struct {
	struct file *exe_file;
};

struct task_struct {
	unsigned int flags;
	int pid, tgid;
	kuid_t loginuid;
	__u64 start_boottime;
	struct mm_struct *mm;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	const struct cred *cred;
	struct nsproxy *nsproxy;
	char comm[16];
};

struct sock_common {
	struct {
		struct net *net;
	} skc_net;
};

struct sock {
	struct sock_common __sk_common;
	__u32 sk_ack_backlog;
};

struct mptcp_sock {
	struct sock sk;
};

#pragma clang attribute pop

/* f_flags of a file that the kernel opened to execute it; open(2) cannot set it (fs.h, __FMODE_EXEC). */
#define FMODE_EXEC 0x20

/* The bit of i_ctime_nsec that says "somebody asked", not a time: I_CTIME_QUERIED, 4e40eff0b573 (6.13). */
#define CTIME_BORROWED_BIT (1U << 31)

static __always_inline void read_ctime(const struct inode *inode, __s64 *sec, __u32 *nsec)
{
	const struct inode___split *split = (const void *)inode;
	const struct inode___renamed *renamed = (const void *)inode;
	const struct inode___timespec *old = (const void *)inode;

	if (bpf_core_field_exists(split->i_ctime_sec)) {
		*sec = READ(split, i_ctime_sec);
		*nsec = READ(split, i_ctime_nsec) & ~CTIME_BORROWED_BIT;
	} else if (bpf_core_field_exists(renamed->__i_ctime)) {
		*sec = READ(renamed, __i_ctime.tv_sec);
		*nsec = READ(renamed, __i_ctime.tv_nsec);
	} else {
		*sec = READ(old, i_ctime.tv_sec);
		*nsec = READ(old, i_ctime.tv_nsec);
	}
}

/* Came with fd264ca02094 (6.2). */
extern void *bpf_rdonly_cast(const void *pointer, __u32 type) __ksym __weak;

/* Of a pointer that it trusts, the verifier looks each pointer's name up among all types of the kernel (6.2 to 6.19), which
 * took twice as long as all the rest of loading; of a cast one it does not. */
static __always_inline struct task_struct *current_task(void)
{
	if (before_5_15)
		return (void *)bpf_get_current_task();
	if (bpf_ksym_exists(bpf_rdonly_cast))
		return bpf_rdonly_cast((void *)bpf_get_current_task(), bpf_core_type_id_kernel(struct task_struct));
	return (void *)bpf_get_current_task_btf();
}

/* The real one. */
static __always_inline __u32 current_uid(void)
{
	return READ(current_task(), cred, uid.val);
}

/* The socket that the caller holds when `sk` is a connection of MPTCP below it; null otherwise, and before 3bc253c2e652
 * (5.19). */
static __always_inline struct mptcp_sock *mptcp_of(struct bpf_sock *sk)
{
	if (!bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_skc_to_mptcp_sock) ||
	    !bpf_core_type_exists(struct mptcp_sock))
		return 0;
	return bpf_skc_to_mptcp_sock(sk);
}

#endif
