/* The ground of all other files: status texts, the clock, a checksum, the context's lock, the end of an operation. */
#include <time.h>

#include "internal.h"

const char *tc_status_text(int status) {
    static const char *const text[] = {
        "done", "an argument has no meaning", "no memory or descriptor from the operating system",
        "a table of the context is full", "outside its memory, or lengths differ", "block freed by its owner",
        "handle already freed", "still in use", "not a block of a connected peer", "issued to another rank",
        "no transport leads there", "the peer died or closed its context", "the limit of the wait has passed",
        "more notifications than this epoch expects", "not proven free", "value too large for the transport",
        "not supported here", "the network library failed",
        "its queue of identified notifications was full: take them with event",
        "the kernel forbids cross-memory attach",
        "block opened here before: use that target, or have its owner issue another"};
    if (status == TC_AGAIN) return "not yet";
    if (status == TC_FULL) return "no room in a bounded queue yet";
    return status <= 0 && status >= TC_ERR_OPENED ? text[-status] : "unknown status";
}

double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

uint64_t checksum(const void *data, size_t bytes) { /* FNV-1a */
    const unsigned char *p = data;
    uint64_t h = 0xcbf29ce484222325ull;
    for (size_t i = 0; i < bytes; i++) h = (h ^ p[i]) * 0x100000001b3ull;
    return h;
}

void enter(tc_context *context) {
    pthread_mutex_lock(&context->lock);
}

void leave(tc_context *context) {
    pthread_mutex_unlock(&context->lock);
}

void op_done(tc_plan *plan, int status) {
    if (status < 0) atomic_store(&plan->error, status);
    atomic_fetch_sub_explicit(&plan->outstanding, 1, memory_order_release);
}
