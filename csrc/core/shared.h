/* Memory that the other processes of a node see and write: one segment per context, with the words in which arrivals are
 * counted. */
#ifndef TOPOCOMM_SHARED_H
#define TOPOCOMM_SHARED_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "topocomm.h"

#define BLOCKS_AT_MOST 8192u /* a block's index has 13 of a notification's 32 bits */
#define LANES 4u             /* epochs that a signal tells apart: the finished one, the current one, two early ones */
#define AHEAD 2u             /* epochs that a sender may be ahead of its receiver */

/* One cache line, written by all senders. */
typedef struct seg_signal {
    _Atomic uint64_t lane[LANES]; /* messages arrived for epoch e, in lane e % LANES */
    _Atomic uint64_t epoch;       /* the current one */
    _Atomic uint32_t generation;  /* times the slot was taken */
    _Atomic uint32_t queue;       /* identified: index of its queue + 1 */
    _Atomic uint64_t expected;    /* messages per epoch */
    _Atomic uint64_t surplus;     /* messages refused as one too many */
} seg_signal;

/* Two cache lines. Written by the block's one sender: */
typedef struct seg_block {
    _Atomic uint32_t generation; /* odd while the block is issued */
    uint32_t source, signal, tag, stream, memory_kind;
    _Atomic uint64_t arrived;       /* whole messages, to name the missing ones */
    _Atomic uint64_t piece[LANES];  /* (epoch + 1) << 16 | pieces << 8 | mask of the pieces that arrived */
    _Atomic uint64_t number[LANES]; /* checked mode: epoch and number of the sender's message, see numbered() */
    /* Written by its owner, in checked mode: */
    _Atomic uint64_t published;           /* epochs consumed, as the block's source was last informed */
    _Atomic uint64_t published_by[LANES]; /* epochs consumed, and number of the message that informed it */
} seg_block;

typedef struct seg_event {
    _Atomic uint64_t turn; /* ticket + 1 once `event` is written */
    tc_event event;
} seg_event;

/* A bounded queue of notifications, its events behind it: many writers, one reader. */
typedef struct seg_queue {
    _Atomic uint64_t tail, head; /* tickets: the next to be written, the next to be read */
    uint64_t pad[6];
} seg_queue;

typedef struct segment {
    uint64_t magic, nonce;
    uint32_t signals, blocks, queues, depth;
    _Atomic uint32_t closed; /* its owner closed its context */
    uint64_t pad[3];
} segment;

/* A segment as mapped into this process. */
typedef struct seg_view {
    segment *head;
    seg_signal *signals;
    seg_block *blocks;
    char *queues;
    size_t bytes;
} seg_view;

/* In checked mode a word holds a message's number, from 1, and the low 16 bits of an epoch: epochs that are compared are
 * never further apart. */
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
#endif
