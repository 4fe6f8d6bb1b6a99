/* Requests and their queues. */
#include "request.h"

#include <sched.h>
#include <stdlib.h>

#include "pause.h"
#include "shared_node.h"
#include "ticket.h"
#include "watch.h"

#define TOGETHER 1e-3   /* seconds that a wait for a node's call keeps the queue */

enum request_state { IDLE, UNDER_WAY_REQUEST, OVER };

struct tc_queue {
    watched_entry watched; /* first */
    atomic_uint holders;   /* whoever opened it, and requests */
    atomic_flag busy;
    tc_comm *comm;
    tc_node *node;
    tc_request *first, **end; /* started, their end not seen: in order */
    atomic_uint length; /* of that list */
    tc_request *calling;      /* the node's call under way is its */
    atomic_uint used, seen;   /* by others than the watch; at its last look */
    bool ended;               /* nothing starts any more */
};

struct tc_request {
    tc_queue *queue;
    tc_run *run;
    tc_node_call *call;
    bool held, dropped, released;
    const void *send;
    void *recv;
    enum request_state state;
    int status;
    ticket *ticket;
    tc_request *next, **link;
};

static bool try_lock(tc_queue *queue) {
    return !atomic_flag_test_and_set_explicit(&queue->busy, memory_order_acquire);
}

static void lock(tc_queue *queue) {
    while (!try_lock(queue)) sched_yield();
    atomic_fetch_add_explicit(&queue->used, 1, memory_order_relaxed);
}

static void unlock(tc_queue *queue) {
    atomic_flag_clear_explicit(&queue->busy, memory_order_release);
}

/* --- the list ------------------------------------------------------------------------------------------------------ */
static void enlist(tc_request *request) {
    tc_queue *queue = request->queue;
    request->next = NULL;
    request->link = queue->end;
    *queue->end = request;
    queue->end = &request->next;
    atomic_fetch_add(&queue->length, 1);
}

/* Its end is seen. */
static void settle(tc_request *request) {
    tc_queue *queue = request->queue;
    *request->link = request->next;
    if (request->next) request->next->link = request->link;
    else queue->end = request->link;
    atomic_fetch_sub(&queue->length, 1);
    request->state = IDLE;
    ticket_give(request->ticket);
    request->ticket = NULL;
}

/* --- driving ------------------------------------------------------------------------------------------------------- */
/* Go on with a node's call, waiting for at most `seconds`; < 0: not at all. */
static int go_on_calling(tc_request *request, double seconds) {
    tc_queue *queue = request->queue;
    if (queue->calling == request) return tc_node_wait(queue->node, seconds);
    queue->calling = request;
    return node_start(request->call, request->send, request->recv, seconds);
}

static void reach_end(tc_request *request) {
    tc_queue *queue = request->queue;
    request->state = OVER;
    if (request->call == NULL) return;
    if (queue->calling == request) queue->calling = NULL;
    atomic_fetch_sub(&queue->node->requests, 1);
}

/* Look at a request under way; false: those after it have not moved either. */
static bool look(tc_request *request, double seconds) {
    if (request->run) {
        request->status = run_status(request->run);
    } else if (request->call) {
        request->status = go_on_calling(request, seconds);
        if (request->status > 0) return false;
    }
    if (request->status <= 0) reach_end(request);
    return !request->run || !request->run->waits;
}

/* Drive all requests; return whether a request ended. `seconds` as of go_on_calling. */
static bool drive(tc_queue *queue, double seconds) {
    bool moved = false, look_on = true;
    if (queue->comm && queue->first) comm_drive(queue->comm);
    for (tc_request *r = queue->first, *next; r; r = next) {
        next = r->next;
        if (r->state == UNDER_WAY_REQUEST && look_on) {
            look_on = look(r, seconds);
            moved = moved || r->state == OVER;
        }
        if (r->state == OVER && (r->dropped || atomic_load(&r->ticket->state) == TAKEN_TICKET)) settle(r);
    }
    return moved;
}

/* Tell MPI of ends that nobody has seen; return whether something needs the caller. */
static bool tell_mpi(tc_queue *queue) {
    bool needs = false;
    for (tc_request *r = queue->first; r; r = r->next) {
        needs = needs || (r->status == TC_NEEDS_REDUCE && !r->dropped) || (r->state == OVER && r->held && !r->released);
        if (r->state == OVER && (!r->held || r->released) && atomic_load(&r->ticket->state) == OPEN_TICKET)
            ticket_complete(r->ticket, r->status < 0);
    }
    return needs;
}

static enum watched drive_for_watch(watched_entry *entry) {
    tc_queue *queue = (tc_queue *)entry;
    uint32_t used = atomic_load(&queue->used);
    bool others = used != atomic_load(&queue->seen);
    if (!others && atomic_load(&queue->length) == 0) return IDLE_WATCHED;
    if (!try_lock(queue)) return USED_WATCHED;
    atomic_store(&queue->seen, used);
    bool moved = drive(queue, -1), calls = tell_mpi(queue), quiet = queue->first != NULL;
    unlock(queue);
    return calls ? CALLING_WATCHED : moved ? MOVING_WATCHED : others ? USED_WATCHED : quiet ? QUIET_WATCHED : IDLE_WATCHED;
}

/* --- queues -------------------------------------------------------------------------------------------------------- */
int tc_queue_open(tc_comm *comm, tc_node *node, tc_queue **queue) {
    if (queue == NULL || (comm && node)) return TC_ERR_ARGUMENT;
    tc_queue *q = calloc(1, sizeof *q);
    if (q == NULL) return TC_ERR_NO_MEMORY;
    q->watched.drive = drive_for_watch;
    q->holders = 1;
    atomic_flag_clear(&q->busy);
    q->comm = comm;
    q->node = node;
    q->end = &q->first;
    watch_add(&q->watched);
    *queue = q;
    return TC_OK;
}

static void queue_release(tc_queue *queue) {
    if (atomic_fetch_sub(&queue->holders, 1) != 1) return;
    watch_remove(&queue->watched);
    free(queue);
}

int tc_queue_close(tc_queue *queue) {
    if (queue == NULL) return TC_ERR_ARGUMENT;
    queue_release(queue);
    return TC_OK;
}

int tc_queue_end(tc_queue *queue) {
    if (queue == NULL) return TC_ERR_ARGUMENT;
    int status = TC_OK;
    lock(queue);
    queue->ended = true;
    for (tc_request *r = queue->first; r; r = r->next)
        if (r->state == UNDER_WAY_REQUEST) status = TC_AGAIN;
    unlock(queue);
    return status;
}

int tc_queue_settle(tc_queue *queue, double seconds) {
    if (queue == NULL || queue->node == NULL) return TC_ERR_ARGUMENT;
    double limit = 0;
    for (uint32_t polls = 0; atomic_load(&queue->node->requests); polls++) {
        bool spins = polls < queue->node->spins;
        lock(queue);
        drive(queue, spins ? -1 : TOGETHER);
        unlock(queue);
        if (spins) continue;
        if (limit == 0) limit = seconds_now() + seconds;
        if (seconds_now() >= limit) return TC_AGAIN;
    }
    return TC_OK;
}

/* --- requests ------------------------------------------------------------------------------------------------------ */
int tc_request_new(tc_queue *queue, tc_run *run, tc_node_call *call, tc_request **request) {
    if (queue == NULL || request == NULL || (run && queue->comm == NULL) || (call && queue->node == NULL) || (run && call))
        return TC_ERR_ARGUMENT;
    tc_request *r = calloc(1, sizeof *r);
    if (r == NULL) return TC_ERR_NO_MEMORY;
    r->queue = queue;
    r->run = run;
    r->call = call;
    atomic_fetch_add(&queue->holders, 1);
    *request = r;
    return TC_OK;
}

static int begin(tc_request *request) {
    if (request->run) return tc_run_start(request->run, request->send, request->recv);
    if (request->call && atomic_load(&request->queue->node->requests) == 1) return go_on_calling(request, -1);
    return TC_AGAIN;
}

static int start(tc_request *r, const void *send, void *recv, bool held, intptr_t *handle) {
    if (r->state == OVER && atomic_load(&r->ticket->state) == TAKEN_TICKET) settle(r);
    if (r->state != IDLE) return TC_ERR_BUSY;
    if (r->queue->ended) return TC_ERR_FREED;
    r->ticket = ticket_take();
    if (r->ticket == NULL) return TC_ERR_NO_MEMORY;
    r->send = send;
    r->recv = recv;
    r->held = held;
    r->dropped = r->released = false;
    enlist(r);
    r->state = UNDER_WAY_REQUEST;
    if (r->call) atomic_fetch_add(&r->queue->node->requests, 1);
    r->status = begin(r);
    if (r->status <= 0) reach_end(r);
    *handle = ticket_handle(r->ticket);
    return TC_OK;
}

int tc_request_start(tc_request *request, const void *send, void *recv, uint32_t held, intptr_t *handle) {
    if (request == NULL || handle == NULL) return TC_ERR_ARGUMENT;
    lock(request->queue);
    int status = start(request, send, recv, held, handle);
    unlock(request->queue);
    watch_wake();
    return status;
}

/* See the end, if it has come; < 0: how the call failed. */
static int see_end(tc_request *request) {
    if (request->state == UNDER_WAY_REQUEST) return request->status > 0 ? request->status : TC_AGAIN;
    if (request->state == OVER) settle(request);
    return request->status;
}

static int drive_and_see(tc_request *request, double seconds) {
    lock(request->queue);
    if (request->state == UNDER_WAY_REQUEST) drive(request->queue, seconds);
    int status = see_end(request);
    unlock(request->queue);
    return status;
}

/* Of a queue that the caller drives, the caller's own messages do as much. */
static void drive_mpi(const tc_queue *queue) {
    const tc_node *node = queue->node;
    if (queue->comm) comm_drive_mpi(queue->comm);
    if (node) mpi_progress(node->mpi.iprobe, node->mpi.any_source, node->mpi.any_tag, node->mpi.handle);
}

int tc_request_test(tc_request *request) {
    if (request == NULL) return TC_ERR_ARGUMENT;
    int status = drive_and_see(request, -1);
    if (status == TC_AGAIN) drive_mpi(request->queue);
    return status;
}

/* Polls before a wait yields its core: few where others need it. */
static uint32_t spins(const tc_request *request) {
    return request->run ? request->queue->comm->spins : request->call ? request->queue->node->spins : 0;
}

int tc_request_wait(tc_request *request, double seconds) {
    if (request == NULL) return TC_ERR_ARGUMENT;
    double limit = 0;
    for (uint32_t polls = 0;; polls++) {
        int status = drive_and_see(request, -1);
        if (status != TC_AGAIN || seconds < 0) return status;
        if (polls < spins(request)) continue;
        if (limit == 0) limit = seconds_now() + seconds;
        if (request->run && tc_run_wait(request->run, seconds) == TC_NEEDS_REDUCE) return TC_NEEDS_REDUCE;
        if (request->call && (status = drive_and_see(request, TOGETHER)) != TC_AGAIN) return status;
        if (seconds_now() >= limit) return drive_and_see(request, -1);
    }
}

int tc_request_progress(tc_request *request) {
    if (request == NULL) return TC_ERR_ARGUMENT;
    lock(request->queue);
    drive(request->queue, -1);
    unlock(request->queue);
    drive_mpi(request->queue);
    return TC_OK;
}

int tc_request_state(tc_request *request) {
    if (request == NULL) return TC_ERR_ARGUMENT;
    lock(request->queue);
    if (request->state == OVER && atomic_load(&request->ticket->state) == TAKEN_TICKET) settle(request);
    enum request_state state = request->state;
    unlock(request->queue);
    return state == IDLE ? TC_OK : state == OVER ? TC_ERR_FREED : TC_AGAIN;
}

int tc_request_set(tc_request *request, int status) {
    if (request == NULL || request->run || request->call) return TC_ERR_ARGUMENT;
    lock(request->queue);
    if (request->state == UNDER_WAY_REQUEST) {
        request->status = status;
        if (status <= 0) reach_end(request);
    }
    unlock(request->queue);
    return TC_OK;
}

int tc_request_release(tc_request *request, uint32_t failed) {
    if (request == NULL) return TC_ERR_ARGUMENT;
    lock(request->queue);
    request->released = true;
    if (request->state == OVER && atomic_load(&request->ticket->state) == OPEN_TICKET)
        ticket_complete(request->ticket, failed || request->status < 0);
    unlock(request->queue);
    return TC_OK;
}

int tc_request_drop(tc_request *request) {
    if (request == NULL) return TC_ERR_ARGUMENT;
    lock(request->queue);
    request->dropped = true;
    if (request->state == OVER) settle(request);
    unlock(request->queue);
    return TC_OK;
}

int tc_request_free(tc_request *request) {
    if (request == NULL) return TC_ERR_ARGUMENT;
    if (tc_request_state(request) != TC_OK) return TC_ERR_BUSY;
    tc_queue *queue = request->queue;
    free(request);
    queue_release(queue);
    return TC_OK;
}
