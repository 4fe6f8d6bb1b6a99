/* What MPI's own waits see of a request: a generalized request of MPI's. */
#ifndef TOPOCOMM_TICKET_H
#define TOPOCOMM_TICKET_H
#include <stdatomic.h>
#include <stdbool.h>

#include "request.h"

enum ticket_state { OPEN_TICKET, COMPLETE_TICKET, TAKEN_TICKET }; /* taken: a wait of MPI's has seen the end */

typedef struct ticket {
    atomic_int state;
    int code; /* MPI's, that a wait returns */
    struct ticket *next;
    char request[8]; /* handle */
} ticket;

/* Take a ticket: one that is kept, or a new one; NULL: MPI has none to give. */
ticket *ticket_take(void);
intptr_t ticket_handle(const ticket *t);
/* Let MPI's waits see the end. */
void ticket_complete(ticket *t, bool failed);
/* Let go of a ticket: it is kept if MPI does not know of an end. */
void ticket_give(ticket *t);
/* Let MPI free all tickets that are kept. */
void tickets_end(void);
#endif
