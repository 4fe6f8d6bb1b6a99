/* Messages of a run as messages of MPI. Its functions are called through addresses, with handles of either width: a
 * narrow handle is an int, which every calling convention passes in the same place as a wider integer.
 */
#include <string.h>

#include "run.h"

typedef int (*isend_function)(const void *, int, intptr_t, int, int, intptr_t, void *);
typedef int (*irecv_function)(void *, int, intptr_t, int, int, intptr_t, void *);
typedef int (*test_function)(void *, int *, void *);
typedef int (*count_function)(const void *, intptr_t, int *);

static int failed(tc_run *run, const step *s, uint32_t message, int status, int code, uint64_t found) {
    uint32_t turn = message - run->program->message[s - run->program->steps];
    run->failure = (tc_failure){.peer = (uint32_t)s->peer, .message = (uint32_t)s->message + turn, .code = code};
    return run_failed(run, status, found, (uint64_t)run->length[message]);
}

static int mpi_failed(tc_run *run, const step *s, uint32_t message, int code) {
    return failed(run, s, message, TC_ERR_MPI, code, 0);
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

static int post(tc_run *run, const step *s, uint32_t message, char *at) {
    const tc_mpi *mpi = &run->comm->mpi;
    int rank = run->comm->ranks[s->peer];
    for (uint32_t c = 0;; c++) {
        void *request = request_of(run, message, c);
        int bytes = chunk_bytes(run, message, c), code;
        char *from = at + c * mpi->largest;
        if (s->code == SEND)
            code = ((isend_function)mpi->isend)(from, bytes, mpi->byte, rank, run->tag, run->comm->handle, request);
        else
            code = ((irecv_function)mpi->irecv)(from, bytes, mpi->byte, rank, run->tag, run->comm->handle, request);
        if (code != 0) return mpi_failed(run, s, message, code);
        if (last_chunk(run, message, c)) return TC_OK;
    }
}

/* Return where the runs of a step lie if they are one piece of memory, empty ones aside; else NULL and their bytes. */
static segment whole(const tc_run *run, const step *s, uint32_t turn) {
    segment out = {NULL, 0};
    bool apart = false;
    for (int32_t k = 0; k < s->runs; k++) {
        segment next = range_of(run, (uint32_t)s->first, (uint32_t)k, turn);
        if (next.bytes == 0) continue;
        if (out.bytes == 0) out.at = next.at;
        apart = apart || out.at + out.bytes != next.at;
        out.bytes += next.bytes;
    }
    if (apart) out.at = NULL;
    return out;
}

static void pack(const tc_run *run, const step *s, uint32_t turn, char *packed, bool out) {
    for (int32_t k = 0; k < s->runs; k++) {
        segment part = range_of(run, (uint32_t)s->first, (uint32_t)k, turn);
        if (part.bytes == 0) continue;
        memcpy(out ? part.at : packed, out ? packed : part.at, (size_t)part.bytes);
        packed += part.bytes;
    }
}

int message_post(tc_run *run, const step *s, uint32_t message) {
    uint32_t turn = message - run->program->message[s - run->program->steps];
    segment data = whole(run, s, turn);
    run->finished[message] = 0;
    run->length[message] = data.bytes;
    if (data.bytes == 0 && step_blocks(run->program, s)) {
        run->state[message] = DONE; /* neither side sends what holds no bytes */
        return TC_OK;
    }
    bool apart = data.bytes && data.at == NULL;
    if (apart || (data.bytes && s->code == RECV && s->flags & LAND)) data.at = landing_of(run, message);
    if (apart && s->code == SEND) pack(run, s, turn, data.at, false);
    run->state[message] = UNDER_WAY;
    run->posted[run->nposted++] = message;
    run->pending++;
    run->under_way += (uint64_t)data.bytes;
    return post(run, s, message, data.at);
}

static int arrived(tc_run *run, const step *s, uint32_t message) {
    if (s->flags & LAND || s->runs < 2) return TC_OK;
    uint32_t turn = message - run->program->message[s - run->program->steps];
    if (whole(run, s, turn).at == NULL) pack(run, s, turn, landing_of(run, message), true);
    return TC_OK;
}

/* Compare what came with what is expected. */
static int check_length(tc_run *run, const step *s, uint32_t message, uint32_t chunk) {
    const tc_mpi *mpi = &run->comm->mpi;
    int found = 0, needed = chunk_bytes(run, message, chunk);
    int code = ((count_function)mpi->get_count)(run->comm->status, mpi->byte, &found);
    if (code != 0) return mpi_failed(run, s, message, code);
    if (found == needed) return TC_OK;
    return failed(run, s, message, TC_ERR_LENGTH, 0, chunk * mpi->largest + (uint64_t)found);
}

int message_test(tc_run *run, uint32_t message) {
    if (run->state[message] == DONE) return TC_OK;
    const step *s = &run->program->steps[run->program->poster[message]];
    for (;;) {
        uint32_t chunk = run->finished[message];
        int flag = 0, code = ((test_function)run->comm->mpi.test)(request_of(run, message, chunk), &flag,
                                                                  run->comm->status);
        if (code != 0) return mpi_failed(run, s, message, code);
        if (!flag) return TC_AGAIN;
        run->finished[message]++;
        run->moved++;
        bool last = last_chunk(run, message, chunk);
        if (last) {
            run->state[message] = DONE;
            run->pending--;
            run->under_way -= (uint64_t)run->length[message];
        }
        int status = s->code == RECV ? check_length(run, s, message, chunk) : TC_OK;
        if (status != TC_OK) return status;
        if (last) return s->code == RECV ? arrived(run, s, message) : TC_OK;
    }
}
