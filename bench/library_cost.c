/* An allreduce of eight bytes between two ranks, many times: by the library, by a program, or by the messages alone. */
#include <stdint.h>
#include <time.h>

typedef int (*allreduce_function)(const void *, void *, int, intptr_t, intptr_t, intptr_t);
typedef int (*program_function)(void *, const void *, void *, double);
typedef int (*isend_function)(const void *, int, intptr_t, int, int, intptr_t, void *);
typedef int (*irecv_function)(void *, int, intptr_t, int, int, intptr_t, void *);
typedef int (*test_function)(void *, int *, void *);

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Return microseconds a call over `calls` calls of the library; < 0: it failed. */
double library_call(uintptr_t allreduce, intptr_t comm, intptr_t type, intptr_t op, int calls) {
    double from[1] = {1.0}, into[1], start = now();
    for (int i = 0; i < calls; i++) {
        if (((allreduce_function)allreduce)(from, into, 1, type, op, comm) || into[0] != from[0] * 2) return -1;
        from[0] = i % 7;
    }
    return (now() - start) / calls * 1e6;
}

/* The same by a program of the engine; < 0: it did not end, or failed. */
double program_call(uintptr_t run, void *state, int calls) {
    double from[1] = {1.0}, into[1], start = now();
    for (int i = 0; i < calls; i++) {
        if (((program_function)run)(state, from, into, 10.0) || into[0] != from[0] * 2) return -1;
        from[0] = i % 7;
    }
    return (now() - start) / calls * 1e6;
}

/* The same by one message each way, posted and tested as directly as possible, and a sum. */
double plain_call(uintptr_t isend, uintptr_t irecv, uintptr_t test, intptr_t comm, intptr_t type, int peer, int calls) {
    static char status[256];
    uint64_t requests[2];
    double from[1] = {1.0}, into[1], start = now();
    for (int i = 0; i < calls; i++) {
        int code = ((irecv_function)irecv)(into, 1, type, peer, 1, comm, &requests[0]);
        code |= ((isend_function)isend)(from, 1, type, peer, 1, comm, &requests[1]);
        for (int k = 0; k < 2; k++)
            for (int flag = 0; !flag && !code;) code |= ((test_function)test)(&requests[k], &flag, status);
        into[0] += from[0];
        if (code || into[0] != from[0] * 2) return -1;
        from[0] = i % 7;
    }
    return (now() - start) / calls * 1e6;
}
