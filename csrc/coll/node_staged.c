/* Large calls through stages: ordinary arrays, which only their own rank reaches.
 *
 * A vector goes piece by piece. A rank offers a piece on its stage, then all take what they want of the stages, and of
 * an allreduce offer what they made of it, which the others collect. All ranks take step s together: they collect piece
 * s - 2, take piece s - 1 and offer piece s, which lie in different places; a barrier ends the step. No rank writes what
 * another reads in the same step. In place, nothing is overwritten before it was offered.
 */
#include <string.h>

#include "node_large.h"

/* All ranks take the same of a rank's input. */
static bool is_common(const tc_node_large *l) {
    return l->collective == TC_ALLGATHER || l->collective == TC_BCAST;
}

static uint64_t parts(const tc_node_large *l) {
    return is_common(l) ? 1 : l->node->size;
}

static uint64_t part_bytes(const tc_node_large *l, uint32_t rank) {
    return is_common(l) ? l->bytes : l->starts[rank + 1] - l->starts[rank];
}

int staged_lay_out(tc_node_large *l) {
    bool twice = l->collective == TC_ALLREDUCE;
    uint64_t longest = 0;
    for (uint32_t r = 0; r < l->node->size; r++)
        if (part_bytes(l, r) > longest) longest = part_bytes(l, r);
    l->piece = STAGE / 2 / (parts(l) + twice) / l->item * l->item;
    if (l->piece == 0) return TC_ERR_ARGUMENT;
    l->pieces = (longest + l->piece - 1) / l->piece;
    return TC_OK;
}

/* Bytes of a piece of a rank's part. */
static uint64_t piece_bytes(const tc_node_large *l, uint32_t rank, uint64_t k) {
    uint64_t all = part_bytes(l, rank), before = k * l->piece;
    return before >= all ? 0 : all - before < l->piece ? all - before : l->piece;
}

/* Where a stage holds a piece of the input for a rank. */
static uint64_t offered_at(const tc_node_large *l, uint32_t rank, uint64_t k) {
    return (k % 2 * parts(l) + (is_common(l) ? 0 : rank)) * l->piece;
}

static uint64_t result_at(const tc_node_large *l, uint64_t k) {
    return (2 * parts(l) + k % 2) * l->piece;
}

static void offer(tc_node_large *l, uint64_t k) {
    uint32_t me = l->node->rank;
    const char *input = l->from[me] + k * l->piece;
    if (l->collective == TC_BCAST && me != l->root) return;
    if (is_common(l)) {
        memcpy(l->stage + offered_at(l, 0, k), input, piece_bytes(l, me, k));
        return;
    }
    for (uint32_t r = 0; r < l->node->size; r++)
        if (r != me) memcpy(l->stage + offered_at(l, r, k), input + l->starts[r], piece_bytes(l, r, k));
}

/* Point to a piece of every input, as far as this rank takes it. */
static void find_inputs(tc_node_large *l, uint64_t k) {
    uint32_t me = l->node->rank;
    for (uint32_t r = 0; r < l->node->size; r++) l->inputs[r] = l->from[r] + offered_at(l, me, k);
    l->inputs[me] = l->from[me] + (is_common(l) ? 0 : l->starts[me]) + k * l->piece;
}

static void take_blocks(tc_node_large *l, uint64_t k) {
    uint32_t me = l->node->rank;
    bool from_root = l->collective == TC_BCAST;
    span of = from_root ? (span){l->root, l->root + (me != l->root)} : (span){0, l->node->size};
    for (uint32_t r = of.first; r < of.end; r++) {
        char *to = l->to[me] + (from_root ? 0 : l->starts[r]) + k * l->piece;
        if (to != l->inputs[r]) large_copy(l, to, l->inputs[r], piece_bytes(l, me, k));
    }
}

static int take_sums(tc_node_large *l, uint64_t k) {
    uint32_t me = l->node->rank;
    bool shows = l->collective == TC_ALLREDUCE;
    char *to = l->to[me] + (shows ? l->starts[me] : 0) + k * l->piece;
    uint64_t most = BLOCK / l->item * l->item, all = piece_bytes(l, me, k);
    for (uint64_t done = 0; done < all; done += most) {
        uint64_t bytes = all - done < most ? all - done : most;
        const char *block;
        int status = large_combine(l, (span){0, l->node->size}, done, bytes, &block);
        if (status != TC_OK) return status;
        if (to + done != block) large_copy(l, to + done, block, bytes);
        if (shows) memcpy(l->stage + result_at(l, k) + done, block, bytes);
    }
    return TC_OK;
}

static void collect(tc_node_large *l, uint64_t k) {
    uint32_t me = l->node->rank;
    for (uint32_t i = 1; i < l->node->size; i++) { /* not all from the same rank at a time */
        uint32_t r = (me + i) % l->node->size;
        large_copy(l, l->to[me] + l->starts[r] + k * l->piece, l->from[r] + result_at(l, k), piece_bytes(l, r, k));
    }
}

uint64_t staged_steps(const tc_node_large *l) {
    return l->pieces + (l->collective == TC_ALLREDUCE ? 2 : 1);
}

int staged_step(tc_node_large *l) {
    uint64_t s = l->step;
    int status = TC_OK;
    if (s < l->pieces) offer(l, s);
    if (s >= 1 && s <= l->pieces) {
        find_inputs(l, s - 1);
        if (l->reduces) status = take_sums(l, s - 1);
        else take_blocks(l, s - 1);
    }
    if (status == TC_OK && s >= 2 && l->collective == TC_ALLREDUCE) collect(l, s - 2);
    large_copied(l);
    return status;
}
