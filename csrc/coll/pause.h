/* Pauses of whoever waits: the clock, yielding, and the late sleep. */
#ifndef TOPOCOMM_PAUSE_H
#define TOPOCOMM_PAUSE_H
#include <sched.h>
#include <stdint.h>
#include <time.h>

#define AT_ONCE 1e-5       /* seconds of waiting before MPI is driven, where that costs the others a core */
#define CROWDED 3e-6       /* seconds after which a yield must have let somebody else run */
#define LATE 1e-3          /* seconds of waiting after which a waiter sleeps */
#define LONGEST_SLEEP 1e-3 /* seconds; at most 1/64 of the time waited */

/* Say that this is a loop that waits. */
#if defined(__x86_64__)
#define relax() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define relax() __asm__ volatile("isb" ::: "memory")
#else
#define relax() ((void)0)
#endif

static inline double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Yield the core at `time`, and learn from how long that took whether somebody else needs it: `spins` polls, of `least`
 * to `most`, come before the next yield. Return the time after it. */
static inline double yield_core(uint32_t *spins, uint32_t least, uint32_t most, double time) {
    sched_yield();
    double after = seconds_now();
    if (after - time > CROWDED)
        *spins = *spins / 4 + least;
    else if (*spins < most)
        ++*spins;
    return after;
}

/* Sleep, the longer the longer nothing has happened; return the time after it. */
static inline double sleep_late(double waited) {
    double seconds = waited / 64 < LONGEST_SLEEP ? waited / 64 : LONGEST_SLEEP;
    struct timespec t = {0, (long)(1e9 * seconds)};
    nanosleep(&t, NULL);
    return seconds_now();
}
#endif
