/* Signals: epochs, re-arming, waiting. The word of each epoch is counted up by senders (arrive.c, shm.c). */
#include <stdlib.h>

#include "internal.h"

static int take_queue(tc_context *context, uint32_t *queue) {
    for (uint32_t q = 0; q < context->options.queues; q++) {
        if (context->queue_taken[q]) continue;
        context->queue_taken[q] = true;
        *queue = q;
        return TC_OK;
    }
    return TC_ERR_LIMIT;
}

/* Freed ones are used again oldest first: a put that was under way as its block was freed must not meet a new signal. */
static int take_handle(tc_context *context, tc_signal **out) {
    tc_signal *signal;
    if (context->signal_count < context->options.signals) {
        signal = calloc(1, sizeof *signal);
        if (!signal) return TC_ERR_NO_MEMORY;
        signal->context = context;
        signal->index = context->signal_count;
        signal->shared = &context->view.signals[signal->index];
        context->signals[context->signal_count++] = signal;
    } else {
        signal = context->free_signals;
        if (!signal) return TC_ERR_LIMIT;
        context->free_signals = signal->next;
    }
    *out = signal;
    return TC_OK;
}

int tc_signal_create(tc_context *context, uint32_t kind, tc_signal **out) {
    uint32_t queue = 0;
    tc_signal *signal;
    if (!context || !out || kind > TC_STREAM) return TC_ERR_ARGUMENT;
    int status = kind == TC_IDENTIFIED ? take_queue(context, &queue) : TC_OK;
    if (status) return status;
    status = take_handle(context, &signal);
    if (status) {
        if (kind == TC_IDENTIFIED) context->queue_taken[queue] = false;
        return status;
    }
    context->stats.surplus += atomic_load(&signal->shared->surplus); /* of a signal that was freed */
    for (uint32_t i = 0; i < LANES; i++) atomic_store(&signal->shared->lane[i], 0);
    atomic_store(&signal->shared->epoch, 0);
    atomic_store(&signal->shared->expected, 0);
    atomic_store(&signal->shared->surplus, 0);
    atomic_store(&signal->shared->queue, kind == TC_IDENTIFIED ? queue + 1 : 0);
    atomic_fetch_add(&signal->shared->generation, 1);
    signal->kind = kind;
    signal->blocks = 0;
    signal->observed = 0;
    atomic_store(&signal->lost, 0);
    signal->live = true;
    *out = signal;
    return TC_OK;
}

int tc_signal_free(tc_signal *signal) {
    tc_event event;
    if (!signal) return TC_ERR_ARGUMENT;
    if (!signal->live) return TC_ERR_FREED;
    if (signal->blocks) return TC_ERR_BUSY;
    tc_context *context = signal->context;
    uint32_t queue = atomic_load(&signal->shared->queue);
    if (queue) {
        while (queue_take(&context->view, queue - 1, &event) == TC_OK) {}
        context->queue_taken[queue - 1] = false;
    }
    signal->live = false;
    signal->next = NULL;
    tc_signal **last = &context->free_signals;
    while (*last) last = &(*last)->next;
    *last = signal;
    return TC_OK;
}

/* The state of this epoch as it stands, without driving any transport. */
static int look(tc_signal *signal) {
    seg_signal *s = signal->shared;
    uint64_t epoch = atomic_load_explicit(&s->epoch, memory_order_relaxed);
    uint64_t expected = atomic_load_explicit(&s->expected, memory_order_relaxed);
    uint64_t arrived = atomic_load_explicit(&s->lane[epoch % LANES], memory_order_acquire);
    if (arrived < expected) return TC_AGAIN;
    if (arrived > expected || atomic_load_explicit(&s->lane[(epoch + LANES - 1) % LANES], memory_order_relaxed))
        return TC_ERR_SURPLUS;
    return TC_OK;
}

/* Is this epoch complete, if need be after driving the transports? */
static int ask_signal(tc_signal *signal) {
    if (!signal) return TC_ERR_ARGUMENT;
    if (!signal->live) return TC_ERR_FREED;
    if (signal->kind == TC_STREAM) return TC_ERR_UNSUPPORTED;
    int status = look(signal);
    if (status == TC_AGAIN && signal->context->driven) {
        int driven = progress(signal->context);
        if (driven < 0) return driven;
        status = look(signal);
    }
    if (status == TC_OK) signal->observed = atomic_load_explicit(&signal->shared->epoch, memory_order_relaxed) + 1;
    return status;
}

int tc_signal_rearm(tc_signal *signal) {
    if (!signal) return TC_ERR_ARGUMENT;
    if (!signal->live) return TC_ERR_FREED;
    if (signal->kind == TC_STREAM) return TC_ERR_UNSUPPORTED;
    seg_signal *s = signal->shared;
    uint64_t epoch = atomic_load_explicit(&s->epoch, memory_order_relaxed);
    uint64_t expected = atomic_load_explicit(&s->expected, memory_order_relaxed);
    _Atomic uint64_t *lane = &s->lane[epoch % LANES], *past = &s->lane[(epoch + LANES - 1) % LANES];
    uint64_t arrived = atomic_load_explicit(lane, memory_order_acquire);
    if (arrived < expected) return TC_AGAIN;
    signal->observed = epoch + 1;
    uint64_t late = atomic_load_explicit(past, memory_order_relaxed);
    uint64_t surplus = arrived - expected + late;
    if (late) atomic_fetch_sub_explicit(past, late, memory_order_relaxed);
    atomic_fetch_sub_explicit(lane, arrived, memory_order_relaxed);
    atomic_store_explicit(&s->epoch, epoch + 1, memory_order_release);
    if (!surplus) return TC_OK;
    atomic_fetch_add_explicit(&s->surplus, surplus, memory_order_relaxed);
    return TC_ERR_SURPLUS;
}

static int ask_take(tc_signal *signal, uint64_t count) {
    if (!signal) return TC_ERR_ARGUMENT;
    if (!signal->live) return TC_ERR_FREED;
    if (signal->kind != TC_STREAM) return TC_ERR_UNSUPPORTED;
    _Atomic uint64_t *lane = &signal->shared->lane[0];
    if (atomic_load_explicit(lane, memory_order_acquire) < count) {
        int driven = signal->context->driven ? progress(signal->context) : TC_OK;
        if (driven < 0) return driven;
        if (atomic_load_explicit(lane, memory_order_acquire) < count) return TC_AGAIN;
    }
    atomic_fetch_sub_explicit(lane, count, memory_order_relaxed);
    return TC_OK;
}

static int ask_event(tc_signal *signal, tc_event *event) {
    if (!signal || !event) return TC_ERR_ARGUMENT;
    if (!signal->live) return TC_ERR_FREED;
    if (signal->kind != TC_IDENTIFIED) return TC_ERR_UNSUPPORTED;
    uint32_t queue = atomic_load_explicit(&signal->shared->queue, memory_order_relaxed) - 1;
    if (queue_take(&signal->context->view, queue, event) == TC_OK) return TC_OK;
    int driven = signal->context->driven ? progress(signal->context) : TC_OK;
    if (driven < 0) return driven;
    if (queue_take(&signal->context->view, queue, event) == TC_OK) return TC_OK;
    return atomic_exchange(&signal->lost, 0) ? TC_ERR_OVERFLOW : TC_AGAIN;
}

int tc_signal_state(tc_signal *signal, uint64_t *epoch, uint64_t *expected, uint64_t *arrived, uint64_t *early,
                    uint64_t *surplus) {
    if (!signal || !epoch || !expected || !arrived || !early || !surplus) return TC_ERR_ARGUMENT;
    if (!signal->live) return TC_ERR_FREED;
    seg_signal *s = signal->shared;
    *epoch = atomic_load(&s->epoch);
    *expected = atomic_load(&s->expected);
    *arrived = atomic_load(&s->lane[*epoch % LANES]);
    *early = atomic_load(&s->lane[(*epoch + 1) % LANES]) + atomic_load(&s->lane[(*epoch + 2) % LANES]);
    *surplus = atomic_load(&s->surplus);
    return TC_OK;
}

/* --- who is missing ---------------------------------------------------------------------------------------- */
/* Has the block's message of that epoch come in whole? Where pieces may overtake each other, the epoch's own word says
 * so; else a sender's messages come in order, and are only counted. */
static bool is_there(const tc_block *block, uint64_t epoch) {
    uint64_t pieces = 0;
    for (uint32_t i = 0; i < LANES; i++) pieces |= atomic_load(&block->shared->piece[i]);
    if (!pieces) return atomic_load(&block->shared->arrived) > epoch - block->first_epoch;
    uint64_t word = atomic_load(&block->shared->piece[epoch % LANES]);
    return word >> 16 == epoch + 1 && (word & 0xff) == (1u << (word >> 8 & 0xff)) - 1;
}

static bool is_missing(const tc_signal *signal, const tc_block *block) {
    return block && block->live && block->signal == signal && !is_there(block, atomic_load(&signal->shared->epoch));
}

/* A block is freed: what it brought to this epoch, or early to a later one, goes with it. So an epoch that was complete
 * stays so. */
void signal_forget(const tc_block *block) {
    seg_signal *s = block->signal->shared;
    if (block->signal->kind == TC_STREAM) return;
    uint64_t epoch = atomic_load(&s->epoch);
    atomic_fetch_sub(&s->expected, 1);
    for (uint64_t e = epoch; e <= epoch + AHEAD; e++)
        if (is_there(block, e)) atomic_fetch_sub(&s->lane[e % LANES], 1);
}

int tc_signal_missing(tc_signal *signal, tc_missing *list, uint32_t capacity, uint32_t *count) {
    if (!signal || !count || (!list && capacity)) return TC_ERR_ARGUMENT;
    if (!signal->live) return TC_ERR_FREED;
    tc_context *context = signal->context;
    uint64_t epoch = atomic_load(&signal->shared->epoch);
    uint32_t found = 0;
    for (uint32_t i = 0; i < context->block_count; i++) {
        tc_block *block = context->blocks[i];
        if (signal->kind == TC_STREAM ? !(block->live && block->signal == signal) : !is_missing(signal, block)) continue;
        uint64_t word = atomic_load(&block->shared->piece[epoch % LANES]);
        bool begun = word >> 16 == epoch + 1;
        if (found < capacity)
            list[found] = (tc_missing){block->source, block->tag, block->index, begun ? word >> 8 & 0xff : 0,
                                       begun ? word & 0xff : 0};
        found++;
    }
    *count = found;
    return TC_OK;
}

/* Is somebody whom this signal waits for gone for good? A last look at the signal comes after that. Who has brought its
 * message to this epoch is not waited for; but where nobody is left, no notification will come. */
static int check_sources(tc_signal *signal) {
    tc_context *context = signal->context;
    const tc_block *gone = NULL;
    bool somebody = false;
    for (uint32_t i = 0; i < context->block_count; i++) {
        const tc_block *block = context->blocks[i];
        bool waits = signal->kind == TC_STREAM || is_missing(signal, block);
        if (!block->live || block->signal != signal || (signal->kind == TC_COUNTED && !waits)) continue;
        if (tc_peer_alive(context, block->source) != TC_ERR_PEER_LOST) somebody = true;
        else if (waits) return lose(context, block->source);
        else gone = block;
    }
    return gone && !somebody ? lose(context, gone->source) : TC_OK;
}

/* --- waiting ------------------------------------------------------------------------------------------------ */
typedef struct question { /* what is waited for */
    tc_signal **signals;
    uint32_t count, index;
    uint64_t take;
    tc_event *event;
} question;

static int ask(question *q) {
    for (uint32_t i = 0; i < q->count; i++) {
        tc_signal *signal = q->signals[i];
        int status = q->event ? ask_event(signal, q->event) : q->take ? ask_take(signal, q->take) : ask_signal(signal);
        if (status == TC_AGAIN) continue;
        q->index = i;
        return status;
    }
    return TC_AGAIN;
}

/* Somebody who polls must learn of a death, too. */
static int ask_once(tc_signal *signal, uint64_t take, tc_event *event) {
    question q = {.signals = &signal, .count = 1, .take = take, .event = event};
    int status = ask(&q);
    if (status != TC_AGAIN || !check_due(signal->context)) return status;
    int gone = check_sources(signal);
    if (gone == TC_OK) return TC_AGAIN;
    status = ask(&q);
    return status == TC_AGAIN ? gone : status;
}

int tc_signal_look(tc_signal *signal) {
    if (!signal) return TC_ERR_ARGUMENT;
    if (!signal->live) return TC_ERR_FREED;
    return signal->kind == TC_STREAM ? TC_ERR_UNSUPPORTED : look(signal);
}

int tc_signal_test(tc_signal *signal) {
    return ask_once(signal, 0, NULL);
}

int tc_signal_take(tc_signal *signal, uint64_t count) {
    return count ? ask_once(signal, count, NULL) : TC_ERR_ARGUMENT;
}

int tc_signal_event(tc_signal *signal, tc_event *event) {
    return event ? ask_once(signal, 0, event) : TC_ERR_ARGUMENT;
}

/* Is a sender held back by notifications that lie here? */
static bool nobody_takes(const question *q) {
    for (uint32_t i = 0; i < q->count; i++) {
        uint32_t queue = atomic_load(&q->signals[i]->shared->queue);
        if (queue && queue_full(&q->signals[i]->context->view, queue - 1)) return true;
    }
    return false;
}

static int wait_for(question *q, double seconds) {
    tc_context *context = q->signals[0]->context;
    patience p;
    int status = ask(q);
    if (status != TC_AGAIN) return status;
    patience_start(&p, seconds);
    for (;;) {
        bool check = false;
        status = ask(q);
        if (status != TC_AGAIN) return status;
        int late = patience_step(context, &p, &check);
        if (late == TC_OK && !check) continue;
        int gone = TC_OK;
        for (uint32_t i = 0; check && i < q->count && gone == TC_OK; i++) gone = check_sources(q->signals[i]);
        if (gone == TC_OK) gone = late;
        if (gone == TC_OK) continue;
        status = ask(q);
        if (status == TC_AGAIN && gone == TC_ERR_TIMEOUT && !q->event && nobody_takes(q)) return TC_ERR_OVERFLOW;
        return status == TC_AGAIN ? gone : status;
    }
}

int tc_signal_wait(tc_signal *signal, double seconds) {
    if (!signal) return TC_ERR_ARGUMENT;
    question q = {.signals = &signal, .count = 1};
    return wait_for(&q, seconds);
}

int tc_signal_wait_any(tc_signal **signals, uint32_t count, double seconds, uint32_t *index) {
    if (!signals || !count || !index) return TC_ERR_ARGUMENT;
    for (uint32_t i = 0; i < count; i++)
        if (!signals[i] || signals[i]->context != signals[0]->context) return TC_ERR_ARGUMENT;
    question q = {.signals = signals, .count = count};
    int status = wait_for(&q, seconds);
    if (status == TC_OK || status == TC_ERR_SURPLUS) *index = q.index;
    return status;
}

int tc_signal_take_wait(tc_signal *signal, uint64_t count, double seconds) {
    if (!signal || !count) return TC_ERR_ARGUMENT;
    question q = {.signals = &signal, .count = 1, .take = count};
    return wait_for(&q, seconds);
}

int tc_signal_event_wait(tc_signal *signal, double seconds, tc_event *event) {
    if (!signal || !event) return TC_ERR_ARGUMENT;
    question q = {.signals = &signal, .count = 1, .event = event};
    return wait_for(&q, seconds);
}
