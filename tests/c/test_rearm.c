/* Re-arming against concurrent arrival: senders in threads, as far ahead as they may, while the receiver re-arms at
 * once or late. No event may be lost, doubled or counted for another epoch.
 */
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>

#include "expect.h"

#define SENDERS 3

static uint32_t rounds = 4000;
static tc_context *group[SENDERS + 1];
static tc_target *targets[SENDERS];

static uint64_t datum(uint64_t sender, uint64_t round) {
    return (sender + 1) * 0x9e3779b97f4a7c15ull + round;
}

static void *send_all(void *user) {
    uintptr_t me = (uintptr_t)user;
    tc_plan *plan;
    tc_layout nothing = plain(0, 0);
    OK(tc_plan_create(group[me + 1], TC_LOCAL, &plan));
    OK(tc_plan_put(plan, targets[me], NULL, &nothing, 0));
    for (uint32_t round = 0; round < rounds; round++) {
        int status;
        OK(tc_plan_value(plan, 0, datum(me, round)));
        while ((status = tc_plan_start(plan)) == TC_FULL) sched_yield();
        OK(status);
    }
    OK(tc_plan_free(plan));
    return NULL;
}

static bool has_all(const uint32_t next[SENDERS], uint32_t round) {
    for (uint32_t s = 0; s < SENDERS; s++)
        if (next[s] <= round) return false;
    return true;
}

/* A sender that is ahead may be writing its event in front of those of this epoch: then they come a moment later. */
static bool next_event(tc_signal *signal, const uint32_t next[SENDERS], uint32_t round, tc_event *event) {
    int status = tc_signal_event(signal, event);
    if (status == TC_AGAIN && !has_all(next, round)) OK(status = tc_signal_event_wait(signal, 60, event));
    return status == TC_OK;
}

static void receive_all(tc_signal *signal) {
    uint32_t next[SENDERS] = {0};
    for (uint32_t round = 0; round < rounds; round++) {
        tc_event event;
        OK(tc_signal_wait(signal, 60));
        if (round % 7 == 0)
            for (volatile int late = 0; late < 2000; late++) {}
        while (next_event(signal, next, round, &event)) {
            uint32_t s = event.source - 1;
            EXPECT(s < SENDERS && event.tag == 40 + s && event.epoch == next[s] && event.value == datum(s, next[s]));
            EXPECT(next[s] <= round + 2);
            next[s]++;
        }
        EXPECT_STATUS(tc_signal_rearm(signal), TC_OK);
    }
    for (uint32_t s = 0; s < SENDERS; s++) EXPECT(next[s] == rounds);
    EXPECT_STATUS(tc_signal_test(signal), TC_AGAIN);
}

int main(int argc, char **argv) {
    tc_options options = shm_options();
    tc_memory *memory;
    tc_signal *signal;
    tc_block *blocks[SENDERS];
    pthread_t threads[SENDERS];
    if (argc > 1) rounds = (uint32_t)atoi(argv[1]);
    open_group(SENDERS + 1, &options, NULL, group);
    OK(tc_memory_allocate(group[0], 8, &memory));
    OK(tc_signal_create(group[0], TC_IDENTIFIED, &signal));
    for (uint32_t s = 0; s < SENDERS; s++)
        targets[s] = give(memory, plain(0, 0), signal, group[s + 1], s + 1, 40 + s, &blocks[s]);
    for (uintptr_t s = 0; s < SENDERS; s++) EXPECT(pthread_create(&threads[s], NULL, send_all, (void *)s) == 0);
    receive_all(signal);
    for (int s = 0; s < SENDERS; s++) pthread_join(threads[s], NULL);
    for (int s = SENDERS; s >= 0; s--) OK(tc_context_close(group[s]));
    printf("%u rounds of %d senders\n", rounds, SENDERS);
    return 0;
}
