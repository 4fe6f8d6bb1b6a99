/* The port of notified puts: channels, opened when a message first needs them. Of two processes the one with the lower
 * number offers a link, the other answers; until then messages queue. Where either has none, they go over MPI.
 */
#include <stdlib.h>
#include <string.h>

#include "pause.h"
#include "puts.h"

#define CHECK_POLLS 256u    /* polls between looks at the clock */
#define CHECK_SECONDS 0.02  /* between questions whether the peers live */

static int puts_post(tc_run *run, const step *s, uint32_t message);
static int puts_test(tc_run *run, const step *s, uint32_t message);
static void puts_taken(tc_run *run, const step *s, uint32_t message);
static const port puts_port = {puts_post, puts_post, puts_test, puts_taken};

/* --- opening ------------------------------------------------------------------------------------------------------- */
static int post_offer(channel *c, bool sends) {
    channels *all = c->comm->channels;
    offer *what = sends ? c->mine : c->theirs;
    if (sends) atomic_fetch_add(&all->net->openings, 1);
    return mpi_begin(c->comm, sends, what, (int)sizeof *what, c->peer, all->tag, c->request[!sends]);
}

static bool is_first(const channel *c) {
    const channels *all = c->comm->channels;
    return all->worlds[c->comm->rank] < all->worlds[c->peer];
}

static int ask(channel *c) {
    channels *all = c->comm->channels;
    c->mine = malloc(sizeof *c->mine);
    c->theirs = calloc(1, sizeof *c->theirs);
    if (c->mine == NULL || c->theirs == NULL) return TC_ERR_NO_MEMORY;
    c->sent = c->came = false;
    c->state = ASKED;
    if (is_first(c)) {
        c->link = link_offer(all->net, (uint32_t)all->worlds[c->peer], c, c->mine);
        if (post_offer(c, true) != 0) return TC_ERR_MPI;
        if (c->link == NULL) {
            c->came = true; /* nobody answers a no */
            return TC_OK;
        }
    }
    return post_offer(c, false) != 0 ? TC_ERR_MPI : TC_OK;
}

static int look(channel *c) {
    bool *const done[2] = {&c->sent, &c->came};
    for (int k = 0; k < 2; k++) {
        bool pending = k == 0 ? c->state == ANSWERED || is_first(c) : true;
        if (*done[k] || !pending) continue;
        if (mpi_ended(c->comm, c->request[k], done[k]) != 0) return TC_ERR_MPI;
    }
    return TC_OK;
}

/* The second of the two: its answer goes out as soon as the link is its own. */
static int answer(channel *c) {
    channels *all = c->comm->channels;
    if (!c->theirs->yes) {
        c->sent = true;
        c->state = ANSWERED;
        return TC_OK;
    }
    int status = link_answer(all->net, (uint32_t)all->worlds[c->peer], c, c->theirs, c->mine, &c->link);
    if (status != TC_OK) return status;
    c->state = ANSWERED;
    return post_offer(c, true) != 0 ? TC_ERR_MPI : TC_OK;
}

static int accept_answer(channel *c) {
    if (c->link == NULL) return TC_OK;
    if (c->theirs->yes) return link_accept(c->link, c->theirs);
    link_refused(c->link);
    c->link = NULL;
    return TC_OK;
}

static int go_on_opening(channel *c) {
    int status = look(c);
    if (status == TC_OK && c->state == ASKED && !is_first(c) && c->came) status = answer(c);
    if (status != TC_OK || !c->sent || !c->came) return status == TC_OK ? TC_AGAIN : status;
    if (is_first(c)) status = accept_answer(c);
    if (status == TC_OK) c->state = c->link ? OPEN : BY_MPI;
    return status;
}

/* --- what waited for it -------------------------------------------------------------------------------------------- */
static const step *step_of(const entry *e) {
    return &e->run->program->steps[e->run->program->poster[e->message]];
}

static int by_mpi(tc_run *run, const step *s, uint32_t message) {
    return s->code == SEND ? mpi_port.send(run, s, message) : mpi_port.receive(run, s, message);
}

static void pass_on(channel *c, entry *e) {
    const step *s = step_of(e);
    if (c->state == BY_MPI)
        e->status = by_mpi(e->run, s, e->message);
    else if (s->code == SEND)
        lane_send(c->link, e);
    else
        lane_expect(c->link, e);
}

static void pass_all_on(channel *c) {
    while (c->early.first) {
        entry *e = c->early.first;
        c->early.first = e->next;
        pass_on(c, e);
    }
}

static void fail(channel *c, int status) {
    if (c->link) link_fail(c->link, status);
    for (entry *e = c->early.first; e; e = e->next) {
        e->status = status;
        e->run->moved++;
    }
    c->early.first = NULL;
}

static void end_opening(channel *c) {
    free(c->mine);
    free(c->theirs);
    c->mine = c->theirs = NULL;
    pass_all_on(c);
}

/* Move what can be moved; return whether something is left to do. */
static bool advance(channel *c) {
    int status = TC_OK;
    if (c->state == ASKED || c->state == ANSWERED) {
        status = go_on_opening(c);
        if (status == TC_AGAIN) return true;
        if (status == TC_OK) end_opening(c);
    }
    if (status == TC_OK && c->state == OPEN) status = link_advance(c->link);
    if (status != TC_OK) fail(c, status);
    return c->state == OPEN && !link_quiet(c->link);
}

/* --- the port ------------------------------------------------------------------------------------------------------ */
static channel *channel_with(tc_comm *comm, uint32_t peer) {
    channel **found = &comm->channels->with[peer];
    if (*found) return *found;
    *found = calloc(1, sizeof **found);
    if (*found == NULL) return NULL;
    (*found)->comm = comm;
    (*found)->peer = peer;
    return *found;
}

static entry *entry_of(tc_run *run, uint32_t message) {
    if (run->entries == NULL) run->entries = calloc(run->program->nmessages + 1ull, sizeof *run->entries);
    if (run->entries == NULL) return NULL;
    entry *e = &run->entries[message];
    *e = (entry){.run = run, .message = message, .status = TC_AGAIN};
    return e;
}

static void list(channel *c) {
    if (c->listed) return;
    c->listed = true;
    c->next_busy = c->comm->channels->busy;
    c->comm->channels->busy = c;
}

static int puts_post(tc_run *run, const step *s, uint32_t message) {
    channel *c = channel_with(run->comm, (uint32_t)s->peer);
    entry *e = entry_of(run, message);
    if (c == NULL || e == NULL) return TC_ERR_NO_MEMORY;
    int status = c->state == CLOSED ? ask(c) : TC_OK;
    if (status != TC_OK) return message_failed(run, s, message, status, 0, 0);
    if (c->state == BY_MPI) return by_mpi(run, s, message);
    list(c);
    if (c->state == OPEN) {
        pass_on(c, e);
        if (s->code == SEND) advance(c);
        return TC_OK;
    }
    entry **end = &c->early.first;
    while (*end) end = &(*end)->next;
    *end = e;
    return TC_OK;
}

/* Return the message whose length was wrong, which says more than that the link is broken; else this one. */
static const entry *cause(const tc_run *run, const entry *e) {
    for (uint32_t m = 0; m < run->program->nmessages; m++)
        if (run->entries[m].run && run->entries[m].status == TC_ERR_LENGTH) return &run->entries[m];
    return e;
}

static int puts_test(tc_run *run, const step *s, uint32_t message) {
    const channel *c = run->comm->channels->with[s->peer];
    const entry *e = &run->entries[message];
    if (e->status == TC_AGAIN) return c->state == BY_MPI ? mpi_port.test(run, s, message) : TC_AGAIN;
    if (c->state == BY_MPI && e->status == TC_OK) return mpi_port.test(run, s, message);
    message_over(run, message);
    if (e->status == TC_OK) return TC_OK;
    const entry *why = cause(run, e);
    return message_failed(run, step_of(why), why->message, why->status, 0, why->found);
}

static void puts_taken(tc_run *run, const step *s, uint32_t message) {
    const channel *c = run->comm->channels->with[s->peer];
    const entry *e = run->entries ? &run->entries[message] : NULL;
    if (c && c->state == OPEN && e && e->run) lane_taken(c->link, e); /* a message of no bytes never came */
}

/* --- progress ------------------------------------------------------------------------------------------------------ */
/* Who died does not put any more. */
static void ask_who_lives(channels *all) {
    if (++all->polls % CHECK_POLLS) return;
    double time = seconds_now();
    if (time < all->check_after) return;
    all->check_after = time + CHECK_SECONDS;
    for (channel *c = all->busy; c; c = c->next_busy)
        if (c->state == OPEN && tc_peer_alive(all->net->context, c->link->world) == TC_ERR_PEER_LOST)
            fail(c, TC_ERR_PEER_LOST);
}

void puts_progress(tc_comm *comm) {
    channels *all = comm->channels;
    if (all->busy == NULL) return;
    int status = all->net->context ? tc_context_progress(all->net->context) : TC_OK;
    for (channel **at = &all->busy, *c = *at; c; c = *at) {
        if (status != TC_OK) fail(c, status);
        if (advance(c)) {
            at = &c->next_busy;
            continue;
        }
        *at = c->next_busy;
        c->listed = false;
    }
    ask_who_lives(all);
}

/* --- communicators ------------------------------------------------------------------------------------------------- */
void puts_close(tc_comm *comm) {
    channels *all = comm->channels;
    for (uint32_t i = 0; i < comm->size && all->with; i++) {
        channel *c = all->with[i];
        if (c == NULL) continue;
        if (c->link) link_release(c->link);
        if (c->state == ASKED || c->state == ANSWERED) continue; /* MPI may still write to its memory */
        free(c->mine);
        free(c->theirs);
        free(c);
    }
    if (all->net) net_release(all->net);
    free(all->with);
    free(all->worlds);
    free(all);
    comm->channels = NULL;
}

int tc_comm_puts(tc_comm *comm, tc_net *net, const int32_t *worlds, int32_t tag) {
    if (comm == NULL || net == NULL || worlds == NULL || comm->channels) return TC_ERR_ARGUMENT;
    if (worlds[comm->rank] != (int32_t)net->world) return TC_ERR_ARGUMENT;
    for (uint32_t i = 0; i < comm->size; i++)
        if (worlds[i] >= (int64_t)net->size) return TC_ERR_ARGUMENT;
    channels *all = comm->channels = calloc(1, sizeof *all);
    if (all == NULL) return TC_ERR_NO_MEMORY;
    all->worlds = malloc(comm->size * sizeof *all->worlds);
    all->with = calloc(comm->size, sizeof *all->with);
    if (all->worlds == NULL || all->with == NULL) {
        puts_close(comm);
        return TC_ERR_NO_MEMORY;
    }
    memcpy(all->worlds, worlds, comm->size * sizeof *worlds);
    all->tag = tag;
    all->net = net;
    atomic_fetch_add(&net->holders, 1);
    for (uint32_t i = 0; i < comm->size; i++)
        if (worlds[i] >= 0 && i != comm->rank && comm->ports[i] == &mpi_port) comm->ports[i] = &puts_port;
    return TC_OK;
}

int puts_transport(const tc_comm *comm, uint32_t member, uint32_t *kind) {
    const channel *c = comm->channels->with[member];
    if (c == NULL || (c->state != OPEN && c->state != BY_MPI)) return TC_AGAIN;
    *kind = c->state == OPEN ? TC_OFI : TC_MSG;
    return TC_OK;
}
