/* Walking a program: one step after the other, until one has to wait. */
#include <string.h>

#include "run.h"

typedef int (*reduce_function)(const void *, void *, int, intptr_t, intptr_t);

#define MOST_ELEMENTS ((int64_t)1 << 30) /* of one call of MPI_Reduce_local, which counts in 31 bits */

/* Wait for the messages of a WAIT; `part` of them have been seen to. */
static int await(tc_run *run, const step *s, uint32_t message) {
    for (; run->at.part < (uint32_t)s->count; run->at.part++) {
        int status = message_test(run, message + run->at.part);
        if (status != TC_OK) return status;
    }
    return TC_OK;
}

static int fence(tc_run *run) {
    for (; run->at.part < run->nposted; run->at.part++) {
        int status = message_test(run, run->posted[run->at.part]);
        if (status != TC_OK) return status;
    }
    run->nposted = 0;
    return TC_OK;
}

static int uneven(tc_run *run, int64_t found, int64_t needed) {
    run->failure = (tc_failure){.peer = NONE};
    return run_failed(run, TC_ERR_RANGE, (uint64_t)found, (uint64_t)needed);
}

static int copy_runs(tc_run *run, const step *s) {
    for (int32_t k = 0; k < s->runs; k++) {
        segment to = range_of(run, (uint32_t)s->first, (uint32_t)k, run->at.turn);
        segment from = range_of(run, (uint32_t)s->source, (uint32_t)k, run->at.turn);
        if (to.bytes != from.bytes) return uneven(run, from.bytes, to.bytes);
        if (to.bytes) memmove(to.at, from.at, (size_t)to.bytes);
    }
    return TC_OK;
}

/* Whether the next `bytes` are still part of the message that landed. */
static bool fits(const tc_run *run, uint32_t message, int64_t bytes) {
    return bytes <= run->length[message] - (int64_t)run->at.offset;
}

static int copy_landing(tc_run *run, const step *s, uint32_t message) {
    run->at.offset = 0;
    for (int32_t k = 0; k < s->runs; k++) {
        segment to = range_of(run, (uint32_t)s->first, (uint32_t)k, run->at.turn);
        if (to.bytes == 0) continue;
        if (!fits(run, message, to.bytes)) return uneven(run, run->length[message], to.bytes);
        memcpy(to.at, run->data[message] + run->at.offset, (size_t)to.bytes);
        run->at.offset += (uint64_t)to.bytes;
    }
    return TC_OK;
}

/* inout = in ∘ inout by MPI, which has a kernel for whatever it predefines. */
static int combine_by_mpi(tc_run *run, segment in, segment inout) {
    int64_t left = in.bytes / run->item;
    while (left > 0) {
        int64_t count = left < MOST_ELEMENTS ? left : MOST_ELEMENTS;
        int code = ((reduce_function)run->comm->mpi.reduce_local)(in.at, inout.at, (int)count, run->choice.type,
                                                                  run->choice.op);
        if (code != 0) {
            run->failure = (tc_failure){.peer = NONE, .code = code};
            return run_failed(run, TC_ERR_MPI, 0, 0);
        }
        in.at += count * run->item;
        inout.at += count * run->item;
        left -= count;
    }
    return TC_OK;
}

/* Combine one run with its part of the landing. An AFTER by the MPI library or the caller is made in the landing. */
static int combine(tc_run *run, segment target, segment landed, bool before) {
    if (run->choice.by == TC_BY_KERNEL) {
        run->combine[before](landed.at, target.at, (size_t)target.bytes / run->element_bytes);
        return TC_OK;
    }
    run->operand[0] = before ? landed : target;
    run->operand[1] = before ? target : landed;
    if (run->choice.by == TC_BY_CALLER) return TC_NEEDS_REDUCE;
    int status = combine_by_mpi(run, run->operand[0], run->operand[1]);
    if (status == TC_OK && !before) memcpy(target.at, landed.at, (size_t)target.bytes);
    return status;
}

static int reduce(tc_run *run, const step *s, uint32_t message) {
    if (run->at.part == 0) run->at.offset = 0;
    for (; run->at.part < (uint32_t)s->runs; run->at.part++) {
        segment target = range_of(run, (uint32_t)s->first, run->at.part, run->at.turn);
        if (target.bytes == 0) continue;
        if (!fits(run, message, target.bytes)) return uneven(run, run->length[message], target.bytes);
        segment landed = {run->data[message] + run->at.offset, target.bytes};
        int status = combine(run, target, landed, s->flags & BEFORE);
        if (status != TC_OK) return status;
        run->at.offset += (uint64_t)target.bytes;
    }
    return TC_OK;
}

void walk_reduced(tc_run *run) {
    const step *s = &run->program->steps[run->at.step];
    segment in = run->operand[0], inout = run->operand[1];
    if (!(s->flags & BEFORE)) memcpy(in.at, inout.at, (size_t)in.bytes);
    run->at.offset += (uint64_t)in.bytes;
    run->at.part++;
}

/* Take what landed, then let it go. */
static int take(tc_run *run, const step *s, uint32_t message) {
    int status = s->code == REDUCE ? reduce(run, s, message) : copy_landing(run, s, message);
    if (status == TC_OK) message_taken(run, message);
    return status;
}

static int do_step(tc_run *run, const step *s, uint32_t message) {
    switch (s->code) {
    case COPY: return s->source < 0 ? take(run, s, message) : copy_runs(run, s);
    case SEND:
    case RECV: return message_post(run, s, message);
    case REDUCE: return take(run, s, message);
    case WAIT: return await(run, s, message);
    case FENCE: return fence(run);
    default: return TC_OK;
    }
}

static void go_on(place *at, const step *s) {
    if (s->code == LOOP) {
        at->loop_first = at->step + 1;
        at->loop_end = at->step + (uint32_t)s->source;
        at->turns = (uint32_t)s->count;
        at->turn = 0;
    }
    at->part = 0;
    if (at->step != at->loop_end || s->code == LOOP) {
        at->step++;
    } else if (++at->turn < at->turns) {
        at->step = at->loop_first;
    } else {
        at->turn = 0;
        at->loop_end = NONE;
        at->step++;
    }
}

int walk(tc_run *run) {
    const tc_program *p = run->program;
    while (run->at.step < p->nsteps) {
        const step *s = &p->steps[run->at.step];
        int status = do_step(run, s, p->message[run->at.step] + run->at.turn);
        if (status != TC_OK) return status;
        go_on(&run->at, s);
        run->moved++;
    }
    return TC_OK;
}
