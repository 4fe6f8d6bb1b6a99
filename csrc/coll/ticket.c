/* Tickets: generalized requests of MPI's. Most requests are waited for by our own functions, so MPI never knows of their
 * end: their tickets stay open, and serve further requests.
 */
#include "ticket.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"

#define MOST_KEPT 64u

typedef int (*query_function)(void *, void *);
typedef int (*free_function)(void *);
typedef int (*cancel_function)(void *, int);
typedef int (*start_function)(query_function, free_function, cancel_function, void *, void *);
typedef int (*complete_function)(intptr_t);
typedef int (*wait_function)(void *, void *);
typedef int (*elements_function)(void *, intptr_t, int);
typedef int (*cancelled_function)(void *, int);

static tc_ticket_mpi mpi;
static ticket *kept;
static uint32_t nkept;
static atomic_bool over; /* MPI may be finalized: it is called no more */
static atomic_flag busy = ATOMIC_FLAG_INIT;

static void lock(void) {
    while (atomic_flag_test_and_set_explicit(&busy, memory_order_acquire)) sched_yield();
}

static void unlock(void) {
    atomic_flag_clear_explicit(&busy, memory_order_release);
}

int tc_tickets_open(const tc_ticket_mpi *facts) {
    if (facts == NULL || (facts->request_bytes != 4 && facts->request_bytes != 8)) return TC_ERR_ARGUMENT;
    if (facts->status_bytes > STATUS_BYTES) return TC_ERR_UNSUPPORTED;
    if (!facts->grequest_start || !facts->grequest_complete || !facts->wait || !facts->set_elements ||
        !facts->set_cancelled)
        return TC_ERR_ARGUMENT;
    mpi = *facts;
    return TC_OK;
}

/* --- called by MPI ------------------------------------------------------------------------------------------------- */
static int query(void *state, void *status) {
    const ticket *t = state;
    ((elements_function)mpi.set_elements)(status, mpi.byte, 0);
    ((cancelled_function)mpi.set_cancelled)(status, 0);
    return t->code;
}

static int taken(void *state) {
    ticket *t = state;
    atomic_store(&t->state, TAKEN_TICKET);
    return 0;
}

static int refuse_to_cancel(void *state, int complete) {
    (void)state, (void)complete;
    return mpi.failed;
}

/* ------------------------------------------------------------------------------------------------------------------- */
static ticket *make(void) {
    ticket *t = calloc(1, sizeof *t);
    if (t == NULL) return NULL;
    int code = ((start_function)mpi.grequest_start)(query, taken, refuse_to_cancel, t, t->request);
    if (code == 0) return t;
    free(t);
    return NULL;
}

ticket *ticket_take(void) {
    if (!mpi.grequest_start || atomic_load(&over)) return NULL;
    lock();
    ticket *t = kept;
    if (t) {
        kept = t->next;
        nkept--;
    }
    unlock();
    return t ? t : make();
}

intptr_t ticket_handle(const ticket *t) {
    if (mpi.request_bytes == 8) {
        int64_t wide;
        memcpy(&wide, t->request, sizeof wide);
        return (intptr_t)wide;
    }
    int32_t narrow;
    memcpy(&narrow, t->request, sizeof narrow);
    return (intptr_t)narrow;
}

void ticket_complete(ticket *t, bool failed) {
    t->code = failed ? mpi.failed : 0;
    atomic_store(&t->state, COMPLETE_TICKET);
    ((complete_function)mpi.grequest_complete)(ticket_handle(t));
}

/* Take the end as a wait of MPI's does. */
static void end(ticket *t) {
    char status[STATUS_BYTES] __attribute__((aligned(16)));
    if (atomic_load(&t->state) == OPEN_TICKET) ticket_complete(t, false);
    t->code = 0;
    if (atomic_load(&t->state) == COMPLETE_TICKET) ((wait_function)mpi.wait)(t->request, status);
    free(t);
}

void ticket_give(ticket *t) {
    if (atomic_load(&over)) return; /* MPI may hold its address */
    bool keep = atomic_load(&t->state) == OPEN_TICKET;
    if (keep) {
        lock();
        keep = nkept < MOST_KEPT;
        if (keep) {
            t->next = kept;
            kept = t;
            nkept++;
        }
        unlock();
    }
    if (!keep) end(t);
}

void tickets_end(void) {
    atomic_store(&over, true);
    lock();
    ticket *t = kept;
    kept = NULL;
    nkept = 0;
    unlock();
    while (t) {
        ticket *next = t->next;
        end(t);
        t = next;
    }
}
