/* topocomm: requests: calls that a program starts and waits for later, of programs or among the ranks of one host.
 *
 * A *queue* has the requests of one communicator that are under way, in the order in which they started; whoever tests
 * or waits for one drives them all, and so does the *watch*, a thread of the caller's, where nobody else does. MPI's own
 * waits see a request as a generalized request of MPI's, its *ticket*: what the watch finds complete, it completes there.
 *
 * The watch calls MPI beside other threads: requests need MPI_THREAD_MULTIPLE. Every function returns a status: 0 done,
 * > 0 not yet, < 0 error.
 */
#ifndef TOPOCOMM_REQUEST_H
#define TOPOCOMM_REQUEST_H
#include "node.h"

typedef struct tc_queue tc_queue;     /* of one communicator */
typedef struct tc_request tc_request; /* one call, started as often as wanted */

typedef struct tc_ticket_mpi {
    uintptr_t grequest_start, grequest_complete, wait, set_elements, set_cancelled; /* addresses of MPI's functions */
    intptr_t byte;                                                                 /* handle of MPI_BYTE */
    uint32_t request_bytes, status_bytes;
    int32_t failed; /* MPI's error code for a wait of a call that failed */
} tc_ticket_mpi;

/* --- requests ---------------------------------------------------------------------------------------------------- */
/* Give the facts about MPI, once, before the first request starts. */
int tc_tickets_open(const tc_ticket_mpi *mpi);
/* Open a queue of runs of `comm`, or of calls through `node`, which nothing else uses then, or of neither. */
int tc_queue_open(tc_comm *comm, tc_node *node, tc_queue **queue);
/* Let go of a queue; it ends with the last of its requests. */
int tc_queue_close(tc_queue *queue);
/* Let no request start any more: TC_ERR_FREED. TC_OK: nothing is under way · TC_AGAIN. As often as wanted. */
int tc_queue_end(tc_queue *queue);
/* Wait, for at most `seconds`, until no call of the queue through its node is under way. */
int tc_queue_settle(tc_queue *queue, double seconds);
/* Make a request of a run, of a call through the queue's node, or of neither, which the caller drives (tc_request_set). */
int tc_request_new(tc_queue *queue, tc_run *run, tc_node_call *call, tc_request **request);
/* Start, and return what MPI's waits take. TC_ERR_BUSY: it is under way, or nobody has waited for it yet. `held`: the
 * caller has something to do when it is complete, which MPI's waits do not see before tc_request_release. */
int tc_request_start(tc_request *request, const void *send, void *recv, uint32_t held, intptr_t *handle);
/* TC_OK or errors: it is over, and may be started again; what MPI's waits took is no more. TC_NEEDS_REDUCE: as of a run.
 * In vain it drives MPI, too. */
int tc_request_test(tc_request *request);
/* As tc_request_test, after at most `seconds`; < 0: at once, and MPI is not driven. */
int tc_request_wait(tc_request *request, double seconds);
/* Drive all requests of the queue, and MPI; see no end. */
int tc_request_progress(tc_request *request);
/* TC_OK: nothing is under way, and a wait or test, maybe MPI's, has seen the end · TC_AGAIN: it is under way ·
 * TC_FREED: its end has not been seen. Drives nothing. */
int tc_request_state(tc_request *request);
/* Give the status of a request that the caller drives. */
int tc_request_set(tc_request *request, int status);
/* Let MPI's waits see the end of a held request that is over. */
int tc_request_release(tc_request *request, uint32_t failed);
/* Wait for it no more: its end counts as seen. */
int tc_request_drop(tc_request *request);
/* TC_ERR_BUSY while it is under way. */
int tc_request_free(tc_request *request);

/* --- the watch --------------------------------------------------------------------------------------------------- */
/* Drive all requests where nobody else does, for at most `seconds`; 0: until it is ended. TC_NEEDS_REDUCE: a run needs its
 * caller, or a held request is over · TC_AGAIN: the time is up, or somebody called tc_watch_call · TC_OK: the end. */
int tc_watch(double seconds);
/* Let the watch return. */
int tc_watch_call(void);
/* End the watch, and the tickets of MPI's that are kept for further requests: before MPI is finalized. */
int tc_watch_end(void);
#endif
