/* Messages of a run as messages of MPI. Its functions are called through addresses, with handles of either width: a
 * narrow handle is an int, which every calling convention passes in the same place as a wider integer.
 */
#include "run.h"

typedef int (*isend_function)(const void *, int, intptr_t, int, int, intptr_t, void *);
typedef int (*irecv_function)(void *, int, intptr_t, int, int, intptr_t, void *);
typedef int (*test_function)(void *, int *, void *);
typedef int (*count_function)(const void *, intptr_t, int *);
typedef int (*iprobe_function)(int, int, intptr_t, int *, void *);

static int mpi_failed(tc_run *run, const step *s, uint32_t message, int code) {
    return message_failed(run, s, message, TC_ERR_MPI, code, 0);
}

static void *request_of(const tc_run *run, uint32_t message, uint32_t chunk) {
    return run->requests + ((uint64_t)message * run->chunks + chunk) * run->comm->mpi.request_bytes;
}

static int chunk_bytes(const tc_run *run, uint32_t message, uint32_t chunk) {
    uint64_t largest = run->comm->mpi.largest, rest = (uint64_t)run->length[message] - chunk * largest;
    return (int)(rest < largest ? rest : largest);
}

/* A message of no bytes is one chunk, too. */
static bool last_chunk(const tc_run *run, uint32_t message, uint32_t chunk) {
    return (chunk + 1) * run->comm->mpi.largest >= (uint64_t)run->length[message];
}

int mpi_progress(uintptr_t iprobe, int any_source, int any_tag, intptr_t handle) {
    char status[STATUS_BYTES] __attribute__((aligned(16)));
    int flag = 0;
    return iprobe ? ((iprobe_function)iprobe)(any_source, any_tag, handle, &flag, status) : 0;
}

void tc_mpi_progress(void *probe) {
    const tc_probe *p = probe;
    mpi_progress(p->iprobe, p->any_source, p->any_tag, p->handle);
}

int mpi_begin(tc_comm *comm, bool sends, void *at, int bytes, uint32_t peer, int32_t tag, void *request) {
    const tc_mpi *mpi = &comm->mpi;
    int rank = comm->ranks[peer];
    if (sends) return ((isend_function)mpi->isend)(at, bytes, mpi->byte, rank, tag, comm->handle, request);
    return ((irecv_function)mpi->irecv)(at, bytes, mpi->byte, rank, tag, comm->handle, request);
}

int mpi_ended(tc_comm *comm, void *request, bool *ended) {
    int flag = 0, code = ((test_function)comm->mpi.test)(request, &flag, comm->status);
    *ended = flag;
    return code;
}

static int mpi_post(tc_run *run, const step *s, uint32_t message) {
    uint64_t largest = run->comm->mpi.largest;
    for (uint32_t c = 0;; c++) {
        int code = mpi_begin(run->comm, s->code == SEND, run->data[message] + c * largest, chunk_bytes(run, message, c),
                             (uint32_t)s->peer, run->tag, request_of(run, message, c));
        if (code != 0) return mpi_failed(run, s, message, code);
        if (last_chunk(run, message, c)) return TC_OK;
    }
}

/* Compare what came with what is expected. */
static int check_length(tc_run *run, const step *s, uint32_t message, uint32_t chunk) {
    const tc_mpi *mpi = &run->comm->mpi;
    int found = 0, needed = chunk_bytes(run, message, chunk);
    int code = ((count_function)mpi->get_count)(run->comm->status, mpi->byte, &found);
    if (code != 0) return mpi_failed(run, s, message, code);
    if (found == needed) return TC_OK;
    return message_failed(run, s, message, TC_ERR_LENGTH, 0, chunk * mpi->largest + (uint64_t)found);
}

static int mpi_test(tc_run *run, const step *s, uint32_t message) {
    for (;;) {
        uint32_t chunk = run->finished[message];
        bool ended;
        int code = mpi_ended(run->comm, request_of(run, message, chunk), &ended);
        if (code != 0) return mpi_failed(run, s, message, code);
        if (!ended) return TC_AGAIN;
        run->finished[message]++;
        run->moved++;
        bool last = last_chunk(run, message, chunk);
        if (last) message_over(run, message);
        int status = s->code == RECV ? check_length(run, s, message, chunk) : TC_OK;
        if (status != TC_OK || last) return status;
    }
}

const port mpi_port = {mpi_post, mpi_post, mpi_test, NULL};
