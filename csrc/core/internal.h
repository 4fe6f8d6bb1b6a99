/* What the files of the core share with each other and with nobody else. */
#ifndef TOPOCOMM_INTERNAL_H
#define TOPOCOMM_INTERNAL_H
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#include "topocomm.h"

#define BLOCKS_AT_MOST 8192u        /* 13 bits of a notification */
#define LANES 4u                  /* epochs a signal can tell apart: finished, current, two early ones */
#define AHEAD 2u                  /* epochs a sender may run ahead of its receiver */
#define SEGMENT_MAGIC 0x746f706f636f6d31ull
#define CHECK_SECONDS 0.02        /* how often a waiter asks whether its peers live */
#define PROOF_SECONDS 5.0         /* checked, over a network: how long data's proof may come behind it */
#define LOST_SECONDS 1.0          /* how long a flush goes on once a peer is lost */
#define SPIN_SECONDS 1e-3         /* how long a waiter with a core of its own keeps it */
#define LOOK_SECONDS 5e-6         /* what came in longer ago than this says nothing of the network as it is now */
#define SPINS 200u                /* tests between looks at the clock */

/* --- what other processes of the node see: one segment per context ---------------------------------------- */
typedef struct seg_signal {       /* one cache line */
    _Atomic uint64_t lane[LANES]; /* messages arrived for epoch e, in lane e % LANES */
    _Atomic uint64_t epoch;
    _Atomic uint32_t generation;
    _Atomic uint32_t queue;       /* 1 + index of the queue of an identified signal */
    _Atomic uint64_t expected;
    _Atomic uint64_t surplus;
} seg_signal;

typedef struct seg_block {            /* two cache lines: written by its one sender */
    _Atomic uint32_t generation;      /* odd while issued */
    uint32_t source, signal, tag, stream, memory_kind;
    _Atomic uint64_t arrived;         /* messages that came in whole, for naming the missing ones */
    _Atomic uint64_t piece[LANES];    /* (epoch + 1) << 16 | pieces << 8 | mask of those that arrived */
    _Atomic uint64_t number[LANES];   /* checked: epoch and number of the sender's message, see numbered() */
    /* written by its owner; checked: what it told the block's source, and in which message */
    _Atomic uint64_t published;       /* epochs consumed, as last told */
    _Atomic uint64_t told[LANES];     /* epochs consumed, and number of the message that told it */
} seg_block;

typedef struct seg_event {
    _Atomic uint64_t turn;
    tc_event event;
} seg_event;

typedef struct seg_queue {
    _Atomic uint64_t tail, head;
    uint64_t pad[6];
} seg_queue;

typedef struct segment {
    uint64_t magic, nonce;
    uint32_t signals, blocks, queues, depth;
    _Atomic uint32_t closed;
    uint64_t pad[3];
} segment;

typedef struct seg_view { /* a segment as mapped into this process */
    segment *head;
    seg_signal *signals;
    seg_block *blocks;
    char *queues;
    size_t bytes;
} seg_view;

/* --- bytes that travel ------------------------------------------------------------------------------------ */
typedef struct wire_rail {
    uint64_t address, key;
} wire_rail;

typedef struct wire_block {
    uint32_t magic, version, owner, source;
    uint32_t block, generation, signal, tag;
    uint32_t stream, memory_kind, rails, landing; /* landing: rail[] is where a strided block is put, packed */
    int32_t descriptor;
    uint32_t index_bits; /* how many bits of a network's notification name the block; of 16, the rest its generation */
    uint64_t nonce, epoch, base, memory_bytes, bytes;
    tc_layout layout;
    wire_rail rail[TC_MAX_RAILS];
    wire_rail direct; /* over the first rail: the memory itself, for gets of a strided block */
    uint64_t check;
} wire_block;
_Static_assert(sizeof(wire_block) <= TC_BLOCK_BYTES, "TC_BLOCK_BYTES too small");

#define RAIL_NAME_BYTES 64
#define CORE_WORDS 16
typedef struct wire_address {
    uint32_t magic, version, rank, kinds;
    uint64_t node, nonce, probe, nonce_address, segment_bytes;
    int32_t pid, descriptor;
    uint32_t checked, rails;
    uint8_t live[32];
    uint32_t live_bytes, spare;
    uint64_t cores[CORE_WORDS]; /* those this process may run on */
    uint8_t rail[TC_MAX_RAILS][RAIL_NAME_BYTES];
    uint32_t rail_bytes[TC_MAX_RAILS];
} wire_address;
_Static_assert(sizeof(wire_address) <= TC_ADDRESS_BYTES, "TC_ADDRESS_BYTES too small");

/* --- handles ---------------------------------------------------------------------------------------------- */
typedef struct tc_transport tc_transport;
typedef struct peer peer;

struct tc_memory {
    tc_context *context;
    bool live, landing, kept; /* landing: ours alone, where a network puts strided blocks; kept: the caller unmaps it */
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
    _Atomic uint64_t observed; /* checked: epochs that this rank has seen complete */
    _Atomic uint64_t lost; /* identified: notifications for which its queue had no room, and that were not told yet */
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
    uint64_t bytes, first_epoch, heard, overtaken;
    uint64_t proved; /* checked, over a network: epochs consumed, as last told by message */
    seg_block *shared;
    tc_block *next;
};

typedef struct proof { /* what a peer said of one of its blocks; in its segment, or a copy of that */
    _Atomic uint64_t *published, *told;
    _Atomic uint64_t copy[1 + LANES];
} proof;

struct tc_target {
    tc_context *context;
    bool live;
    uint32_t peer, busy;
    wire_block wire;
    char *mapped; /* start of the peer's memory here, or NULL where it cannot be mapped */
    uint64_t epoch;
    seg_block *block;   /* in the peer's segment, or NULL */
    seg_signal *signal;
    proof proof;
    tc_target *next;
};

typedef struct tc_item {
    tc_target *target;
    char *local;
    tc_layout layout;
    tc_layout layout_there;
    uint64_t value, bytes;
    bool get;
} tc_item;

struct tc_plan {
    tc_context *context;
    bool running, remote;
    uint32_t items, capacity, next, culprit;
    uint64_t dropped; /* of those outstanding, by a simulated network: they will never be done */
    tc_item *item;
    _Atomic uint64_t outstanding;
    _Atomic int error;
    const struct plan_path *path;             /* with the proofs of checked mode, or compiled without */
    _Atomic uint64_t messages, pieces, bytes, full; /* statistics: written by the thread that is in the plan */
    tc_plan *next_plan, **link; /* among the context's plans */
};

/* By the one thread that is in the plan: no other adds. */
static inline void add_up(_Atomic uint64_t *sum, uint64_t more) {
    atomic_store_explicit(sum, atomic_load_explicit(sum, memory_order_relaxed) + more, memory_order_relaxed);
}

/* One piece of one message, on its way. */
typedef struct tc_op {
    tc_plan *plan;
    tc_target *target;
    const tc_layout *layout, *there; /* of the local side, and of the remote one */
    char *local;
    uint64_t epoch, value, number;
    uint64_t from, bytes;    /* the part of the message this piece carries */
    uint64_t total;          /* bytes of the whole message */
    uint32_t piece, pieces;
    bool get, track, remote; /* track: note each piece, so that one coming twice is seen */
} tc_op;

/* A transport brings pieces and their notifications to peers. Only this interface is known outside its files. A function
 * may be NULL where a transport has nothing to do, but for connect, post, capabilities and close. */
struct tc_transport {
    tc_context *context;
    uint32_t kind, value_bits;
    uint64_t longest; /* bytes of one piece at most; 0: no limit */
    bool network;     /* strided blocks need a landing (memory.c), and live.c watches its peers */

    /* peers */
    int (*address)(tc_transport *, wire_address *); /* adds what peers need to connect */
    int (*connect)(tc_transport *, peer *);         /* TC_OK: it leads to this peer */
    void (*disconnect)(tc_transport *, peer *);

    /* memory, blocks, targets */
    int (*enrol)(tc_transport *, tc_memory *);
    void (*withdraw)(tc_transport *, tc_memory *); /* also of memory that it did not enrol */
    void (*describe)(tc_transport *, const tc_block *, wire_block *); /* adds what holders need to reach the block */
    int (*map)(tc_transport *, tc_target *);
    void (*unmap)(tc_transport *, tc_target *);

    /* transfers */
    int (*post)(tc_transport *, const tc_op *); /* TC_OK: done · TC_AGAIN: op_done() follows · TC_FULL · error */
    int (*progress)(tc_transport *);            /* > 0: something came or went · TC_OK · error */
    bool (*idle)(tc_transport *);
    int (*tell)(tc_transport *, uint32_t peer, char *message, size_t bytes); /* of message.c; frees it unless TC_FULL */

    int (*capabilities)(tc_transport *, tc_capability *list, uint32_t capacity, uint32_t *count);
    void (*close)(tc_transport *);
};

struct peer {
    bool connected, mapped, here, cma; /* here: in this very process */
    bool known;      /* a process of its number was there when it was connected */
    bool met;        /* its probe connection (live.c) was there once */
    _Atomic bool lost;
    tc_transport *transport, *inner;
    wire_address address;
    seg_view view;
    int pidfd, live;
    double dial_after;
    uint32_t *freed;  /* by block: the latest generation that its owner said it has freed */
    uint32_t *opened; /* by block: the latest generation that was opened here */
    uint32_t opened_room;
    uint64_t sent, observed; /* checked: messages sent to it; the latest of its messages that was seen to arrive */
    void *network;
};

/* A context's transports: the simulated one in front of all others, then in the order of preference. */
enum { AT_SIM, AT_SHM, AT_OFI, AT_MSG, TRANSPORTS };

struct tc_context {
    tc_options options;
    seg_view view;
    int descriptor, listener;
    uint64_t nonce, node;
    peer *peers;
    _Atomic uint32_t lost;
    uint32_t local; /* connected ranks of this node */
    uint64_t cores[CORE_WORDS]; /* those that they may run on, together */
    bool crowded;   /* more of them than cores */
    tc_memory *memories, *free_memories;
    tc_signal **signals, *free_signals;
    tc_block **blocks, *free_first, *free_last;
    tc_target *targets, *free_targets;
    tc_plan *plans;
    uint32_t signal_count, block_count, queue_used;
    _Atomic double next_check; /* when somebody who polls looks at the peers again */
    bool queue_taken[256];
    tc_transport *transports[TRANSPORTS]; /* NULL where one is absent */
    bool driven; /* some transport needs progress calls */
    double looked; /* when progress last found something */
    pthread_mutex_t lock;
    pthread_t thread;
    _Atomic int stop;
    bool threaded;
    tc_stats stats;
    char note[256]; /* why a transport is absent */
    tc_memory *old_landings, *last_landing; /* of freed blocks, oldest first */
    uint64_t old_bytes, old_count;
};

/* A network's notification has 16 bits for a block and its generation: these many for the former. */
static inline uint32_t index_bits(const tc_context *context) {
    return 32u - (uint32_t)__builtin_clz((context->options.blocks - 1) | 1);
}

/* segment.c */
size_t seg_bytes(const tc_options *options);
void seg_layout(seg_view *view, void *base);
int seg_create(tc_context *context);
int seg_attach(peer *p);
void seg_detach(peer *p);
uint64_t node_identity(void);
int map_descriptor(int32_t pid, int32_t descriptor, uint64_t bytes, void **base);
bool queue_full(const seg_view *view, uint32_t queue);
int queue_reserve(const seg_view *view, uint32_t queue, uint64_t *ticket);
void queue_publish(const seg_view *view, uint32_t queue, uint64_t ticket, const tc_event *event);
int queue_take(const seg_view *view, uint32_t queue, tc_event *event);

/* memory.c */
int landing_allocate(tc_context *context, uint64_t bytes, tc_memory **landing);
void landing_retire(tc_memory *landing);

/* arrive.c */
int arrive_piece(seg_block *block, uint64_t epoch, uint32_t piece, uint32_t pieces);
void arrive_message(seg_signal *signal, seg_block *block, uint64_t epoch);
typedef struct arrival {
    uint32_t block, generation, generation_mask;
    uint32_t piece, pieces;
    uint64_t epoch, value;
    bool landed; /* a strided block lies packed in its landing, to be spread out */
} arrival;
int arrive(tc_context *context, const arrival *a);
void block_release(tc_block *block);
void signal_forget(const tc_block *block);
tc_block *block_of(tc_context *context, uint32_t index, uint32_t generation, uint32_t mask);
uint64_t full_epoch(const seg_signal *signal, uint32_t low_bits);

/* layout.c */
uint64_t layout_bytes(const tc_layout *layout);
bool layout_fits(const tc_layout *layout, uint64_t room);
bool layout_contiguous(const tc_layout *layout);
tc_layout layout_simple(uint64_t offset, uint64_t bytes);
typedef int (*run_function)(void *user, uint64_t left, uint64_t right, uint64_t bytes);
uint64_t layout_locate(const tc_layout *layout, uint64_t at, uint64_t *rest);
int layout_pairs(const tc_layout *left, const tc_layout *right, uint64_t from, uint64_t bytes, run_function run,
                 void *user);
void layout_copy(char *to, const tc_layout *to_layout, const char *from, const tc_layout *from_layout, uint64_t start,
                 uint64_t bytes);

/* check.c: checked mode. A word holds a message's number, from 1, and the low 16 bits of an epoch: those that are compared
 * are never far apart. */
#define NUMBER_BITS 48
static inline uint64_t numbered(uint64_t epoch, uint64_t number) {
    return epoch << NUMBER_BITS | (number & ((1ull << NUMBER_BITS) - 1));
}
static inline uint64_t number_of(uint64_t word) {
    return word & ((1ull << NUMBER_BITS) - 1);
}
static inline int epochs_past(uint64_t word, uint64_t epoch) {
    return (int16_t)(uint16_t)((word >> NUMBER_BITS) - epoch);
}
void note_told(_Atomic uint64_t *published, _Atomic uint64_t *told, uint64_t consumed, uint64_t number);
int check_proof(tc_context *context, const tc_target *target);
void publish_consumed(tc_context *context, uint32_t peer_rank, uint64_t number);

/* context.c, plan.c, live.c */
double now(void);
void enter(tc_context *context);
void leave(tc_context *context);
int progress(tc_context *context);
bool may_cross(const wire_address *a);
int lose(tc_context *context, uint32_t peer_rank);
void op_done(tc_plan *plan, int status);
int live_open(tc_context *context);
int live_address(tc_context *context, wire_address *address);
void live_dial(tc_context *context, uint32_t rank);
bool live_check(tc_context *context, uint32_t peer_rank);
void live_close(tc_context *context);
uint64_t checksum(const void *data, size_t bytes);
int plan_advance(tc_plan *plan);
void plan_count(const tc_plan *plan, tc_stats *stats);

/* A wait: spins, then yields, looks at the clock and at the peers now and then. */
typedef struct patience {
    double limit, next_check, yield_from;
    uint32_t spins;
} patience;
bool check_due(tc_context *context); /* for those who poll: is it time to look at the peers? */
void patience_start(patience *p, double seconds);
int patience_step(tc_context *context, patience *p, bool *check_peers);

/* --- messages (message.c): how the emulated transport speaks, and proofs over a network ----------------------- */
#define MESSAGE_BYTES 16384u /* of the longest that goes between peers besides data */
enum message_kind { MESSAGE_PUT = 1, MESSAGE_GET, MESSAGE_REPLY, MESSAGE_DONE, MESSAGE_PROOF, MESSAGE_FREED, MESSAGE_BYE };
typedef struct message {
    uint32_t magic, kind, origin, block, generation, piece, pieces, wanted; /* wanted: answer with MESSAGE_DONE */
    uint64_t epoch, value, number;
    uint64_t offset, from, bytes; /* into the block; of the message; of this piece */
    uint64_t ticket;
} message;
typedef struct told { /* what follows a proof */
    uint32_t block, generation;
    uint64_t consumed;
} told;
int message_handle(tc_context *context, const void *data, size_t bytes);
int message_prove(tc_context *context, const tc_target *target, uint64_t number, uint64_t epoch);
int message_freed(const tc_block *block);
bool was_freed(const peer *p, const wire_block *wire);

/* transports */
int shm_open_transport(tc_context *context, tc_transport **transport);
int msg_open_transport(tc_context *context, tc_send_function send, tc_poll_function poll, void *user,
                       tc_transport **transport);
int sim_open_transport(tc_context *context, const tc_faults *faults, tc_transport **transport);
int ofi_open_transport(tc_context *context, tc_transport **transport);
#endif
