/* Blocks: issued by the receiver, shipped as bytes, opened as targets by the one rank they were issued to. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define BLOCK_MAGIC 0x544b4c42u
#define BLOCK_VERSION 2u

/* Freed slots are used again oldest first, so that a late notification finds its old generation as long as possible. */
static int take_block(tc_context *context, tc_block **out) {
    tc_block *block;
    if (context->block_count < context->options.blocks) {
        block = calloc(1, sizeof *block);
        if (!block) return TC_ERR_NO_MEMORY;
        block->context = context;
        block->index = context->block_count;
        block->shared = &context->view.blocks[block->index];
        context->blocks[context->block_count++] = block;
    } else {
        block = context->free_first;
        if (!block) return TC_ERR_LIMIT;
        context->free_first = block->next;
        if (!context->free_first) context->free_last = NULL;
    }
    *out = block;
    return TC_OK;
}

static void give_back(tc_block *block) {
    tc_context *context = block->context;
    block->live = false;
    block->next = NULL;
    if (context->free_last) context->free_last->next = block;
    else context->free_first = block;
    context->free_last = block;
}

static void reset_shared(tc_block *block, const tc_memory *memory, const tc_signal *signal) {
    seg_block *s = block->shared;
    s->source = block->source;
    s->signal = signal->index;
    s->tag = block->tag;
    s->stream = signal->kind == TC_STREAM;
    s->memory_kind = memory->kind;
    atomic_store(&s->arrived, 0);
    for (uint32_t i = 0; i < LANES; i++) {
        atomic_store(&s->piece[i], 0);
        atomic_store(&s->number[i], 0);
        atomic_store(&s->published_by[i], 0);
    }
    atomic_store(&s->published, atomic_load(&signal->shared->epoch));
    block->generation = atomic_fetch_add(&s->generation, 1) + 1;
}

/* Will this peer's puts come over a network? Those of one that is not connected yet may. */
static bool by_network(const tc_context *context, uint32_t rank) {
    const peer *p = &context->peers[rank];
    bool some = false;
    for (uint32_t i = 0; i < TRANSPORTS; i++) some |= context->transports[i] && context->transports[i]->network;
    return p->connected ? p->inner->network : some;
}

static int issue(tc_memory *memory, const tc_layout *layout, tc_signal *signal, uint32_t source, uint32_t tag,
                 tc_block **out) {
    tc_context *context = memory->context;
    tc_memory *landing = NULL;
    tc_block *block;
    int status = TC_OK;
    if (by_network(context, source)) {
        live_dial(context, source);
        if (!layout_contiguous(layout)) status = landing_allocate(context, layout_bytes(layout), &landing);
    }
    if (status == TC_OK) status = take_block(context, &block);
    if (status) {
        if (landing) tc_memory_free(landing);
        return status;
    }
    block->source = source;
    block->tag = tag;
    block->memory = memory;
    block->landing = landing;
    block->signal = signal;
    block->layout = *layout;
    block->bytes = layout_bytes(layout);
    block->first_epoch = block->proved = atomic_load(&signal->shared->epoch);
    reset_shared(block, memory, signal);
    block->live = true;
    memory->blocks++;
    signal->blocks++;
    if (signal->kind != TC_STREAM) atomic_fetch_add(&signal->shared->expected, 1);
    *out = block;
    return TC_OK;
}

int tc_block_issue(tc_memory *memory, const tc_layout *layout, tc_signal *signal, uint32_t source, uint32_t tag,
                   tc_block **out) {
    if (!memory || !layout || !signal || !out || memory->context != signal->context) return TC_ERR_ARGUMENT;
    if (!memory->live || !signal->live) return TC_ERR_FREED;
    tc_context *context = memory->context;
    if (source >= context->options.size) return TC_ERR_ARGUMENT;
    if (!layout_fits(layout, memory->bytes)) return TC_ERR_RANGE;
    if (signal->kind == TC_STREAM && !layout_contiguous(layout)) return TC_ERR_RANGE;
    if (signal->kind == TC_IDENTIFIED && (signal->blocks + 1) * LANES > context->options.queue_depth) return TC_ERR_LIMIT;
    enter(context);
    int status = issue(memory, layout, signal, source, tag, out);
    leave(context);
    return status;
}

int tc_block_export(tc_block *block, void *bytes, size_t capacity, size_t *length) {
    wire_block wire;
    if (!block || !bytes || !length || capacity < sizeof wire) return TC_ERR_ARGUMENT;
    if (!block->live) return TC_ERR_FREED;
    const tc_context *context = block->context;
    memset(&wire, 0, sizeof wire);
    wire.magic = BLOCK_MAGIC;
    wire.version = BLOCK_VERSION;
    wire.owner = context->options.rank;
    wire.source = block->source;
    wire.block = block->index;
    wire.generation = block->generation;
    wire.signal = block->signal->index;
    wire.tag = block->tag;
    wire.stream = block->signal->kind == TC_STREAM;
    wire.memory_kind = block->memory->kind;
    wire.descriptor = block->memory->descriptor;
    wire.nonce = context->nonce;
    wire.epoch = block->first_epoch;
    wire.base = (uint64_t)(uintptr_t)block->memory->base;
    wire.memory_bytes = block->memory->bytes;
    wire.bytes = block->bytes;
    wire.layout = block->layout;
    wire.landing = block->landing != NULL;
    wire.index_bits = index_bits(context);
    for (uint32_t i = 0; i < TRANSPORTS; i++) {
        tc_transport *t = context->transports[i];
        if (t && t->describe) t->describe(t, block, &wire);
    }
    wire.check = checksum(&wire, offsetof(wire_block, check));
    memcpy(bytes, &wire, sizeof wire);
    *length = sizeof wire;
    return TC_OK;
}

void block_release(tc_block *block) {
    atomic_fetch_add(&block->shared->generation, 1); /* even: senders that can see this stop here */
    block->memory->blocks--;
    block->signal->blocks--;
    signal_forget(block);
    if (block->landing) landing_retire(block->landing);
    block->landing = NULL;
    give_back(block);
}

int tc_block_free(tc_block *block) {
    if (!block) return TC_ERR_ARGUMENT;
    if (!block->live) return TC_ERR_FREED;
    tc_context *context = block->context;
    enter(context);
    int status = message_freed(block);
    if (status == TC_FULL && tc_peer_alive(context, block->source) == TC_ERR_PEER_LOST) {
        lose(context, block->source); /* there is nobody left to inform */
        status = TC_OK;
    }
    if (status != TC_FULL) block_release(block);
    leave(context);
    return status;
}

/* --- targets ------------------------------------------------------------------------------------------------- */
static int read_wire(tc_context *context, const void *bytes, size_t length, wire_block *wire) {
    if (length < sizeof *wire) return TC_ERR_BLOCK;
    memcpy(wire, bytes, sizeof *wire);
    if (wire->magic != BLOCK_MAGIC || wire->version != BLOCK_VERSION ||
        wire->check != checksum(wire, offsetof(wire_block, check)) || wire->owner >= context->options.size)
        return TC_ERR_BLOCK;
    const peer *p = &context->peers[wire->owner];
    if (!p->connected) return TC_ERR_UNREACHABLE;
    if (wire->nonce != p->address.nonce || wire->index_bits < 1 || wire->index_bits > 13) return TC_ERR_BLOCK;
    return wire->source == context->options.rank ? TC_OK : TC_ERR_NOT_YOURS;
}

/* A target counts the epochs, so a block has one at a time, and never another once it was put to. */
static int check_opened(peer *p, const wire_block *wire) {
    if (wire->block >= BLOCKS_AT_MOST) return TC_ERR_BLOCK;
    while (wire->block >= p->opened_room) {
        uint32_t room = p->opened_room ? 2 * p->opened_room : 16;
        uint32_t *opened = realloc(p->opened, room * sizeof *opened);
        if (!opened) return TC_ERR_NO_MEMORY;
        memset(opened + p->opened_room, 0, (room - p->opened_room) * sizeof *opened);
        p->opened = opened;
        p->opened_room = room;
    }
    bool stale = p->mapped && atomic_load(&p->view.blocks[wire->block].generation) != wire->generation;
    if (stale || p->opened[wire->block] > wire->generation) return TC_ERR_STALE;
    return !wire->stream && p->opened[wire->block] == wire->generation ? TC_ERR_OPENED : TC_OK;
}

static int open_target(tc_context *context, const wire_block *wire, tc_target **out) {
    peer *p = &context->peers[wire->owner];
    if (was_freed(p, wire)) return TC_ERR_STALE;
    if (p->inner->network) live_dial(context, wire->owner);
    int status = check_opened(p, wire);
    if (status) return status;
    tc_target *target = context->free_targets;
    if (target) context->free_targets = target->next;
    else target = malloc(sizeof *target);
    if (!target) return TC_ERR_NO_MEMORY;
    memset(target, 0, sizeof *target);
    target->context = context;
    target->peer = wire->owner;
    target->wire = *wire;
    target->epoch = wire->epoch;
    status = p->inner->map ? p->inner->map(p->inner, target) : TC_OK;
    if (status) {
        target->next = context->free_targets;
        context->free_targets = target;
        return status;
    }
    target->proof.published = target->block ? &target->block->published : &target->proof.copy[0];
    target->proof.published_by = target->block ? target->block->published_by : &target->proof.copy[1];
    target->live = true;
    p->opened[wire->block] = wire->generation;
    target->next = context->targets;
    context->targets = target;
    *out = target;
    return TC_OK;
}

int tc_target_open(tc_context *context, const void *bytes, size_t length, tc_target **out) {
    wire_block wire;
    if (!context || !bytes || !out) return TC_ERR_ARGUMENT;
    int status = read_wire(context, bytes, length, &wire);
    if (status) return status;
    enter(context);
    status = open_target(context, &wire, out);
    leave(context);
    return status;
}

int tc_target_info(tc_target *target, uint32_t *owner, uint32_t *tag, uint64_t *bytes) {
    if (!target || !owner || !tag || !bytes) return TC_ERR_ARGUMENT;
    if (!target->live) return TC_ERR_FREED;
    *owner = target->peer;
    *tag = target->wire.tag;
    *bytes = target->wire.bytes;
    return TC_OK;
}

int tc_target_close(tc_target *target) {
    if (!target) return TC_ERR_ARGUMENT;
    if (!target->live) return TC_ERR_FREED;
    if (target->busy) return TC_ERR_BUSY;
    tc_context *context = target->context;
    enter(context);
    tc_target **link = &context->targets;
    while (*link && *link != target) link = &(*link)->next;
    if (*link) *link = target->next;
    uint32_t *opened = &context->peers[target->peer].opened[target->wire.block];
    if (*opened == target->wire.generation && target->epoch == target->wire.epoch) --*opened; /* as if never opened */
    leave(context);
    tc_transport *inner = context->peers[target->peer].inner;
    if (inner->unmap) inner->unmap(inner, target);
    target->live = false;
    target->next = context->free_targets;
    context->free_targets = target;
    return TC_OK;
}
