/* topocomm: notified puts and gets between processes. The core's public header, read by the compiler and by cffi.
 *
 * A receiver registers memory, makes a signal, and issues *blocks*: the right of one peer to move one message
 * per epoch into (or out of) one piece of that memory, counted by that signal. A block travels as plain bytes
 * by any means; its holder opens it as a *target* and builds *plans* of transfers, started as often as wanted.
 *
 * Every function returns a status: 0 done, > 0 not yet (nothing was refused), < 0 error. Outputs come last and
 * are set only on success. Nothing prints, exits, keeps global state, or knows MPI. Sizes and offsets are bytes,
 * times are seconds; every wait has a limit. A context is used by one thread at a time, except where a function says
 * otherwise.
 */
#ifndef TOPOCOMM_H
#define TOPOCOMM_H
#include <stddef.h>
#include <stdint.h>

#define TC_MAX_RAILS 8        /* NICs of one context */
#define TC_MAX_PIECES 8       /* pieces of one message */
#define TC_BLOCK_BYTES 320    /* room for an exported block */
#define TC_ADDRESS_BYTES 1024 /* room for a context's address */

enum tc_status {
    TC_OK = 0,
    TC_AGAIN = 1,             /* not complete yet */
    TC_FULL = 2,              /* a bounded queue has no room; nothing moved, try later */
    TC_ERR_ARGUMENT = -1,     /* an argument has no meaning */
    TC_ERR_NO_MEMORY = -2,    /* the operating system gave no memory or descriptor */
    TC_ERR_LIMIT = -3,        /* a table of the context is full; open it with a larger one */
    TC_ERR_RANGE = -4,        /* a layout reaches outside its memory, or lengths differ */
    TC_ERR_STALE = -5,        /* the block was freed by its owner, or its memory re-registered */
    TC_ERR_FREED = -6,        /* this handle was freed here */
    TC_ERR_BUSY = -7,         /* still in use: a running plan, memory with blocks, a signal with blocks */
    TC_ERR_BLOCK = -8,        /* these bytes are not a block, or not of a connected peer */
    TC_ERR_NOT_YOURS = -9,    /* the block was issued to another rank */
    TC_ERR_UNREACHABLE = -10, /* no transport leads to the peer */
    TC_ERR_PEER_LOST = -11,   /* the peer died or closed its context */
    TC_ERR_TIMEOUT = -12,     /* the limit of a wait has passed */
    TC_ERR_SURPLUS = -13,     /* more notifications than this epoch expects */
    TC_ERR_NOT_PROVEN = -14,  /* checked mode: nothing received proves the target free */
    TC_ERR_VALUE = -15,       /* the value has more bits than the transport can notify */
    TC_ERR_UNSUPPORTED = -16, /* not in this build, or not possible with this transport or kind of signal */
    TC_ERR_TRANSPORT = -17,   /* the network library refused or failed */
    TC_ERR_OVERFLOW = -18,    /* a queue of identified notifications is full; over a network, some were lost */
    TC_ERR_DENIED = -19,      /* the kernel forbids cross-memory attach */
    TC_ERR_OPENED = -20       /* this block is open already, or was put to: one target counts its epochs */
};

/* Shared memory, libfabric, messages that the caller carries, a simulated network in front of one of them. */
enum tc_transport_kind { TC_SHM = 1, TC_OFI = 2, TC_MSG = 4, TC_SIM = 8 };
/* Counted: one message per block and epoch. Identified: each arrival can also be read as an event. Stream: arrivals are
 * taken in any number, without epochs. */
enum tc_signal_kind { TC_COUNTED = 0, TC_IDENTIFIED = 1, TC_STREAM = 2 };
enum tc_memory_kind { TC_SHARED = 0, TC_PRIVATE = 1 };
/* When a plan is complete: its local memory may be used again, or the data has arrived. */
enum tc_plan_flag { TC_LOCAL = 0, TC_REMOTE = 1 };

typedef struct tc_context tc_context; /* one rank's end: tables, peers, transports */
typedef struct tc_memory tc_memory;   /* registered memory */
typedef struct tc_signal tc_signal;   /* counter of arrivals */
typedef struct tc_block tc_block;     /* right to move messages, issued by the receiver */
typedef struct tc_target tc_target;   /* block of a peer, opened by its holder */
typedef struct tc_plan tc_plan;       /* transfers, built once, started often */

typedef struct tc_options {
    uint32_t rank, size;
    uint32_t signals, blocks;     /* table sizes; at most 8192 blocks */
    uint32_t queues, queue_depth; /* identified signals, at most 256; events that each holds, a power of two */
    uint32_t outstanding;         /* operations under way before back-pressure; at most 2^20 */
    uint32_t transports;          /* allowed ones: a sum of tc_transport_kind */
    uint32_t checked;             /* 1: every put must be proven safe */
    uint32_t progress_thread;     /* 1: a thread of the context drives its transports */
    char provider[64];            /* libfabric provider, or "" for any */
    char nics[256];               /* comma-separated domain or interface names, or "" for one of libfabric's choice */
    double weights[8];            /* relative speeds of the NICs, for striping; 0 means 1 */
    uint32_t stripe_from;         /* bytes from which a message is striped over the NICs */
} tc_options;

/* A regular set of bytes: count[0] x count[1] x count[2] runs of `run` contiguous ones, strides apart, from offset on. */
typedef struct tc_layout {
    uint64_t offset, run;
    uint64_t count[3];
    uint64_t stride[3];
} tc_layout;

/* One arrival at an identified signal. */
typedef struct tc_event {
    uint32_t source, tag;
    uint64_t epoch, value, bytes;
} tc_event;

/* A block whose message to the current epoch has not arrived in whole. */
typedef struct tc_missing {
    uint32_t source, tag, block;
    uint32_t pieces;  /* of the message; 0 while none arrived */
    uint32_t arrived; /* bit mask of the pieces that arrived */
} tc_missing;

/* Faults of the simulated network. */
typedef struct tc_faults {
    uint64_t seed;
    uint32_t reorder;  /* 1: pieces leave in random order */
    uint32_t pieces;   /* at most this many per message, at most TC_MAX_PIECES; 0 or 1: messages stay whole */
    uint32_t delay_us; /* longest delay of a piece, in microseconds */
    double duplicate;  /* probability that a piece arrives twice */
    double drop;       /* probability that a piece never arrives */
} tc_faults;

typedef struct tc_stats {
    uint64_t messages, pieces, bytes; /* handed to transports by this rank */
    uint64_t control;                 /* extra messages: proofs, requests, acknowledgements */
    uint64_t strays;                  /* notifications for blocks that were freed */
    uint64_t surplus;                 /* notifications refused as one too many, at all signals */
    uint64_t full;                    /* times that back-pressure held a transfer back */
} tc_stats;

/* Abilities of one transport, or of one NIC of it. */
typedef struct tc_capability {
    char transport[16], provider[48], nic[64];
    uint32_t present;       /* 0: absent, see note */
    uint32_t notify_bits;   /* bits that a notification carries */
    uint32_t value_bits;    /* of those, bits left for the value of an identified notification */
    uint32_t native;        /* 1: notified by the medium itself; 0: emulated by messages */
    uint32_t auto_progress; /* 1: the target need not call in */
    uint32_t ordered;       /* 1: the medium promises write-after-write order, which nothing here relies on */
    uint64_t max_message;   /* bytes */
    char note[256];
} tc_capability;

/* Send a message to `peer`; the buffer may be reused on return. Returns a status. */
typedef int (*tc_send_function)(void *user, uint32_t peer, const void *data, size_t bytes);
/* Receive the messages that are there and hand each to tc_message_in. Returns a status. */
typedef int (*tc_poll_function)(void *user);

/* Return a status in words, for a message to the user. */
const char *tc_status_text(int status);

/* --- contexts ------------------------------------------------------------------------------------------- */
/* Fill in the defaults: one rank, 1024 signals, 8192 blocks, all transports, nothing checked. */
void tc_options_default(tc_options *options);
int tc_context_open(const tc_options *options, tc_context **context);
/* Let whoever waits, or tests in vain, call a function that moves what else the program has under way: a peer may need
 * that before it puts. `anywhere`: 0: only in the thread that calls this. */
typedef void (*tc_hook_function)(void *user);
int tc_context_hook(tc_context *context, tc_hook_function hook, void *user, uint32_t anywhere);
/* Write this rank's address, to be carried to its peers by any means. Needs TC_ADDRESS_BYTES of room. */
int tc_context_address(tc_context *context, void *address, size_t capacity, size_t *bytes);
/* Connect a peer by its address, over the first allowed transport that leads there. */
int tc_context_connect(tc_context *context, uint32_t peer, const void *address, size_t bytes);
/* Give the functions that carry messages (transport TC_MSG), before peers that need them are connected. */
int tc_context_messages(tc_context *context, tc_send_function send, tc_poll_function poll, void *user);
/* Put a simulated network in front of all transports, before any peer is connected. */
int tc_context_faults(tc_context *context, const tc_faults *faults);
/* Drive all transports once. */
int tc_context_progress(tc_context *context);
/* Drive all transports until no operation of this rank is under way. */
int tc_context_flush(tc_context *context, double seconds);
/* Close a context and free all its handles except its plans, which are freed before. */
int tc_context_close(tc_context *context);
/* Say good-bye before a context is closed alone: over messages nothing else shows the peers that it is. */
int tc_context_bye(tc_context *context);
/* In a forked child: let go of what would keep the parent looking alive. The child may not use the context otherwise. */
int tc_context_forked(tc_context *context);
int tc_context_stats(tc_context *context, tc_stats *stats);
/* Name the peer last found lost; TC_AGAIN: none is. */
int tc_context_lost(tc_context *context, uint32_t *peer);
/* Name the kind of transport that leads to a peer. */
int tc_peer_transport(tc_context *context, uint32_t peer, uint32_t *kind);
/* TC_OK: the peer lives, as far as can be seen · TC_ERR_PEER_LOST. */
int tc_peer_alive(tc_context *context, uint32_t peer);
/* Take in a message that a peer's send function sent. */
int tc_message_in(tc_context *context, const void *data, size_t bytes);
/* List the transports, absent ones included. Needs room for 3 + TC_MAX_RAILS. */
int tc_capabilities(tc_context *context, tc_capability *list, uint32_t capacity, uint32_t *count);

/* --- memory --------------------------------------------------------------------------------------------- */
/* Allocate memory that peers of this node can map. */
int tc_memory_allocate(tc_context *context, uint64_t bytes, tc_memory **memory);
/* Register memory of the caller, which must outlive the handle. */
int tc_memory_register(tc_context *context, void *base, uint64_t bytes, tc_memory **memory);
int tc_memory_base(tc_memory *memory, void **base, uint64_t *bytes);
/* TC_ERR_BUSY while blocks are issued in it. */
int tc_memory_free(tc_memory *memory);
/* Let allocated memory outlive tc_memory_free and tc_context_close: the caller unmaps it. */
int tc_memory_keep(tc_memory *memory);
int tc_memory_unmap(void *base, uint64_t bytes);

/* --- signals -------------------------------------------------------------------------------------------- */
int tc_signal_create(tc_context *context, uint32_t kind, tc_signal **signal);
/* TC_ERR_BUSY while blocks are issued with it. */
int tc_signal_free(tc_signal *signal);
/* TC_OK: this epoch is complete · TC_AGAIN: it is not. Consumes nothing: may be repeated until tc_signal_rearm. */
int tc_signal_test(tc_signal *signal);
/* As tc_signal_test, without driving any transport: what has been found out so far. */
int tc_signal_look(tc_signal *signal);
int tc_signal_wait(tc_signal *signal, double seconds);
/* Wait for the first of several signals of one context; `index` names it. */
int tc_signal_wait_any(tc_signal **signals, uint32_t count, double seconds, uint32_t *index);
/* End the epoch, whose data has been read: the next one begins, and events that came early for it are kept. TC_AGAIN: not
 * complete, nothing changed. TC_ERR_SURPLUS: re-armed, but some block had sent more than its one message. */
int tc_signal_rearm(tc_signal *signal);
/* Stream signals: take `count` arrivals; TC_AGAIN while there are fewer. */
int tc_signal_take(tc_signal *signal, uint64_t count);
int tc_signal_take_wait(tc_signal *signal, uint64_t count, double seconds);
/* Identified signals: take the next arrival, TC_AGAIN while there is none; it may be an early one (see its epoch). For a
 * moment there may be none although the epoch is complete: a sender that is ahead is writing its own in front. */
int tc_signal_event(tc_signal *signal, tc_event *event);
int tc_signal_event_wait(tc_signal *signal, double seconds, tc_event *event);
/* Read the current epoch, the messages expected per epoch, those arrived for it and for later ones, and the surplus. */
int tc_signal_state(tc_signal *signal, uint64_t *epoch, uint64_t *expected, uint64_t *arrived, uint64_t *early,
                    uint64_t *surplus);
/* List the blocks whose message is missing, at most `capacity` of them; `count` is the number of all. */
int tc_signal_missing(tc_signal *signal, tc_missing *list, uint32_t capacity, uint32_t *count);

/* --- blocks and targets --------------------------------------------------------------------------------- */
/* Give rank `source` the right to move one message per epoch, counted by `signal`, into or out of `layout`. */
int tc_block_issue(tc_memory *memory, const tc_layout *layout, tc_signal *signal, uint32_t source, uint32_t tag,
                   tc_block **block);
/* Write a block as bytes, to be carried to its source by any means. Needs TC_BLOCK_BYTES of room. */
int tc_block_export(tc_block *block, void *bytes, size_t capacity, size_t *length);
/* Withdraw the right; puts that still come are refused or counted as strays. */
int tc_block_free(tc_block *block);
int tc_target_open(tc_context *context, const void *bytes, size_t length, tc_target **target);
int tc_target_info(tc_target *target, uint32_t *owner, uint32_t *tag, uint64_t *bytes);
/* TC_ERR_BUSY while a plan uses it. */
int tc_target_close(tc_target *target);

/* --- plans: may be started, tested and waited for from any thread, one at a time per plan ---------------- */
int tc_plan_create(tc_context *context, uint32_t flag, tc_plan **plan);
/* Add a transfer of the whole block from (to) the local bytes that `layout` describes. Its notification carries `value`. */
int tc_plan_put(tc_plan *plan, tc_target *target, const void *source, const tc_layout *layout, uint64_t value);
int tc_plan_get(tc_plan *plan, tc_target *target, void *destination, const tc_layout *layout, uint64_t value);
/* Add a transfer of some bytes of a contiguous block, `offset` from its start. Only stream blocks take several. */
int tc_plan_put_part(tc_plan *plan, tc_target *target, uint64_t offset, const void *source, const tc_layout *layout,
                     uint64_t value);
int tc_plan_get_part(tc_plan *plan, tc_target *target, uint64_t offset, void *destination, const tc_layout *layout,
                     uint64_t value);
/* Add a put into a part of a contiguous block: a head, then `bytes` from `source`, as one message. */
int tc_plan_put_headed(tc_plan *plan, tc_target *target, uint64_t offset, const void *head, uint64_t head_bytes,
                       const void *source, uint64_t bytes, uint64_t value);
/* Take all items out of a plan that is complete, so that it can be used for others. TC_ERR_BUSY: under way. */
int tc_plan_clear(tc_plan *plan);
/* Change the value of an item, counted from 0. */
int tc_plan_value(tc_plan *plan, uint32_t item, uint64_t value);
/* Check every transfer, then start them: on TC_FULL or an error (see tc_plan_culprit) nothing has moved. A plan that is
 * complete may start again without having been waited for. */
int tc_plan_start(tc_plan *plan);
/* Re-arm `signal`, unless it is NULL, and start: one call ends a round's reading and starts the next. TC_OK: complete
 * already · TC_AGAIN: under way · TC_FULL: re-armed, but not started · errors: nothing changed. */
int tc_plan_start_after(tc_plan *plan, tc_signal *signal);
int tc_plan_test(tc_plan *plan);
int tc_plan_wait(tc_plan *plan, double seconds);
/* Name the item that caused the last TC_FULL or error, its peer, and the tag of its block. */
int tc_plan_culprit(tc_plan *plan, uint32_t *item, uint32_t *peer, uint32_t *tag);
/* TC_ERR_BUSY while it is under way. */
int tc_plan_free(tc_plan *plan);
#endif
