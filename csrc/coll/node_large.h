/* Large calls of a node, and their two ways: straight into the others' arrays, or through stages. */
#ifndef TOPOCOMM_NODE_LARGE_H
#define TOPOCOMM_NODE_LARGE_H
#include "array.h"
#include "shared_node.h"
#include "stage.h"

#define BLOCK 16384u /* bytes that a cache holds several times */

typedef struct seat { /* of a rank's buffers and stage */
    uint64_t nonce;
    int32_t pid, descriptor;
    uint64_t send, recv, stage; /* offsets in what the process shows; NOWHERE: not in it, or there is none */
    uint64_t inside;            /* 1: the input lies in the receive buffer */
} seat;
_Static_assert(sizeof(seat) == LINE_BYTES, "a seat fits a line");

typedef struct span { /* ranks */
    uint32_t first, end;
} span;

struct tc_node_large {
    tc_node *node;
    tc_node_call *say, *end;
    enum { IDLE, SAYING, WORKING } phase;
    bool staged, may_stage;
    uint64_t step, steps; /* done; in all */
    uint32_t collective, root;
    uint64_t bytes, send_bytes, recv_bytes;
    uint64_t *starts;        /* of each rank's part of a vector, and the end */
    uint64_t piece, pieces;  /* bytes of a part that a stage holds at a time; pieces of the longest part */
    span senders, receivers; /* whose buffers others must reach */
    bool moves;              /* within one buffer nothing else is safe */
    bool reduces;
    bool past; /* results are written past the caches */
    kernel combine;
    uint32_t item, element_bytes;
    tc_operation_choice choice;
    tc_share_address mine;
    char *block, *stage;
    seat told, *seats;
    const char **from;   /* input of this rank; of the others theirs or their stages */
    const char **inputs; /* what is combined or copied next, of each rank */
    char **to;
};

/* --- node_direct.c ------------------------------------------------------------------------------------------------- */
/* Copy to where a result belongs. When all is copied, large_copied comes before the others are told. */
void large_copy(const tc_node_large *l, char *to, const char *from, uint64_t bytes);
void large_copied(const tc_node_large *l);
/* Return the next bytes, at most BLOCK, of what the inputs of some ranks give, combined in the order of ranks. */
int large_combine(tc_node_large *l, span of, uint64_t done, uint64_t bytes, const char **block);
int direct_work(tc_node_large *l);

/* --- node_staged.c ------------------------------------------------------------------------------------------------- */
/* Cut the work into pieces. TC_ERR_ARGUMENT: an element is too long. */
int staged_lay_out(tc_node_large *l);
uint64_t staged_steps(const tc_node_large *l);
/* Take the step that comes next. */
int staged_step(tc_node_large *l);
#endif
