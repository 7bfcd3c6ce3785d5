/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Who calls connect(): everything the kernel knows about the current task and its socket, in one record. */
#ifndef GPA_CAPTURE_H
#define GPA_CAPTURE_H

#include "maps.h"

/* Did the kernel open this file to execute it for a process of this user namespace? PR_SET_MM_MAP puts a file there that
 * somebody opened. It asks for a capability in a user namespace, but a child there that shares our memory (CLONE_VM)
 * does it for us, who are in the initial one. What open(2) gives lacks the flag; what a handler of binfmt_misc is given
 * (AT_EXECFD) has it, but the handlers that an ordinary user registers (21ca59b365c0, 6.7) are those of a user namespace
 * of his own, and see only files that were opened in there. */
static __always_inline bool was_executed(const struct file *exe, const struct cred *cred)
{
	return READ(exe, f_flags) & FMODE_EXEC &&
	       READ(exe, f_cred, user_ns) == READ(cred, user_ns);
}

static __always_inline void capture_executable(struct gpa_ident *id, struct task_struct *task, const struct cred *cred)
{
	struct file *exe = READ(task, mm, exe_file);
	struct vfsmount *vfsmnt;
	struct inode *inode;
	struct mount *mnt;
	long len;

	if (!exe || !was_executed(exe, cred))
		return;
	inode = READ(exe, f_inode);
	if (!inode)
		return;
	id->exe_ino = READ(inode, i_ino);
	id->exe_gen = READ(inode, i_generation);
	id->exe_dev = READ(inode, i_sb, s_dev);
	id->exe_sbmagic = READ(inode, i_sb, s_magic);
	read_ctime(inode, &id->exe_ctime_s, &id->exe_ctime_ns);
	vfsmnt = READ(exe, f_path.mnt);
	mnt = (void *)vfsmnt - bpf_core_field_offset(struct mount, mnt);
	id->exe_mntns_inum = BPF_CORE_READ(mnt, mnt_ns, ns.inum);
	id->flags |= GPA_EXE_KNOWN;

	/* The dentry's own name: a bind mount over an allowed path changes what readlink says, not this. */
	len = bpf_probe_read_kernel_str(id->exe_name, sizeof(id->exe_name), READ(exe, f_path.dentry, d_name.name));
	/* A name that fills the field may have been cut. */
	if (len > 1 && len < (long)sizeof(id->exe_name))
		id->flags |= GPA_EXE_NAME;
}

static __always_inline void capture(struct gpa_ident *id, struct bpf_sock_addr *ctx, __u32 dst_ip4, __u32 flags)
{
	struct task_struct *task = current_task();
	const struct cred *cred = READ(task, cred);
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	__builtin_memset(id, 0, sizeof(*id));
	id->abi = GPA_ABI;
	id->flags = flags;
	id->connect_ns = bpf_ktime_get_ns();
	id->cgroup_id = bpf_get_current_cgroup_id();
	id->netns_cookie = bpf_get_netns_cookie(ctx);
	id->sock_cookie = bpf_get_socket_cookie(ctx);
	id->tgid = pid_tgid >> 32;
	id->tid = (__u32)pid_tgid;
	id->uid = READ(cred, uid.val);
	id->gid = READ(cred, gid.val);
	id->euid = READ(cred, euid.val);
	id->egid = READ(cred, egid.val);
	id->userns_inum = READ(cred, user_ns, ns.inum);
	id->start_boottime = READ(task, group_leader, start_boottime);
	id->ppid = READ(task, real_parent, tgid);
	id->pf_flags = READ(task, flags);
	id->loginuid = READ(task, loginuid.val);
	id->mntns_inum = READ(task, nsproxy, mnt_ns, ns.inum);
	id->dst_ip4 = dst_ip4;
	id->dst_port = bpf_ntohs(ctx->user_port);
	id->family = ctx->family;
	id->mark = ctx->sk->mark;
	id->bound_if = ctx->sk->bound_dev_if;
	bpf_get_current_comm(id->comm, sizeof(id->comm));
	if (id->tid == id->tgid)
		__builtin_memcpy(id->gl_comm, id->comm, sizeof(id->gl_comm));
	else
		BPF_CORE_READ_STR_INTO(&id->gl_comm, task, group_leader, comm);
	capture_executable(id, task, cred);
}

#endif
