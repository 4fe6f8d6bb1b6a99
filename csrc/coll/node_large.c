/* Large calls of a node, in arrays that all its ranks can reach: every rank does its part of the work and writes the
 * result to where it belongs.
 *
 * First the ranks tell each other where their buffers are, so all know alike whether all can be reached; then each does
 * its part; then all wait for each other. A part goes in blocks that a cache holds: a block of every input is read,
 * combined in the order of ranks, and written to all who want it.
 */
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#include "array.h"
#include "shared_node.h"

#define BLOCK 16384u             /* bytes */
#ifndef STREAM                   /* tests choose less */
#define STREAM (8ull << 20)      /* bytes of a vector from which results are written past the caches */
#endif
#define NOWHERE UINT64_MAX

typedef int (*reduce_function)(const void *, void *, int, intptr_t, intptr_t);

typedef struct seat { /* of a rank's buffers */
    uint64_t nonce;
    int32_t pid, descriptor;
    uint64_t send, recv; /* offsets in what the process shows; NOWHERE: not in it */
    uint64_t inside;     /* 1: the input lies in the receive buffer */
    uint64_t spare;
} seat;
_Static_assert(sizeof(seat) == LINE_BYTES, "a seat fits a line");

typedef struct span { /* ranks */
    uint32_t first, end;
} span;

struct tc_node_large {
    tc_node *node;
    tc_node_call *say, *end;
    enum { IDLE, SAYING, ENDING } phase;
    uint32_t collective, root;
    uint64_t bytes, send_bytes, recv_bytes, offset, own; /* own: bytes of this rank's block, at `offset` */
    span senders, receivers; /* whose buffers others must reach */
    bool moves;              /* within one buffer nothing else is safe */
    kernel combine;
    uint32_t item, element_bytes;
    tc_operation_choice choice;
    tc_share_address mine;
    char *block;
    seat told, *seats;
    const char **from;
    char **to;
};

/* --- arguments ----------------------------------------------------------------------------------------------------- */
/* Say what a rank gives and gets, and what of it others read or write. */
static int lay_out(tc_node_large *l, const tc_node_arguments *a, uint32_t rank, uint32_t size) {
    span all = {0, size}, none = {0, 0};
    uint64_t n = a->bytes;
    l->collective = a->collective;
    l->root = a->root;
    l->bytes = l->send_bytes = l->recv_bytes = n;
    l->senders = l->receivers = all;
    switch (a->collective) {
    case TC_ALLREDUCE: return TC_OK;
    case TC_BCAST:
        l->senders = (span){a->root, a->root + 1};
        return TC_OK;
    case TC_ALLGATHER:
        l->senders = none;
        l->recv_bytes = n * size;
        return TC_OK;
    case TC_ALLTOALL:
    case TC_REDUCE_SCATTER_BLOCK:
        l->offset = n * rank;
        l->own = n;
        l->send_bytes = n * size;
        if (a->collective == TC_ALLTOALL) l->recv_bytes = n * size;
        break;
    case TC_REDUCE_SCATTER:
        l->send_bytes = 0;
        for (uint32_t r = 0; r < size; r++) {
            if (r == rank) l->offset = l->send_bytes;
            l->send_bytes += a->counts[r];
        }
        l->own = l->recv_bytes = a->counts[rank];
        break;
    default: return TC_ERR_UNSUPPORTED;
    }
    l->receivers = none;
    l->moves = true;
    return TC_OK;
}

static int choose(tc_node_large *l, const tc_node_arguments *a) {
    if (a->collective == TC_ALLGATHER || a->collective == TC_BCAST || a->collective == TC_ALLTOALL) {
        l->item = 1;
        return TC_OK;
    }
    l->item = a->item;
    l->choice = a->choice;
    if (a->item == 0 || l->send_bytes % a->item || a->item > BLOCK) return TC_ERR_ARGUMENT;
    if (a->choice.by == TC_BY_MPI) return l->node->mpi.reduce_local ? TC_OK : TC_ERR_UNSUPPORTED;
    if (a->choice.by != TC_BY_KERNEL) return TC_ERR_UNSUPPORTED;
    l->combine = kernel_of(a->choice.operation, a->choice.element, false);
    l->element_bytes = element_bytes(a->choice.element);
    if (l->combine == NULL) return TC_ERR_UNSUPPORTED;
    return a->item % l->element_bytes ? TC_ERR_ARGUMENT : TC_OK;
}

static int make_calls(tc_node_large *l, const tc_node_arguments *a) {
    tc_node_arguments say = {.collective = TC_ALLGATHER, .bytes = sizeof(seat)}, end = {.collective = TC_BARRIER};
    int status = tc_node_call_new(l->node, &say, &l->say);
    if (status == TC_OK) status = tc_node_call_new(l->node, &end, &l->end);
    if (status == TC_OK) call_named(l->say, a, l->send_bytes);
    return status;
}

int tc_node_large_free(tc_node_large *l) {
    if (l == NULL) return TC_ERR_ARGUMENT;
    if (l->phase != IDLE && l->node->head && l->node->call) return TC_ERR_BUSY;
    if (l->say) tc_node_call_free(l->say);
    if (l->end) tc_node_call_free(l->end);
    void *parts[] = {l->block, l->seats, (void *)l->from, l->to, l};
    for (int i = 0; i < 5; i++) free(parts[i]);
    return TC_OK;
}

int tc_node_large_new(tc_node *node, const tc_node_arguments *a, tc_node_large **large) {
    if (node == NULL || node->head == NULL || a == NULL || large == NULL || a->root >= node->size) return TC_ERR_ARGUMENT;
    if ((a->collective == TC_REDUCE_SCATTER) != (a->counts != NULL)) return TC_ERR_ARGUMENT;
    if (a->bytes > INT64_MAX / node->size) return TC_ERR_RANGE;
    tc_node_large *l = calloc(1, sizeof *l);
    if (l == NULL) return TC_ERR_NO_MEMORY;
    l->node = node;
    l->block = malloc(2 * BLOCK);
    l->seats = malloc(node->size * sizeof *l->seats);
    l->from = malloc(node->size * sizeof *l->from);
    l->to = malloc(node->size * sizeof *l->to);
    int status = l->block && l->seats && l->from && l->to ? pool_address(&l->mine) : TC_ERR_NO_MEMORY;
    if (status == TC_OK) status = lay_out(l, a, node->rank, node->size);
    if (status == TC_OK) status = choose(l, a);
    if (status == TC_OK) status = make_calls(l, a);
    if (status == TC_OK) *large = l;
    else tc_node_large_free(l);
    return status;
}

/* --- where buffers are --------------------------------------------------------------------------------------------- */
static bool is_in(span s, uint32_t rank) {
    return rank >= s.first && rank < s.end;
}

/* A broadcast's root has no receive buffer. */
static bool receives(const tc_node_large *l, uint32_t rank) {
    return is_in(l->receivers, rank) && !(l->collective == TC_BCAST && rank == l->root);
}

static bool lies_inside(const tc_node_large *l) {
    const char *send = l->from[l->node->rank], *recv = l->to[l->node->rank];
    return send < recv + l->recv_bytes && recv < send + l->send_bytes;
}

static seat own_seat(const tc_node_large *l) {
    uint32_t me = l->node->rank;
    seat p = {.nonce = l->mine.nonce, .pid = l->mine.pid, .descriptor = l->mine.descriptor, .send = NOWHERE,
               .recv = NOWHERE, .inside = l->moves && lies_inside(l)};
    if (is_in(l->senders, me) && !array_holds(l->from[me], l->send_bytes, &p.send)) p.send = NOWHERE;
    if (receives(l, me) && !array_holds(l->to[me], l->recv_bytes, &p.recv)) p.recv = NOWHERE;
    return p;
}

/* Whether all that must be reached can be; all ranks see the same. */
static bool all_shared(const tc_node_large *l) {
    for (uint32_t r = 0; r < l->node->size; r++) {
        const seat *p = &l->seats[r];
        if (p->inside || (is_in(l->senders, r) && p->send == NOWHERE) || (receives(l, r) && p->recv == NOWHERE))
            return false;
    }
    return true;
}

static int reach(tc_node_large *l) {
    tc_node *node = l->node;
    for (uint32_t r = 0; r < node->size; r++) {
        if (r == node->rank) continue;
        const seat *p = &l->seats[r];
        tc_share_address owner = {.nonce = p->nonce, .pid = p->pid, .descriptor = p->descriptor};
        bool found = true;
        if (is_in(l->senders, r)) found = (l->from[r] = array_reach(&owner, p->send, l->send_bytes)) != NULL;
        if (receives(l, r)) found = (l->to[r] = array_reach(&owner, p->recv, l->recv_bytes)) != NULL && found;
        if (found) continue;
        tc_node_fault fault = {.rank = node->rank, .peer = r, .number = node->calls - 1};
        return node_break(node, TC_ERR_UNREACHABLE, &fault);
    }
    return TC_OK;
}

/* --- the work ------------------------------------------------------------------------------------------------------ */
/* Copy past the caches, where the processor can; whoever reads it is told after stream_end. */
static void stream(char *to, const char *from, uint64_t bytes) {
#if defined(__x86_64__)
    uint64_t head = -(uintptr_t)to & 15, k = head < bytes ? head : bytes;
    memcpy(to, from, k);
    for (; k + 64 <= bytes; k += 64)
        for (int w = 0; w < 4; w++)
            _mm_stream_si128((__m128i *)(void *)(to + k) + w, _mm_loadu_si128((const __m128i *)(const void *)(from + k) + w));
    memcpy(to + k, from + k, bytes - k);
#else
    memcpy(to, from, bytes);
#endif
}

static void stream_end(void) {
#if defined(__x86_64__)
    _mm_sfence();
#endif
}

static int combine(tc_node_large *l, const char *in, char *inout, uint64_t bytes) {
    if (l->combine) {
        l->combine(in, inout, bytes / l->element_bytes);
        return TC_OK;
    }
    tc_node *node = l->node;
    int code = ((reduce_function)node->mpi.reduce_local)(in, inout, (int)(bytes / l->item), l->choice.type, l->choice.op);
    if (code == 0) return TC_OK;
    tc_node_fault fault = {.rank = node->rank, .peer = node->rank, .number = node->calls - 1, .code = code};
    return node_break(node, TC_ERR_MPI, &fault);
}

typedef struct task { /* `bytes` of the inputs of `in`, from `at` of each, go to `there` of the outputs of `out` */
    span in, out;
    uint64_t at, there, bytes;
} task;

/* Return the next block of the result: the only input's own, or what was combined. */
static int make_block(tc_node_large *l, const task *t, uint64_t done, uint64_t bytes, const char **block) {
    *block = l->from[t->in.first] + t->at + done;
    if (t->in.end - t->in.first == 1) return TC_OK;
    memcpy(l->block, *block, bytes);
    *block = l->block;
    for (uint32_t r = t->in.first + 1; r < t->in.end; r++) {
        int status = combine(l, l->from[r] + t->at + done, l->block, bytes);
        if (status != TC_OK) return status;
    }
    return TC_OK;
}

static int do_task(tc_node_large *l, const task *t) {
    bool past = l->send_bytes >= STREAM || l->recv_bytes >= STREAM;
    uint64_t most = BLOCK / l->item * l->item;
    for (uint64_t done = 0; done < t->bytes; done += most) {
        uint64_t bytes = t->bytes - done < most ? t->bytes - done : most;
        const char *block;
        int status = make_block(l, t, done, bytes, &block);
        if (status != TC_OK) return status;
        for (uint32_t r = t->out.first; r < t->out.end; r++) {
            if (l->collective == TC_BCAST && r == l->root) continue;
            char *to = l->to[r] + t->there + done;
            if (to == block) continue;
            if (past) stream(to, block, bytes);
            else memcpy(to, block, bytes);
        }
    }
    if (past) stream_end();
    return TC_OK;
}

/* Return the part of a vector that this rank serves, in whole elements, about page by page. */
static void cut(const tc_node_large *l, task *t) {
    uint64_t unit = (4096 + l->item - 1) / l->item * l->item, units = l->bytes / unit, size = l->node->size;
    uint64_t first = units * l->node->rank / size, end = units * (l->node->rank + 1) / size;
    t->at = t->there = first * unit;
    t->bytes = (l->node->rank + 1 == size ? l->bytes : end * unit) - t->at;
}

static int work(tc_node_large *l) {
    uint32_t me = l->node->rank, size = l->node->size;
    span all = {0, size}, own = {me, me + 1};
    task t = {all, all, 0, 0, 0};
    switch (l->collective) {
    case TC_ALLREDUCE: cut(l, &t); return do_task(l, &t);
    case TC_BCAST:
        t.in = (span){l->root, l->root + 1};
        cut(l, &t);
        return do_task(l, &t);
    case TC_ALLGATHER:
        t = (task){own, all, 0, me * l->bytes, l->bytes};
        return do_task(l, &t);
    case TC_ALLTOALL:
        for (uint32_t k = 0; k < size; k++) { /* not all from the same rank at a time */
            uint32_t r = (me + k) % size;
            t = (task){{r, r + 1}, own, l->offset, r * l->bytes, l->own};
            do_task(l, &t);
        }
        return TC_OK;
    default:
        t = (task){all, own, l->offset, 0, l->own};
        return do_task(l, &t);
    }
}

/* --- one call ------------------------------------------------------------------------------------------------------ */
static int go_on(tc_node_large *l, int status, double seconds) {
    while (status == TC_OK && l->phase == SAYING) {
        l->phase = IDLE;
        if (!all_shared(l)) return TC_APART;
        status = reach(l);
        if (status == TC_OK) status = work(l);
        if (status != TC_OK) return status;
        l->phase = ENDING;
        status = tc_node_run(l->end, NULL, NULL, seconds);
    }
    if (status != TC_AGAIN) l->phase = IDLE;
    return status;
}

int tc_node_large_run(tc_node_large *l, const void *send, void *recv, double seconds) {
    if (l == NULL) return TC_ERR_ARGUMENT;
    if (l->node->head == NULL) return TC_ERR_FREED;
    int status = node_sound(l->node); /* a call that was left is over */
    if (status != TC_OK || l->phase != IDLE) return status != TC_OK ? status : TC_ERR_BUSY;
    l->from[l->node->rank] = send;
    l->to[l->node->rank] = recv;
    l->told = own_seat(l);
    status = tc_node_run(l->say, &l->told, l->seats, seconds);
    if (status == TC_OK || status == TC_AGAIN) l->phase = SAYING;
    return go_on(l, status, seconds);
}

int tc_node_large_wait(tc_node_large *l, double seconds) {
    if (l == NULL || l->phase == IDLE) return TC_ERR_ARGUMENT;
    return go_on(l, tc_node_wait(l->node, seconds), seconds);
}
