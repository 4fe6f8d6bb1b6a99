/* Messages between peers besides puts and gets: proofs of checked mode, blocks freed, a context closed. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static int tell(tc_context *context, uint32_t peer_rank, char *data, size_t bytes) {
    tc_transport *inner = context->peers[peer_rank].inner;
    int status = inner->tell(inner, peer_rank, data, bytes);
    if (status == TC_FULL) free(data);
    else context->stats.control++;
    return status;
}

#define NOTICES ((MESSAGE_BYTES - sizeof(message)) / sizeof(notice))

/* Collect the epochs consumed that the peer does not know of, from block `*next` on, as far as one message has room. */
static uint32_t collect(const tc_context *context, uint32_t peer_rank, uint32_t *next, notice entry[NOTICES]) {
    uint32_t n = 0;
    for (; *next < context->block_count && n < NOTICES; ++*next) {
        const tc_block *block = context->blocks[*next];
        if (!block->live || block->source != peer_rank) continue;
        uint64_t consumed = atomic_load(&block->shared->published);
        if (consumed != block->proved) entry[n++] = (notice){*next, block->generation, consumed};
    }
    return n;
}

/* After a put in checked mode: send the number of its message, and the epochs of its owner's blocks consumed here. If that
 * takes several messages, only the last one gives the number, which shows that the proof is complete. */
int message_prove(tc_context *context, const tc_target *target, uint64_t number, uint64_t epoch) {
    message head = {.magic = MESSAGE_MAGIC, .kind = MESSAGE_PROOF, .origin = context->options.rank,
                    .block = target->wire.block, .generation = target->wire.generation, .epoch = epoch,
                    .number = number};
    notice entry[NOTICES];
    uint32_t next = 0;
    do {
        uint32_t n = collect(context, target->peer, &next, entry);
        head.bytes = n * sizeof(notice);
        head.wanted = next == context->block_count;
        char *out = malloc(sizeof head + head.bytes);
        if (!out) return TC_ERR_NO_MEMORY;
        memcpy(out, &head, sizeof head);
        memcpy(out + sizeof head, entry, head.bytes);
        int status = tell(context, target->peer, out, sizeof head + head.bytes);
        if (status) return status == TC_FULL ? TC_ERR_LIMIT : status;
        for (uint32_t i = 0; i < n; i++) context->blocks[entry[i].block]->proved = entry[i].consumed;
    } while (next < context->block_count);
    return TC_OK;
}

/* Inform the holder of a block, who cannot see over a network that it was freed. */
int message_freed(const tc_block *block) {
    tc_context *context = block->context;
    const peer *p = &context->peers[block->source];
    if (!p->connected || p->lost || !p->inner->tell) return TC_OK;
    message head = {.magic = MESSAGE_MAGIC, .kind = MESSAGE_FREED, .origin = context->options.rank,
                    .block = block->index, .generation = block->generation};
    char *out = malloc(sizeof head);
    if (!out) return TC_ERR_NO_MEMORY;
    memcpy(out, &head, sizeof head);
    return tell(context, block->source, out, sizeof head);
}

bool was_freed(const peer *p, const wire_block *wire) {
    return p->freed && wire->block < BLOCKS_AT_MOST && p->freed[wire->block] >= wire->generation;
}

static int take_freed(tc_context *context, const message *m) {
    peer *p = &context->peers[m->origin];
    if (m->block >= BLOCKS_AT_MOST) return TC_ERR_BLOCK;
    if (!p->freed) p->freed = calloc(BLOCKS_AT_MOST, sizeof *p->freed);
    if (!p->freed) return TC_ERR_NO_MEMORY;
    if (m->generation > p->freed[m->block]) p->freed[m->block] = m->generation;
    return TC_OK;
}

static void learn(tc_target *target, uint64_t consumed, uint64_t number) {
    if (consumed <= atomic_load(target->proof.published) && consumed != 0) return;
    note_published(target->proof.published, target->proof.published_by, consumed, number);
}

static int take_proof(tc_context *context, const message *m, const char *payload) {
    tc_block *block = block_of(context, m->block, m->generation, ~0u);
    for (uint64_t i = 0; i < m->bytes / sizeof(notice); i++) {
        notice entry;
        memcpy(&entry, payload + i * sizeof entry, sizeof entry);
        for (tc_target *target = context->targets; target; target = target->next)
            if (target->peer == m->origin && target->wire.block == entry.block &&
                target->wire.generation == entry.generation)
                learn(target, entry.consumed, m->number);
    }
    if (block && m->wanted) atomic_store(&block->shared->number[m->epoch % LANES], numbered(m->epoch, m->number));
    return TC_OK;
}

/* --- in ---------------------------------------------------------------------------------------------------------- */
int message_read(const tc_context *context, const void *data, size_t bytes, message *out) {
    message m;
    if (bytes < sizeof m) return TC_ERR_BLOCK;
    memcpy(&m, data, sizeof m);
    bool carries = m.kind == MESSAGE_PUT || m.kind == MESSAGE_REPLY || m.kind == MESSAGE_PROOF;
    if (m.magic != MESSAGE_MAGIC || m.origin >= context->options.size) return TC_ERR_BLOCK;
    if (carries && bytes - sizeof m != m.bytes) return TC_ERR_BLOCK;
    *out = m;
    return TC_OK;
}

int message_handle(tc_context *context, const void *data, size_t bytes) {
    message m;
    int status = message_read(context, data, bytes, &m);
    if (status) return status;
    switch (m.kind) {
    case MESSAGE_PROOF: return take_proof(context, &m, (const char *)data + sizeof m);
    case MESSAGE_FREED: return take_freed(context, &m);
    case MESSAGE_BYE: lose(context, m.origin); return TC_OK;
    default: return TC_ERR_BLOCK;
    }
}
