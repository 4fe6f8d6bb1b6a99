/* libfabric: what the completion queues say, and handing on what the library had no room for. */
#include "ofi.h"

/* --- completions ----------------------------------------------------------------------------------------------- */
static void arrived(ofi_transport *t, uint32_t data) {
    tc_context *context = t->base.context;
    uint32_t code = data >> 8 & 63, pieces = 1, bits = index_bits(context), index = data >> (32 - bits);
    uint32_t generations = 0xffffu >> bits;
    bool read = code == CODE_READ;
    if (read) code = 0;
    while ((pieces + 1) * pieces / 2 <= code) pieces++;
    const tc_block *block = index < context->block_count ? context->blocks[index] : NULL;
    arrival a = {.block = index, .generation = (data >> 16 & generations) << 1, .generation_mask = generations << 1,
                 .pieces = pieces, .piece = code - pieces * (pieces - 1) / 2, .value = data & 255, .landed = !read};
    if (block && block->live) a.epoch = full_epoch(block->signal->shared, data >> 14 & 3);
    arrive(context, &a); /* what it refuses is in the statistics and at the signal */
}

int ofi_post_receive(ofi_transport *t, net_op *n) {
    ssize_t status = ofi_submit(t, n); /* not behind what waits for room to go out */
    if (status == -FI_EAGAIN) ofi_delay(t, n);
    return status && status != -FI_EAGAIN ? TC_ERR_TRANSPORT : TC_OK;
}

static int complete(ofi_transport *t, const struct fi_cq_data_entry *entry) {
    net_op *n = entry->op_context;
    if (entry->flags & FI_REMOTE_CQ_DATA) {
        arrived(t, (uint32_t)entry->data);
        return n && n->work == WORK_RECEIVE ? ofi_post_receive(t, n) : TC_OK;
    }
    if (!n) return TC_OK;
    if (n->work == WORK_RECEIVE) {
        message_handle(t->base.context, n->buffer, entry->len);
        return ofi_post_receive(t, n);
    }
    if (n->work == WORK_READ && !n->parent) ofi_read_done(t, n);
    else ofi_finish(t, n, TC_OK);
    return TC_OK;
}

/* --- errors -------------------------------------------------------------------------------------------------------- */
/* An error may come before the end of the connection that tells that the peer died: it is asked about for a while. */
static void suspect(ofi_transport *t, net_op *n, int error) {
    if (ofi_blame(t, n, error) == TC_ERR_PEER_LOST) {
        ofi_finish(t, n, TC_ERR_PEER_LOST);
        return;
    }
    n->deadline = now() + GRACE_SECONDS;
    n->next = t->suspects;
    t->suspects = n;
}

/* Nobody waits for a message between peers: where one failed, whoever drives this learns of it, once. */
static int judge(ofi_transport *t) {
    double time = now();
    int bad = TC_OK;
    if (time - t->judged < CHECK_SECONDS) return TC_OK;
    t->judged = time;
    for (net_op **link = &t->suspects, *n = *link; n; n = *link) {
        int status = ofi_blame(t, n, 0);
        if (status != TC_ERR_PEER_LOST && time < n->deadline) {
            link = &n->next;
            continue;
        }
        *link = n->next;
        if (n->work == WORK_SEND && status != TC_ERR_PEER_LOST) bad = status;
        ofi_finish(t, n, status);
    }
    return bad;
}

static int failed(ofi_transport *t, rail *r) {
    struct fi_cq_err_entry error = {0};
    if (fi_cq_readerr(r->cq, &error, 0) < 0) return TC_OK;
    net_op *n = error.op_context;
    if (!n) return TC_OK;
    if (n->work == WORK_RECEIVE) return error.err == FI_ECANCELED ? TC_OK : ofi_post_receive(t, n);
    suspect(t, n, error.err);
    return TC_OK;
}

/* --- what waits for room ------------------------------------------------------------------------------------------- */
/* Has the library gone on refusing the first in line? */
static bool is_stuck(ofi_transport *t, net_op *n) {
    if (t->first == n && ++t->refusals % SPINS) return false;
    double time = now();
    if (t->first != n) t->first_since = time;
    t->first = n;
    return time - t->first_since > CHECK_SECONDS;
}

static bool go_together(const net_op *a, const net_op *b) {
    bool receives = a->work == WORK_RECEIVE;
    return (b->work == WORK_RECEIVE) == receives && (receives || a->rank == b->rank);
}

/* All for one peer step behind the others, in their order; or end, if it is gone. */
static void step_aside(ofi_transport *t, net_op *first) {
    net_op *all = t->delayed_first, *aside = NULL, **end = &aside, *next;
    const net_op like = *first;
    bool gone = first->work != WORK_RECEIVE && ofi_blame(t, first, 0) == TC_ERR_PEER_LOST;
    t->delayed_first = t->delayed_last = t->first = NULL;
    for (net_op *n = all; n; n = next) {
        next = n->next;
        if (!go_together(&like, n)) {
            ofi_delay(t, n);
        } else if (gone) {
            ofi_finish(t, n, TC_ERR_PEER_LOST);
        } else {
            n->next = NULL;
            *end = n;
            end = &n->next;
        }
    }
    for (net_op *n = aside; n; n = next) {
        next = n->next;
        ofi_delay(t, n);
    }
}

static int hand_on(ofi_transport *t) {
    while (t->delayed_first) {
        net_op *n = t->delayed_first;
        ssize_t status = ofi_submit(t, n);
        if (status == -FI_EAGAIN) {
            if (is_stuck(t, n)) step_aside(t, n);
            return TC_OK;
        }
        t->delayed_first = n->next;
        if (!t->delayed_first) t->delayed_last = NULL;
        t->first = NULL;
        if (status && n->work == WORK_RECEIVE) return TC_ERR_TRANSPORT;
        if (status) suspect(t, n, (int)-status);
    }
    return TC_OK;
}

int ofi_progress(tc_transport *transport) {
    ofi_transport *t = (ofi_transport *)transport;
    struct fi_cq_data_entry entry[BATCH];
    int found = 0, status = t->delayed_first ? hand_on(t) : TC_OK;
    if (t->reading) ofi_read_more(t);
    if (t->suspects && status == TC_OK) status = judge(t);
    for (uint32_t i = 0; i < t->rails && status == TC_OK; i++) {
        ssize_t n = fi_cq_read(t->rail[i].cq, entry, BATCH);
        if (n == -FI_EAVAIL) status = failed(t, &t->rail[i]);
        for (ssize_t k = 0; k < n; k++) { /* all of them: they come only once */
            int bad = complete(t, &entry[k]);
            if (bad) status = bad;
        }
        found |= n > 0;
    }
    return status ? status : found;
}

bool ofi_idle(tc_transport *transport) {
    return ((ofi_transport *)transport)->used == 0;
}
