/* Checked mode: a put for epoch k is safe if something was received that the target's owner sent after it had
 * consumed (re-armed) epoch k - 1 of that block. Every message carries a number; the owner notes in which message it
 * first told how far it has consumed each block; the sender looks for such a message among those it has seen arrive.
 * That the target happens to be free by now is not accepted: the next run may be slower.
 */
#include "internal.h"

#define PROOF_SECONDS 5.0 /* over a network: how long the proof of data may come behind it */

/* The latest message of `peer_rank` that arrived in an epoch seen complete here. */
static uint64_t latest_seen(const tc_context *context, uint32_t peer_rank) {
    uint64_t seen = 0;
    for (uint32_t i = 0; i < context->block_count; i++) {
        const tc_block *block = context->blocks[i];
        if (!block->live || block->source != peer_rank) continue;
        for (uint32_t lane = 0; lane < LANES; lane++) {
            uint64_t word = atomic_load_explicit(&block->shared->number[lane], memory_order_acquire);
            if (number_of(word) > seen && epochs_past(word, block->signal->observed) < 0) seen = number_of(word);
        }
    }
    return seen;
}

static bool is_proven(const tc_target *target, uint64_t seen) {
    uint64_t needed = target->epoch;
    if (needed == target->wire.epoch) return true; /* never used: free since it was issued */
    if (atomic_load_explicit(target->proof.published, memory_order_acquire) < needed) return false;
    for (uint32_t lane = 0; lane < LANES; lane++) {
        uint64_t word = atomic_load_explicit(&target->proof.published_by[lane], memory_order_relaxed);
        if (number_of(word) && epochs_past(word, needed) >= 0 && number_of(word) <= seen) return true;
    }
    return false;
}

/* Over a network the number of a message, and what it proves, is a message of its own. Has data been seen to arrive
 * whose number has not come yet? */
static bool is_on_its_way(const tc_context *context, uint32_t peer_rank) {
    for (uint32_t i = 0; i < context->block_count; i++) {
        const tc_block *block = context->blocks[i];
        if (!block->live || block->source != peer_rank || block->shared->stream) continue;
        uint64_t seen = block->signal->observed;
        uint64_t word = atomic_load(&block->shared->number[(seen - 1) % LANES]);
        if (seen > block->first_epoch && (!number_of(word) || epochs_past(word, seen) < -1)) return true;
    }
    return false;
}

int check_proof(tc_context *context, const tc_target *target) {
    patience p;
    bool check = false;
    if (target->wire.stream) return TC_OK;
    if (is_proven(target, latest_seen(context, target->peer))) return TC_OK;
    if (target->block) return TC_ERR_NOT_PROVEN;
    patience_start(&p, PROOF_SECONDS);
    for (int late = TC_OK; late == TC_OK; late = patience_step(context, &p, &check)) {
        int status = progress(context);
        if (status < 0) return status;
        bool last = !is_on_its_way(context, target->peer);
        if (is_proven(target, latest_seen(context, target->peer))) return TC_OK;
        if (last) return TC_ERR_NOT_PROVEN;
        if (check && tc_peer_alive(context, target->peer) == TC_ERR_PEER_LOST) return lose(context, target->peer);
    }
    return TC_ERR_TIMEOUT;
}

/* Lanes that are passed over are emptied: what they held would be too far behind to be compared. */
void note_published(_Atomic uint64_t *published, _Atomic uint64_t *published_by, uint64_t consumed, uint64_t number) {
    uint64_t last = atomic_load_explicit(published, memory_order_relaxed);
    for (uint64_t e = last + 1; e < consumed && e <= last + LANES; e++)
        atomic_store_explicit(&published_by[e % LANES], 0, memory_order_relaxed);
    atomic_store_explicit(&published_by[consumed % LANES], numbered(consumed, number), memory_order_relaxed);
    atomic_store_explicit(published, consumed, memory_order_release);
}

/* Message `number` to this peer tells how far its blocks have been consumed here. */
void publish_consumed(tc_context *context, uint32_t peer_rank, uint64_t number) {
    for (uint32_t i = 0; i < context->block_count; i++) {
        const tc_block *block = context->blocks[i];
        if (!block->live || block->source != peer_rank) continue;
        uint64_t consumed = atomic_load_explicit(&block->signal->shared->epoch, memory_order_relaxed);
        if (atomic_load_explicit(&block->shared->published, memory_order_relaxed) != consumed)
            note_published(&block->shared->published, block->shared->published_by, consumed, number);
    }
}
