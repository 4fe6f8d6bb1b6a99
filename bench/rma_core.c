/* The C core beside its bounds, two processes on two cores, in alternating rounds of one run:
 *   one-way time of a notified 8-byte put (data read and checked) against a bare shared flag;
 *   bandwidth of notified puts against plain copies between the same two areas.
 * Prints one JSON object. Usage: rma_core [rounds [iterations]]
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../csrc/topocomm.h"

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

/* One way, acknowledged each time by a flag in both forms, so that only the way of the data differs. */
static double stream_round(end *e, tc_plan *plan, const char *data, size_t bytes, int iterations) {
    static uint64_t turn = 1u << 30;
    meet();
    double start = seconds();
    for (int i = 0; i < iterations; i++) {
        turn++;
        if (me == 0) {
            if (plan) {
                CHECK(tc_plan_start(plan));
            } else {
                memcpy(b->area[1], data, bytes);
                atomic_store_explicit(&b->flag[0][0], turn, memory_order_release);
            }
            while (atomic_load_explicit(&b->flag[1][0], memory_order_acquire) != turn) {}
        } else {
            if (plan) {
                CHECK(tc_signal_wait(e->signal, 10));
                CHECK(tc_signal_rearm(e->signal));
            } else {
                while (atomic_load_explicit(&b->flag[0][0], memory_order_acquire) != turn) {}
            }
            atomic_store_explicit(&b->flag[1][0], turn, memory_order_release);
        }
    }
    return (seconds() - start) / iterations;
}

static int by_value(const void *x, const void *y) {
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

static void latency(end *e, int rounds, int iterations) {
    uint64_t data = 0;
    double flag[MAX_ROUNDS], put[MAX_ROUNDS], ratio[MAX_ROUNDS];
    tc_plan *plan = plan_of(e, &data, 8);
    for (int r = 0; r < rounds; r++) {
        flag[r] = flag_round(iterations);
        put[r] = put_round(e, plan, &data, iterations);
        ratio[r] = put[r] / flag[r];
    }
    CHECK(tc_plan_free(plan));
    if (me == 0)
        printf("{\"rounds\": %d, \"iterations\": %d, \"flag_ns\": %.1f, \"put_ns\": %.1f, \"put_per_flag\": %.3f,\n"
               " \"copy_per_put\": {", rounds, iterations, 1e9 * median(flag, rounds), 1e9 * median(put, rounds),
               median(ratio, rounds));
}

static void bandwidth(end *e, int rounds) {
    static char data[AREA];
    memset(data, 1, sizeof data);
    for (size_t bytes = 4096; bytes <= AREA; bytes *= 4) {
        int iterations = (int)((32u << 20) / bytes);
        double ratio[MAX_ROUNDS];
        tc_plan *plan = plan_of(e, data, bytes);
        for (int r = 0; r < rounds; r++) {
            double put = stream_round(e, plan, data, bytes, iterations);
            ratio[r] = stream_round(e, NULL, data, bytes, iterations) / put;
        }
        CHECK(tc_plan_free(plan));
        if (me == 0) printf("%s\"%zu\": %.3f", bytes > 4096 ? ", " : "", bytes, median(ratio, rounds));
    }
    if (me == 0) printf("}}\n");
}

int main(int argc, char **argv) {
    int rounds = argc > 1 ? atoi(argv[1]) : 21, iterations = argc > 2 ? atoi(argv[2]) : 20000;
    cpu_set_t set;
    if (rounds < 1 || rounds > MAX_ROUNDS) return 2;
    b = mmap(NULL, sizeof *b, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memset(b, 0, sizeof *b);
    pid_t child = fork();
    me = child == 0;
    CPU_ZERO(&set);
    CPU_SET(me, &set);
    sched_setaffinity(0, sizeof set, &set);
    end e = open_end();
    latency(&e, rounds, iterations);
    bandwidth(&e, rounds);
    meet();
    tc_context_close(e.context);
    if (me) _exit(0);
    int status;
    waitpid(child, &status, 0);
    return status ? 1 : 0;
}
