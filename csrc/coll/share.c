/* Sharing memory between the members of a communicator on one host: who they are, what each offers, whether they live. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "port_shm.h"
#include "process.h"

int tc_share_here(tc_share_address *mine) {
    return mine ? pool_address(mine) : TC_ERR_ARGUMENT;
}

int tc_share_reached(const tc_share_address *other) {
    if (other == NULL) return TC_ERR_ARGUMENT;
    return pool_reached(other) ? TC_OK : TC_ERR_UNREACHABLE;
}

static uint32_t count_members(const tc_comm *comm, const tc_share_address *addresses) {
    uint32_t members = 0;
    for (uint32_t i = 0; i < comm->size; i++) members += i != comm->rank && addresses[i].host == addresses[comm->rank].host;
    return members;
}

static void open_channels(tc_comm *comm, const tc_share_address *addresses) {
    struct shared *shared = comm->shared;
    for (uint32_t i = 0, n = 0; i < comm->size; i++) {
        if (i == comm->rank || addresses[i].host != addresses[comm->rank].host) continue;
        pair *q = shared->of[i] = &shared->pairs[n];
        *q = (pair){.peer = i, .address = addresses[i]};
        q->in = (inbox *)(void *)((char *)shared->face + PAGE + n * PAIR_BYTES);
        if (!pool_reached(&addresses[i])) shared->ready = 0;
        n++;
    }
}

/* Whether there are more members than cores that they may use. */
static bool is_crowded(const tc_comm *comm, const tc_share_address *addresses) {
    uint32_t cores = 0;
    for (uint32_t w = 0; w < TC_SHARE_CORES; w++) {
        uint64_t word = addresses[comm->rank].cores[w];
        for (uint32_t i = 0; i < comm->shared->members; i++) word |= comm->shared->pairs[i].address.cores[w];
        cores += (uint32_t)__builtin_popcountll(word);
    }
    return comm->shared->members + 1 > cores;
}

static atomic_ullong keys; /* given so far: those of a process differ */

static int take(tc_comm *comm, uint32_t members, uint32_t way) {
    struct shared *shared = calloc(1, sizeof *shared + members * sizeof(pair));
    pair **of = calloc(comm->size, sizeof *of);
    void *base = NULL;
    uint64_t offset = 0, bytes = PAGE + members * (uint64_t)PAIR_BYTES;
    int status = shared && of ? pool_take(bytes, &offset, &base) : TC_ERR_NO_MEMORY;
    if (status != TC_OK) {
        free(shared);
        free(of);
        return status;
    }
    *shared = (struct shared){.members = members, .ready = 1, .way = way, .offset = offset, .bytes = bytes, .face = base,
                              .of = of};
    atomic_store_explicit(&shared->face->key, atomic_fetch_add(&keys, 1) + 1, memory_order_release);
    comm->shared = shared;
    return TC_OK;
}

int tc_comm_share(tc_comm *comm, const tc_share_address *addresses, uint32_t way, tc_share_offer *mine) {
    if (comm == NULL || addresses == NULL || mine == NULL || way > TC_SHARE_PIECES) return TC_ERR_ARGUMENT;
    if (comm->shared || comm->calls) return TC_ERR_BUSY;
    uint32_t members = count_members(comm, addresses);
    *mine = (tc_share_offer){.ready = 1};
    if (members == 0) return TC_OK;
    int status = take(comm, members, way);
    mine->ready = 0;
    if (status != TC_OK) return status;
    open_channels(comm, addresses);
    comm->shared->crowded = is_crowded(comm, addresses);
    *mine = (tc_share_offer){comm->shared->offset, (uintptr_t)comm->shared->face, comm->shared->face->key,
                             comm->shared->ready, members};
    return TC_OK;
}

/* Members on one host have their inboxes in the order of their ranks; none for themselves. */
static uint64_t inbox_for(const tc_comm *comm, const pair *q) {
    uint32_t before = 0;
    for (uint32_t i = 0; i < comm->shared->members; i++) before += comm->shared->pairs[i].peer < comm->rank;
    return PAGE + (before - (q->peer < comm->rank)) * (uint64_t)PAIR_BYTES;
}

static void meet(tc_comm *comm, pair *q, const tc_share_offer *offer) {
    uint64_t inbox = inbox_for(comm, q);
    char *base = (char *)(uintptr_t)offer->pointer;
    q->offset = offer->offset + inbox;
    q->key = offer->key;
    if (q->address.pid == getpid()) q->pointer = offer->pointer + inbox;
    else if (pool_map(&q->address, offer->offset, PAGE, &base) != TC_OK) return;
    q->face = (const face *)(const void *)base;
}

int tc_comm_shared(tc_comm *comm, const tc_share_offer *offers) {
    if (comm == NULL || offers == NULL) return TC_ERR_ARGUMENT;
    if (comm->shared == NULL) return TC_OK;
    bool ready = true;
    for (uint32_t i = 0; i < comm->size; i++) ready = ready && offers[i].ready;
    if (!ready) {
        shm_close(comm);
        comm->shared = NULL;
        return TC_OK;
    }
    for (uint32_t i = 0; i < comm->shared->members; i++) {
        pair *q = &comm->shared->pairs[i];
        meet(comm, q, &offers[q->peer]);
        comm->ports[q->peer] = &shm_port;
    }
    if (comm->shared->crowded) comm->spins = comm->least_spins = comm->most_spins = 0; /* who waits yields at once */
    return TC_OK;
}

uint32_t tc_comm_sharing(const tc_comm *comm) {
    return comm && comm->shared ? comm->shared->members : 0;
}

/* A process that ended may have done its part before. */
static bool missing(const tc_run *run, const pair *q) {
    if (q->face == NULL) return q->expected > 0 || q->slots;
    uint64_t ended = atomic_load_explicit(&q->face->ended, memory_order_acquire);
    return ended <= run->number && atomic_load_explicit(&q->face->key, memory_order_acquire) == q->key;
}

int tc_run_look(tc_run *run, tc_lost *lost) {
    if (run == NULL || lost == NULL) return TC_ERR_ARGUMENT;
    const struct shared *shared = run->comm->shared;
    int status = TC_OK;
    comm_lock(run->comm);
    for (uint32_t i = 0; shared && i < shared->members && status != TC_ERR_PEER_LOST; i++) {
        const pair *q = &shared->pairs[i];
        enum process_state state = process_state(q->address.pid, q->address.start);
        if (state == RUNNING || !missing(run, q)) continue;
        *lost = (tc_lost){q->peer, q->address.pid};
        status = state == GONE ? TC_ERR_PEER_LOST : TC_FULL;
    }
    comm_unlock(run->comm);
    return status;
}
