/* Shared memory: the sender stores into the target, then counts at the signal itself; the target need not call in.
 * Memory that is mapped here is copied to; the private memory of another process is reached by cross-memory attach. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "internal.h"

#define BATCH 64
#ifndef CROSSING              /* tests choose less */
#define CROSSING (1ull << 30) /* bytes for one system call: the kernel moves at most 2 GiB - 4 KiB */
#endif
#define LARGE (1u << 20) /* bytes from which a copy is worth the string instruction */
#define LINE 64u
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define STRING_MOVES 1 /* sanitizers see through memcpy only */
#else
#define STRING_MOVES 0
#endif

typedef struct shm_transport {
    tc_transport base;
    bool string_moves; /* the processor moves long strings well */
} shm_transport;

typedef struct crossing { /* a batch of pairs for one system call */
    struct iovec here[BATCH], there[BATCH];
    char *local;
    uint64_t base, bytes;
    int count;
    pid_t pid;
    bool get;
} crossing;

static int cross(crossing *c) {
    if (!c->count) return TC_OK;
    unsigned long n = (unsigned long)c->count;
    ssize_t moved = c->get ? process_vm_readv(c->pid, c->here, n, c->there, n, 0)
                           : process_vm_writev(c->pid, c->here, n, c->there, n, 0);
    uint64_t wanted = c->bytes;
    c->count = 0;
    c->bytes = 0;
    if (moved >= 0) return (uint64_t)moved == wanted ? TC_OK : TC_ERR_STALE;
    if (errno == ESRCH) return TC_ERR_PEER_LOST;
    return errno == EPERM ? TC_ERR_DENIED : TC_ERR_STALE;
}

static int cross_run(void *user, uint64_t local, uint64_t remote, uint64_t bytes) {
    crossing *c = user;
    int status = TC_OK;
    while (bytes && status == TC_OK) {
        uint64_t part = bytes < CROSSING - c->bytes ? bytes : CROSSING - c->bytes;
        c->here[c->count] = (struct iovec){c->local + local, part};
        c->there[c->count] = (struct iovec){(void *)(uintptr_t)(c->base + remote), part};
        c->bytes += part;
        if (++c->count == BATCH || c->bytes == CROSSING) status = cross(c);
        local += part;
        remote += part;
        bytes -= part;
    }
    return status;
}

static bool has_string_moves(void) {
#if STRING_MOVES
    unsigned int a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 9 & 1);
#else
    return false;
#endif
}

/* Copies of more than a core's cache: the processor's own string move does not read the lines that it overwrites.
 * The C library stops using it at the size of that cache on some processors, and its loop is a quarter slower there.
 * It begins at a cache line, as it may be slow elsewhere. */
static void copy_large(char *to, const char *from, uint64_t bytes) {
    uint64_t head = (LINE - (uintptr_t)to % LINE) % LINE;
    memcpy(to, from, head);
#if STRING_MOVES
    void *rest = to + head;
    const void *source = from + head;
    uint64_t count = bytes - head;
    __asm__ volatile("rep movsb" : "+D"(rest), "+S"(source), "+c"(count) : : "memory");
#else
    memcpy(to + head, from + head, bytes - head);
#endif
}

static bool is_large(const shm_transport *t, const tc_op *op) {
    return t->string_moves && op->bytes >= LARGE && layout_contiguous(op->layout) && layout_contiguous(op->there);
}

static int move(const shm_transport *t, const tc_op *op) {
    tc_target *target = op->target;
    if (op->bytes == 0) return TC_OK;
    if (target->mapped && is_large(t, op)) {
        char *here = op->local + op->layout->offset + op->from, *there = target->mapped + op->there->offset + op->from;
        copy_large(op->get ? here : there, op->get ? there : here, op->bytes);
        return TC_OK;
    }
    if (target->mapped) {
        if (op->get) layout_copy(op->local, op->layout, target->mapped, op->there, op->from, op->bytes);
        else layout_copy(target->mapped, op->there, op->local, op->layout, op->from, op->bytes);
        return TC_OK;
    }
    crossing c = {.local = op->local, .base = target->wire.base, .get = op->get,
                  .pid = target->context->peers[target->peer].address.pid};
    int status = layout_pairs(op->layout, op->there, op->from, op->bytes, cross_run, &c);
    return status ? status : cross(&c);
}

/* A message with a head lies in two pieces here, and in one there. */
static int move_headed(const shm_transport *t, const tc_op *op) {
    uint64_t ahead = of_head(op, op->from, op->bytes), start = op->from + ahead - op->head_bytes;
    tc_layout head = layout_simple(0, op->head_bytes), head_there = layout_simple(op->there->offset, op->head_bytes);
    tc_layout there = layout_simple(op->there->offset + op->head_bytes, op->total - op->head_bytes);
    tc_op part = *op;
    part.local = (char *)(uintptr_t)op->head;
    part.layout = &head;
    part.there = &head_there;
    part.bytes = ahead;
    int status = move(t, &part);
    part = *op;
    part.there = &there;
    part.from = start;
    part.bytes = op->bytes - ahead;
    return status == TC_OK ? move(t, &part) : status;
}

static int notify(const tc_op *op, seg_signal *signal, seg_block *block, uint32_t queue) {
    const tc_target *target = op->target;
    if (queue) {
        const seg_view *view = &target->context->peers[target->peer].view;
        tc_event event = {target->context->options.rank, target->wire.tag, op->epoch, op->value, op->total};
        uint64_t ticket;
        if (queue_reserve(view, queue - 1, &ticket) != TC_OK) return TC_FULL;
        queue_publish(view, queue - 1, ticket, &event);
    }
    arrive_message(signal, block, target->wire.stream ? 0 : op->epoch);
    return TC_OK;
}

/* Shared memory of a peer is mapped here; private memory is not, except in the same process. */
static int shm_map(tc_transport *transport, tc_target *target) {
    const peer *p = &transport->context->peers[target->peer];
    const wire_block *wire = &target->wire;
    void *base = NULL;
    target->block = &p->view.blocks[wire->block];
    target->signal = &p->view.signals[wire->signal];
    if (p->here) {
        base = (void *)(uintptr_t)wire->base;
    } else if (wire->memory_kind == TC_SHARED) {
        int status = map_descriptor(p->address.pid, wire->descriptor, wire->memory_bytes, &base);
        if (status) return status;
    } else if (!p->cma) {
        return TC_ERR_DENIED;
    }
    target->mapped = base;
    return TC_OK;
}

static void shm_unmap(tc_transport *transport, tc_target *target) {
    bool here = transport->context->peers[target->peer].here;
    if (target->mapped && !here) munmap(target->mapped, target->wire.memory_bytes);
}

static int shm_connect(tc_transport *transport, peer *p) {
    if (p->address.node != transport->context->node) return TC_ERR_UNREACHABLE;
    int status = seg_attach(p);
    if (status == TC_OK) p->cma = p->here || may_cross(&p->address);
    return status;
}

static void shm_disconnect(tc_transport *transport, peer *p) {
    (void)transport;
    seg_detach(p);
}

static int shm_capabilities(tc_transport *transport, tc_capability *list, uint32_t capacity, uint32_t *count) {
    const tc_context *context = transport->context;
    bool cma = true, others = false;
    if (!capacity) return TC_ERR_ARGUMENT;
    for (uint32_t i = 0; i < context->options.size; i++) {
        const peer *p = &context->peers[i];
        if (!p->mapped || p->here) continue;
        others = true;
        cma = cma && p->cma;
    }
    *list = (tc_capability){.transport = "shm", .provider = "stores + C11 atomics", .present = 1, .notify_bits = 64,
                            .value_bits = 64, .native = 1, .auto_progress = 1, .ordered = 1, .max_message = UINT64_MAX};
    snprintf(list->note, sizeof list->note, "registered arrays by cross-memory attach: %s",
             !others ? "not tried, no other process" : cma ? "yes" : "forbidden by the kernel");
    *count = 1;
    return TC_OK;
}

static int shm_post(tc_transport *transport, const tc_op *op) {
    const tc_target *target = op->target;
    seg_signal *signal = target->signal;
    seg_block *block = target->block;
    __builtin_prefetch(signal, 1); /* its line travels while the data is written */
    if (atomic_load_explicit(&block->generation, memory_order_relaxed) != target->wire.generation) return TC_ERR_STALE;
    int64_t ahead = (int64_t)(op->epoch - atomic_load_explicit(&signal->epoch, memory_order_acquire));
    if (!target->wire.stream && ahead > (int64_t)AHEAD) return TC_FULL;
    uint32_t queue = atomic_load_explicit(&signal->queue, memory_order_relaxed);
    if (queue && queue_full(&target->context->peers[target->peer].view, queue - 1)) return TC_FULL;
    const shm_transport *t = (const shm_transport *)transport;
    int status = op->head_bytes ? move_headed(t, op) : move(t, op);
    if (status) return status;
    add_up(&op->plan->pieces, 1);
    /* freed while it was copied: its signal may be another one by now */
    if (atomic_load_explicit(&block->generation, memory_order_acquire) != target->wire.generation) return TC_ERR_STALE;
    if (op->number)
        atomic_store_explicit(&block->number[op->epoch % LANES], numbered(op->epoch, op->number), memory_order_relaxed);
    if (op->track && !target->wire.stream) {
        status = arrive_piece(block, op->epoch, op->piece, op->pieces);
        if (status == TC_ERR_SURPLUS) atomic_fetch_add_explicit(&signal->surplus, 1, memory_order_relaxed);
        if (status) return TC_OK; /* counted when the rest is there, or never again */
        return notify(op, signal, block, queue) == TC_FULL ? TC_ERR_OVERFLOW : TC_OK;
    }
    return notify(op, signal, block, queue);
}

static void shm_close(tc_transport *transport) {
    free(transport);
}

int shm_open_transport(tc_context *context, tc_transport **out) {
    shm_transport *transport = calloc(1, sizeof *transport);
    if (!transport) return TC_ERR_NO_MEMORY;
    transport->base = (tc_transport){.context = context, .kind = TC_SHM, .value_bits = 64, .connect = shm_connect,
                                     .disconnect = shm_disconnect, .map = shm_map, .unmap = shm_unmap, .post = shm_post,
                                     .capabilities = shm_capabilities, .close = shm_close};
    transport->string_moves = has_string_moves();
    *out = &transport->base;
    return TC_OK;
}
