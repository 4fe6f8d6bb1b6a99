/* Waiting: when to yield, to look at the peers, and to give up. */
#include <sched.h>

#include "internal.h"

#define SPIN_SECONDS 1e-3 /* how long a waiter with a core of its own keeps it */

void patience_start(patience *p, double seconds) {
    double start = now();
    *p = (patience){start + seconds, start + CHECK_SECONDS, start + SPIN_SECONDS, 0};
}

static void call_hook(tc_context *context) {
    if (context->hook && (context->hook_anywhere || pthread_equal(context->hook_thread, pthread_self())))
        context->hook(context->hook_user);
}

bool check_due(tc_context *context) {
    call_hook(context);
    double time = now();
    if (time < atomic_load_explicit(&context->next_check, memory_order_relaxed)) return false;
    atomic_store_explicit(&context->next_check, time + CHECK_SECONDS, memory_order_relaxed);
    return true;
}

/* With a core per rank a waiter spins for a while before it offers its core to others; with fewer it offers at once. */
int patience_step(tc_context *context, patience *p, bool *check_peers) {
    *check_peers = false;
    if (++p->spins % SPINS) {
#if defined(__x86_64__) || defined(__i386__)
        if (!context->driven) __builtin_ia32_pause(); /* asking a network takes longer than a pause */
#endif
        return TC_OK;
    }
    call_hook(context);
    double time = now();
    if (context->crowded || time >= p->yield_from) sched_yield();
    if (time >= p->next_check) {
        p->next_check = time + CHECK_SECONDS;
        *check_peers = true;
    }
    return time >= p->limit ? TC_ERR_TIMEOUT : TC_OK;
}
