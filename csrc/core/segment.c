/* The segment of a context: signals, block words and event queues where the processes of a node reach them.
 *
 * It is a memory file without a name, opened by peers through /proc: nothing is left behind when a process is
 * killed. Contexts of one process share the mapping itself, so thread sanitizers see the true addresses.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "internal.h"

#define SEGMENT_MAGIC 0x746f706f636f6d31ull

static size_t queue_bytes(uint32_t depth) {
    return sizeof(seg_queue) + depth * sizeof(seg_event);
}

static size_t seg_bytes(const tc_options *o) {
    return sizeof(segment) + o->signals * sizeof(seg_signal) + o->blocks * sizeof(seg_block) +
           o->queues * queue_bytes(o->queue_depth);
}

static void seg_layout(seg_view *view, void *base) {
    view->head = base;
    view->signals = (seg_signal *)(view->head + 1);
    view->blocks = (seg_block *)(view->signals + view->head->signals);
    view->queues = (char *)(view->blocks + view->head->blocks);
}

static int make_file(const char *name, size_t bytes, int *descriptor, void **base) {
    int fd = memfd_create(name, MFD_CLOEXEC);
    if (fd < 0) return TC_ERR_NO_MEMORY;
    if (ftruncate(fd, (off_t)bytes) == 0) {
        *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (*base != MAP_FAILED) {
            *descriptor = fd;
            return TC_OK;
        }
    }
    close(fd);
    return TC_ERR_NO_MEMORY;
}

int seg_create(tc_context *context) {
    const tc_options *o = &context->options;
    size_t bytes = seg_bytes(o);
    void *base;
    int status = make_file("topocomm", bytes, &context->descriptor, &base);
    if (status) return status;
    segment *head = base;
    head->signals = o->signals;
    head->blocks = o->blocks;
    head->queues = o->queues;
    head->depth = o->queue_depth;
    head->nonce = context->nonce;
    head->magic = SEGMENT_MAGIC;
    seg_layout(&context->view, base);
    context->view.bytes = bytes;
    return TC_OK;
}

int map_descriptor(int32_t pid, int32_t descriptor, uint64_t bytes, void **base) {
    char path[64];
    struct stat info;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, descriptor);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return errno == ENOENT || errno == ESRCH ? TC_ERR_STALE : TC_ERR_UNREACHABLE;
    int status = TC_ERR_STALE;
    if (fstat(fd, &info) == 0 && (uint64_t)info.st_size == bytes) {
        void *mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        status = mapped == MAP_FAILED ? TC_ERR_NO_MEMORY : TC_OK;
        if (status == TC_OK) *base = mapped;
    }
    close(fd);
    return status;
}

int seg_attach(peer *p) {
    void *base;
    if (p->here) {
        base = (void *)(uintptr_t)p->address.nonce_address;
    } else {
        int status = map_descriptor(p->address.pid, p->address.descriptor, p->address.segment_bytes, &base);
        if (status) return TC_ERR_UNREACHABLE;
    }
    const segment *head = base;
    if (head->magic != SEGMENT_MAGIC || head->nonce != p->address.nonce) {
        if (!p->here) munmap(base, p->address.segment_bytes);
        return TC_ERR_UNREACHABLE;
    }
    seg_layout(&p->view, base);
    p->view.bytes = p->address.segment_bytes;
    p->mapped = true;
    return TC_OK;
}

void seg_detach(peer *p) {
    if (!p->mapped) return;
    if (!p->here) munmap(p->view.head, p->view.bytes);
    p->mapped = false;
}

/* Same number: same running kernel, host name and numbering of processes, so memory may be shared and a process is found
 * by its number (emulated hosts differ by name; containers may share all but the numbering). */
uint64_t node_identity(void) {
    char text[128] = {0}, processes[64] = {0};
    struct utsname name;
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        if (read(fd, text, sizeof text - 1) < 0) text[0] = 0;
        close(fd);
    }
    uname(&name);
    if (readlink("/proc/self/ns/pid", processes, sizeof processes - 1) < 0)
        snprintf(processes, sizeof processes, "%d alone", (int)getpid());
    return checksum(text, strlen(text)) ^ checksum(name.nodename, strlen(name.nodename)) * 3 ^
           checksum(processes, strlen(processes)) * 5;
}

/* --- bounded queues of identified notifications: many writers, one reader; a ticket is a place and a turn --- */
static seg_queue *queue_at(const seg_view *view, uint32_t queue) {
    return (seg_queue *)(view->queues + queue * queue_bytes(view->head->depth));
}

static seg_event *event_at(const seg_view *view, uint32_t queue, uint64_t ticket) {
    return (seg_event *)(queue_at(view, queue) + 1) + ticket % view->head->depth;
}

bool queue_full(const seg_view *view, uint32_t queue) {
    seg_queue *q = queue_at(view, queue);
    uint64_t tail = atomic_load_explicit(&q->tail, memory_order_relaxed);
    return tail - atomic_load_explicit(&q->head, memory_order_acquire) >= view->head->depth;
}

int queue_reserve(const seg_view *view, uint32_t queue, uint64_t *ticket) {
    seg_queue *q = queue_at(view, queue);
    uint64_t tail = atomic_load_explicit(&q->tail, memory_order_relaxed);
    do {
        if (tail - atomic_load_explicit(&q->head, memory_order_acquire) >= view->head->depth) return TC_FULL;
    } while (!atomic_compare_exchange_weak_explicit(&q->tail, &tail, tail + 1, memory_order_relaxed,
                                                    memory_order_relaxed));
    *ticket = tail;
    return TC_OK;
}

void queue_publish(const seg_view *view, uint32_t queue, uint64_t ticket, const tc_event *event) {
    seg_event *slot = event_at(view, queue, ticket);
    slot->event = *event;
    atomic_store_explicit(&slot->turn, ticket + 1, memory_order_release);
}

int queue_take(const seg_view *view, uint32_t queue, tc_event *event) {
    seg_queue *q = queue_at(view, queue);
    uint64_t head = atomic_load_explicit(&q->head, memory_order_relaxed);
    seg_event *slot = event_at(view, queue, head);
    if (atomic_load_explicit(&slot->turn, memory_order_acquire) != head + 1) return TC_AGAIN;
    *event = slot->event;
    atomic_store_explicit(&q->head, head + 1, memory_order_release);
    return TC_OK;
}
