/* Calls of a node: every rank writes its line, reads the others' and takes what it needs, in the order of ranks.
 *
 * Call number e uses line e % LINES, or slot e % SLOTS, of every rank that gives data. They are free when all ranks have
 * ended the call that used them before. Who has seen the lines of all ranks for call e knows that all have ended the
 * calls before; else the ranks' counts of ended calls say so, which a broadcast's root reads once in LINES calls.
 */
#include <stdlib.h>
#include <string.h>

#include "shared_node.h"

typedef int (*reduce_function)(const void *, void *, int, intptr_t, intptr_t);

/* --- what is called, in one word ---------------------------------------------------------------------------- */
/* From the highest bit: collective 4, operation 5, element 5, root 16, bytes 34. */
static uint64_t digest_of(const tc_node_arguments *a, uint64_t bytes, uint32_t root) {
    uint32_t operation = a->collective == TC_BARRIER || !a->item ? 31 : a->choice.operation & 31;
    uint32_t element = a->item ? a->choice.element & 31 : 31;
    return (uint64_t)a->collective << 60 | (uint64_t)operation << 55 | (uint64_t)element << 50 |
           (uint64_t)(root & 0xffff) << 34 | (bytes & ((1ull << 34) - 1));
}

static tc_node_called called_of(uint64_t digest) {
    return (tc_node_called){.collective = (uint32_t)(digest >> 60), .operation = digest >> 55 & 31,
                            .element = digest >> 50 & 31, .root = digest >> 34 & 0xffff,
                            .bytes = digest & ((1ull << 34) - 1)};
}

static int mismatch(tc_node *node, uint32_t peer, const uint64_t *theirs) {
    tc_node_fault fault = {.rank = node->rank, .peer = peer, .number = node->calls - 1,
                           .mine = called_of(node->call->digest)};
    fault.theirs = theirs ? called_of(*theirs) : (tc_node_called){.collective = TC_COLLECTIVES};
    return node_break(node, TC_ERR_MISMATCH, &fault);
}

/* --- arguments ----------------------------------------------------------------------------------------------- */
static bool is_framed(uint32_t collective) {
    return collective == TC_FRAMES || collective == TC_ROOT_FRAME;
}

static bool has_root(uint32_t collective) {
    return collective == TC_BCAST || collective == TC_ROOT_FRAME || collective == TC_REDUCE || collective == TC_GATHER || collective == TC_SCATTER;
}

static bool reduces(uint32_t collective) {
    return collective == TC_ALLREDUCE || collective == TC_REDUCE || collective == TC_REDUCE_SCATTER ||
           collective == TC_REDUCE_SCATTER_BLOCK;
}

/* Say which bytes a rank gives, whose lines it reads, and what it takes of them. */
static void lay_out(tc_node_call *call, const tc_node_arguments *a, uint32_t rank, uint32_t size) {
    uint64_t n = a->bytes;
    bool root = a->root == rank, all = !has_root(a->collective);
    bool of_blocks = a->collective == TC_ALLTOALL || a->collective == TC_SCATTER;
    call->posted = of_blocks || a->collective == TC_REDUCE_SCATTER_BLOCK ? n * size : n;
    call->taken = n;
    if (of_blocks || a->collective == TC_REDUCE_SCATTER_BLOCK) call->offset = n * rank;
    if (a->collective == TC_REDUCE_SCATTER) {
        call->posted = 0;
        for (uint32_t r = 0; r < size; r++) {
            if (r == rank) call->offset = call->posted;
            call->posted += a->counts[r];
        }
        call->taken = a->counts[rank];
    }
    bool gathers = a->collective == TC_ALLGATHER || a->collective == TC_GATHER || a->collective == TC_FRAMES;
    if (gathers || a->collective == TC_ALLTOALL) call->stride = n;
    bool from_root = a->collective == TC_BCAST || a->collective == TC_ROOT_FRAME;
    bool down = from_root || a->collective == TC_SCATTER; /* else, with a root, up */
    call->posts = all || root || !down;
    call->first = down ? a->root : 0;
    call->end = down ? a->root + 1 : size;
    if (from_root ? root : !all && !down && !root) call->end = call->first;
}

/* Counts that differ in their order have other bits where a collective without a root has no root. */
static uint32_t root_or_counts(const tc_node_arguments *a, uint32_t size) {
    if (has_root(a->collective) || is_framed(a->collective)) return a->root;
    uint64_t h = 0;
    for (uint32_t r = 0; a->counts && r < size; r++) h = (h ^ a->counts[r]) * 0x100000001b3ull;
    return (uint32_t)(h ^ h >> 16 ^ h >> 32) & 0xffff;
}

static int choose(tc_node_call *call, const tc_node_arguments *a) {
    call->reduces = true;
    call->item = a->item;
    call->choice = a->choice;
    if (a->item == 0 || call->posted % a->item) return TC_ERR_ARGUMENT;
    if (a->choice.by == TC_BY_MPI) return call->node->mpi.reduce_local ? TC_OK : TC_ERR_UNSUPPORTED;
    if (a->choice.by != TC_BY_KERNEL) return TC_ERR_UNSUPPORTED;
    call->combine = kernel_of(a->choice.operation, a->choice.element, false);
    call->element_bytes = element_bytes(a->choice.element);
    if (call->combine == NULL) return TC_ERR_UNSUPPORTED;
    return call->posted % call->element_bytes || call->taken % call->element_bytes ? TC_ERR_ARGUMENT : TC_OK;
}

void call_named(tc_node_call *call, const tc_node_arguments *a, uint64_t bytes) {
    call->digest = digest_of(a, bytes, root_or_counts(a, call->node->size));
    call->trace = (uint32_t)(call->digest * 0x9e3779b97f4a7c15ull >> 40);
}

int tc_node_call_new(tc_node *node, const tc_node_arguments *a, tc_node_call **call) {
    if (node == NULL || node->head == NULL || a == NULL || call == NULL || a->collective >= TC_COLLECTIVES) return TC_ERR_ARGUMENT;
    if (a->root >= node->size || (a->collective == TC_REDUCE_SCATTER) != (a->counts != NULL)) return TC_ERR_ARGUMENT;
    if (a->bytes > TC_NODE_LARGEST) return TC_ERR_RANGE;
    if (is_framed(a->collective) && (a->bytes < LINE_BYTES || a->bytes % TC_FRAME_HEADER)) return TC_ERR_ARGUMENT;
    tc_node_call *c = calloc(1, sizeof *c);
    if (c == NULL) return TC_ERR_NO_MEMORY;
    c->node = node;
    lay_out(c, a, node->rank, node->size);
    int status = c->posted > TC_NODE_LARGEST ? TC_ERR_RANGE : reduces(a->collective) ? choose(c, a) : TC_OK;
    if (status != TC_OK) {
        free(c);
        return status;
    }
    call_named(c, a, c->posted);
    c->depth = c->posted <= LINE_BYTES ? LINES : SLOTS;
    c->framed = is_framed(a->collective);
    atomic_fetch_add(&node->holders, 1);
    *call = c;
    return TC_OK;
}

int tc_node_call_free(tc_node_call *call) {
    if (call == NULL) return TC_ERR_ARGUMENT;
    tc_node *node = call->node;
    if (node->head && node->call == call) return TC_ERR_BUSY;
    free(call);
    node_release(node);
    return TC_OK;
}

/* --- one call ------------------------------------------------------------------------------------------------ */
static line *line_of(const tc_node *node, uint32_t rank) {
    return &node->stations[rank].lines[(node->calls - 1) % LINES];
}

static char *slot_of(const tc_node *node, uint32_t rank) {
    return node->slots + ((uint64_t)rank * SLOTS + (node->calls - 1) % SLOTS) * TC_NODE_LARGEST;
}

static char *data_of(const tc_node *node, uint32_t rank, const tc_node_call *call) {
    return call->depth == LINES ? line_of(node, rank)->data : slot_of(node, rank);
}

/* Most vectors that latency matters for are one element. */
static inline void copy(void *to, const void *from, uint64_t bytes) {
    if (bytes == 8) memcpy(to, from, 8);
    else if (bytes) memcpy(to, from, bytes);
}

/* Calls, from the first on, that all ranks must have ended before this rank may write. */
static uint64_t needed(const tc_node *node) {
    const tc_node_call *call = node->call;
    bool in_line = call->framed && frame_bytes(node->send, call->posted) <= LINE_BYTES;
    uint32_t depth = in_line ? LINES : call->depth;
    return node->calls > depth ? node->calls - depth : 0;
}

static bool is_behind(const tc_node *node, uint32_t rank) {
    return atomic_load_explicit(&node->stations[rank].done, memory_order_acquire) < needed(node);
}

/* What a line for this call begins with: its number, and which calls were made before. */
static inline uint64_t stamp(const tc_node *node) {
    return node->history << (64 - HISTORY_BITS) | node->calls;
}

/* Wait until all ranks have ended the call whose line is written next. */
static int make_room(tc_node *node, double seconds) {
    uint64_t least = UINT64_MAX;
    for (uint32_t rank = 0; rank < node->size; rank++) {
        while (is_behind(node, rank)) {
            int status = wait_pause(node, is_behind, seconds);
            if (status != TC_OK) return status;
        }
        uint64_t done = atomic_load_explicit(&node->stations[rank].done, memory_order_acquire);
        if (rank != node->rank && done < least) least = done;
    }
    if (least != UINT64_MAX) node->settled = least;
    return TC_OK;
}

static int post(tc_node *node, const tc_node_call *call, double seconds) {
    if (__builtin_expect(node->settled < needed(node), 0)) {
        int status = make_room(node, seconds);
        if (status != TC_OK) return status;
    }
    line *mine = line_of(node, node->rank);
    if (call->framed) frame_post(node->send, call->posted, mine, slot_of(node, node->rank));
    else copy(data_of(node, node->rank, call), node->send, call->posted);
    mine->digest = call->digest;
    atomic_store_explicit(&mine->number, stamp(node), memory_order_release);
    return TC_OK;
}

static bool is_missing(const tc_node *node, uint32_t rank) {
    if (rank < node->next || rank >= node->call->end) return false;
    return atomic_load_explicit(&line_of(node, rank)->number, memory_order_acquire) != stamp(node);
}

/* The rank has made as many calls, but others. */
static bool made_others(const tc_node *node, uint32_t rank) {
    uint64_t number = atomic_load_explicit(&line_of(node, rank)->number, memory_order_acquire);
    return number << HISTORY_BITS == node->calls << HISTORY_BITS && number != stamp(node);
}

/* The rank has ended this very call, but gave nothing to it. */
static bool went_past(const tc_node *node, uint32_t rank) {
    return atomic_load_explicit(&node->stations[rank].done, memory_order_acquire) >= node->calls &&
           is_missing(node, rank);
}

static int await(tc_node *node, const tc_node_call *call, uint32_t rank, double seconds) {
    bool waited = false;
    while (is_missing(node, rank)) {
        int status = wait_pause(node, is_missing, seconds);
        if (status != TC_OK) return status;
        if (node->since != 0 && (went_past(node, rank) || made_others(node, rank))) return mismatch(node, rank, NULL);
        waited = true;
    }
    if (waited) wait_again(node);
    uint64_t theirs = line_of(node, rank)->digest;
    return __builtin_expect(theirs == call->digest, 1) ? TC_OK : mismatch(node, rank, &theirs);
}

static int combine_by_mpi(tc_node *node, const tc_node_call *call, const char *from) {
    memcpy(node->scratch, from, call->taken);
    int code = ((reduce_function)node->mpi.reduce_local)(node->recv, node->scratch, (int)(call->taken / call->item),
                                                         call->choice.type, call->choice.op);
    if (code != 0) {
        tc_node_fault fault = {.rank = node->rank, .peer = node->rank, .number = node->calls - 1, .code = code};
        return node_break(node, TC_ERR_MPI, &fault);
    }
    memcpy(node->recv, node->scratch, call->taken);
    return TC_OK;
}

static int take(tc_node *node, const tc_node_call *call, uint32_t rank) {
    if (call->framed) {
        frame_take(line_of(node, rank), slot_of(node, rank), call->taken, node->recv + call->stride * rank);
        return TC_OK;
    }
    const char *from = data_of(node, rank, call) + call->offset;
    if (call->taken == 0) return TC_OK;
    if (!call->reduces || rank == 0) {
        copy(node->recv + call->stride * rank, from, call->taken);
        return TC_OK;
    }
    if (call->combine == NULL) return combine_by_mpi(node, call, from);
    call->combine(from, node->recv, call->taken / call->element_bytes);
    return TC_OK;
}

static void end(tc_node *node, const tc_node_call *call) {
    station *mine = &node->stations[node->rank];
    if (call->end - call->first == node->size) node->settled = node->calls - 1;
    atomic_store_explicit(&mine->done, node->calls, memory_order_release);
    node->history = (node->history * 31 + call->trace) & ((1u << HISTORY_BITS) - 1);
    node->call = NULL;
}

static int go_on(tc_node *node, double seconds) {
    const tc_node_call *call = node->call;
    int status = TC_OK;
    if (!node->posted && call->posts) status = post(node, call, seconds);
    if (status == TC_OK) node->posted = true;
    while (status == TC_OK && node->next < call->end) {
        status = await(node, call, node->next, seconds);
        if (status == TC_OK) status = take(node, call, node->next);
        if (status == TC_OK) node->next++;
    }
    if (status == TC_OK) end(node, call);
    else if (status < 0) node->call = NULL;
    return status;
}

int node_start(tc_node_call *call, const void *send, void *recv, double seconds) {
    tc_node *node = call->node;
    if (node->head == NULL) return TC_ERR_FREED;
    if (node->call) return TC_ERR_BUSY;
    int status = node_sound(node);
    if (status != TC_OK) return status;
    node->call = call;
    node->calls++;
    node->send = send;
    node->recv = recv;
    node->posted = false;
    node->next = call->first;
    node->polls = 0;
    node->since = node->limit = 0;
    return go_on(node, seconds);
}

int tc_node_run(tc_node_call *call, const void *send, void *recv, double seconds) {
    if (call == NULL) return TC_ERR_ARGUMENT;
    if (atomic_load_explicit(&call->node->requests, memory_order_acquire)) return TC_ERR_BUSY;
    return node_start(call, send, recv, seconds);
}

int tc_node_wait(tc_node *node, double seconds) {
    if (node == NULL || node->head == NULL || node->call == NULL) return TC_ERR_ARGUMENT;
    node->limit = 0;
    return go_on(node, seconds);
}

int tc_node_leave(tc_node *node) {
    if (node == NULL || node->head == NULL) return TC_ERR_ARGUMENT;
    tc_node_fault fault = {.rank = node->rank, .peer = node->rank, .number = node->calls - 1};
    if (node->call) fault.mine = called_of(node->call->digest);
    node->call = NULL;
    node_break(node, TC_ERR_LEFT, &fault);
    return TC_OK;
}
