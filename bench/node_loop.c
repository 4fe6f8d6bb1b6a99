/* Loops over one collective, for bench/node.py: the caller's own code costs a few nanoseconds a call. */
#include <stdint.h>
#include <time.h>

typedef int (*any_function)(intptr_t, intptr_t, intptr_t, intptr_t, intptr_t, intptr_t, intptr_t, intptr_t);
typedef int (*run_function)(void *, const void *, void *, double);
typedef int (*wait_function)(void *, double);

static double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds of n calls of an MPI function; `word` is altered before each, so that no cache keeps what is sent. */
double loop_mpi(any_function call, const intptr_t *a, volatile uint64_t *word, int n) {
    double start = seconds_now();
    for (int i = 0; i < n; i++) {
        ++*word;
        if (call(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7])) return -1;
    }
    return seconds_now() - start;
}

double loop_node(run_function run, wait_function wait, void *node, void *call, const void *send, void *recv,
                 volatile uint64_t *word, int n) {
    double start = seconds_now();
    for (int i = 0; i < n; i++) {
        ++*word;
        int status = run(call, send, recv, 0.01);
        while (status == 1) status = wait(node, 0.01);
        if (status) return -1;
    }
    return seconds_now() - start;
}
