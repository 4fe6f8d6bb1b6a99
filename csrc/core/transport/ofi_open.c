/* libfabric: opening the library, its interfaces, memory and peers, and what they offer. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ofi.h"

#define SMALL_JOB 64u /* ranks: every peer's connection (live.c) is begun when it is connected */

/* --- memory ------------------------------------------------------------------------------------------------------ */
/* A message of nothing, too, goes to registered memory. */
static void *start_of(const ofi_transport *t, const tc_memory *memory) {
    return memory->bytes ? memory->base : (void *)(uintptr_t)t->nothing;
}

static void ofi_withdraw(tc_transport *transport, tc_memory *memory) {
    (void)transport;
    for (uint32_t r = 0; r < TC_MAX_RAILS; r++) {
        struct fid_mr *mr = memory->rail[r];
        if (mr) fi_close(&mr->fid);
        memory->rail[r] = NULL;
    }
}

static int ofi_enrol(tc_transport *transport, tc_memory *memory) {
    ofi_transport *t = (ofi_transport *)transport;
    uint64_t access = FI_REMOTE_WRITE | FI_REMOTE_READ | FI_WRITE | FI_READ | FI_SEND | FI_RECV;
    uint64_t bytes = memory->bytes ? memory->bytes : sizeof t->nothing;
    for (uint32_t r = 0; r < t->rails; r++) {
        struct fid_mr *mr;
        if (fi_mr_reg(t->rail[r].domain, start_of(t, memory), bytes, access, 0, ++t->keys, 0, &mr, NULL))
            return TC_ERR_TRANSPORT;
        memory->rail[r] = mr;
    }
    return TC_OK;
}

static wire_rail reach(const rail *r, const void *start, struct fid_mr *mr) {
    return (wire_rail){wants(r, FI_MR_VIRT_ADDR) ? (uint64_t)(uintptr_t)start : 0, fi_mr_key(mr)};
}

static void ofi_describe(tc_transport *transport, const tc_block *block, wire_block *wire) {
    const ofi_transport *t = (const ofi_transport *)transport;
    const tc_memory *memory = block->landing ? block->landing : block->memory;
    for (uint32_t r = 0; r < t->rails && memory->rail[r]; r++) {
        wire->rail[r] = reach(&t->rail[r], start_of(t, memory), memory->rail[r]);
        wire->rails = r + 1;
    }
    if (block->landing) wire->direct = reach(&t->rail[0], block->memory->base, block->memory->rail[0]);
}

/* --- peers ---------------------------------------------------------------------------------------------------------- */
static int ofi_address(tc_transport *transport, wire_address *address) {
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
    return live_address(transport->context, address);
}

static int ofi_connect(tc_transport *transport, peer *p) {
    ofi_transport *t = (ofi_transport *)transport;
    if (!p->address.rails) return TC_ERR_UNREACHABLE;
    links *l = calloc(1, sizeof *l);
    if (!l) return TC_ERR_NO_MEMORY;
    l->rails = t->rails < p->address.rails ? t->rails : p->address.rails;
    for (uint32_t r = 0; r < l->rails; r++) {
        if (fi_av_insert(t->rail[r].av, p->address.rail[r], 1, &l->address[r], 0, NULL) == 1) continue;
        free(l);
        return TC_ERR_UNREACHABLE;
    }
    p->network = l;
    tc_context *context = transport->context;
    if (context->options.size <= SMALL_JOB) live_dial(context, (uint32_t)(p - context->peers));
    return TC_OK;
}

static void ofi_disconnect(tc_transport *transport, peer *p) {
    (void)transport;
    free(p->network);
    p->network = NULL;
}

static int ofi_capabilities(tc_transport *transport, tc_capability *list, uint32_t capacity, uint32_t *count) {
    const ofi_transport *t = (const ofi_transport *)transport;
    if (t->rails > capacity) return TC_ERR_ARGUMENT;
    for (uint32_t r = 0; r < t->rails; r++) {
        const struct fi_info *i = t->rail[r].info;
        tc_capability *c = &list[r];
        *c = (tc_capability){.transport = "ofi", .present = 1, .value_bits = 8, .native = 1,
                             .max_message = i->ep_attr->max_msg_size};
        c->notify_bits = (uint32_t)(8 * i->domain_attr->cq_data_size);
        snprintf(c->provider, sizeof c->provider, "%s", i->fabric_attr->prov_name);
        snprintf(c->nic, sizeof c->nic, "%s", i->domain_attr->name);
        c->auto_progress = i->domain_attr->data_progress == FI_PROGRESS_AUTO;
        c->ordered = (i->rx_attr->msg_order & FI_ORDER_WAW) != 0;
        bool watched = i->addr_format == FI_SOCKADDR_IN && transport->context->listener >= 0;
        snprintf(c->note, sizeof c->note, "libfabric %u.%u; 32 bits used; weight %.3g; dead peers %s",
                 FI_MAJOR(t->library.version()), FI_MINOR(t->library.version()), t->rail[r].weight,
                 watched ? "noticed by a connection" : "noticed on the same node only");
    }
    *count = t->rails;
    return TC_OK;
}

/* --- opening ------------------------------------------------------------------------------------------------------ */
static int load(library *l) {
    /* it stays when its last context closes: each time it is loaded, it keeps a little memory for ever */
    l->handle = dlopen("libfabric.so.1", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
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

/* Append the interfaces that exist, for whoever named another one. */
static void add_choices(const library *l, char *text, size_t room) {
    tc_options any = {.rank = 0};
    struct fi_info *hints = hints_for(l, &any, ""), *list = NULL;
    const char *lead = "; there are ";
    if (hints && l->getinfo(FI_VERSION(1, 17), NULL, NULL, 0, hints, &list) == 0) {
        for (const struct fi_info *i = list; i; i = i->next) {
            char entry[96];
            snprintf(entry, sizeof entry, "%.40s of %.40s", i->domain_attr->name, i->fabric_attr->prov_name);
            size_t used = strlen(text);
            if (!fits(i, "") || strstr(text, entry) || used + strlen(lead) + strlen(entry) >= room) continue;
            snprintf(text + used, room - used, "%s%s", lead, entry);
            lead = ", ";
        }
        l->freeinfo(list);
    }
    if (hints) l->freeinfo(hints);
}

static int open_rail(const library *l, rail *r, size_t outstanding) {
    struct fi_av_attr av = {.type = FI_AV_UNSPEC};
    struct fi_cq_attr cq = {.format = FI_CQ_FORMAT_DATA, .size = 4 * (outstanding + RESERVE) + RECEIVES,
                            .wait_obj = FI_WAIT_NONE};
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
        n->desc = t->receive_mr ? fi_mr_desc(t->receive_mr) : NULL;
        n->buffer = t->receive_memory + (size_t)i * RECEIVE_BYTES;
        int status = ofi_post_receive(t, n);
        if (status) return status;
    }
    return TC_OK;
}

static int open_rails(ofi_transport *t) {
    tc_context *context = t->base.context;
    char names[sizeof context->options.nics], *rest = names;
    bool ended = memchr(context->options.provider, 0, sizeof context->options.provider);
    if (!ended || !memchr(context->options.nics, 0, sizeof names)) return TC_ERR_ARGUMENT;
    memcpy(names, context->options.nics, sizeof names);
    for (char *nic = strsep(&rest, ","); nic; nic = strsep(&rest, ",")) {
        if (t->rails == TC_MAX_RAILS) return TC_ERR_LIMIT;
        rail *r = &t->rail[t->rails];
        r->info = find(&t->library, &context->options, nic);
        if (!r->info) {
            snprintf(context->note, sizeof context->note, "no interface %.60s of provider %.40s notifies with 32 bits",
                     nic[0] ? nic : "(any)", context->options.provider[0] ? context->options.provider : "(any)");
            add_choices(&t->library, context->note, sizeof context->note);
            return TC_ERR_UNSUPPORTED;
        }
        double weight = context->options.weights[t->rails];
        r->weight = weight > 0 ? weight : 1;
        t->rails++;
        int status = open_rail(&t->library, r, context->options.outstanding);
        if (status) return status;
        if (r->info->ep_attr->max_msg_size < t->longest) t->longest = r->info->ep_attr->max_msg_size;
    }
    t->base.longest = t->longest;
    return post_receives(t);
}

static void close_fid(struct fid *fid) {
    if (fid) fi_close(fid);
}

static uint32_t slots(const tc_context *context) {
    return context->options.outstanding + RESERVE;
}

static void ofi_close(tc_transport *transport) {
    ofi_transport *t = (ofi_transport *)transport;
    for (uint32_t i = 0; i < t->rails; i++) close_fid(t->rail[i].ep ? &t->rail[i].ep->fid : NULL);
    for (uint32_t i = 0; t->ops && i < slots(transport->context); i++) {
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
    t->base = (tc_transport){.context = context, .kind = TC_OFI, .value_bits = 8, .network = true,
                             .address = ofi_address, .connect = ofi_connect, .disconnect = ofi_disconnect,
                             .enrol = ofi_enrol, .withdraw = ofi_withdraw, .describe = ofi_describe, .post = ofi_post,
                             .progress = ofi_progress, .idle = ofi_idle, .tell = ofi_tell,
                             .capabilities = ofi_capabilities, .close = ofi_close};
    t->longest = UINT64_MAX;
    t->ops = calloc(slots(context), sizeof *t->ops);
    for (uint32_t i = 0; t->ops && i < slots(context); i++) {
        t->ops[i].next = t->free_ops;
        t->free_ops = &t->ops[i];
    }
    int status = t->ops ? load(&t->library) : TC_ERR_NO_MEMORY;
    if (status == TC_ERR_UNSUPPORTED)
        snprintf(context->note, sizeof context->note, "libfabric.so.1 is not there, or older than it was at build time");
    if (status == TC_OK) status = open_rails(t);
    if (status == TC_OK) status = live_open(context);
    if (status) {
        ofi_close(&t->base);
        return status;
    }
    *out = &t->base;
    return TC_OK;
}
