"""Declares to cffi the calls of libbpf that the control plane makes; run by build.rs.

`python ext/libbpf_build.py OUT.c` writes the C of the module `gpa._native.libbpf`, which build.rs
compiles and links into `gpa._native`. Only what gpa.agent.libbpf calls stands here.
"""

import sys

from cffi import FFI

INCLUDES = """
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
"""

TYPES = """
struct bpf_object;
struct bpf_map;
struct bpf_program;
struct ring_buffer;
enum bpf_attach_type {
    BPF_CGROUP_INET_SOCK_CREATE,
    BPF_CGROUP_SOCK_OPS,
    BPF_CGROUP_INET4_BIND,
    BPF_CGROUP_INET6_BIND,
    BPF_CGROUP_INET4_CONNECT,
    BPF_CGROUP_INET6_CONNECT,
    BPF_CGROUP_INET4_POST_BIND,
    BPF_CGROUP_GETSOCKOPT,
    BPF_CGROUP_SETSOCKOPT,
    BPF_CGROUP_INET4_GETPEERNAME,
    BPF_CGROUP_INET6_GETPEERNAME,
    BPF_CGROUP_INET_EGRESS,
    ...
};
#define BPF_ANY ...
#define BPF_F_ALLOW_OVERRIDE ...
#define BPF_F_ALLOW_MULTI ...
#define BPF_OBJ_NAME_LEN ...
"""

FUNCTIONS = """
struct bpf_object *gpa_object_open(const void *buf, size_t size);
int bpf_object__load(struct bpf_object *obj);
void bpf_object__close(struct bpf_object *obj);
struct bpf_map *bpf_object__find_map_by_name(const struct bpf_object *obj, const char *name);
struct bpf_map *bpf_object__next_map(const struct bpf_object *obj, const struct bpf_map *map);
const char *bpf_map__name(const struct bpf_map *map);
int bpf_map__fd(const struct bpf_map *map);
bool bpf_map__is_internal(const struct bpf_map *map);
int bpf_map__set_pin_path(struct bpf_map *map, const char *path);
int bpf_map__set_initial_value(struct bpf_map *map, const void *data, size_t size);
struct bpf_program *bpf_object__find_program_by_name(const struct bpf_object *obj,
                                                     const char *name);
struct bpf_program *bpf_object__next_program(const struct bpf_object *obj,
                                             struct bpf_program *prog);
const char *bpf_program__name(const struct bpf_program *prog);
int bpf_program__fd(const struct bpf_program *prog);
int bpf_program__set_autoload(struct bpf_program *prog, bool autoload);
int gpa_link_create(int prog_fd, int cgroup_fd, int attach_type);
int gpa_link_update(int link_fd, int new_prog_fd);
int bpf_link_detach(int link_fd);
int64_t gpa_link_cgroup(int link_fd);
int bpf_prog_query(int target_fd, enum bpf_attach_type type, uint32_t query_flags,
                   uint32_t *attach_flags, uint32_t *prog_ids, uint32_t *prog_cnt);
void gpa_program_name(uint32_t id, char *name);
int bpf_obj_pin(int fd, const char *pathname);
int bpf_obj_get(const char *pathname);
int bpf_map_update_elem(int fd, const void *key, const void *value, uint64_t flags);
int bpf_map_lookup_elem(int fd, const void *key, void *value);
int bpf_map_delete_elem(int fd, const void *key);
int bpf_map_get_next_key(int fd, const void *key, void *next_key);
int gpa_clsact_create(int ifindex);
int gpa_clsact_destroy(int ifindex);
int gpa_filter_attach(int ifindex, int prog_fd, uint32_t handle, uint32_t priority);
int gpa_filter_detach(int ifindex, uint32_t handle, uint32_t priority);
int gpa_filter_query(int ifindex, uint32_t handle, uint32_t priority);
struct ring_buffer *gpa_ring_open(int map_fd);
int gpa_ring_take(struct ring_buffer *ring, void *out, size_t size, size_t most);
void ring_buffer__free(struct ring_buffer *ring);
void gpa_log_start(void);
const char *gpa_log_text(void);
"""

CUSTOMIZATIONS = """
/* What libbpf prints while an object is opened and loaded, kept for the message of a failure. One
 * object is loaded at a time, by one thread. The end is what tells: when the buffer is full, its
 * first half goes. */
static char gpa_log[32768];
static size_t gpa_log_used;

static int gpa_log_print(enum libbpf_print_level level, const char *format, va_list args)
{
    int n;

    if (level == LIBBPF_DEBUG)
        return 0;
    if (gpa_log_used > sizeof(gpa_log) / 2) {
        size_t half = gpa_log_used / 2;
        memmove(gpa_log, gpa_log + half, gpa_log_used - half);
        gpa_log_used -= half;
    }
    n = vsnprintf(gpa_log + gpa_log_used, sizeof(gpa_log) - gpa_log_used, format, args);
    if (n > 0) {
        gpa_log_used += (size_t)n;
        if (gpa_log_used >= sizeof(gpa_log))
            gpa_log_used = sizeof(gpa_log) - 1;
    }
    return 0;
}

static void gpa_log_start(void)
{
    gpa_log_used = 0;
    gpa_log[0] = 0;
    libbpf_set_print(gpa_log_print);
}

static const char *gpa_log_text(void)
{
    return gpa_log;
}

static struct bpf_object *gpa_object_open(const void *buf, size_t size)
{
    LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = "gpa");

    return bpf_object__open_mem(buf, size, &opts);
}

static int gpa_link_create(int prog_fd, int cgroup_fd, int attach_type)
{
    return bpf_link_create(prog_fd, cgroup_fd, attach_type, NULL);
}

static int gpa_link_update(int link_fd, int new_prog_fd)
{
    return bpf_link_update(link_fd, new_prog_fd, NULL);
}

/* tc: the qdisc clsact of an interface, and a filter at its egress. */
static int gpa_clsact_create(int ifindex)
{
    LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = BPF_TC_EGRESS);

    return bpf_tc_hook_create(&hook);
}

static int gpa_clsact_destroy(int ifindex)
{
    LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex,
                .attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS);

    return bpf_tc_hook_destroy(&hook);
}

static int gpa_filter_attach(int ifindex, int prog_fd, uint32_t handle, uint32_t priority)
{
    LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = BPF_TC_EGRESS);
    LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = prog_fd, .handle = handle, .priority = priority,
                .flags = BPF_TC_F_REPLACE);

    return bpf_tc_attach(&hook, &opts);
}

static int gpa_filter_detach(int ifindex, uint32_t handle, uint32_t priority)
{
    LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = BPF_TC_EGRESS);
    LIBBPF_OPTS(bpf_tc_opts, opts, .handle = handle, .priority = priority);

    return bpf_tc_detach(&hook, &opts);
}

static int gpa_filter_query(int ifindex, uint32_t handle, uint32_t priority)
{
    LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = BPF_TC_EGRESS);
    LIBBPF_OPTS(bpf_tc_opts, opts, .handle = handle, .priority = priority);

    return bpf_tc_query(&hook, &opts);
}

/* The id of the cgroup to which a link is attached; 0 when that cgroup is gone; negative errno. */
static int64_t gpa_link_cgroup(int link_fd)
{
    struct bpf_link_info info;
    __u32 size = sizeof(info);
    int err;

    memset(&info, 0, sizeof(info));
    err = bpf_obj_get_info_by_fd(link_fd, &info, &size);
    if (err)
        return err;
    return (int64_t)info.cgroup.cgroup_id;
}

/* The name of a program, of BPF_OBJ_NAME_LEN bytes; empty when it has none or has gone. */
static void gpa_program_name(uint32_t id, char *name)
{
    struct bpf_prog_info info;
    __u32 size = sizeof(info);
    int fd = bpf_prog_get_fd_by_id(id);

    memset(&info, 0, sizeof(info));
    if (fd >= 0) {
        bpf_obj_get_info_by_fd(fd, &info, &size);
        close(fd);
    }
    memcpy(name, info.name, sizeof(info.name));
}

/* Where records of a ring are copied to. One ring is read at a time, by one thread. */
static struct {
    char *out;
    size_t size;
    int taken;
} gpa_ring_to;

static int gpa_ring_copy(void *ctx, void *record, size_t size)
{
    (void)ctx;
    if (size == gpa_ring_to.size)
        memcpy(gpa_ring_to.out + size * (size_t)gpa_ring_to.taken++, record, size);
    return 0;
}

static struct ring_buffer *gpa_ring_open(int map_fd)
{
    return ring_buffer__new(map_fd, gpa_ring_copy, NULL, NULL);
}

/* Copies at most `most` records of `size` bytes, oldest first; how many, or a negative errno. */
static int gpa_ring_take(struct ring_buffer *ring, void *out, size_t size, size_t most)
{
    int err;

    gpa_ring_to.out = out;
    gpa_ring_to.size = size;
    gpa_ring_to.taken = 0;
    err = ring_buffer__consume_n(ring, most);
    return err < 0 ? err : gpa_ring_to.taken;
}
"""


def main() -> None:
    """Write the C file named on the command line."""
    ffi = FFI()
    ffi.cdef(TYPES + FUNCTIONS)
    ffi.set_source("gpa._native.libbpf", INCLUDES + CUSTOMIZATIONS)
    ffi.emit_c_code(sys.argv[1])


if __name__ == "__main__":
    main()
