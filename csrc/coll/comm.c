/* Communicators and runs: starting, driving and waiting. */
#include <stdlib.h>
#include <string.h>

#include "pause.h"
#include "run.h"

#define SPINS 400u           /* polls before a waiter with a core of its own yields it */
#define SECONDS_A_BYTE 1e-8  /* that what is under way may take over a slow network before a waiter sleeps */

static void comm_release(tc_comm *comm) {
    if (atomic_fetch_sub(&comm->holders, 1) != 1) return;
    if (comm->channels) puts_close(comm);
    if (comm->shared) shm_close(comm);
    void *parts[] = {comm->spare, comm->ranks, comm->ports, comm};
    for (int i = 0; i < 4; i++) free(parts[i]);
}

/* Note the rank of every member in MPI's communicator, and that MPI leads to it. */
static int name_members(tc_comm *c, const int32_t *ranks) {
    c->ranks = malloc(c->size * sizeof *c->ranks);
    c->ports = malloc(c->size * sizeof *c->ports);
    if (c->ranks == NULL || c->ports == NULL) return TC_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < c->size; i++) {
        c->ranks[i] = ranks != NULL ? ranks[i] : (int32_t)i;
        c->ports[i] = &mpi_port;
    }
    return TC_OK;
}

int tc_comm_open(const tc_mpi *mpi, intptr_t handle, uint32_t rank, uint32_t size, const int32_t *ranks,
                 int32_t first_tag, uint32_t tags, tc_comm **comm) {
    if (mpi == NULL || comm == NULL || rank >= size) return TC_ERR_ARGUMENT;
    if (first_tag < 0 || tags == 0 || tags > (uint32_t)(INT32_MAX - first_tag)) return TC_ERR_ARGUMENT;
    if (!mpi->isend || !mpi->irecv || !mpi->test || !mpi->get_count || !mpi->reduce_local) return TC_ERR_ARGUMENT;
    if ((mpi->request_bytes != 4 && mpi->request_bytes != 8) || mpi->status_bytes > STATUS_BYTES)
        return TC_ERR_UNSUPPORTED;
    if (mpi->largest == 0 || mpi->largest > INT32_MAX) return TC_ERR_ARGUMENT;
    tc_comm *c = calloc(1, sizeof *c);
    if (c == NULL) return TC_ERR_NO_MEMORY;
    c->mpi = *mpi;
    c->handle = handle;
    c->rank = rank;
    c->size = size;
    c->first_tag = first_tag;
    c->tags = tags;
    c->spins = c->most_spins = SPINS;
    c->least_spins = 1;
    c->holders = 1;
    atomic_flag_clear(&c->busy);
    int status = name_members(c, ranks);
    if (status == TC_OK)
        *comm = c;
    else
        comm_release(c);
    return status;
}

int tc_comm_close(tc_comm *comm) {
    if (comm == NULL) return TC_ERR_ARGUMENT;
    comm_release(comm);
    return TC_OK;
}

int tc_comm_transport(const tc_comm *comm, uint32_t member, uint32_t *kind) {
    if (comm == NULL || kind == NULL || member >= comm->size) return TC_ERR_ARGUMENT;
    if (comm->ports[member] != &shm_port && comm->ports[member] != &mpi_port) return puts_transport(comm, member, kind);
    *kind = comm->ports[member] == &shm_port ? TC_SHM : TC_MSG;
    return TC_OK;
}

static void run_delete(tc_run *run) {
    sizes_free(run);
    void *parts[] = {run->state, run->finished, run->length, run->data, run->posted, run->entries, run};
    for (int i = 0; i < 7; i++) free(parts[i]);
}

int tc_run_new(tc_comm *comm, tc_program *program, tc_run **run) {
    if (comm == NULL || program == NULL || run == NULL) return TC_ERR_ARGUMENT;
    if (program->rank != comm->rank || program->size != comm->size) return TC_ERR_ARGUMENT;
    tc_run *r = calloc(1, sizeof *r);
    if (r == NULL) return TC_ERR_NO_MEMORY;
    size_t messages = (size_t)program->nmessages + 1;
    r->comm = comm;
    r->program = program;
    r->status = TC_OK;
    r->choice.by = TC_BY_CALLER;
    bool all = true;
    for (int role = 0; role < ROLES; role++)
        all = (r->cut[role] = calloc(program->positions[role] + 1ull, sizeof **r->cut)) && all;
    all = (r->region = calloc(program->nregions + 1ull, sizeof *r->region)) && all;
    all = (r->stride = calloc(program->nlanders + 1ull, sizeof *r->stride)) && all;
    all = (r->state = calloc(messages, 1)) && all;
    all = (r->finished = calloc(messages, sizeof *r->finished)) && all;
    all = (r->length = calloc(messages, sizeof *r->length)) && all;
    all = (r->data = calloc(messages, sizeof *r->data)) && all;
    all = (r->posted = calloc(messages, sizeof *r->posted)) && all;
    if (!all) {
        run_delete(r);
        return TC_ERR_NO_MEMORY;
    }
    atomic_fetch_add(&comm->holders, 1);
    atomic_fetch_add(&program->holders, 1);
    *run = r;
    return TC_OK;
}

int tc_run_operation(tc_run *run, const tc_operation_choice *choice) {
    if (run == NULL || choice == NULL || choice->by > TC_BY_CALLER) return TC_ERR_ARGUMENT;
    if (run->link || run->waits) return TC_ERR_BUSY;
    if (choice->by == TC_BY_KERNEL) {
        kernel after = kernel_of(choice->operation, choice->element, false);
        if (after == NULL) return TC_ERR_UNSUPPORTED;
        run->combine[0] = after;
        run->combine[1] = kernel_of(choice->operation, choice->element, true);
        run->element_bytes = element_bytes(choice->element);
    }
    run->choice = *choice;
    return TC_OK;
}

/* --- under way ------------------------------------------------------------------------------------------ */
static void activate(tc_run *run) {
    tc_comm *comm = run->comm;
    run->next = comm->active;
    run->link = &comm->active;
    if (run->next) run->next->link = &run->next;
    comm->active = run;
}

static void retire(tc_run *run) {
    *run->link = run->next;
    if (run->next) run->next->link = run->link;
    run->link = NULL;
    if (run->comm->shared) shm_ended(run);
}

static int drive(tc_run *run) {
    if (run->link == NULL || run->status == TC_NEEDS_REDUCE) return run->status;
    run->status = walk(run);
    if (run->status > TC_OK && run->fault != TC_OK) run->status = run->fault;
    if (run->status <= TC_OK) retire(run);
    if (run->status <= TC_OK && run->pending == 0) memory_give(run);
    return run->status;
}

/* Drive all runs but one; return whether one needs its caller. */
static bool drive_others(tc_comm *comm, const tc_run *run) {
    bool needs = false;
    for (tc_run *other = comm->active, *next; other; other = next) {
        next = other->next;
        if (other != run && drive(other) == TC_NEEDS_REDUCE) needs = true;
    }
    return needs;
}

/* Whether no run under way has the tag of this one, which comes after them. */
static bool tag_free(const tc_comm *comm, const tc_run *run) {
    for (const tc_run *other = comm->active; other; other = other->next)
        if (other->number + comm->tags <= run->number) return false;
    return true;
}

static int begin(tc_run *run) {
    run->status = memory_take(run);
    if (run->status != TC_OK) return run->status;
    run->base[SCRATCH_ROLE] = run->memory ? run->memory : (char *)run;
    run->at = (place){.loop_end = NONE};
    run->nposted = 0;
    run->fault = TC_OK;
    memset(run->state, ABSENT, run->program->nmessages);
    run->polls = 0;
    run->since = 0;
    activate(run);
    run->status = TC_AGAIN;
    return drive(run);
}

/* Begin the runs that waited for their tags, as far as these are free. */
static void begin_waiting(tc_comm *comm) {
    while (comm->waiting && tag_free(comm, comm->waiting)) {
        tc_run *run = comm->waiting;
        comm->waiting = run->next;
        run->waits = false;
        begin(run);
    }
}

static int wait_for_tag(tc_run *run) {
    tc_comm *comm = run->comm;
    if (comm->waiting == NULL) comm->last_waiting = &comm->waiting;
    run->waits = true;
    run->next = NULL;
    *comm->last_waiting = run;
    comm->last_waiting = &run->next;
    return run->status = TC_AGAIN;
}

static int start(tc_run *run, const void *send, void *recv) {
    const uint32_t *n = run->program->positions;
    if (run->link || run->waits || run->pending) return TC_ERR_BUSY;
    if (!run->sized || (!send && run->cut[SEND_ROLE][n[SEND_ROLE]]) || (!recv && run->cut[RECV_ROLE][n[RECV_ROLE]]))
        return TC_ERR_ARGUMENT;
    if (run->choice.by == TC_BY_KERNEL && run->item % run->element_bytes) return TC_ERR_ARGUMENT;
    char *nowhere = (char *)run; /* of buffers without bytes */
    run->base[SEND_ROLE] = send ? (char *)(uintptr_t)send : nowhere; /* which is only read */
    run->base[RECV_ROLE] = recv ? recv : nowhere;
    run->number = run->comm->calls++;
    run->tag = run->comm->first_tag + (int32_t)(run->number % run->comm->tags);
    return run->comm->waiting || !tag_free(run->comm, run) ? wait_for_tag(run) : begin(run);
}

/* Drive a run, and all others unless it is complete; tell of one that needs its caller. */
static int drive_all(tc_run *run) {
    if (run->comm->waiting) begin_waiting(run->comm);
    if (run->comm->channels && run->comm->active) puts_progress(run->comm);
    int status = drive(run);
    if (status != TC_AGAIN) return status;
    if (run->comm->shared && (status = shm_progress(run->comm)) < TC_OK) run->fault = status;
    return drive_others(run->comm, run) ? TC_NEEDS_REDUCE : TC_AGAIN;
}

int tc_run_start(tc_run *run, const void *send, void *recv) {
    if (run == NULL) return TC_ERR_ARGUMENT;
    comm_lock(run->comm);
    int status = start(run, send, recv);
    comm_unlock(run->comm);
    return status;
}

bool comm_drive(tc_comm *comm) {
    comm_lock(comm);
    if (comm->waiting) begin_waiting(comm);
    if (comm->channels && comm->active) puts_progress(comm);
    int status = comm->shared && comm->active ? shm_progress(comm) : TC_OK;
    for (tc_run *run = comm->active; run && status < TC_OK; run = run->next) run->fault = status;
    bool needs = drive_others(comm, NULL);
    comm_unlock(comm);
    return needs;
}

int run_status(tc_run *run) {
    comm_lock(run->comm);
    int status = run->status;
    comm_unlock(run->comm);
    return status;
}

int tc_run_test(tc_run *run) {
    if (run == NULL) return TC_ERR_ARGUMENT;
    comm_lock(run->comm);
    int status = drive_all(run);
    comm_unlock(run->comm);
    if (status == TC_AGAIN) comm_drive_mpi(run->comm);
    return status;
}

/* --- waiting -------------------------------------------------------------------------------------------- */
/* Tests of MPI's messages do as much; a wait for puts, or in shared memory, makes none. MPI's errors come back when the
 * program asks. */
void comm_drive_mpi(const tc_comm *comm) {
    const tc_mpi *mpi = &comm->mpi;
    if (comm->channels || comm->shared) mpi_progress(mpi->iprobe, mpi->any_source, mpi->any_tag, comm->handle);
}

/* Pause between two polls, the longer the longer nothing has happened; return the time if it was looked at, else 0. */
static double pause_between(tc_run *run) {
    tc_comm *comm = run->comm;
    if (++run->polls <= comm->spins) {
        if (comm->shared) relax();
        return 0;
    }
    double time = seconds_now();
    if (run->since == 0) run->since = time;
    double waited = time - run->since;
    if (waited > AT_ONCE || comm->most_spins) comm_drive_mpi(comm);
    if (waited < LATE + SECONDS_A_BYTE * (double)run->under_way)
        return yield_core(&comm->spins, comm->least_spins, comm->most_spins, time);
    return sleep_late(waited);
}

int tc_run_wait(tc_run *run, double seconds) {
    if (run == NULL) return TC_ERR_ARGUMENT;
    double limit = 0;
    for (;;) {
        comm_lock(run->comm);
        uint64_t moved = run->moved;
        int status = drive_all(run);
        if (run->moved != moved) {
            run->polls = 0;
            run->since = 0;
        }
        comm_unlock(run->comm);
        if (status != TC_AGAIN) return status;
        double time = pause_between(run);
        if (time == 0) continue;
        if (limit == 0) limit = time + seconds;
        if (time >= limit) return TC_AGAIN;
    }
}

int tc_run_call(tc_run *run, const void *send, void *recv, double seconds) {
    int status = tc_run_start(run, send, recv);
    return status == TC_AGAIN ? tc_run_wait(run, seconds) : status;
}

/* --- for the caller ------------------------------------------------------------------------------------- */
int tc_run_operands(const tc_run *run, uintptr_t *in, uintptr_t *inout, uint64_t *bytes) {
    if (run == NULL || in == NULL || inout == NULL || bytes == NULL) return TC_ERR_ARGUMENT;
    if (run->status != TC_NEEDS_REDUCE) return TC_AGAIN;
    *in = (uintptr_t)run->operand[0].at;
    *inout = (uintptr_t)run->operand[1].at;
    *bytes = (uint64_t)run->operand[0].bytes;
    return TC_OK;
}

int tc_run_reduced(tc_run *run) {
    if (run == NULL || run->status != TC_NEEDS_REDUCE) return TC_ERR_ARGUMENT;
    comm_lock(run->comm);
    walk_reduced(run);
    run->status = TC_AGAIN;
    comm_unlock(run->comm);
    return TC_OK;
}

int tc_run_failure(const tc_run *run, tc_failure *failure) {
    if (run == NULL || failure == NULL || run->status >= TC_OK) return TC_ERR_ARGUMENT;
    *failure = run->failure;
    return TC_OK;
}

/* Let the messages of a run that failed come and go, as far as they do. */
static void drain(tc_run *run) {
    if (run->comm->channels) puts_progress(run->comm);
    tc_failure why = run->failure;
    for (uint32_t k = 0; k < run->nposted; k++) message_test(run, run->posted[k]);
    run->failure = why;
}

int tc_run_free(tc_run *run) {
    if (run == NULL) return TC_ERR_ARGUMENT;
    tc_comm *comm = run->comm;
    comm_lock(comm);
    if (run->link == NULL) drain(run);
    bool busy = run->link || run->waits || run->pending;
    comm_unlock(comm);
    if (busy) return TC_ERR_BUSY;
    program_release(run->program);
    run_delete(run);
    comm_release(comm);
    return TC_OK;
}
