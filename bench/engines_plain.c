/* What a round costs in C without a program: one message to oneself and its receive, both tested until they are over. */
#include <stdint.h>
#include <time.h>

typedef int (*isend_function)(const void *, int, intptr_t, int, int, intptr_t, void *);
typedef int (*irecv_function)(void *, int, intptr_t, int, int, intptr_t, void *);
typedef int (*test_function)(void *, int *, void *);

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Return the least processor time of a round in microseconds over `repeats` blocks of `rounds`; < 0: MPI failed. */
double plain_round(uintptr_t isend, uintptr_t irecv, uintptr_t test, intptr_t comm, intptr_t byte, int bytes, int rounds,
                   int repeats) {
    static char from[4096], into[4096], status[256];
    uint64_t requests[2];
    double least = 1e9;
    for (int r = 0; r < repeats; r++) {
        double start = now();
        for (int i = 0; i < rounds; i++) {
            int flag = 0, code = ((irecv_function)irecv)(into, bytes, byte, 0, 1, comm, &requests[0]);
            code |= ((isend_function)isend)(from, bytes, byte, 0, 1, comm, &requests[1]);
            for (int k = 0; k < 2; k++)
                for (flag = 0; !flag && !code;) code |= ((test_function)test)(&requests[k], &flag, status);
            if (code) return -1;
        }
        double took = (now() - start) / rounds * 1e6;
        if (took < least) least = took;
    }
    return least;
}
