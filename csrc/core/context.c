/* Contexts: options, peers, the choice of transport, progress and patience. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

#define ADDRESS_MAGIC 0x54434144u
#define ADDRESS_VERSION 1u

const char *tc_status_text(int status) {
    static const char *const text[] = {
        "done", "an argument has no meaning", "no memory or descriptor from the operating system",
        "a table of the context is full", "outside its memory, or lengths differ", "block freed by its owner",
        "handle already freed", "still in use", "not a block of a connected peer", "issued to another rank",
        "no transport leads there", "the peer died or closed its context", "the limit of the wait has passed",
        "more notifications than this epoch expects", "not proven free", "value too large for the transport",
        "not supported here", "the network library failed",
        "its queue of identified notifications was full: take them with event",
        "the kernel forbids cross-memory attach",
        "block opened here before: use that target, or have its owner issue another"};
    if (status == TC_AGAIN) return "not yet";
    if (status == TC_FULL) return "no room in a bounded queue yet";
    return status <= 0 && status >= TC_ERR_OPENED ? text[-status] : "unknown status";
}

double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void tc_options_default(tc_options *options) {
    if (!options) return;
    *options = (tc_options){.size = 1, .signals = 1024, .blocks = 8192, .queues = 16, .queue_depth = 256,
                            .outstanding = 256, .transports = TC_SHM | TC_OFI | TC_MSG, .stripe_from = 65536};
}

/* One thread at a time is in the context: the caller's, or the progress thread. The same one may enter again. */
void enter(tc_context *context) {
    pthread_mutex_lock(&context->lock);
}

void leave(tc_context *context) {
    pthread_mutex_unlock(&context->lock);
}

static void make_lock(pthread_mutex_t *lock) {
    pthread_mutexattr_t kind;
    pthread_mutexattr_init(&kind);
    pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(lock, &kind);
    pthread_mutexattr_destroy(&kind);
}

static bool sensible(const tc_options *o) {
    return o->size > 0 && o->rank < o->size && o->signals > 0 && o->blocks > 0 && o->blocks <= BLOCKS_AT_MOST &&
           o->queues <= 256 && o->queue_depth > 0 && (o->queue_depth & (o->queue_depth - 1)) == 0 && o->outstanding > 0 &&
           o->outstanding <= 1u << 20;
}

static void *drive(void *user) {
    tc_context *context = user;
    while (!atomic_load_explicit(&context->stop, memory_order_relaxed)) {
        progress(context);
        sched_yield();
    }
    return NULL;
}

/* That it is absent is no error while other transports are allowed. */
static int open_network(tc_context *context) {
#ifdef TOPOCOMM_LIBFABRIC
    int status = ofi_open_transport(context, &context->transports[AT_OFI]);
#else
    int status = TC_ERR_UNSUPPORTED;
    snprintf(context->note, sizeof context->note, "built without libfabric (its headers were not found)");
#endif
    return status == TC_ERR_UNSUPPORTED && context->options.transports != TC_OFI ? TC_OK : status;
}

static int open_parts(tc_context *context) {
    const tc_options *o = &context->options;
    if (getrandom(&context->nonce, sizeof context->nonce, 0) != sizeof context->nonce) return TC_ERR_NO_MEMORY;
    context->node = node_identity();
    context->peers = calloc(o->size, sizeof *context->peers);
    context->signals = calloc(o->signals, sizeof(tc_signal *));
    context->blocks = calloc(o->blocks, sizeof(tc_block *));
    if (!context->peers || !context->signals || !context->blocks) return TC_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < o->size; i++) context->peers[i].pidfd = context->peers[i].live = -1;
    int status = seg_create(context);
    if (status == TC_OK) status = shm_open_transport(context, &context->transports[AT_SHM]);
    if (status == TC_OK && (o->transports & TC_OFI)) status = open_network(context);
    if (status == TC_OK && o->progress_thread) {
        context->threaded = pthread_create(&context->thread, NULL, drive, context) == 0;
        if (!context->threaded) status = TC_ERR_NO_MEMORY;
    }
    return status;
}

int tc_context_open(const tc_options *options, tc_context **out) {
    if (!options || !out || !sensible(options)) return TC_ERR_ARGUMENT;
    tc_context *context = calloc(1, sizeof *context);
    if (!context) return TC_ERR_NO_MEMORY;
    context->options = *options;
    context->descriptor = context->listener = -1;
    make_lock(&context->lock);
    int status = open_parts(context);
    if (status) {
        tc_context_close(context);
        return status;
    }
    *out = context;
    return TC_OK;
}

int tc_context_address(tc_context *context, void *address, size_t capacity, size_t *bytes) {
    wire_address wire;
    if (!context || !address || !bytes || capacity < sizeof wire) return TC_ERR_ARGUMENT;
    memset(&wire, 0, sizeof wire);
    wire.magic = ADDRESS_MAGIC;
    wire.version = ADDRESS_VERSION;
    wire.rank = context->options.rank;
    wire.kinds = context->options.transports;
    wire.node = context->node;
    wire.nonce = context->nonce;
    wire.probe = (uint64_t)(uintptr_t)&context->nonce;
    wire.nonce_address = (uint64_t)(uintptr_t)context->view.head;
    wire.segment_bytes = context->view.bytes;
    wire.pid = (int32_t)getpid();
    wire.descriptor = context->descriptor;
    wire.checked = context->options.checked;
    if (sched_getaffinity(0, sizeof wire.cores, (cpu_set_t *)(void *)wire.cores) < 0) wire.cores[0] = ~0ull;
    for (uint32_t i = 0; i < TRANSPORTS; i++) {
        tc_transport *t = context->transports[i];
        int status = t && t->address ? t->address(t, &wire) : TC_OK;
        if (status) return status;
    }
    memcpy(address, &wire, sizeof wire);
    *bytes = sizeof wire;
    return TC_OK;
}

/* May this process write into that one? Asked by reading a number only the right process has. */
bool may_cross(const wire_address *a) {
    uint64_t nonce = 0;
    struct iovec here = {&nonce, sizeof nonce}, there = {(void *)(uintptr_t)a->probe, sizeof nonce};
    return process_vm_readv(a->pid, &here, 1, &there, 1, 0) == sizeof nonce && nonce == a->nonce;
}

static int choose(tc_context *context, peer *p) {
    const wire_address *a = &p->address;
    uint32_t allowed = context->options.transports & a->kinds;
    p->here = a->pid == (int32_t)getpid() && a->node == context->node && may_cross(a);
    for (uint32_t i = AT_SHM; i < TRANSPORTS && !p->inner; i++) {
        tc_transport *t = context->transports[i];
        if (t && (allowed & t->kind) && t->connect(t, p) == TC_OK) p->inner = t;
    }
    if (!p->inner) return TC_ERR_UNREACHABLE;
    p->transport = context->transports[AT_SIM] ? context->transports[AT_SIM] : p->inner;
    if (p->transport->progress) context->driven = true;
    if (a->node == context->node) {
        uint32_t cores = 0;
        for (uint32_t i = 0; i < CORE_WORDS; i++)
            cores += (uint32_t)__builtin_popcountll(context->cores[i] |= a->cores[i]);
        context->crowded = ++context->local > cores;
        if (p->pidfd < 0 && !p->here) p->pidfd = (int)syscall(SYS_pidfd_open, a->pid, 0);
        p->known = p->pidfd >= 0 || p->mapped || may_cross(a); /* else the number may be of another's counting */
    }
    return TC_OK;
}

int tc_context_connect(tc_context *context, uint32_t rank, const void *address, size_t bytes) {
    wire_address wire;
    if (!context || !address || rank >= context->options.size) return TC_ERR_ARGUMENT;
    if (bytes < sizeof wire) return TC_ERR_BLOCK;
    memcpy(&wire, address, sizeof wire);
    if (wire.magic != ADDRESS_MAGIC || wire.version != ADDRESS_VERSION || wire.rank != rank) return TC_ERR_BLOCK;
    if (wire.checked != context->options.checked) return TC_ERR_ARGUMENT; /* all checked, or none */
    peer *p = &context->peers[rank];
    if (p->connected) return TC_ERR_BUSY;
    enter(context);
    p->address = wire;
    int status = choose(context, p);
    p->connected = status == TC_OK;
    leave(context);
    return status;
}

int tc_context_messages(tc_context *context, tc_send_function send, tc_poll_function poll, void *user) {
    if (!context || !send || !poll) return TC_ERR_ARGUMENT;
    if (context->transports[AT_MSG]) return TC_ERR_BUSY;
    enter(context);
    int status = msg_open_transport(context, send, poll, user, &context->transports[AT_MSG]);
    leave(context);
    return status;
}

int tc_context_faults(tc_context *context, const tc_faults *faults) {
    if (!context || !faults || faults->pieces > TC_MAX_PIECES) return TC_ERR_ARGUMENT;
    if (context->transports[AT_SIM]) return TC_ERR_BUSY;
    for (uint32_t i = 0; i < context->options.size; i++)
        if (context->peers[i].connected) return TC_ERR_BUSY; /* before any peer is connected */
    enter(context);
    int status = sim_open_transport(context, faults, &context->transports[AT_SIM]);
    leave(context);
    return status;
}

int progress(tc_context *context) {
    if (pthread_mutex_trylock(&context->lock)) return TC_OK;
    int status = TC_OK;
    bool found = false;
    for (uint32_t i = 0; i < TRANSPORTS && status >= 0; i++) {
        tc_transport *t = context->transports[i];
        if (t && t->progress) status = t->progress(t);
        found |= status > 0;
    }
    if (found) context->looked = now();
    pthread_mutex_unlock(&context->lock);
    return status < 0 ? status : TC_OK;
}

int tc_context_progress(tc_context *context) {
    return context ? progress(context) : TC_ERR_ARGUMENT;
}

static bool idle(tc_context *context) {
    bool quiet = true;
    enter(context);
    for (uint32_t i = 0; i < TRANSPORTS; i++) {
        tc_transport *t = context->transports[i];
        if (t && t->idle && !t->idle(t)) quiet = false;
    }
    leave(context);
    return quiet;
}

static int somebody_lost(tc_context *context) {
    for (uint32_t r = 0; r < context->options.size; r++)
        if (context->peers[r].connected && tc_peer_alive(context, r) == TC_ERR_PEER_LOST) return lose(context, r);
    return TC_OK;
}

/* Drives everything until no operation of this rank is under way. Which peers those lead to only the transports know, so
 * that a lost one may not matter: it is named where the rest does not end soon after. */
int tc_context_flush(tc_context *context, double seconds) {
    patience p;
    bool check;
    double lost = 0;
    if (!context) return TC_ERR_ARGUMENT;
    patience_start(&p, seconds);
    while (!idle(context)) {
        int status = progress(context);
        if (status < 0) return status;
        status = patience_step(context, &p, &check);
        if (check && lost == 0 && somebody_lost(context) != TC_OK) lost = now();
        if (lost > 0 && now() - lost > LOST_SECONDS) return TC_ERR_PEER_LOST;
        if (status) return status;
    }
    return TC_OK;
}

static void free_handles(tc_context *context) {
    while (context->targets) {
        context->targets->busy = 0;
        tc_target_close(context->targets);
    }
    for (uint32_t i = 0; i < context->block_count; i++)
        if (context->blocks[i]->live) block_release(context->blocks[i]);
    while (context->memories) tc_memory_free(context->memories);
    for (tc_target *t = context->free_targets, *next; t; t = next) next = t->next, free(t);
    for (tc_memory *m = context->free_memories, *next; m; m = next) next = m->next, free(m);
    for (uint32_t i = 0; i < context->block_count; i++) free(context->blocks[i]);
    for (uint32_t i = 0; i < context->signal_count; i++) free(context->signals[i]);
}

/* Frees every handle of the context but plans, which are freed before it. */
int tc_context_close(tc_context *context) {
    if (!context) return TC_ERR_ARGUMENT;
    atomic_store(&context->stop, 1);
    if (context->threaded) pthread_join(context->thread, NULL);
    if (context->view.head) atomic_store(&context->view.head->closed, 1);
    free_handles(context);
    live_close(context);
    for (uint32_t i = 0; context->peers && i < context->options.size; i++) {
        peer *p = &context->peers[i];
        if (p->inner && p->inner->disconnect) p->inner->disconnect(p->inner, p);
        if (p->pidfd >= 0) close(p->pidfd);
        free(p->freed);
        free(p->opened);
    }
    for (uint32_t i = 0; i < TRANSPORTS; i++)
        if (context->transports[i]) context->transports[i]->close(context->transports[i]);
    if (context->view.head) munmap(context->view.head, context->view.bytes);
    if (context->descriptor >= 0) close(context->descriptor);
    free(context->peers);
    free(context->signals);
    free(context->blocks);
    pthread_mutex_destroy(&context->lock);
    free(context);
    return TC_OK;
}

int tc_context_stats(tc_context *context, tc_stats *stats) {
    if (!context || !stats) return TC_ERR_ARGUMENT;
    enter(context);
    *stats = context->stats;
    for (uint32_t i = 0; i < context->signal_count; i++)
        stats->surplus += atomic_load(&context->signals[i]->shared->surplus); /* counted by whoever refused it */
    for (const tc_plan *plan = context->plans; plan; plan = plan->next_plan) plan_count(plan, stats);
    leave(context);
    return TC_OK;
}

/* --- who lives ---------------------------------------------------------------------------------------------- */
static bool process_gone(const peer *p) {
    if (p->here || !p->known) return false;
    if (p->pidfd >= 0) {
        struct pollfd ready = {.fd = p->pidfd, .events = POLLIN};
        return poll(&ready, 1, 0) == 1;
    }
    return kill(p->address.pid, 0) != 0 && errno == ESRCH;
}

int tc_peer_alive(tc_context *context, uint32_t rank) {
    if (!context || rank >= context->options.size) return TC_ERR_ARGUMENT;
    peer *p = &context->peers[rank];
    if (!p->connected) return TC_ERR_UNREACHABLE;
    if (p->lost) return TC_ERR_PEER_LOST;
    if (p->mapped) return atomic_load(&p->view.head->closed) || process_gone(p) ? TC_ERR_PEER_LOST : TC_OK;
    if (p->address.node == context->node && process_gone(p)) return TC_ERR_PEER_LOST;
    if (!p->inner->network) return TC_OK;
    enter(context);
    bool lives = live_check(context, rank);
    leave(context);
    return lives ? TC_OK : TC_ERR_PEER_LOST;
}

int lose(tc_context *context, uint32_t rank) {
    context->peers[rank].lost = true;
    context->lost = rank;
    return TC_ERR_PEER_LOST;
}

int tc_context_lost(tc_context *context, uint32_t *rank) {
    if (!context || !rank) return TC_ERR_ARGUMENT;
    if (!context->peers[context->lost].lost) return TC_AGAIN;
    *rank = context->lost;
    return TC_OK;
}

int tc_peer_transport(tc_context *context, uint32_t rank, uint32_t *kind) {
    if (!context || !kind || rank >= context->options.size) return TC_ERR_ARGUMENT;
    if (!context->peers[rank].connected) return TC_ERR_UNREACHABLE;
    *kind = context->peers[rank].inner->kind;
    return TC_OK;
}

/* --- patience ------------------------------------------------------------------------------------------------ */
void patience_start(patience *p, double seconds) {
    double start = now();
    *p = (patience){start + seconds, start + CHECK_SECONDS, start + SPIN_SECONDS, 0};
}

bool check_due(tc_context *context) {
    double time = now();
    if (time < atomic_load_explicit(&context->next_check, memory_order_relaxed)) return false;
    atomic_store_explicit(&context->next_check, time + CHECK_SECONDS, memory_order_relaxed);
    return true;
}

/* With a core per rank a waiter spins for a while before it offers its core to others; with fewer it offers at once. */
int patience_step(tc_context *context, patience *p, bool *check_peers) {
    *check_peers = false;
    if (++p->spins % SPINS) {
#if defined(__x86_64__) || defined(__i386__)
        if (!context->driven) __builtin_ia32_pause(); /* asking a network takes longer than a pause */
#endif
        return TC_OK;
    }
    double time = now();
    if (context->crowded || time >= p->yield_from) sched_yield();
    if (time >= p->next_check) {
        p->next_check = time + CHECK_SECONDS;
        *check_peers = true;
    }
    return time >= p->limit ? TC_ERR_TIMEOUT : TC_OK;
}
