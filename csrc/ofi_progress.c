/* libfabric: what the completion queues say, and handing on what the library had no room for. */
#include "ofi.h"

/* --- completions ----------------------------------------------------------------------------------------------- */
static void arrived(ofi_transport *t, uint32_t data) {
    tc_context *context = t->base.context;
    uint32_t code = data >> 8 & 63, pieces = 1, index = data >> 19;
    bool read = code == CODE_READ;
    if (read) code = 0;
    while ((pieces + 1) * pieces / 2 <= code) pieces++;
    const tc_block *block = index < context->block_count ? context->blocks[index] : NULL;
    arrival a = {.block = index, .generation = (data >> 16 & 7) << 1, .generation_mask = 14, .pieces = pieces,
                 .piece = code - pieces * (pieces - 1) / 2, .value = data & 255, .landed = !read};
    if (block && block->live) a.epoch = full_epoch(block->signal->shared, data >> 14 & 3);
    arrive(context, &a); /* what it refuses is in the statistics and at the signal */
}

int ofi_post_receive(ofi_transport *t, net_op *n) {
    void *desc = t->receive_mr ? fi_mr_desc(t->receive_mr) : NULL;
    return fi_recv(t->rail[n->rail].ep, n->buffer, RECEIVE_BYTES, desc, FI_ADDR_UNSPEC, n) ? TC_ERR_TRANSPORT : TC_OK;
}

/* The read is done: put it in place, then a write of nothing tells the owner. */
void ofi_read_done(ofi_transport *t, net_op *n) {
    if (n->owned) {
        tc_layout plain = layout_simple(0, n->op.total);
        layout_copy(n->op.local, n->op.layout, n->owned - n->op.from, &plain, n->op.from, n->op.bytes);
    }
    n->work = WORK_WRITE;
    n->bytes = 0;
    int status = ofi_post_or_delay(t, n);
    if (status != TC_OK) ofi_finish(t, n, status);
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

static int failed(ofi_transport *t, rail *r) {
    struct fi_cq_err_entry error = {0};
    if (fi_cq_readerr(r->cq, &error, 0) < 0) return TC_OK;
    net_op *n = error.op_context;
    if (!n) return TC_OK;
    if (n->work == WORK_RECEIVE) return error.err == FI_ECANCELED ? TC_OK : ofi_post_receive(t, n);
    bool gone = error.err == FI_ECONNRESET || error.err == FI_ECONNREFUSED || error.err == FI_ENOTCONN ||
                error.err == FI_ECONNABORTED || error.err == FI_ESHUTDOWN || error.err == FI_EHOSTUNREACH;
    if (gone && n->target) lose(t->base.context, n->target->peer);
    ofi_finish(t, n, gone ? TC_ERR_PEER_LOST : TC_ERR_TRANSPORT);
    return TC_OK;
}

int ofi_progress(tc_transport *transport) {
    ofi_transport *t = (ofi_transport *)transport;
    struct fi_cq_data_entry entry[BATCH];
    while (t->delayed_first) {
        net_op *n = t->delayed_first;
        ssize_t status = ofi_submit(t, n);
        if (status == -FI_EAGAIN) break;
        t->delayed_first = n->next;
        if (!t->delayed_first) t->delayed_last = NULL;
        if (status) ofi_finish(t, n, TC_ERR_TRANSPORT);
    }
    ofi_read_more(t);
    int found = 0;
    for (uint32_t i = 0; i < t->rails; i++) {
        ssize_t n = fi_cq_read(t->rail[i].cq, entry, BATCH);
        int status = n == -FI_EAVAIL ? failed(t, &t->rail[i]) : TC_OK;
        for (ssize_t k = 0; k < n && status == TC_OK; k++) status = complete(t, &entry[k]);
        if (status != TC_OK) return status;
        found |= n > 0;
    }
    return found;
}

bool ofi_idle(tc_transport *transport) {
    return ((ofi_transport *)transport)->used == 0;
}
