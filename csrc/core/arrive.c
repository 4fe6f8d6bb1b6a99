/* Counting arrivals.
 *
 * A message of a block comes in 1..8 pieces, in any order, over any rail. Each piece is noted in the block's word
 * for that epoch, a mask set by compare-and-swap; whoever completes the mask adds one to the signal's lane for the
 * epoch. So no order of pieces can complete a signal too soon, a piece that comes twice is seen, and those that are
 * missing have names. A sum of packed counts (as in UNR) needs one addition less, but cannot tell any of this.
 */
#include "internal.h"

/* TC_OK: the message is whole now · TC_AGAIN: pieces are missing · TC_ERR_SURPLUS: seen before, or too late */
int arrive_piece(seg_block *block, uint64_t epoch, uint32_t piece, uint32_t pieces) {
    _Atomic uint64_t *word = &block->piece[epoch % LANES];
    uint64_t mine = (epoch + 1) << 16 | (uint64_t)pieces << 8, bit = 1ull << piece;
    uint64_t old = atomic_load_explicit(word, memory_order_relaxed), new;
    do {
        if (old >> 16 > epoch + 1) return TC_ERR_SURPLUS;
        if (old >> 16 == epoch + 1) {
            if ((old & bit) || (old >> 8 & 0xff) != pieces) return TC_ERR_SURPLUS;
            new = old | bit;
        } else {
            new = mine | bit;
        }
    } while (!atomic_compare_exchange_weak_explicit(word, &old, new, memory_order_acq_rel, memory_order_relaxed));
    return (new & 0xff) == (1ull << pieces) - 1 ? TC_OK : TC_AGAIN;
}

void arrive_message(seg_signal *signal, seg_block *block, uint64_t epoch) {
    atomic_fetch_add_explicit(&signal->lane[epoch % LANES], 1, memory_order_release);
    atomic_fetch_add_explicit(&block->arrived, 1, memory_order_relaxed); /* after: only diagnosis waits for it */
}

/* The epoch a sender means when it can name its two low bits only: at most two ahead, else the finished one. */
uint64_t full_epoch(const seg_signal *signal, uint32_t low_bits) {
    uint64_t current = atomic_load_explicit(&signal->epoch, memory_order_relaxed);
    uint64_t ahead = (low_bits - current) % LANES;
    return ahead > AHEAD && current > 0 ? current - 1 : current + ahead;
}

static int note_event(tc_context *context, const tc_block *block, uint64_t epoch, uint64_t value) {
    uint32_t queue = atomic_load_explicit(&block->signal->shared->queue, memory_order_relaxed);
    tc_event event = {block->source, block->tag, epoch, value, block->bytes};
    uint64_t ticket;
    if (!queue) return TC_OK;
    if (queue_reserve(&context->view, queue - 1, &ticket) != TC_OK) return TC_FULL;
    queue_publish(&context->view, queue - 1, ticket, &event);
    return TC_OK;
}

tc_block *block_of(tc_context *context, uint32_t index, uint32_t generation, uint32_t mask) {
    tc_block *block = index < context->block_count ? context->blocks[index] : NULL;
    return block && block->live && (block->generation & mask) == (generation & mask) ? block : NULL;
}

/* A piece was delivered by a transport that this side drives: the last one spreads the message out, if it landed
 * elsewhere, and counts it. */
int arrive(tc_context *context, const arrival *a) {
    tc_block *block = block_of(context, a->block, a->generation, a->generation_mask);
    int status = TC_OK;
    if (!block || a->piece >= a->pieces || a->pieces > TC_MAX_PIECES) {
        context->stats.strays++;
        return TC_ERR_STALE;
    }
    if (!block->shared->stream) status = arrive_piece(block->shared, a->epoch, a->piece, a->pieces);
    if (status == TC_ERR_SURPLUS)
        atomic_fetch_add_explicit(&block->signal->shared->surplus, 1, memory_order_relaxed);
    if (status != TC_OK) return status;
    if (block->landing && a->landed) {
        tc_layout plain = layout_simple(0, block->bytes);
        layout_copy(block->memory->base, &block->layout, block->landing->base, &plain, 0, block->bytes);
    }
    if (note_event(context, block, a->epoch, a->value) != TC_OK) atomic_fetch_add(&block->signal->lost, 1);
    arrive_message(block->signal->shared, block->shared, block->shared->stream ? 0 : a->epoch);
    return TC_OK;
}
