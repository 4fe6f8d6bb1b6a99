/* Plans: transfers built once and started often. Starting checks everything, then hands over as much as the
 * transports take; what back-pressure holds back goes out from test and wait. */
#include <stdlib.h>

#include "internal.h"

#define LOOK_SECONDS 5e-6 /* what came in longer ago says nothing of the network as it is now */

/* The steps that differ in checked mode, chosen when a plan is made: without it, none of its cost is left. */
typedef struct plan_path {
    int (*check)(tc_plan *);
    int (*post)(tc_plan *);
} plan_path;

static const plan_path plain, checked;

int tc_plan_create(tc_context *context, uint32_t flag, tc_plan **out) {
    if (!context || !out || flag > TC_REMOTE) return TC_ERR_ARGUMENT;
    tc_plan *plan = calloc(1, sizeof *plan);
    if (!plan) return TC_ERR_NO_MEMORY;
    plan->context = context;
    plan->remote = flag == TC_REMOTE;
    plan->path = context->options.checked ? &checked : &plain;
    enter(context);
    plan->link = &context->plans;
    plan->next_plan = context->plans;
    if (plan->next_plan) plan->next_plan->link = &plan->next_plan;
    context->plans = plan;
    leave(context);
    *out = plan;
    return TC_OK;
}

static int grow(tc_plan *plan) {
    if (plan->items < plan->capacity) return TC_OK;
    uint32_t capacity = plan->capacity ? 2 * plan->capacity : 4;
    tc_item *item = realloc(plan->item, capacity * sizeof *item);
    if (!item) return TC_ERR_NO_MEMORY;
    plan->item = item;
    plan->capacity = capacity;
    return TC_OK;
}

static int value_fits(const tc_target *target, uint64_t value) {
    uint32_t bits = target->context->peers[target->peer].inner->value_bits;
    return bits >= 64 || value >> bits == 0 ? TC_OK : TC_ERR_VALUE;
}

/* A message has at most TC_MAX_PIECES pieces, that of a stream has one. A get is read in any number of them. */
static int length_fits(const tc_item *item) {
    const tc_target *target = item->target;
    uint64_t longest = target->context->peers[target->peer].inner->longest;
    if (!longest || item->get || item->bytes <= longest) return TC_OK;
    return target->wire.stream || (item->bytes - 1) / longest >= TC_MAX_PIECES ? TC_ERR_LIMIT : TC_OK;
}

static int add(tc_plan *plan, const tc_item *item) {
    const tc_target *target = item->target;
    if (plan->running) return TC_ERR_BUSY;
    for (uint32_t i = 0; i < plan->items && !target->wire.stream; i++)
        if (plan->item[i].target == target) return TC_ERR_ARGUMENT; /* one message per epoch */
    int status = value_fits(target, item->value);
    if (status == TC_OK) status = length_fits(item);
    if (status == TC_OK) status = grow(plan);
    if (status != TC_OK) return status;
    plan->item[plan->items++] = *item;
    item->target->busy++;
    return TC_OK;
}

static int whole(tc_plan *plan, tc_target *target, void *local, const tc_layout *layout, uint64_t value, bool get) {
    if (!plan || !target || !layout || target->context != plan->context) return TC_ERR_ARGUMENT;
    if (!target->live) return TC_ERR_FREED;
    if (layout_bytes(layout) != target->wire.bytes) return TC_ERR_RANGE;
    tc_item item = {target, local, *layout, target->wire.layout, value, target->wire.bytes, get, NULL, 0};
    return item.bytes && !local ? TC_ERR_ARGUMENT : add(plan, &item);
}

static int part(tc_plan *plan, tc_target *target, uint64_t offset, void *local, const tc_layout *layout, uint64_t value,
                bool get) {
    if (!plan || !target || !layout || target->context != plan->context) return TC_ERR_ARGUMENT;
    if (!target->live) return TC_ERR_FREED;
    uint64_t bytes = layout_bytes(layout);
    if (!layout_contiguous(&target->wire.layout) || offset > target->wire.bytes || bytes > target->wire.bytes - offset)
        return TC_ERR_RANGE;
    tc_layout there = layout_simple(target->wire.layout.offset + offset, bytes);
    tc_item item = {target, local, *layout, there, value, bytes, get, NULL, 0};
    return bytes && !local ? TC_ERR_ARGUMENT : add(plan, &item);
}

int tc_plan_put(tc_plan *plan, tc_target *target, const void *source, const tc_layout *layout, uint64_t value) {
    return whole(plan, target, (void *)(uintptr_t)source, layout, value, false);
}

int tc_plan_get(tc_plan *plan, tc_target *target, void *destination, const tc_layout *layout, uint64_t value) {
    return whole(plan, target, destination, layout, value, true);
}

int tc_plan_put_part(tc_plan *plan, tc_target *target, uint64_t offset, const void *source, const tc_layout *layout,
                     uint64_t value) {
    return part(plan, target, offset, (void *)(uintptr_t)source, layout, value, false);
}

int tc_plan_get_part(tc_plan *plan, tc_target *target, uint64_t offset, void *destination, const tc_layout *layout,
                     uint64_t value) {
    return part(plan, target, offset, destination, layout, value, true);
}

int tc_plan_put_headed(tc_plan *plan, tc_target *target, uint64_t offset, const void *head, uint64_t head_bytes,
                       const void *source, uint64_t bytes, uint64_t value) {
    if (!plan || !target || target->context != plan->context || (head_bytes && !head) || (bytes && !source))
        return TC_ERR_ARGUMENT;
    if (!target->live) return TC_ERR_FREED;
    uint64_t room = target->wire.bytes, total;
    if (!layout_contiguous(&target->wire.layout) || __builtin_add_overflow(head_bytes, bytes, &total) ||
        offset > room || total > room - offset)
        return TC_ERR_RANGE;
    tc_item item = {target, (char *)(uintptr_t)source, layout_simple(0, bytes),
                    layout_simple(target->wire.layout.offset + offset, total), value, total, false, head, head_bytes};
    return add(plan, &item);
}

int tc_plan_value(tc_plan *plan, uint32_t item, uint64_t value) {
    if (!plan || item >= plan->items) return TC_ERR_ARGUMENT;
    if (plan->running) return TC_ERR_BUSY;
    int status = value_fits(plan->item[item].target, value);
    if (status == TC_OK) plan->item[item].value = value;
    return status;
}

/* Everything that can be refused is refused here, before a byte of any item has moved. */
static inline __attribute__((always_inline)) int check_item(tc_plan *plan, const tc_item *item, const bool proofs) {
    tc_context *context = plan->context;
    const tc_target *target = item->target;
    const peer *p = &context->peers[target->peer];
    if (!target->live) return TC_ERR_FREED;
    if (p->lost) return TC_ERR_PEER_LOST;
    if (was_freed(p, &target->wire)) return TC_ERR_STALE;
    if (target->block) {
        if (atomic_load_explicit(&target->block->generation, memory_order_acquire) != target->wire.generation)
            return atomic_load(&p->view.head->closed) ? TC_ERR_PEER_LOST : TC_ERR_STALE;
        int64_t ahead = (int64_t)(target->epoch - atomic_load_explicit(&target->signal->epoch, memory_order_relaxed));
        if (!target->wire.stream && ahead > (int64_t)AHEAD) {
            add_up(&plan->full, 1);
            return TC_FULL;
        }
    }
    return proofs ? check_proof(context, target) : TC_OK;
}

/* A look at the network first: a peer may have said that it freed a block. Where something came in a moment ago, as
 * in a round that starts when the one before has arrived, that was the look. */
static inline __attribute__((always_inline)) int check_items(tc_plan *plan, const bool proofs) {
    tc_context *context = plan->context;
    int status = TC_OK;
    if (context->driven) {
        enter(context);
        if (now() - context->looked > LOOK_SECONDS) status = progress(context);
    }
    for (uint32_t i = 0; i < plan->items && status == TC_OK; i++) {
        status = check_item(plan, &plan->item[i], proofs);
        if (status != TC_OK) plan->culprit = i;
    }
    if (context->driven) leave(context);
    return status;
}

static inline __attribute__((always_inline)) int post_item(tc_plan *plan, tc_item *item, const bool proofs) {
    tc_context *context = plan->context;
    tc_target *target = item->target;
    peer *p = &context->peers[target->peer];
    tc_op op = {.plan = plan, .target = target, .layout = &item->layout, .there = &item->layout_there,
                .local = item->local, .head = item->head, .head_bytes = item->head_bytes, .epoch = target->epoch, .value = item->value, .bytes = item->bytes,
                .total = item->bytes, .pieces = 1, .get = item->get, .remote = plan->remote};
    if (proofs) {
        op.number = p->sent + 1;
        publish_consumed(context, target->peer, op.number);
    }
    atomic_fetch_add_explicit(&plan->outstanding, 1, memory_order_relaxed);
    int status = p->transport->post(p->transport, &op);
    if (status != TC_AGAIN) atomic_fetch_sub_explicit(&plan->outstanding, 1, memory_order_relaxed);
    if (status == TC_FULL) add_up(&plan->full, 1);
    if (status != TC_OK && status != TC_AGAIN) return status;
    target->epoch++;
    add_up(&plan->messages, 1);
    add_up(&plan->bytes, item->bytes);
    if (proofs) {
        p->sent++;
        if (p->inner->tell) return message_prove(context, target, op.number, op.epoch);
    }
    return TC_OK;
}

static inline __attribute__((always_inline)) int post_items(tc_plan *plan, const bool proofs) {
    while (plan->next < plan->items) {
        int status = post_item(plan, &plan->item[plan->next], proofs);
        if (status == TC_FULL) return TC_AGAIN;
        if (status != TC_OK) {
            plan->culprit = plan->next;
            return status;
        }
        plan->next++;
    }
    return TC_OK;
}

static int check_plain(tc_plan *plan) {
    return check_items(plan, false);
}

static int post_plain(tc_plan *plan) {
    return post_items(plan, false);
}

static int check_checked(tc_plan *plan) {
    return check_items(plan, true);
}

/* Numbers are given in the order in which messages leave: one thread at a time. */
static int post_checked(tc_plan *plan) {
    enter(plan->context);
    int status = post_items(plan, true);
    leave(plan->context);
    return status;
}

static const plan_path plain = {check_plain, post_plain}, checked = {check_checked, post_checked};

/* Hands over more; TC_OK once everything is complete. After an error it waits out what is under way. */
static int advance(tc_plan *plan) {
    tc_context *context = plan->context;
    int error = atomic_load_explicit(&plan->error, memory_order_relaxed);
    if (error == TC_OK) {
        if (context->driven) enter(context);
        int status = plan->path->post(plan);
        if (context->driven) leave(context);
        if (status == TC_AGAIN) return status;
        if (status < 0) atomic_store(&plan->error, status);
    }
    if (atomic_load_explicit(&plan->outstanding, memory_order_acquire)) return TC_AGAIN;
    plan->running = false;
    return atomic_load(&plan->error);
}

/* Complete, if need be after a look at the network? */
static int finish(tc_plan *plan) {
    int status = advance(plan);
    if (status == TC_AGAIN && plan->context->driven) {
        int driven = progress(plan->context);
        if (driven < 0) return driven;
        status = advance(plan);
    }
    return status;
}

static int check_idle(tc_plan *plan) {
    int status = plan->running ? advance(plan) : TC_OK;
    return status == TC_AGAIN ? TC_ERR_BUSY : status;
}

int tc_plan_clear(tc_plan *plan) {
    if (!plan) return TC_ERR_ARGUMENT;
    int status = check_idle(plan);
    if (status == TC_ERR_BUSY) return status;
    for (uint32_t i = 0; i < plan->items; i++) plan->item[i].target->busy--;
    plan->items = 0;
    return TC_OK;
}

/* A refusal changes nothing; but a receiver that is behind may itself be waiting for this signal's epoch to end. */
static int check_and_rearm(tc_plan *plan, tc_signal *signal) {
    int status = signal ? tc_signal_test(signal) : TC_OK;
    if (status == TC_AGAIN) return TC_ERR_BUSY;
    if (status != TC_OK && status != TC_ERR_SURPLUS) return status;
    int startable = plan->path->check(plan);
    if (startable < 0 || !signal) return startable;
    status = tc_signal_rearm(signal);
    return status == TC_OK ? startable : status;
}

int tc_plan_start_after(tc_plan *plan, tc_signal *signal) {
    if (!plan) return TC_ERR_ARGUMENT;
    int status = check_idle(plan);
    if (status == TC_OK) status = check_and_rearm(plan, signal);
    if (status != TC_OK) return status;
    plan->next = 0;
    atomic_store_explicit(&plan->error, TC_OK, memory_order_relaxed);
    plan->running = true;
    return finish(plan);
}

int tc_plan_start(tc_plan *plan) {
    int status = tc_plan_start_after(plan, NULL);
    return status == TC_AGAIN ? TC_OK : status;
}

static int check_owners(tc_plan *plan) {
    for (uint32_t i = 0; i < plan->items; i++) {
        uint32_t owner = plan->item[i].target->peer;
        if (tc_peer_alive(plan->context, owner) == TC_ERR_PEER_LOST) return lose(plan->context, owner);
    }
    return TC_OK;
}

/* Somebody who polls must learn of a death, too. */
int tc_plan_test(tc_plan *plan) {
    if (!plan) return TC_ERR_ARGUMENT;
    int status = plan->running ? finish(plan) : atomic_load(&plan->error);
    return status == TC_AGAIN && check_due(plan->context) && check_owners(plan) ? TC_ERR_PEER_LOST : status;
}

int tc_plan_wait(tc_plan *plan, double seconds) {
    patience p;
    if (!plan) return TC_ERR_ARGUMENT;
    patience_start(&p, seconds);
    for (;;) {
        bool check = false;
        int status = plan->running ? finish(plan) : atomic_load(&plan->error);
        if (status != TC_AGAIN) return status;
        status = patience_step(plan->context, &p, &check);
        if (check && check_owners(plan) != TC_OK) return TC_ERR_PEER_LOST;
        if (status != TC_OK) return status;
    }
}

int tc_plan_culprit(tc_plan *plan, uint32_t *item, uint32_t *peer_rank, uint32_t *tag) {
    if (!plan || !item || !peer_rank || !tag || plan->culprit >= plan->items) return TC_ERR_ARGUMENT;
    *item = plan->culprit;
    *peer_rank = plan->item[plan->culprit].target->peer;
    *tag = plan->item[plan->culprit].target->wire.tag;
    return TC_OK;
}

void plan_count(const tc_plan *plan, tc_stats *stats) {
    stats->messages += atomic_load_explicit(&plan->messages, memory_order_relaxed);
    stats->pieces += atomic_load_explicit(&plan->pieces, memory_order_relaxed);
    stats->bytes += atomic_load_explicit(&plan->bytes, memory_order_relaxed);
    stats->full += atomic_load_explicit(&plan->full, memory_order_relaxed);
}

int tc_plan_free(tc_plan *plan) {
    if (!plan) return TC_ERR_ARGUMENT;
    bool under_way = plan->running && advance(plan) == TC_AGAIN;
    if (under_way && !(plan->dropped && atomic_load(&plan->outstanding) == plan->dropped)) return TC_ERR_BUSY;
    for (uint32_t i = 0; i < plan->items; i++) plan->item[i].target->busy--;
    tc_context *context = plan->context;
    enter(context);
    *plan->link = plan->next_plan;
    if (plan->next_plan) plan->next_plan->link = plan->link;
    plan_count(plan, &context->stats);
    leave(context);
    free(plan->item);
    free(plan);
    return TC_OK;
}
