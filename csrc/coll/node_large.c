/* Large calls of a node.
 *
 * First the ranks tell each other where their buffers and stages are, so all know alike whether the buffers can be
 * reached; then each does its part of the work, or all go step by step through their stages; then all wait for each
 * other.
 */
#include <stdlib.h>
#include <string.h>

#include "node_large.h"

#ifndef STREAM               /* tests choose less */
#define STREAM (8ull << 20)  /* bytes of a vector from which results are written past the caches */
#endif
#define NOWHERE UINT64_MAX

/* --- arguments ----------------------------------------------------------------------------------------------------- */
/* Cut a vector into parts of whole elements, about page by page. */
static void cut(tc_node_large *l, uint32_t size) {
    uint64_t unit = (4096 + l->item - 1) / l->item * l->item, units = l->bytes / unit;
    for (uint32_t r = 0; r < size; r++) l->starts[r] = units * r / size * unit;
    l->starts[size] = l->bytes;
}

static void count_up(tc_node_large *l, const tc_node_arguments *a, uint32_t size) {
    l->starts[0] = 0;
    for (uint32_t r = 0; r < size; r++) l->starts[r + 1] = l->starts[r] + (a->counts ? a->counts[r] : a->bytes);
}

/* Say what a rank gives and gets, and what of it others read or write. */
static int lay_out(tc_node_large *l, const tc_node_arguments *a, uint32_t rank, uint32_t size) {
    span all = {0, size}, none = {0, 0};
    l->bytes = l->send_bytes = l->recv_bytes = a->bytes;
    l->senders = l->receivers = all;
    if (a->collective == TC_BCAST) l->senders = (span){a->root, a->root + 1};
    if (a->collective == TC_BCAST || a->collective == TC_ALLREDUCE) {
        cut(l, size);
        return TC_OK;
    }
    count_up(l, a, size);
    uint64_t whole = l->starts[size];
    switch (a->collective) {
    case TC_ALLGATHER:
        l->senders = none;
        l->recv_bytes = whole;
        return TC_OK;
    case TC_ALLTOALL: l->recv_bytes = whole; break;
    case TC_REDUCE_SCATTER:
    case TC_REDUCE_SCATTER_BLOCK: l->recv_bytes = l->starts[rank + 1] - l->starts[rank]; break;
    default: return TC_ERR_UNSUPPORTED;
    }
    l->send_bytes = whole;
    l->receivers = none;
    l->moves = true;
    return TC_OK;
}

static int choose(tc_node_large *l, const tc_node_arguments *a) {
    l->collective = a->collective;
    l->root = a->root;
    l->item = 1;
    l->reduces = a->collective == TC_ALLREDUCE || a->collective == TC_REDUCE_SCATTER ||
                 a->collective == TC_REDUCE_SCATTER_BLOCK;
    if (!l->reduces) return TC_OK;
    l->item = a->item;
    l->choice = a->choice;
    if (a->item == 0 || a->item > BLOCK) return TC_ERR_ARGUMENT;
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

static int take_memory(tc_node_large *l, uint32_t size) {
    if (l->node->block == NULL) l->node->block = malloc(BLOCK);
    l->block = l->node->block;
    l->seats = malloc(size * sizeof *l->seats);
    l->from = malloc(size * sizeof *l->from);
    l->inputs = malloc(size * sizeof *l->inputs);
    l->to = malloc(size * sizeof *l->to);
    l->starts = malloc((size + 1) * sizeof *l->starts);
    bool taken = l->block && l->seats && l->from && l->inputs && l->to && l->starts;
    return taken ? pool_address(&l->mine) : TC_ERR_NO_MEMORY;
}

static void leave_stage(tc_node_large *l) {
    if (l->stage) stage_give(l->stage);
    l->stage = NULL;
}

int tc_node_large_free(tc_node_large *l) {
    if (l == NULL) return TC_ERR_ARGUMENT;
    if (l->phase != IDLE && l->node->head && l->node->call) return TC_ERR_BUSY;
    leave_stage(l);
    if (l->say) tc_node_call_free(l->say);
    if (l->end) tc_node_call_free(l->end);
    void *parts[] = {l->seats, (void *)l->from, (void *)l->inputs, l->to, l->starts, l};
    for (int i = 0; i < 6; i++) free(parts[i]);
    return TC_OK;
}

int tc_node_large_new(tc_node *node, const tc_node_arguments *a, tc_node_large **large) {
    if (node == NULL || node->head == NULL || a == NULL || large == NULL || a->root >= node->size) return TC_ERR_ARGUMENT;
    if ((a->collective == TC_REDUCE_SCATTER) != (a->counts != NULL)) return TC_ERR_ARGUMENT;
    if (a->bytes > INT64_MAX / node->size) return TC_ERR_RANGE;
    tc_node_large *l = calloc(1, sizeof *l);
    if (l == NULL) return TC_ERR_NO_MEMORY;
    l->node = node;
    l->may_stage = a->staged != 0;
    int status = take_memory(l, node->size);
    if (status == TC_OK) status = choose(l, a);
    if (status == TC_OK) status = lay_out(l, a, node->rank, node->size);
    if (status == TC_OK && l->send_bytes % l->item) status = TC_ERR_ARGUMENT;
    if (status == TC_OK) status = staged_lay_out(l);
    if (status == TC_OK) status = make_calls(l, a);
    l->past = l->send_bytes >= STREAM || l->recv_bytes >= STREAM;
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

static void take_seat(tc_node_large *l) {
    uint32_t me = l->node->rank;
    seat *s = &l->told;
    uint64_t at = 0;
    *s = (seat){.nonce = l->mine.nonce, .pid = l->mine.pid, .descriptor = l->mine.descriptor, .send = NOWHERE,
                .recv = NOWHERE, .stage = NOWHERE, .inside = l->moves && lies_inside(l)};
    if (is_in(l->senders, me) && array_holds(l->from[me], l->send_bytes, &at)) s->send = at;
    if (receives(l, me) && array_holds(l->to[me], l->recv_bytes, &at)) s->recv = at;
    if (stage_take(&l->stage, &at) == TC_OK) s->stage = at;
}

static bool all_have_stages(const tc_node_large *l) {
    for (uint32_t r = 0; r < l->node->size; r++)
        if (l->seats[r].stage == NOWHERE) return false;
    return true;
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

static bool reach_one(tc_node_large *l, uint32_t r) {
    const seat *p = &l->seats[r];
    tc_share_address owner = {.nonce = p->nonce, .pid = p->pid, .descriptor = p->descriptor};
    if (l->staged) return (l->from[r] = array_reach(&owner, p->stage, STAGE)) != NULL;
    bool found = true;
    if (is_in(l->senders, r)) found = (l->from[r] = array_reach(&owner, p->send, l->send_bytes)) != NULL;
    if (receives(l, r)) found = (l->to[r] = array_reach(&owner, p->recv, l->recv_bytes)) != NULL && found;
    return found;
}

/* Choose the way, when all have told where they are. */
static int meet(tc_node_large *l) {
    tc_node *node = l->node;
    l->staged = !all_shared(l);
    if (l->staged && !(l->may_stage && all_have_stages(l))) return TC_APART;
    l->step = 0;
    l->steps = l->staged ? staged_steps(l) : 1;
    for (uint32_t r = 0; r < node->size; r++) {
        if (r == node->rank || reach_one(l, r)) continue;
        tc_node_fault fault = {.rank = node->rank, .peer = r, .number = node->calls - 1};
        return node_break(node, TC_ERR_UNREACHABLE, &fault);
    }
    return TC_OK;
}

/* --- one call ------------------------------------------------------------------------------------------------------ */
static int go_on(tc_node_large *l, int status, double seconds) {
    while (status == TC_OK) {
        if (l->phase == SAYING) status = meet(l);
        if (status != TC_OK || l->step == l->steps) break;
        status = l->staged ? staged_step(l) : direct_work(l);
        if (status != TC_OK) break;
        l->step++;
        l->phase = WORKING;
        status = tc_node_run(l->end, NULL, NULL, seconds);
    }
    if (status == TC_AGAIN) return status;
    l->phase = IDLE;
    leave_stage(l);
    return status;
}

int tc_node_large_run(tc_node_large *l, const void *send, void *recv, double seconds) {
    if (l == NULL) return TC_ERR_ARGUMENT;
    if (l->node->head == NULL) return TC_ERR_FREED;
    int status = node_sound(l->node); /* a call that was left is over */
    if (status != TC_OK || l->phase != IDLE) return status != TC_OK ? status : TC_ERR_BUSY;
    l->from[l->node->rank] = send;
    l->to[l->node->rank] = recv;
    take_seat(l);
    status = tc_node_run(l->say, &l->told, l->seats, seconds);
    if (status == TC_OK || status == TC_AGAIN) l->phase = SAYING;
    return go_on(l, status, seconds);
}

int tc_node_large_wait(tc_node_large *l, double seconds) {
    if (l == NULL || l->phase == IDLE) return TC_ERR_ARGUMENT;
    return go_on(l, tc_node_wait(l->node, seconds), seconds);
}
