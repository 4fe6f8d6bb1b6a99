/* The memory of a process that the others of its host map: a file without a name, opened by peers through /proc. Parts
 * are taken and given back; a part that is given back takes no room, and is zero when it is taken again. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "pool.h"
#include "process.h"

typedef struct gap { /* given back */
    struct gap *next;
    uint64_t offset, bytes;
} gap;

static struct {
    pthread_mutex_t busy;
    int descriptor; /* -1: none yet */
    pid_t pid;      /* of the process whose it is: not of its children */
    uint64_t nonce, bytes;
    gap *gaps;
} pool = {.busy = PTHREAD_MUTEX_INITIALIZER, .descriptor = -1};

/* The first page holds a number that only the right file has. */
static int make(void) {
    if (pool.descriptor >= 0 && pool.pid == getpid()) return TC_OK;
    uint64_t nonce;
    int fd = memfd_create("topocomm-messages", MFD_CLOEXEC);
    if (fd < 0) return TC_ERR_NO_MEMORY;
    if (getrandom(&nonce, sizeof nonce, 0) != sizeof nonce || ftruncate(fd, PAGE) ||
        pwrite(fd, &nonce, sizeof nonce, 0) != sizeof nonce) {
        close(fd);
        return TC_ERR_NO_MEMORY;
    }
    pool.descriptor = fd;
    pool.pid = getpid();
    pool.nonce = nonce;
    pool.bytes = PAGE;
    pool.gaps = NULL; /* a child forgets its parent's */
    return TC_OK;
}

/* Take a gap of this very length, or more of the file. */
static int find(uint64_t bytes, uint64_t *offset) {
    for (gap **at = &pool.gaps; *at; at = &(*at)->next)
        if ((*at)->bytes == bytes) {
            gap *found = *at;
            *at = found->next;
            *offset = found->offset;
            free(found);
            return TC_OK;
        }
    if (ftruncate(pool.descriptor, (off_t)(pool.bytes + bytes))) return TC_ERR_NO_MEMORY;
    *offset = pool.bytes;
    pool.bytes += bytes;
    return TC_OK;
}

static void give(uint64_t offset, uint64_t bytes) {
    gap *g = malloc(sizeof *g);
    if (g == NULL || fallocate(pool.descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)bytes)) {
        free(g);
        return; /* it stays taken */
    }
    *g = (gap){pool.gaps, offset, bytes};
    pool.gaps = g;
}

int pool_take(uint64_t bytes, uint64_t *offset, void **base) {
    pthread_mutex_lock(&pool.busy);
    int status = make();
    if (status == TC_OK) status = find(bytes, offset);
    if (status == TC_OK) {
        void *mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, pool.descriptor, (off_t)*offset);
        if (mapped == MAP_FAILED) {
            give(*offset, bytes);
            status = TC_ERR_NO_MEMORY;
        } else {
            *base = mapped;
        }
    }
    pthread_mutex_unlock(&pool.busy);
    return status;
}

void pool_give(uint64_t offset, void *base, uint64_t bytes) {
    munmap(base, bytes);
    pthread_mutex_lock(&pool.busy);
    if (pool.pid == getpid()) give(offset, bytes);
    pthread_mutex_unlock(&pool.busy);
}

static uint64_t mixed(uint64_t number, const char *text) {
    for (; *text; text++) number = (number ^ (unsigned char)*text) * 1099511628211u;
    return (number ^ '\n') * 1099511628211u;
}

/* Same number: same running kernel, host name and numbering of processes. */
static uint64_t host_identity(void) {
    char boot[64] = {0}, processes[64] = {0};
    struct utsname name;
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        if (read(fd, boot, sizeof boot - 1) < 0) boot[0] = 0;
        close(fd);
    }
    uname(&name);
    if (readlink("/proc/self/ns/pid", processes, sizeof processes - 1) < 0)
        snprintf(processes, sizeof processes, "%d alone", (int)getpid());
    return mixed(mixed(mixed(14695981039346656037u, boot), name.nodename), processes);
}

int pool_address(tc_share_address *out) {
    pthread_mutex_lock(&pool.busy);
    int status = make();
    tc_share_address mine = {.nonce = pool.nonce, .pid = pool.pid, .descriptor = pool.descriptor,
                             .start = process_start(pool.pid)};
    pthread_mutex_unlock(&pool.busy);
    if (status != TC_OK) return status;
    mine.host = host_identity();
    if (sched_getaffinity(0, sizeof mine.cores, (cpu_set_t *)(void *)mine.cores) < 0) /* there are more than fit */
        memset(mine.cores, 0xFF, sizeof mine.cores);
    *out = mine;
    return TC_OK;
}

static int open_file(const tc_share_address *address) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)address->pid, (int)address->descriptor);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    uint64_t nonce = 0;
    if (fd < 0) return -1;
    if (pread(fd, &nonce, sizeof nonce, 0) == sizeof nonce && nonce == address->nonce) return fd;
    close(fd);
    return -1;
}

bool pool_reached(const tc_share_address *address) {
    int fd = open_file(address);
    if (fd >= 0) close(fd);
    return fd >= 0;
}

int pool_map(const tc_share_address *address, uint64_t offset, uint64_t bytes, char **base) {
    int fd = open_file(address);
    if (fd < 0) return TC_ERR_UNREACHABLE;
    void *mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
    close(fd);
    if (mapped == MAP_FAILED) return TC_ERR_NO_MEMORY;
    *base = mapped;
    return TC_OK;
}

void pool_unmap(const void *base, uint64_t bytes) {
    munmap((void *)(uintptr_t)base, bytes);
}
