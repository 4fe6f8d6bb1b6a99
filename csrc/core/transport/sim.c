/* A simulated network in front of any transport, for tests: cuts, reorders, delays and repeats pieces, or drops them,
 * all from one seed. A repeated piece is its notification only: its data is the same bytes in the same place.
 */
#include <stdlib.h>

#include "internal.h"

typedef struct held {
    tc_op op;
    double due;
    bool again; /* to be repeated once it is through */
} held;

typedef struct sim_transport {
    tc_transport base;
    tc_faults faults;
    held *queue;
    uint32_t count, capacity;
    uint64_t state;
} sim_transport;

static uint64_t draw(sim_transport *t) { /* xorshift64* */
    t->state ^= t->state >> 12;
    t->state ^= t->state << 25;
    t->state ^= t->state >> 27;
    return t->state * 0x2545f4914f6cdd1dull;
}

static double chance(sim_transport *t) {
    return (double)(draw(t) >> 11) * 0x1p-53;
}

static void hold(sim_transport *t, const tc_op *op, bool again) {
    double delay = 1e-6 * t->faults.delay_us * chance(t);
    t->queue[t->count++] = (held){*op, now() + delay, again};
    atomic_fetch_add(&op->plan->outstanding, 1);
}

/* Who waits for an answer waits in vain; who does not never knows. */
static void drop(const tc_op *op) {
    if (!op->get && !op->remote) return;
    op->plan->dropped++;
    atomic_fetch_add(&op->plan->outstanding, 1);
}

static uint32_t cut(sim_transport *t, const tc_op *op) {
    if (t->faults.pieces < 2 || op->get || op->target->wire.stream || op->bytes < 2) return 1;
    uint32_t pieces = 1 + (uint32_t)(draw(t) % t->faults.pieces);
    return pieces < op->bytes ? pieces : (uint32_t)op->bytes;
}

static int sim_post(tc_transport *transport, const tc_op *op) {
    sim_transport *t = (sim_transport *)transport;
    uint32_t pieces = cut(t, op);
    uint64_t from = 0;
    if (t->count + TC_MAX_PIECES > t->capacity) return TC_FULL;
    for (uint32_t i = 0; i < pieces; i++) {
        tc_op piece = *op;
        uint64_t left = op->bytes - from, share = left;
        if (i + 1 < pieces) share = 1 + draw(t) % (left - (pieces - i - 1));
        piece.from = from;
        piece.bytes = share;
        piece.piece = i;
        piece.pieces = pieces;
        piece.track = true;
        from += share;
        if (chance(t) < t->faults.drop) {
            drop(op);
            continue;
        }
        hold(t, &piece, !op->get && !op->target->wire.stream && chance(t) < t->faults.duplicate);
    }
    return TC_OK; /* every held piece counts for the plan by itself */
}

static int release(sim_transport *t, uint32_t i) {
    held h = t->queue[i];
    tc_transport *inner = t->base.context->peers[h.op.target->peer].inner;
    int status = inner->post(inner, &h.op);
    if (status == TC_FULL) return TC_FULL;
    t->queue[i] = t->queue[t->count - 1];
    t->count--;
    if (h.again && status >= 0) {
        tc_op repeated = h.op;
        repeated.bytes = 0;
        hold(t, &repeated, false);
    }
    if (status != TC_AGAIN) op_done(h.op.plan, status);
    return TC_OK;
}

static int sim_progress(tc_transport *transport) {
    sim_transport *t = (sim_transport *)transport;
    double time = now();
    for (uint32_t tries = t->count; tries > 0 && t->count > 0; tries--) {
        uint32_t i = t->faults.reorder ? (uint32_t)(draw(t) % t->count) : 0;
        if (t->queue[i].due > time) continue;
        if (!t->faults.reorder) { /* the queue is filled from its end: take the oldest */
            held first = t->queue[0];
            for (uint32_t k = 1; k < t->count; k++) t->queue[k - 1] = t->queue[k];
            t->queue[t->count - 1] = first;
            i = t->count - 1;
        }
        if (release(t, i) == TC_FULL) break;
    }
    return TC_OK;
}

static bool sim_idle(tc_transport *transport) {
    return ((sim_transport *)transport)->count == 0;
}

static void sim_close(tc_transport *transport) {
    sim_transport *t = (sim_transport *)transport;
    free(t->queue);
    free(t);
}

int sim_open_transport(tc_context *context, const tc_faults *faults, tc_transport **out) {
    sim_transport *t = calloc(1, sizeof *t);
    if (!t) return TC_ERR_NO_MEMORY;
    t->capacity = context->options.outstanding + TC_MAX_PIECES;
    t->queue = malloc(t->capacity * sizeof *t->queue);
    if (!t->queue) {
        free(t);
        return TC_ERR_NO_MEMORY;
    }
    t->base = (tc_transport){.context = context, .kind = TC_SIM, .value_bits = 64, .post = sim_post,
                             .progress = sim_progress, .idle = sim_idle, .close = sim_close};
    t->faults = *faults;
    t->state = (faults->seed + 1 + context->options.rank) * 0x9e3779b97f4a7c15ull | 1;
    *out = &t->base;
    return TC_OK;
}
