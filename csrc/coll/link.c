/* Links: memory in which two processes put for each other, made when they first need it and never given back, since the
 * other side may put there as long as it lives. Their lanes together take at most the bytes that the process allows.
 */
#include <stdlib.h>
#include <string.h>

#include "puts.h"

#define OFFER_MAGIC 0x4c4b4f46u
#define OFFER_VERSION 1u
#define WIDEST (1u << 18)   /* bytes of a lane */
#define NARROWEST (1u << 13)
#define SHARE 64            /* of what is left, one lane takes at most this part */

/* --- the process's end --------------------------------------------------------------------------------------------- */
int tc_net_open(tc_context *context, uint32_t world, uint32_t size, uint64_t most, tc_net **net) {
    if (net == NULL || world >= size) return TC_ERR_ARGUMENT;
    tc_net *n = calloc(1, sizeof *n);
    process *processes = calloc(size, sizeof *processes);
    if (n == NULL || processes == NULL) {
        free(n);
        free(processes);
        return TC_ERR_NO_MEMORY;
    }
    *n = (tc_net){.holders = 1, .context = context, .world = world, .size = size, .processes = processes, .left = most};
    pthread_mutex_init(&n->lock, NULL);
    *net = n;
    return TC_OK;
}

/* Plans that are under way go with their context. */
static void link_free(link *l) {
    for (uint32_t t = 0; t < TURNS; t++)
        for (uint32_t s = 0; s < SLOTS; s++)
            if (l->out[t].plan[s]) tc_plan_free(l->out[t].plan[s]);
    if (l->credit_plan) tc_plan_free(l->credit_plan);
    free(l);
}

void net_release(tc_net *net) {
    if (atomic_fetch_sub(&net->holders, 1) != 1) return;
    for (uint32_t i = 0; i < net->size; i++)
        for (link *l = net->processes[i].links, *next; l; l = next) {
            next = l->next;
            link_free(l);
        }
    pthread_mutex_destroy(&net->lock);
    free(net->processes);
    free(net);
}

int tc_net_close(tc_net *net) {
    if (net == NULL) return TC_ERR_ARGUMENT;
    net_release(net);
    return TC_OK;
}

int tc_net_info(const tc_net *net, tc_net_facts *facts) {
    if (net == NULL || facts == NULL) return TC_ERR_ARGUMENT;
    *facts = (tc_net_facts){.links = net->links, .memory = net->memory, .openings = net->openings,
                            .messages = net->messages, .parts = net->parts, .credits = net->credits};
    return TC_OK;
}

/* --- our side ------------------------------------------------------------------------------------------------------ */
static tc_layout stretch(uint64_t offset, uint64_t bytes) {
    return (tc_layout){.offset = offset, .run = bytes, .count = {1, 1, 1}};
}

/* Return the bytes of a lane of a new link: a power of two, the smaller the less is left; 0 if there is no room. */
static uint64_t choose_room(const tc_net *net) {
    uint64_t room = WIDEST;
    while (room > NARROWEST && room > net->left / SHARE) room /= 2;
    return TURNS * room <= net->left ? room : 0;
}

static int issue_blocks(link *l) {
    tc_layout all = stretch(0, TURNS * l->room), words = stretch(TURNS * l->room, TURNS * sizeof(uint32_t));
    tc_context *context = l->net->context;
    int status = TC_OK;
    for (uint32_t i = 0; i < NOTICES && status == TC_OK; i++) {
        landing_lane *lane = &l->in[i / SLOTS];
        tc_signal **signal = &lane->signal[i % SLOTS];
        status = tc_signal_create(context, TC_COUNTED, signal);
        if (status == TC_OK)
            status = tc_block_issue(l->memory, &all, *signal, l->world, i, &lane->block[i % SLOTS]);
    }
    if (status == TC_OK) status = tc_signal_create(context, TC_STREAM, &l->credited);
    if (status == TC_OK) status = tc_block_issue(l->memory, &words, l->credited, l->world, NOTICES, &l->credit_block);
    return status;
}

/* Where something was refused, nothing of it remains. */
static void withdraw(link *l) {
    for (uint32_t i = 0; i < NOTICES; i++) {
        landing_lane *lane = &l->in[i / SLOTS];
        if (lane->block[i % SLOTS]) tc_block_free(lane->block[i % SLOTS]);
        if (lane->signal[i % SLOTS]) tc_signal_free(lane->signal[i % SLOTS]);
    }
    if (l->credit_block) tc_block_free(l->credit_block);
    if (l->credited) tc_signal_free(l->credited);
    if (l->memory) tc_memory_free(l->memory);
    free(l);
}

static int prepare(link *l) {
    void *base;
    uint64_t bytes;
    int status = tc_memory_allocate(l->net->context, TURNS * l->room + ALIGN, &l->memory);
    if (status == TC_OK) status = tc_memory_base(l->memory, &base, &bytes);
    if (status == TC_OK) status = issue_blocks(l);
    if (status != TC_OK) return status;
    for (uint32_t t = 0; t < TURNS; t++) l->in[t].base = (char *)base + t * l->room;
    l->credits = (uint32_t *)(void *)((char *)base + TURNS * l->room);
    return TC_OK;
}

static link *make(tc_net *net, uint32_t world, uint32_t id) {
    uint64_t room = net->context ? choose_room(net) : 0;
    link *l = room ? calloc(1, sizeof *l) : NULL;
    if (l == NULL) return NULL;
    l->net = net;
    l->world = world;
    l->id = id;
    l->room = room;
    if (prepare(l) != TC_OK) {
        withdraw(l);
        return NULL;
    }
    net->left -= TURNS * room;
    net->links++;
    net->memory += TURNS * room + ALIGN;
    l->next = net->processes[world].links;
    net->processes[world].links = l;
    return l;
}

static int describe(const link *l, bool fresh, offer *out) {
    size_t bytes = 0;
    *out = (offer){.magic = OFFER_MAGIC, .version = OFFER_VERSION, .yes = 1, .fresh = fresh, .id = l->id,
                   .room = l->room};
    if (!fresh) return TC_OK;
    int status = tc_context_address(l->net->context, out->address, sizeof out->address, &bytes);
    out->address_bytes = (uint32_t)bytes;
    for (uint32_t i = 0; i < NOTICES && status == TC_OK; i++)
        status = tc_block_export(l->in[i / SLOTS].block[i % SLOTS], out->block[i], TC_BLOCK_BYTES, &bytes);
    if (status == TC_OK) status = tc_block_export(l->credit_block, out->block[NOTICES], TC_BLOCK_BYTES, &bytes);
    return status;
}

/* --- the other's side ---------------------------------------------------------------------------------------------- */
static int connect_to(tc_net *net, uint32_t world, const offer *theirs) {
    process *p = &net->processes[world];
    if (p->connected) return TC_OK;
    if (theirs->address_bytes > sizeof theirs->address) return TC_ERR_BLOCK;
    int status = tc_context_connect(net->context, world, theirs->address, theirs->address_bytes);
    p->connected = status == TC_OK;
    return status;
}

static int open_targets(link *l, const offer *theirs) {
    tc_context *context = l->net->context;
    int status = TC_OK;
    for (uint32_t i = 0; i < NOTICES && status == TC_OK; i++) {
        target_lane *lane = &l->out[i / SLOTS];
        lane->offset = i / SLOTS * theirs->room;
        status = tc_target_open(context, theirs->block[i], TC_BLOCK_BYTES, &lane->target[i % SLOTS]);
        if (status == TC_OK) status = tc_plan_create(context, TC_LOCAL, &lane->plan[i % SLOTS]);
    }
    if (status == TC_OK) status = tc_target_open(context, theirs->block[NOTICES], TC_BLOCK_BYTES, &l->credit_target);
    if (status == TC_OK) status = tc_plan_create(context, TC_REMOTE, &l->credit_plan);
    tc_layout words = stretch(0, sizeof l->told);
    if (status == TC_OK) status = tc_plan_put(l->credit_plan, l->credit_target, l->told, &words, 0);
    return status;
}

static bool sensible(const offer *o) {
    return o->magic == OFFER_MAGIC && o->version == OFFER_VERSION && o->room >= NARROWEST && o->room <= WIDEST;
}

int link_accept(link *l, const offer *theirs) {
    if (l->open) return TC_OK;
    pthread_mutex_lock(&l->net->lock);
    int status = sensible(theirs) ? connect_to(l->net, l->world, theirs) : TC_ERR_BLOCK;
    if (status == TC_OK) status = open_targets(l, theirs);
    l->room_there = theirs->room;
    l->open = status == TC_OK;
    pthread_mutex_unlock(&l->net->lock);
    return status;
}

/* --- offers -------------------------------------------------------------------------------------------------------- */
static link *idle_link(const process *p) {
    link *l = p->links;
    while (l && (l->user || !l->open || l->broken)) l = l->next;
    return l;
}

link *link_offer(tc_net *net, uint32_t world, channel *user, offer *out) {
    pthread_mutex_lock(&net->lock);
    process *p = &net->processes[world];
    uint32_t id = p->links ? p->links->id + 1 : 0;
    link *l = idle_link(p);
    bool fresh = l == NULL;
    if (fresh && !p->refused) l = make(net, world, id);
    if (l == NULL || describe(l, fresh, out) != TC_OK) l = NULL;
    if (l == NULL) *out = (offer){.magic = OFFER_MAGIC, .version = OFFER_VERSION};
    if (l) l->user = user;
    pthread_mutex_unlock(&net->lock);
    return l;
}

static link *find(const process *p, uint32_t id) {
    link *l = p->links;
    while (l && l->id != id) l = l->next;
    return l;
}

/* A known link comes from a communicator that is gone on the other side; it may still be there on ours. */
static int take_over(link *l, channel *user) {
    if (l == NULL || !l->open || l->broken) return TC_ERR_BLOCK;
    if (l->user && l->user->comm->active) return TC_AGAIN;
    if (l->user) {
        l->user->link = NULL;
        l->user->state = CLOSED;
    }
    l->user = user;
    return TC_OK;
}

int link_answer(tc_net *net, uint32_t world, channel *user, const offer *theirs, offer *mine, link **out) {
    int status = TC_OK;
    link *l = NULL;
    *mine = (offer){.magic = OFFER_MAGIC, .version = OFFER_VERSION};
    if (!sensible(theirs)) return TC_ERR_BLOCK;
    pthread_mutex_lock(&net->lock);
    if (!theirs->fresh) {
        l = find(&net->processes[world], theirs->id);
        status = take_over(l, user);
    } else {
        l = make(net, world, theirs->id);
        if (l) l->user = user;
    }
    if (status == TC_OK && l && describe(l, theirs->fresh, mine) != TC_OK) status = TC_ERR_TRANSPORT;
    pthread_mutex_unlock(&net->lock);
    if (status == TC_OK && l) status = link_accept(l, theirs);
    if (status < 0) *mine = (offer){.magic = OFFER_MAGIC, .version = OFFER_VERSION};
    *out = status == TC_OK ? l : NULL;
    return status == TC_AGAIN ? status : TC_OK;
}

void link_release(link *l) {
    pthread_mutex_lock(&l->net->lock);
    l->user = NULL;
    pthread_mutex_unlock(&l->net->lock);
}

/* The other side made none of its own. */
void link_refused(link *l) {
    pthread_mutex_lock(&l->net->lock);
    l->net->processes[l->world].refused = true;
    l->user = NULL;
    pthread_mutex_unlock(&l->net->lock);
}
