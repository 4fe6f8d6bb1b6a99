/* libfabric: one endpoint per NIC, a notification on every piece (fi_writedata with 32 bits), striping by weight.
 *
 * Nothing here relies on order: each piece's notification vouches for that piece alone, and arrive.c counts the
 * message when all of them are in. Strided blocks land in memory of their own and are spread out on arrival, since
 * with the providers at hand the target must call in anyway. The 32 bits, from the top:
 *     13 block · 3 generation · 2 epoch · 6 piece and pieces · 8 value
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* The library is opened when a context asks for it, not linked: an MPI library may bring its own under the same name,
 * and must find that one if it is loaded later. What is compiled here asks for the interface of these versions. */
typedef struct library {
    void *handle;
    int (*getinfo)(uint32_t, const char *, const char *, uint64_t, const struct fi_info *, struct fi_info **);
    void (*freeinfo)(struct fi_info *);
    struct fi_info *(*dupinfo)(const struct fi_info *);
    int (*fabric)(struct fi_fabric_attr *, struct fid_fabric **, void *);
    uint32_t (*version)(void);
} library;

#define RECEIVES 64
#define RECEIVE_BYTES 16384
#define BATCH 16

enum work { WORK_WRITE, WORK_READ, WORK_SEND, WORK_RECEIVE };

typedef struct net_op { /* the library's own space first, as its FI_CONTEXT modes ask */
    struct fi_context2 space;
    struct net_op *next;
    enum work work;
    uint32_t rail;
    tc_plan *plan;
    tc_target *target;
    char *buffer, *owned;     /* owned: packed or private bytes, freed at the end */
    size_t bytes;
    struct fid_mr *mr;        /* registered for this operation only */
    fi_addr_t peer;
    uint64_t address, key;
    uint32_t data;
    bool remote, notify_after; /* a get: tell the owner once its memory was read */
    tc_op op;
} net_op;

typedef struct rail {
    struct fi_info *info;
    struct fid_fabric *fabric;
    struct fid_domain *domain;
    struct fid_av *av;
    struct fid_cq *cq;
    struct fid_ep *ep;
    double weight;
} rail;

typedef struct ofi_transport {
    tc_transport base;
    rail rail[TC_MAX_RAILS];
    library library;
    uint32_t rails, used;
    uint64_t keys;
    net_op *free_ops, *ops, *delayed_first, *delayed_last;
    net_op receive[RECEIVES];
    char *receive_memory;
    struct fid_mr *receive_mr;
} ofi_transport;

typedef struct links { /* of one peer */
    uint32_t rails;
    fi_addr_t address[TC_MAX_RAILS];
} links;

static bool wants(const rail *r, uint64_t mode) {
    return (uint64_t)r->info->domain_attr->mr_mode & mode;
}

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

static void finish(ofi_transport *t, net_op *n, int status) {
    tc_plan *plan = n->plan;
    release(t, n);
    if (plan) op_done(plan, status);
}

/* --- posting ------------------------------------------------------------------------------------------------- */
static ssize_t submit(ofi_transport *t, net_op *n) {
    struct fid_ep *ep = t->rail[n->rail].ep;
    void *desc = n->mr ? fi_mr_desc(n->mr) : NULL;
    if (n->work == WORK_SEND) return fi_send(ep, n->buffer, n->bytes, desc, n->peer, n);
    if (n->work == WORK_READ) return fi_read(ep, n->buffer, n->bytes, desc, n->peer, n->address, n->key, n);
    struct iovec local = {n->buffer, n->bytes};
    struct fi_rma_iov there = {n->address, n->bytes, n->key};
    struct fi_msg_rma message = {.msg_iov = &local, .desc = &desc, .iov_count = 1, .addr = n->peer, .rma_iov = &there,
                                 .rma_iov_count = 1, .context = n, .data = n->data};
    uint64_t flags = FI_REMOTE_CQ_DATA | FI_COMPLETION;
    return fi_writemsg(ep, &message, n->remote ? flags | FI_DELIVERY_COMPLETE : flags);
}

static void delay(ofi_transport *t, net_op *n) {
    n->next = NULL;
    if (t->delayed_last) t->delayed_last->next = n;
    else t->delayed_first = n;
    t->delayed_last = n;
}

/* What the library has no room for now goes out from progress, in order. */
static int post_or_delay(ofi_transport *t, net_op *n) {
    ssize_t status = t->delayed_first ? -FI_EAGAIN : submit(t, n);
    if (status == -FI_EAGAIN) {
        delay(t, n);
        return TC_OK;
    }
    return status ? TC_ERR_TRANSPORT : TC_OK;
}

static int register_local(ofi_transport *t, net_op *n) {
    const rail *r = &t->rail[n->rail];
    if (!wants(r, FI_MR_LOCAL) || n->bytes == 0) return TC_OK;
    uint64_t access = FI_WRITE | FI_READ | FI_SEND;
    return fi_mr_reg(r->domain, n->buffer, n->bytes, access, 0, ++t->keys, 0, &n->mr, NULL) ? TC_ERR_TRANSPORT : TC_OK;
}

static uint32_t immediate(const tc_op *op, uint32_t piece, uint32_t pieces) {
    const wire_block *w = &op->target->wire;
    uint32_t code = pieces * (pieces - 1) / 2 + piece;
    return w->block << 19 | (w->generation >> 1 & 7) << 16 | (uint32_t)(op->epoch % LANES) << 14 | code << 8 |
           (uint32_t)op->value;
}

/* Fills a slot for bytes [from, from + bytes) of a message, as piece `piece` of `pieces`, over rail `r`. */
static int prepare(ofi_transport *t, net_op *n, const tc_op *op, uint32_t r, uint32_t piece, uint32_t pieces,
                   uint64_t from, uint64_t bytes) {
    const tc_target *target = op->target;
    const links *l = t->base.context->peers[target->peer].network;
    n->work = op->get ? WORK_READ : WORK_WRITE;
    n->rail = r;
    n->plan = op->plan;
    n->target = op->target;
    n->op = *op;
    n->bytes = bytes;
    n->remote = op->remote;
    n->notify_after = op->get;
    n->peer = l->address[r];
    n->key = target->wire.rail[r].key;
    n->address = target->wire.rail[r].address + (target->wire.landing ? from : op->there->offset + from);
    n->data = immediate(op, piece, pieces);
    if (layout_contiguous(op->layout)) {
        n->buffer = op->local + op->layout->offset + from;
    } else {
        tc_layout plain = layout_simple(0, op->total);
        n->buffer = n->owned = malloc(bytes ? bytes : 1);
        if (!n->owned) return TC_ERR_NO_MEMORY;
        if (!op->get) layout_copy(n->owned - from, &plain, op->local, op->layout, from, bytes);
    }
    return register_local(t, n);
}

/* How many pieces, and how long each: in proportion to the weights of the rails. */
static uint32_t stripes(const ofi_transport *t, const tc_op *op, uint64_t share[TC_MAX_RAILS]) {
    const links *l = t->base.context->peers[op->target->peer].network;
    double sum = 0;
    uint64_t left = op->bytes;
    share[0] = op->bytes;
    if (op->pieces > 1 || op->get || op->target->wire.stream || l->rails < 2 ||
        op->bytes < t->base.context->options.stripe_from || op->bytes < l->rails)
        return 1;
    for (uint32_t r = 0; r < l->rails; r++) sum += t->rail[r].weight;
    for (uint32_t r = 0; r < l->rails; r++) {
        share[r] = r + 1 == l->rails ? left : (uint64_t)((double)op->bytes * t->rail[r].weight / sum) & ~63ull;
        left -= share[r];
    }
    return l->rails;
}

static int ofi_post(tc_transport *transport, const tc_op *op) {
    ofi_transport *t = (ofi_transport *)transport;
    const links *l = transport->context->peers[op->target->peer].network;
    uint64_t share[TC_MAX_RAILS], from = op->from;
    uint32_t count = stripes(t, op, share);
    if (op->get && op->target->wire.landing) return TC_ERR_UNSUPPORTED;
    if (t->used + count > transport->context->options.outstanding) return TC_FULL;
    for (uint32_t i = 0; i < count; i++) {
        net_op *n = take(t);
        bool whole = count == 1;
        uint32_t r = whole ? op->piece % l->rails : i;
        int status = prepare(t, n, op, r, whole ? op->piece : i, whole ? op->pieces : count, from, share[i]);
        if (status == TC_OK) status = post_or_delay(t, n);
        transport->context->stats.pieces++;
        if (status != TC_OK) {
            release(t, n);
            return status;
        }
        if (i) atomic_fetch_add(&op->plan->outstanding, 1);
        from += share[i];
    }
    return TC_AGAIN;
}

static int ofi_prove(tc_transport *transport, tc_target *target, uint64_t number, uint64_t epoch) {
    ofi_transport *t = (ofi_transport *)transport;
    const links *l = transport->context->peers[target->peer].network;
    net_op *n = take(t);
    void *data;
    if (!n) return TC_ERR_LIMIT;
    int status = message_proof(transport->context, target, number, epoch, &data, &n->bytes);
    if (status == TC_OK) {
        n->work = WORK_SEND;
        n->buffer = n->owned = data;
        n->peer = l->address[0];
        status = n->bytes > RECEIVE_BYTES ? TC_ERR_LIMIT : register_local(t, n);
    }
    if (status == TC_OK) status = post_or_delay(t, n);
    if (status != TC_OK) release(t, n);
    return status;
}

/* --- completions ----------------------------------------------------------------------------------------------- */
static void arrived(ofi_transport *t, uint32_t data) {
    tc_context *context = t->base.context;
    uint32_t code = data >> 8 & 63, pieces = 1, index = data >> 19;
    while ((pieces + 1) * pieces / 2 <= code) pieces++;
    const tc_block *block = index < context->block_count ? context->blocks[index] : NULL;
    arrival a = {.block = index, .generation = (data >> 16 & 7) << 1, .generation_mask = 14, .pieces = pieces,
                 .piece = code - pieces * (pieces - 1) / 2, .value = data & 255};
    if (block && block->live) a.epoch = full_epoch(block->signal->shared, data >> 14 & 3);
    arrive(context, &a); /* what it refuses is in the statistics and at the signal */
}

static int post_receive(ofi_transport *t, net_op *n) {
    void *desc = t->receive_mr ? fi_mr_desc(t->receive_mr) : NULL;
    return fi_recv(t->rail[n->rail].ep, n->buffer, RECEIVE_BYTES, desc, FI_ADDR_UNSPEC, n) ? TC_ERR_TRANSPORT : TC_OK;
}

/* The read is done: put it in place, then a write of nothing tells the owner. */
static void read_done(ofi_transport *t, net_op *n) {
    if (n->owned) {
        tc_layout plain = layout_simple(0, n->op.total);
        layout_copy(n->op.local, n->op.layout, n->owned - n->op.from, &plain, n->op.from, n->op.bytes);
    }
    n->work = WORK_WRITE;
    n->notify_after = false;
    n->bytes = 0;
    int status = post_or_delay(t, n);
    if (status != TC_OK) finish(t, n, status);
}

static int complete(ofi_transport *t, const struct fi_cq_data_entry *entry) {
    net_op *n = entry->op_context;
    if (entry->flags & FI_REMOTE_CQ_DATA) {
        arrived(t, (uint32_t)entry->data);
        return n && n->work == WORK_RECEIVE ? post_receive(t, n) : TC_OK;
    }
    if (!n) return TC_OK;
    if (n->work == WORK_RECEIVE) {
        message_handle(t->base.context, n->buffer, entry->len);
        return post_receive(t, n);
    }
    if (n->work == WORK_READ) read_done(t, n);
    else finish(t, n, TC_OK);
    return TC_OK;
}

static int failed(ofi_transport *t, rail *r) {
    struct fi_cq_err_entry error = {0};
    if (fi_cq_readerr(r->cq, &error, 0) < 0) return TC_OK;
    net_op *n = error.op_context;
    if (!n) return TC_OK;
    if (n->work == WORK_RECEIVE) return error.err == FI_ECANCELED ? TC_OK : post_receive(t, n);
    bool gone = error.err == FI_ECONNRESET || error.err == FI_ECONNREFUSED || error.err == FI_ENOTCONN ||
                error.err == FI_ECONNABORTED || error.err == FI_ESHUTDOWN || error.err == FI_EHOSTUNREACH;
    if (gone && n->target) lose(t->base.context, n->target->peer);
    finish(t, n, gone ? TC_ERR_PEER_LOST : TC_ERR_TRANSPORT);
    return TC_OK;
}

static int ofi_progress(tc_transport *transport) {
    ofi_transport *t = (ofi_transport *)transport;
    struct fi_cq_data_entry entry[BATCH];
    while (t->delayed_first) {
        net_op *n = t->delayed_first;
        ssize_t status = submit(t, n);
        if (status == -FI_EAGAIN) break;
        t->delayed_first = n->next;
        if (!t->delayed_first) t->delayed_last = NULL;
        if (status) finish(t, n, TC_ERR_TRANSPORT);
    }
    for (uint32_t i = 0; i < t->rails; i++) {
        ssize_t n = fi_cq_read(t->rail[i].cq, entry, BATCH);
        int status = n == -FI_EAVAIL ? failed(t, &t->rail[i]) : TC_OK;
        for (ssize_t k = 0; k < n && status == TC_OK; k++) status = complete(t, &entry[k]);
        if (status != TC_OK) return status;
    }
    return TC_OK;
}

static bool ofi_idle(tc_transport *transport) {
    return ((ofi_transport *)transport)->used == 0;
}

/* --- memory ------------------------------------------------------------------------------------------------------ */
int ofi_register(tc_transport *transport, tc_memory *memory) {
    ofi_transport *t = (ofi_transport *)transport;
    uint64_t access = FI_REMOTE_WRITE | FI_REMOTE_READ | FI_WRITE | FI_READ | FI_SEND | FI_RECV;
    for (uint32_t r = 0; r < t->rails && memory->bytes; r++) {
        struct fid_mr *mr;
        if (fi_mr_reg(t->rail[r].domain, memory->base, memory->bytes, access, 0, ++t->keys, 0, &mr, NULL)) {
            ofi_unregister(memory);
            return TC_ERR_TRANSPORT;
        }
        memory->rail[r] = mr;
    }
    return TC_OK;
}

void ofi_unregister(tc_memory *memory) {
    for (uint32_t r = 0; r < TC_MAX_RAILS; r++) {
        struct fid_mr *mr = memory->rail[r];
        if (mr) fi_close(&mr->fid);
        memory->rail[r] = NULL;
    }
}

void ofi_wire(tc_memory *memory, wire_block *wire) {
    const ofi_transport *t = (const ofi_transport *)memory->context->ofi;
    for (uint32_t r = 0; t && r < t->rails && memory->rail[r]; r++) {
        wire->rail[r].key = fi_mr_key(memory->rail[r]);
        wire->rail[r].address = wants(&t->rail[r], FI_MR_VIRT_ADDR) ? (uint64_t)(uintptr_t)memory->base : 0;
        wire->rails = r + 1;
    }
}

/* --- opening ------------------------------------------------------------------------------------------------------ */
static int load(library *l) {
    l->handle = dlopen("libfabric.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!l->handle) return TC_ERR_UNSUPPORTED;
    *(void **)&l->getinfo = dlvsym(l->handle, "fi_getinfo", "FABRIC_1.3");
    *(void **)&l->freeinfo = dlvsym(l->handle, "fi_freeinfo", "FABRIC_1.3");
    *(void **)&l->dupinfo = dlvsym(l->handle, "fi_dupinfo", "FABRIC_1.3");
    *(void **)&l->fabric = dlvsym(l->handle, "fi_fabric", "FABRIC_1.1");
    *(void **)&l->version = dlvsym(l->handle, "fi_version", "FABRIC_1.0");
    return l->getinfo && l->freeinfo && l->dupinfo && l->fabric && l->version ? TC_OK : TC_ERR_UNSUPPORTED;
}

static struct fi_info *hints_for(const library *l, const tc_options *o, const char *nic) {
    struct fi_info *hints = l->dupinfo(NULL);
    if (!hints) return NULL;
    hints->caps = FI_RMA | FI_MSG;
    hints->mode = FI_RX_CQ_DATA | FI_CONTEXT | FI_CONTEXT2;
    hints->ep_attr->type = FI_EP_RDM;
    hints->domain_attr->mr_mode = FI_MR_LOCAL | FI_MR_ALLOCATED | FI_MR_PROV_KEY | FI_MR_VIRT_ADDR;
    hints->domain_attr->threading = FI_THREAD_DOMAIN;
    if (o->provider[0]) hints->fabric_attr->prov_name = strdup(o->provider);
    if (nic[0]) hints->domain_attr->name = strdup(nic);
    return hints;
}

/* Layered providers ignore a hint that names an interface, so the answers are looked through as well. */
static bool fits(const struct fi_info *i, const char *nic) {
    return i->domain_attr->cq_data_size >= 4 && (!nic[0] || strcmp(i->domain_attr->name, nic) == 0);
}

/* The first interface of that name, or of any, that can carry 32 bits with a write. */
static struct fi_info *find(const library *l, const tc_options *o, const char *nic) {
    struct fi_info *hints = hints_for(l, o, nic), *list = NULL, *found = NULL;
    if (hints && l->getinfo(FI_VERSION(1, 17), NULL, NULL, 0, hints, &list) == 0) {
        const struct fi_info *i = list;
        while (i && !fits(i, nic)) i = i->next;
        if (i) found = l->dupinfo(i);
        l->freeinfo(list);
    }
    if (hints) l->freeinfo(hints);
    return found;
}

static int open_rail(const library *l, rail *r, size_t outstanding) {
    struct fi_av_attr av = {.type = FI_AV_UNSPEC};
    struct fi_cq_attr cq = {.format = FI_CQ_FORMAT_DATA, .size = 4 * outstanding + RECEIVES, .wait_obj = FI_WAIT_NONE};
    int bad = l->fabric(r->info->fabric_attr, &r->fabric, NULL);
    if (!bad) bad = fi_domain(r->fabric, r->info, &r->domain, NULL);
    if (!bad) bad = fi_av_open(r->domain, &av, &r->av, NULL);
    if (!bad) bad = fi_cq_open(r->domain, &cq, &r->cq, NULL);
    if (!bad) bad = fi_endpoint(r->domain, r->info, &r->ep, NULL);
    if (!bad) bad = fi_ep_bind(r->ep, &r->av->fid, 0);
    if (!bad) bad = fi_ep_bind(r->ep, &r->cq->fid, FI_TRANSMIT | FI_RECV);
    if (!bad) bad = fi_enable(r->ep);
    return bad ? TC_ERR_TRANSPORT : TC_OK;
}

static int post_receives(ofi_transport *t) {
    t->receive_memory = malloc((size_t)RECEIVES * RECEIVE_BYTES);
    if (!t->receive_memory) return TC_ERR_NO_MEMORY;
    if (wants(&t->rail[0], FI_MR_LOCAL) &&
        fi_mr_reg(t->rail[0].domain, t->receive_memory, (size_t)RECEIVES * RECEIVE_BYTES, FI_RECV, 0, ++t->keys, 0,
                  &t->receive_mr, NULL))
        return TC_ERR_TRANSPORT;
    for (int i = 0; i < RECEIVES; i++) {
        net_op *n = &t->receive[i];
        n->work = WORK_RECEIVE;
        n->rail = 0;
        n->buffer = t->receive_memory + (size_t)i * RECEIVE_BYTES;
        int status = post_receive(t, n);
        if (status) return status;
    }
    return TC_OK;
}

static int open_rails(ofi_transport *t) {
    tc_context *context = t->base.context;
    char names[sizeof context->options.nics], *rest = names;
    memcpy(names, context->options.nics, sizeof names);
    for (char *nic = strsep(&rest, ","); nic; nic = strsep(&rest, ",")) {
        if (t->rails == TC_MAX_RAILS) return TC_ERR_LIMIT;
        rail *r = &t->rail[t->rails];
        r->info = find(&t->library, &context->options, nic);
        if (!r->info) {
            snprintf(context->note, sizeof context->note, "no interface %.60s of provider %.40s notifies with 32 bits",
                     nic[0] ? nic : "(any)", context->options.provider[0] ? context->options.provider : "(any)");
            return TC_ERR_UNSUPPORTED;
        }
        double weight = context->options.weights[t->rails];
        r->weight = weight > 0 ? weight : 1;
        t->rails++;
        int status = open_rail(&t->library, r, context->options.outstanding);
        if (status) return status;
    }
    return post_receives(t);
}

static void close_fid(struct fid *fid) {
    if (fid) fi_close(fid);
}

static void ofi_close(tc_transport *transport) {
    ofi_transport *t = (ofi_transport *)transport;
    for (uint32_t i = 0; i < t->rails; i++) close_fid(t->rail[i].ep ? &t->rail[i].ep->fid : NULL);
    for (uint32_t i = 0; t->ops && i < transport->context->options.outstanding; i++) {
        close_fid(t->ops[i].mr ? &t->ops[i].mr->fid : NULL);
        free(t->ops[i].owned);
    }
    close_fid(t->receive_mr ? &t->receive_mr->fid : NULL);
    for (uint32_t i = 0; i < t->rails; i++) {
        rail *r = &t->rail[i];
        close_fid(r->cq ? &r->cq->fid : NULL);
        close_fid(r->av ? &r->av->fid : NULL);
        close_fid(r->domain ? &r->domain->fid : NULL);
        close_fid(r->fabric ? &r->fabric->fid : NULL);
        if (r->info) t->library.freeinfo(r->info);
    }
    if (t->library.handle) dlclose(t->library.handle);
    free(t->receive_memory);
    free(t->ops);
    free(t);
}

int ofi_open_transport(tc_context *context, tc_transport **out) {
    ofi_transport *t = calloc(1, sizeof *t);
    if (!t) return TC_ERR_NO_MEMORY;
    t->base = (tc_transport){.kind = TC_OFI, .value_bits = 8, .post = ofi_post, .progress = ofi_progress,
                             .idle = ofi_idle, .prove = ofi_prove, .close = ofi_close, .context = context};
    t->ops = calloc(context->options.outstanding, sizeof *t->ops);
    for (uint32_t i = 0; t->ops && i < context->options.outstanding; i++) {
        t->ops[i].next = t->free_ops;
        t->free_ops = &t->ops[i];
    }
    int status = t->ops ? load(&t->library) : TC_ERR_NO_MEMORY;
    if (status == TC_ERR_UNSUPPORTED)
        snprintf(context->note, sizeof context->note, "libfabric.so.1 is not there, or older than it was at build time");
    if (status == TC_OK) status = open_rails(t);
    if (status) {
        ofi_close(&t->base);
        return status;
    }
    *out = &t->base;
    return TC_OK;
}

/* --- peers ---------------------------------------------------------------------------------------------------------- */
int ofi_address(tc_transport *transport, wire_address *address) {
    ofi_transport *t = (ofi_transport *)transport;
    for (uint32_t r = 0; r < t->rails; r++) {
        size_t bytes = RAIL_NAME_BYTES;
        if (fi_getname(&t->rail[r].ep->fid, address->rail[r], &bytes) || bytes > RAIL_NAME_BYTES)
            return TC_ERR_TRANSPORT;
        address->rail_bytes[r] = (uint32_t)bytes;
    }
    address->rails = t->rails;
    if (t->rail[0].info->addr_format == FI_SOCKADDR_IN) {
        address->live_bytes = address->rail_bytes[0];
        memcpy(address->live, address->rail[0], sizeof address->live);
    }
    return TC_OK;
}

int ofi_connect(tc_transport *transport, peer *p) {
    ofi_transport *t = (ofi_transport *)transport;
    links *l = calloc(1, sizeof *l);
    if (!l) return TC_ERR_NO_MEMORY;
    l->rails = t->rails < p->address.rails ? t->rails : p->address.rails;
    for (uint32_t r = 0; r < l->rails; r++) {
        if (fi_av_insert(t->rail[r].av, p->address.rail[r], 1, &l->address[r], 0, NULL) == 1) continue;
        free(l);
        return TC_ERR_UNREACHABLE;
    }
    p->network = l;
    return TC_OK;
}

void ofi_disconnect(peer *p) {
    free(p->network);
    p->network = NULL;
}

int ofi_capabilities(tc_context *context, tc_capability *list, uint32_t capacity, uint32_t *count) {
    const ofi_transport *t = (const ofi_transport *)context->ofi;
    uint32_t rails = t ? t->rails : 1;
    if (rails > capacity) return TC_ERR_ARGUMENT;
    for (uint32_t r = 0; r < rails; r++) {
        tc_capability *c = &list[r];
        *c = (tc_capability){.transport = "ofi", .provider = "absent", .present = t != NULL};
        if (!t) {
            snprintf(c->note, sizeof c->note, "%s", context->note[0] ? context->note : "not asked for");
            continue;
        }
        const struct fi_info *i = t->rail[r].info;
        snprintf(c->provider, sizeof c->provider, "%s", i->fabric_attr->prov_name);
        snprintf(c->nic, sizeof c->nic, "%s", i->domain_attr->name);
        c->notify_bits = (uint32_t)(8 * i->domain_attr->cq_data_size);
        c->value_bits = 8;
        c->native = 1;
        c->auto_progress = i->domain_attr->data_progress == FI_PROGRESS_AUTO;
        c->ordered = (i->rx_attr->msg_order & FI_ORDER_WAW) != 0;
        c->max_message = i->ep_attr->max_msg_size;
        snprintf(c->note, sizeof c->note, "libfabric %u.%u; 32 bits used; weight %.3g; dead peers %s",
                 FI_MAJOR(t->library.version()), FI_MINOR(t->library.version()), t->rail[r].weight,
                 i->addr_format == FI_SOCKADDR_IN ? "noticed by a connection" : "noticed on the same node only");
    }
    *count = rails;
    return TC_OK;
}
