/* Contexts: options, opening, closing, statistics. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "internal.h"

void tc_options_default(tc_options *options) {
    if (!options) return;
    *options = (tc_options){.size = 1, .signals = 1024, .blocks = 8192, .queues = 16, .queue_depth = 256,
                            .outstanding = 256, .transports = TC_SHM | TC_OFI | TC_MSG, .stripe_from = 65536};
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

int tc_context_hook(tc_context *context, tc_hook_function hook, void *user, uint32_t anywhere) {
    if (!context) return TC_ERR_ARGUMENT;
    context->hook = hook;
    context->hook_user = user;
    context->hook_thread = pthread_self();
    context->hook_anywhere = anywhere;
    return TC_OK;
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
