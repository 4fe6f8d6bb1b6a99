/* Requests of calls through a node: several under way, seen by tests, waits, MPI's own waits or nobody, in any order, with
 * a watch beside them; and blocking calls that come after them. Ranks are threads; MPI is played by a few functions. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "expect.h"
#include "request.h"

#define RANKS 3
#define MOST 6 /* under way at a time */
#define LONGEST 64
#define FAILED 16

/* --- MPI's generalized requests ------------------------------------------------------------------------------------ */
typedef struct generalized {
    int (*query)(void *, void *);
    int (*release)(void *);
    void *state;
    atomic_bool complete;
} generalized;

static atomic_int open_requests;

static int grequest_start(int (*query)(void *, void *), int (*release)(void *), int (*cancel)(void *, int), void *state,
                          void *request) {
    (void)cancel;
    generalized *g = calloc(1, sizeof *g);
    g->query = query;
    g->release = release;
    g->state = state;
    memcpy(request, &g, sizeof g);
    atomic_fetch_add(&open_requests, 1);
    return 0;
}

static int grequest_complete(intptr_t request) {
    atomic_store(&((generalized *)request)->complete, true);
    return 0;
}

static int wait_for(void *request, void *status) {
    generalized *g;
    memcpy(&g, request, sizeof g);
    while (!atomic_load(&g->complete)) sched_yield();
    int code = g->query(g->state, status);
    g->release(g->state);
    free(g);
    atomic_fetch_sub(&open_requests, 1);
    return code;
}

static int set_elements(void *status, intptr_t type, int count) {
    (void)status, (void)type;
    EXPECT(count == 0);
    return 0;
}

static int set_cancelled(void *status, int flag) {
    (void)status;
    EXPECT(flag == 0);
    return 0;
}

/* --- ranks --------------------------------------------------------------------------------------------------------- */
typedef struct rank {
    uint32_t rank, rounds, own;
    tc_node *node;
    tc_queue *queue;
    pthread_t thread;
    int64_t send[MOST][LONGEST], recv[MOST][LONGEST];
    bool held[MOST];
} rank;

static rank ranks[RANKS];

static uint32_t next(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static int64_t given(uint32_t round, uint32_t k, uint32_t who, uint32_t i) {
    return (int64_t)round * 1000 + k * 100 + who * 10 + i;
}

static void check(rank *me, uint32_t round, uint32_t k, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        int64_t wanted = 0;
        for (uint32_t who = 0; who < RANKS; who++) wanted += given(round, k, who, i);
        EXPECT(me->recv[k][i] == wanted);
    }
}

static tc_node_call *call_of(tc_node *node, uint32_t n) {
    tc_node_arguments a = {.collective = TC_ALLREDUCE, .bytes = 8 * n, .item = 8};
    a.choice = (tc_operation_choice){.by = TC_BY_KERNEL, .operation = TC_SUM, .element = TC_INT64};
    tc_node_call *call;
    OK(tc_node_call_new(node, &a, &call));
    return call;
}

/* See the end of a request in one of several ways. */
static void finish(rank *me, tc_request *request, intptr_t handle, uint32_t k) {
    char status[256];
    uint32_t way = next(&me->own) % 4;
    if (me->held[k]) { /* something is left to do when it is complete: nobody of MPI's may see it before */
        while (tc_request_state(request) == TC_AGAIN) sched_yield();
        if (tc_request_state(request) == TC_ERR_FREED) OK(tc_request_release(request, way == 2));
    }
    if (way == 0) {
        while ((k % 2 ? tc_request_test(request) : tc_request_wait(request, -1)) == TC_AGAIN) sched_yield();
    } else if (way == 1) {
        while (tc_request_wait(request, 0.01) == TC_AGAIN) continue;
    } else if (way == 2) {
        EXPECT(wait_for(&handle, status) == (me->held[k] ? FAILED : 0));
    } else {
        OK(tc_request_drop(request));
        while (tc_request_state(request) == TC_AGAIN) OK(tc_request_progress(request));
    }
    OK(tc_request_state(request));
}

static void blocking(rank *me, tc_node_call *call, uint32_t round, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) me->send[0][i] = given(round, 0, me->rank, i);
    int status = tc_node_run(call, me->send[0], me->recv[0], 0.01);
    if (status == TC_ERR_BUSY) {
        while (tc_queue_settle(me->queue, 0.01) == TC_AGAIN) continue;
        status = tc_node_run(call, me->send[0], me->recv[0], 0.01);
    }
    while (status == TC_AGAIN) status = tc_node_wait(me->node, 0.01);
    OK(status);
    check(me, round, 0, n);
}

static void later(rank *me, tc_request **requests, uint32_t round, uint32_t count, const uint32_t *n) {
    intptr_t handle[MOST];
    for (uint32_t k = 0; k < count; k++) {
        for (uint32_t i = 0; i < n[k]; i++) me->send[k][i] = given(round, k, me->rank, i);
        me->held[k] = next(&me->own) % 8 == 0;
        OK(tc_request_start(requests[k], me->send[k], me->recv[k], me->held[k], &handle[k]));
        EXPECT_STATUS(tc_request_start(requests[k], me->send[k], me->recv[k], 0, &handle[k]), TC_ERR_BUSY);
    }
    uint32_t left = count;
    bool done[MOST] = {false};
    while (left > 0) {
        uint32_t k = next(&me->own) % count;
        if (done[k]) continue;
        finish(me, requests[k], handle[k], k);
        check(me, round, k, n[k]);
        done[k] = true;
        left--;
    }
}

static void *program(void *argument) {
    rank *me = argument;
    uint32_t all = 1, n[MOST] = {1, 2, 6, 7, 40, 64};
    tc_node_call *calls[MOST];
    tc_request *requests[MOST];
    for (uint32_t k = 0; k < MOST; k++) {
        calls[k] = call_of(me->node, n[k]);
        OK(tc_request_new(me->queue, NULL, calls[k], &requests[k]));
    }
    for (uint32_t round = 0; round < me->rounds; round++) {
        if (next(&all) % 3 == 0) blocking(me, calls[0], round, n[0]);
        else later(me, requests, round, next(&all) % MOST + 1, n);
    }
    for (uint32_t k = 0; k < MOST; k++) {
        OK(tc_request_free(requests[k]));
        OK(tc_node_call_free(calls[k]));
    }
    OK(tc_queue_close(me->queue));
    return NULL;
}

/* --- the watch ----------------------------------------------------------------------------------------------------- */
static atomic_int called;

static void *watch(void *unused) {
    (void)unused;
    for (int status; (status = tc_watch(0)) != TC_OK;) {
        EXPECT(status == TC_NEEDS_REDUCE || status == TC_AGAIN);
        if (status == TC_AGAIN) atomic_fetch_add(&called, 1);
        sched_yield();
    }
    return NULL;
}

int main(int count, char **arguments) {
    tc_ticket_mpi mpi = {.grequest_start = (uintptr_t)grequest_start, .grequest_complete = (uintptr_t)grequest_complete,
                         .wait = (uintptr_t)wait_for, .set_elements = (uintptr_t)set_elements,
                         .set_cancelled = (uintptr_t)set_cancelled, .request_bytes = 8, .status_bytes = 256,
                         .failed = FAILED};
    OK(tc_tickets_open(&mpi));
    pthread_t watcher;
    EXPECT(pthread_create(&watcher, NULL, watch, NULL) == 0);
    tc_node_address address;
    for (uint32_t r = 0; r < RANKS; r++) {
        rank *k = &ranks[r];
        *k = (rank){.rank = r, .own = r + 5, .rounds = count > 1 ? (uint32_t)atoi(arguments[1]) : 1000};
        if (r == 0) OK(tc_node_create(0, RANKS, NULL, &k->node, &address));
        else OK(tc_node_attach(r, RANKS, NULL, &address, &k->node));
    }
    for (uint32_t r = 0; r < RANKS; r++) OK(tc_node_seal(ranks[r].node, 2));
    for (uint32_t r = 0; r < RANKS; r++) OK(tc_queue_open(NULL, ranks[r].node, &ranks[r].queue));
    for (uint32_t r = 0; r < RANKS; r++) EXPECT(pthread_create(&ranks[r].thread, NULL, program, &ranks[r]) == 0);
    for (uint32_t r = 0; r < RANKS; r++) EXPECT(pthread_join(ranks[r].thread, NULL) == 0);
    OK(tc_watch_call());
    while (atomic_load(&called) == 0) sched_yield();
    OK(tc_watch_end());
    EXPECT(pthread_join(watcher, NULL) == 0);
    EXPECT(atomic_load(&open_requests) == 0);
    for (uint32_t r = RANKS; r-- > 0;) OK(tc_node_free(ranks[r].node));
    return 0;
}
