/* Two processes with the C core open between them: what the benchmarks core.c and mpi.c share.
 * The board lies in memory that both have mapped; `me` is 0 or 1. */
#ifndef RMA_PAIR_H
#define RMA_PAIR_H
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "topocomm.h"

#define MAX_ROUNDS 201
#define AREA (8u << 20)
#define CHECK(call)                                                                              \
    do {                                                                                         \
        int s_ = (call);                                                                         \
        if (s_ != TC_OK) {                                                                       \
            fprintf(stderr, "%s: %s\n", #call, tc_status_text(s_));                              \
            _exit(1);                                                                            \
        }                                                                                        \
    } while (0)

typedef struct board {
    unsigned char address[2][TC_ADDRESS_BYTES], block[2][TC_BLOCK_BYTES];
    _Alignas(64) _Atomic int ready[2];
    _Alignas(64) _Atomic uint64_t flag[2][8];
    _Alignas(64) unsigned char area[2][AREA];
} board;

static board *b;
static uint32_t me;

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void meet(void) {
    static int turn;
    atomic_store(&b->ready[me], ++turn);
    while (atomic_load(&b->ready[1 - me]) < turn) {}
}

static double flag_round(int iterations) {
    static uint64_t turn;
    meet();
    double start = seconds();
    for (int i = 0; i < iterations; i++) {
        turn++;
        if (me == 0) atomic_store_explicit(&b->flag[0][0], turn, memory_order_release);
        while (atomic_load_explicit(&b->flag[1 - me][0], memory_order_acquire) != turn) {}
        if (me == 1) atomic_store_explicit(&b->flag[1][0], turn, memory_order_release);
    }
    return (seconds() - start) / iterations / 2;
}

typedef struct end {
    tc_context *context;
    tc_memory *memory;
    tc_signal *signal;
    tc_target *target;
    volatile uint64_t *inbox;
} end;

static end open_end(void) {
    end e;
    tc_options options;
    size_t bytes;
    void *base;
    uint64_t size;
    tc_block *block;
    tc_options_default(&options);
    options.rank = me;
    options.size = 2;
    options.transports = TC_SHM;
    CHECK(tc_context_open(&options, &e.context));
    CHECK(tc_context_address(e.context, b->address[me], TC_ADDRESS_BYTES, &bytes));
    meet();
    CHECK(tc_context_connect(e.context, 1 - me, b->address[1 - me], bytes));
    CHECK(tc_memory_allocate(e.context, AREA, &e.memory));
    CHECK(tc_memory_base(e.memory, &base, &size));
    memset(base, 0, AREA);
    e.inbox = base;
    tc_layout layout = {0, AREA, {1, 1, 1}, {0}};
    CHECK(tc_signal_create(e.context, TC_COUNTED, &e.signal));
    CHECK(tc_block_issue(e.memory, &layout, e.signal, 1 - me, 0, &block));
    CHECK(tc_block_export(block, b->block[me], TC_BLOCK_BYTES, &bytes));
    meet();
    CHECK(tc_target_open(e.context, b->block[1 - me], TC_BLOCK_BYTES, &e.target));
    meet();
    return e;
}

static double put_round(end *e, tc_plan *plan, uint64_t *data, int iterations) {
    static uint64_t turn;
    meet();
    double start = seconds();
    for (int i = 0; i < iterations; i++) {
        turn++;
        if (me == 0) {
            *data = turn;
            CHECK(tc_plan_start(plan));
        }
        CHECK(tc_signal_wait(e->signal, 10));
        if (*e->inbox != turn) _exit(2);
        CHECK(tc_signal_rearm(e->signal));
        if (me == 1) {
            *data = turn;
            CHECK(tc_plan_start(plan));
        }
    }
    double one_way = (seconds() - start) / iterations / 2;
    return one_way;
}

static inline int by_value(const void *x, const void *y) {
    double a = *(const double *)x, c = *(const double *)y;
    return (a > c) - (a < c);
}

static double median(double *values, int n) {
    qsort(values, (size_t)n, sizeof *values, by_value);
    return values[n / 2];
}

static tc_plan *plan_of(end *e, const void *data, uint64_t bytes) {
    tc_plan *plan;
    tc_layout layout = {0, bytes, {1, 1, 1}, {0}};
    CHECK(tc_plan_create(e->context, TC_LOCAL, &plan));
    CHECK(tc_plan_put_part(plan, e->target, 0, data, &layout, 0));
    return plan;
}

static void bind_to_core(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(me, &set);
    sched_setaffinity(0, sizeof set, &set);
}
#endif
