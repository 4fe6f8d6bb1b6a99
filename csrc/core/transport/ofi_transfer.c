/* libfabric: one endpoint per NIC, a notification on every piece (fi_writedata with 32 bits), striping by weight.
 *
 * Nothing here relies on order: each piece's notification vouches for that piece alone, and arrive.c counts the
 * message when all of them are in. Strided blocks land in memory of their own and are spread out on arrival, since
 * with the providers at hand the target must call in anyway. The 32 bits, from the top:
 *     16 block and generation, as many of the former as the owner's table needs · 2 epoch
 *     6 piece and pieces, or that it was read · 8 value
 */
#include <stdlib.h>
#include <string.h>

#include "ofi.h"

static void run_done(ofi_transport *t, net_op *parent, int status);

/* --- the operations' slots: as many as may be outstanding -------------------------------------------------- */
static net_op *take(ofi_transport *t) {
    net_op *n = t->free_ops;
    if (!n) return NULL;
    t->free_ops = n->next;
    memset(n, 0, sizeof *n);
    t->used++;
    return n;
}

static void release(ofi_transport *t, net_op *n) {
    if (n->mr) fi_close(&n->mr->fid);
    free(n->owned);
    n->mr = NULL;
    n->owned = NULL;
    n->next = t->free_ops;
    t->free_ops = n;
    t->used--;
}

/* Which item it was: see tc_plan_culprit. */
static void name_culprit(tc_plan *plan, const tc_target *target) {
    for (uint32_t i = 0; i < plan->items; i++)
        if (plan->item[i].target == target) plan->culprit = i;
}

void ofi_finish(ofi_transport *t, net_op *n, int status) {
    tc_plan *plan = n->plan;
    net_op *parent = n->parent;
    if (status < 0 && plan) name_culprit(plan, n->target);
    release(t, n);
    if (parent) run_done(t, parent, status);
    else if (plan) op_done(plan, status);
}

/* --- posting ------------------------------------------------------------------------------------------------- */
ssize_t ofi_submit(ofi_transport *t, net_op *n) {
    struct fid_ep *ep = t->rail[n->rail].ep;
    if (n->work == WORK_RECEIVE) return fi_recv(ep, n->buffer, RECEIVE_BYTES, n->desc, FI_ADDR_UNSPEC, n);
    if (n->work == WORK_SEND) return fi_send(ep, n->buffer, n->bytes, n->desc, n->peer, n);
    if (n->work == WORK_READ) return fi_read(ep, n->buffer, n->bytes, n->desc, n->peer, n->address, n->key, n);
    struct iovec local[2] = {{(char *)(uintptr_t)n->head, n->head_bytes}, {n->buffer, n->bytes}};
    bool headed = n->head_bytes, only = headed && n->bytes == 0;
    void *desc[2] = {n->desc, n->desc};
    struct fi_rma_iov there = {n->address, n->head_bytes + n->bytes, n->key};
    struct fi_msg_rma message = {.msg_iov = local + !headed, .desc = desc, .iov_count = headed && !only ? 2 : 1,
                                 .addr = n->peer, .rma_iov = &there, .rma_iov_count = 1, .context = n, .data = n->data};
    uint64_t flags = FI_REMOTE_CQ_DATA | FI_COMPLETION;
    if (n->remote) flags |= FI_DELIVERY_COMPLETE;
    else if (there.len <= t->rail[n->rail].info->tx_attr->inject_size) flags |= FI_INJECT; /* the library's header, too */
    return fi_writemsg(ep, &message, flags);
}

void ofi_delay(ofi_transport *t, net_op *n) {
    n->next = NULL;
    if (t->delayed_last) t->delayed_last->next = n;
    else t->delayed_first = n;
    t->delayed_last = n;
}

int ofi_blame(const ofi_transport *t, const net_op *n, int error) {
    bool gone = error == FI_ECONNRESET || error == FI_ECONNREFUSED || error == FI_ENOTCONN ||
                error == FI_ECONNABORTED || error == FI_ESHUTDOWN || error == FI_EHOSTUNREACH;
    if (gone || tc_peer_alive(t->base.context, n->rank) == TC_ERR_PEER_LOST) return lose(t->base.context, n->rank);
    return TC_ERR_TRANSPORT;
}

/* Post, or keep for progress if the library has no room now; those kept go out in order. */
static int post_or_delay(ofi_transport *t, net_op *n) {
    ssize_t status = t->delayed_first ? -FI_EAGAIN : ofi_submit(t, n);
    if (status == -FI_EAGAIN) {
        ofi_delay(t, n);
        return TC_OK;
    }
    return status ? ofi_blame(t, n, (int)-status) : TC_OK;
}

static int register_local(ofi_transport *t, net_op *n) {
    const rail *r = &t->rail[n->rail];
    if (!wants(r, FI_MR_LOCAL) || n->bytes == 0) return TC_OK;
    uint64_t access = FI_WRITE | FI_READ | FI_SEND;
    if (fi_mr_reg(r->domain, n->buffer, n->bytes, access, 0, ++t->keys, 0, &n->mr, NULL)) return TC_ERR_TRANSPORT;
    n->desc = fi_mr_desc(n->mr);
    return TC_OK;
}

static uint32_t immediate(const tc_op *op, uint32_t piece, uint32_t pieces) {
    const wire_block *w = &op->target->wire;
    uint32_t code = op->get ? CODE_READ : pieces * (pieces - 1) / 2 + piece;
    return w->block << (32 - w->index_bits) | (w->generation >> 1 & (0xffffu >> w->index_bits)) << 16 |
           (uint32_t)(op->epoch % LANES) << 14 | code << 8 | (uint32_t)op->value;
}

/* Does the library gather a head and what follows by itself? Where memory must be registered first, a copy is cheaper. */
static bool takes_head(const ofi_transport *t, const net_op *n, const tc_op *op) {
    const rail *r = &t->rail[n->rail];
    return op->head_bytes && op->local && layout_contiguous(op->layout) && r->info->tx_attr->iov_limit > 1 &&
           !wants(r, FI_MR_LOCAL);
}

/* Fills a slot for bytes [from, from + bytes) of a message, as piece `piece` of `pieces`, over rail `r`. */
static int prepare(ofi_transport *t, net_op *n, const tc_op *op, uint32_t r, uint32_t piece, uint32_t pieces,
                   uint64_t from, uint64_t bytes) {
    const tc_target *target = op->target;
    const links *l = t->base.context->peers[target->peer].network;
    n->work = op->get ? WORK_READ : WORK_WRITE;
    n->rail = r;
    n->rank = target->peer;
    n->plan = op->plan;
    n->target = op->target;
    n->op = *op;
    n->bytes = bytes;
    n->remote = op->remote;
    n->peer = l->address[r];
    n->key = target->wire.rail[r].key;
    n->address = target->wire.rail[r].address + (target->wire.landing ? from : op->there->offset + from);
    n->data = immediate(op, piece, pieces);
    if (takes_head(t, n, op)) {
        uint64_t ahead = of_head(op, from, bytes);
        n->head = op->head + from;
        n->head_bytes = ahead;
        n->bytes = bytes - ahead;
        if (n->bytes) n->buffer = op->local + op->layout->offset + (from + ahead - op->head_bytes);
    } else if (layout_contiguous(op->layout) && !op->head_bytes) {
        n->buffer = op->bytes ? op->local + op->layout->offset + from : op->local; /* which may be NULL then */
    } else {
        n->buffer = n->owned = malloc(bytes ? bytes : 1);
        if (!n->owned) return TC_ERR_NO_MEMORY;
        if (!op->get) gather(n->owned, op, from, bytes);
    }
    return register_local(t, n);
}

/* More bytes than the library takes at once: equal pieces, over the rails in turn; 0 if there would be too many. */
static uint32_t cut_long(const ofi_transport *t, const tc_op *op, uint32_t rails, uint64_t share[TC_MAX_PIECES]) {
    uint64_t pieces = (op->bytes - 1) / t->longest + 1;
    if (op->pieces > 1 || op->target->wire.stream || pieces > TC_MAX_PIECES) return 0;
    if (pieces < rails) pieces = rails;
    for (uint32_t i = 0; i < pieces; i++) share[i] = op->bytes / pieces + (i < op->bytes % pieces);
    return (uint32_t)pieces;
}

/* How many pieces, and how long each: in proportion to the weights of the rails. */
static uint32_t stripes(const ofi_transport *t, const tc_op *op, uint64_t share[TC_MAX_PIECES]) {
    const links *l = t->base.context->peers[op->target->peer].network;
    double sum = 0;
    uint64_t left = op->bytes;
    share[0] = op->bytes;
    if (op->bytes > t->longest && !op->get) return cut_long(t, op, l->rails, share);
    if (op->pieces > 1 || op->get || op->target->wire.stream || l->rails < 2 ||
        op->total < t->base.context->options.stripe_from || op->total < l->rails) /* a repeat has no bytes, but as many */
        return 1;
    for (uint32_t r = 0; r < l->rails; r++) sum += t->rail[r].weight;
    for (uint32_t r = 0; r < l->rails; r++) {
        share[r] = r + 1 == l->rails ? left : (uint64_t)((double)op->bytes * t->rail[r].weight / sum) & ~63ull;
        left -= share[r];
    }
    return l->rails;
}

/* The read is done: put it in place, then a write of nothing tells the owner. */
void ofi_read_done(ofi_transport *t, net_op *n) {
    if (n->owned) {
        tc_layout plain = layout_simple(0, n->op.total);
        layout_copy(n->op.local, n->op.layout, n->owned - n->op.from, &plain, n->op.from, n->op.bytes);
    }
    n->work = WORK_WRITE;
    n->bytes = 0;
    int status = post_or_delay(t, n);
    if (status != TC_OK) ofi_finish(t, n, status);
}

/* --- gets of strided blocks and long ones: one read per run, as many at a time as there are slots ---------------- */

static void read_next(ofi_transport *t, net_op *parent) {
    net_op *n = take(t);
    uint64_t run, at = layout_locate(parent->op.there, parent->cursor, &run);
    n->work = WORK_READ;
    n->parent = parent;
    n->target = parent->target;
    n->rail = parent->rail;
    n->rank = parent->rank;
    n->peer = parent->peer;
    n->desc = parent->desc;
    const wire_block *wire = &parent->target->wire;
    const wire_rail *memory = wire->landing ? &wire->direct : &wire->rail[n->rail];
    n->key = memory->key;
    n->address = memory->address + at;
    n->buffer = parent->buffer + parent->cursor;
    n->bytes = run < parent->bytes - parent->cursor ? run : parent->bytes - parent->cursor;
    if (n->bytes > t->longest) n->bytes = t->longest;
    parent->cursor += n->bytes;
    parent->children++;
    t->base.context->stats.pieces++;
    int status = post_or_delay(t, n);
    if (status != TC_OK) ofi_finish(t, n, status);
}

void ofi_read_more(ofi_transport *t) {
    while (t->reading) {
        net_op *parent = t->reading;
        while (parent->cursor < parent->bytes && t->used < t->base.context->options.outstanding) read_next(t, parent);
        if (parent->cursor < parent->bytes) return;
        t->reading = parent->next;
        run_done(t, parent, TC_OK);
    }
}

/* The operation of the whole get keeps its slot, so that one more must be free for its reads: see ofi_post. It counts
 * among its own children while it has runs to ask for. */
static int read_runs(ofi_transport *t, net_op *n) {
    n->children = 1;
    n->next = t->reading;
    t->reading = n;
    ofi_read_more(t);
    return TC_OK;
}

static void run_done(ofi_transport *t, net_op *parent, int status) {
    if (status != TC_OK) {
        parent->error = status;
        parent->cursor = parent->bytes;
    }
    if (--parent->children) return;
    if (parent->error == TC_OK) ofi_read_done(t, parent);
    else ofi_finish(t, parent, parent->error);
}

static bool by_runs(const ofi_transport *t, const tc_op *op) {
    return op->get && (op->target->wire.landing || op->bytes > t->longest);
}

int ofi_post(tc_transport *transport, const tc_op *op) {
    ofi_transport *t = (ofi_transport *)transport;
    const links *l = transport->context->peers[op->target->peer].network;
    uint32_t most = transport->context->options.outstanding;
    uint64_t share[TC_MAX_PIECES], from = op->from;
    uint32_t count = stripes(t, op, share);
    bool runs = by_runs(t, op);
    if (!count || count > most || (runs && most < 2)) return TC_ERR_LIMIT;
    if (t->used + count + runs > most) return TC_FULL;
    for (uint32_t i = 0; i < count; i++) {
        net_op *n = take(t);
        bool whole = count == 1;
        uint32_t r = (whole ? op->piece : i) % l->rails;
        int status = prepare(t, n, op, r, whole ? op->piece : i, whole ? op->pieces : count, from, share[i]);
        if (status == TC_OK) status = runs ? read_runs(t, n) : post_or_delay(t, n);
        transport->context->stats.pieces++;
        if (status != TC_OK) {
            release(t, n);
            if (i == 0) return status;
            name_culprit(op->plan, op->target); /* what is out cannot be called back: the plan ends with it, in error */
            atomic_store(&op->plan->error, status);
            return TC_AGAIN;
        }
        if (i) atomic_fetch_add(&op->plan->outstanding, 1);
        from += share[i];
    }
    return TC_AGAIN;
}

int ofi_tell(tc_transport *transport, uint32_t peer_rank, char *message, size_t bytes) {
    ofi_transport *t = (ofi_transport *)transport;
    const links *l = transport->context->peers[peer_rank].network;
    net_op *n = take(t);
    if (!n) return TC_FULL;
    n->work = WORK_SEND;
    n->rank = peer_rank;
    n->buffer = n->owned = message;
    n->bytes = bytes;
    n->peer = l->address[0];
    int status = bytes > RECEIVE_BYTES ? TC_ERR_LIMIT : register_local(t, n);
    if (status == TC_OK) status = post_or_delay(t, n);
    if (status != TC_OK) release(t, n);
    return status;
}
