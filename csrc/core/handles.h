/* Handles: the context and all that is opened in it. */
#ifndef TOPOCOMM_HANDLES_H
#define TOPOCOMM_HANDLES_H
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "shared.h"
#include "wire.h"

typedef struct tc_transport tc_transport;
typedef struct peer peer;

struct tc_memory {
    tc_context *context;
    bool live;
    bool landing; /* belongs to the core: a network puts strided blocks there */
    bool kept;    /* the caller unmaps it */
    uint32_t kind, blocks;
    void *base;
    uint64_t bytes;
    int descriptor;
    void *rail[TC_MAX_RAILS]; /* the network library's registrations */
    tc_memory *next, *old;    /* old: the landing retired after this one */
};

struct tc_signal {
    tc_context *context;
    bool live;
    uint32_t kind, index, blocks;
    _Atomic uint64_t observed; /* checked mode: epochs that this rank has seen complete */
    _Atomic uint64_t lost;     /* identified: notifications that its queue had no room for, not reported yet */
    seg_signal *shared;
    tc_signal *next;
};

struct tc_block {
    tc_context *context;
    bool live;
    uint32_t index, generation, source, tag;
    tc_memory *memory, *landing; /* landing: where a network puts a strided block before it is spread out */
    tc_signal *signal;
    tc_layout layout;
    uint64_t bytes, first_epoch;
    uint64_t proved; /* checked mode, over a network: epochs consumed, as the source was last informed by message */
    seg_block *shared;
    tc_block *next;
};

/* Checked mode: the epochs that a peer consumed of one of its blocks; words of its segment, or a copy of them. */
typedef struct proof {
    _Atomic uint64_t *published, *published_by;
    _Atomic uint64_t copy[1 + LANES];
} proof;

struct tc_target {
    tc_context *context;
    bool live;
    uint32_t peer, busy; /* busy: items of plans that use it */
    wire_block wire;
    char *mapped; /* start of the peer's memory in this process, or NULL */
    uint64_t epoch;
    seg_block *block; /* in the peer's segment, or NULL */
    seg_signal *signal;
    proof proof;
    tc_target *next;
};

typedef struct tc_item { /* one transfer of a plan */
    tc_target *target;
    char *local;
    tc_layout layout, layout_there;
    uint64_t value, bytes;
    bool get;
    const char *head; /* bytes that go before the local ones */
    uint64_t head_bytes;
} tc_item;

struct tc_plan {
    tc_context *context;
    bool running, remote;
    uint32_t items, capacity, next, culprit;
    uint64_t dropped; /* by a simulated network, of those outstanding: they never end */
    tc_item *item;
    _Atomic uint64_t outstanding;
    _Atomic int error;
    const struct plan_path *path;                   /* with the proofs of checked mode, or without */
    _Atomic uint64_t messages, pieces, bytes, full; /* statistics, written by the one thread that is in the plan */
    tc_plan *next_plan, **link;                     /* among the context's plans */
};

/* Add to a sum that no other thread adds to. */
static inline void add_up(_Atomic uint64_t *sum, uint64_t more) {
    atomic_store_explicit(sum, atomic_load_explicit(sum, memory_order_relaxed) + more, memory_order_relaxed);
}

struct peer {
    bool connected, mapped;
    bool here;  /* in this very process */
    bool cma;   /* its private memory is within reach of cross-memory attach */
    bool known; /* a process of its number existed when it was connected */
    bool met;   /* its probe connection (live.c) was established once */
    _Atomic bool lost;
    tc_transport *transport, *inner; /* inner: behind the simulated network */
    wire_address address;
    seg_view view;
    int pidfd, live; /* descriptors, or -1; live: of the probe connection */
    double dial_after;
    uint32_t *freed;  /* by block: the latest generation that its owner said it has freed */
    uint32_t *opened; /* by block: the latest generation that was opened here */
    uint32_t opened_room;
    uint64_t sent; /* checked mode: messages sent to it */
    void *network; /* the network transport's own */
};

/* A context's transports: the simulated one in front of all others, then in order of preference. */
enum { AT_SIM, AT_SHM, AT_OFI, AT_MSG, TRANSPORTS };

struct tc_context {
    tc_options options;
    seg_view view;
    int descriptor, listener; /* of the segment; of live.c, or -1 */
    uint64_t nonce, node;
    peer *peers;
    _Atomic uint32_t lost;      /* the peer last found lost */
    uint32_t local;             /* connected ranks of this node */
    uint64_t cores[CORE_WORDS]; /* mask of the cores that they may run on, together */
    bool crowded;               /* more such ranks than cores */
    tc_memory *memories, *free_memories;
    tc_signal **signals, *free_signals;
    tc_block **blocks, *free_first, *free_last;
    tc_target *targets, *free_targets;
    tc_plan *plans;
    uint32_t signal_count, block_count;
    _Atomic double next_check; /* when those who poll look at the peers again */
    bool queue_taken[256];
    tc_transport *transports[TRANSPORTS]; /* NULL where one is absent */
    bool driven;                          /* some transport needs progress calls */
    double looked;                        /* when progress last found something */
    pthread_mutex_t lock;
    pthread_t thread;
    _Atomic int stop;
    bool threaded;
    tc_hook_function hook; /* moves what else the program has under way; NULL: nothing does */
    void *hook_user;
    pthread_t hook_thread; /* that alone calls it, unless `hook_anywhere` */
    bool hook_anywhere;
    tc_stats stats;
    char note[256];                         /* why a transport is absent */
    tc_memory *old_landings, *last_landing; /* of freed blocks, oldest first */
    uint64_t old_bytes, old_count;
};

/* A network's notification has 16 bits for a block and its generation: return how many the block takes. */
static inline uint32_t index_bits(const tc_context *context) {
    return 32u - (uint32_t)__builtin_clz((context->options.blocks - 1) | 1);
}
#endif
