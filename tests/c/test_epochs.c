/* Epochs that do not go the plain way: overtaken by the next one, with blocks freed before they end, driven by several
 * threads, proven late, or whose next start is refused. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

#include "expect.h"

#define LONG (64u << 20)

static unsigned char source[64];
static tc_context *group[2];

static void open_two(const tc_options *options, const tc_faults *faults) {
    open_group(2, options, faults, group);
}

static void close_two(void) {
    for (int i = 0; i < 2; i++) OK(tc_context_close(group[i]));
}

/* A plan of rank 0 that puts 8 bytes into block `tag` of rank 1's memory. */
static tc_plan *putter(tc_memory *memory, tc_signal *signal, uint32_t tag, tc_block **block) {
    tc_layout layout = plain(8 * tag, 8), local = plain(0, 8);
    tc_plan *plan;
    tc_target *target = give(memory, layout, signal, group[0], 0, tag, block);
    OK(tc_plan_create(group[0], TC_LOCAL, &plan));
    OK(tc_plan_put(plan, target, source, &local, 0));
    return plan;
}

/* The message of epoch 0 was dropped, that of epoch 1 has come: epoch 0 misses it by name. */
static void overtaken(void) {
    tc_options options = shm_options();
    int seen = 0;
    for (uint64_t seed = 0; seed < 60 && !seen; seed++) {
        tc_faults faults = {.seed = seed, .pieces = 1, .drop = 0.5};
        uint64_t epoch, expected, arrived, early, surplus;
        tc_memory *memory;
        tc_signal *signal;
        tc_block *block;
        tc_missing missing[2];
        uint32_t n;
        open_two(&options, &faults);
        OK(tc_memory_allocate(group[1], 64, &memory));
        OK(tc_signal_create(group[1], TC_COUNTED, &signal));
        tc_plan *plan = putter(memory, signal, 4, &block);
        for (int round = 0; round < 2; round++) {
            OK(tc_plan_start(plan));
            OK(tc_plan_wait(plan, 1));
        }
        OK(tc_context_flush(group[0], 1));
        OK(tc_signal_state(signal, &epoch, &expected, &arrived, &early, &surplus));
        if (arrived == 0 && early == 1) {
            seen = 1;
            EXPECT_STATUS(tc_signal_wait(signal, 0.01), TC_ERR_TIMEOUT);
            OK(tc_signal_missing(signal, missing, 2, &n));
            EXPECT(n == 1 && missing[0].tag == 4 && missing[0].source == 0);
            OK(tc_block_free(block)); /* and takes its early message with it */
            OK(tc_signal_state(signal, &epoch, &expected, &arrived, &early, &surplus));
            EXPECT(expected == 0 && arrived == 0 && early == 0);
        }
        OK(tc_plan_free(plan));
        close_two();
    }
    EXPECT(seen);
}

/* Freed once its message has been read, but before the re-arming: the epoch stays complete, and the next one is whole
 * without it, also where the block had brought a message early. */
static void freed_in_between(void) {
    tc_options options = shm_options();
    tc_memory *memory;
    tc_signal *signal;
    tc_block *block[2];
    tc_plan *plan[2];
    open_two(&options, NULL);
    OK(tc_memory_allocate(group[1], 64, &memory));
    OK(tc_signal_create(group[1], TC_COUNTED, &signal));
    for (uint32_t i = 0; i < 2; i++) plan[i] = putter(memory, signal, i, &block[i]);
    for (int i = 0; i < 2; i++) OK(tc_plan_start(plan[i]));
    OK(tc_plan_start(plan[0])); /* early, for the next epoch */
    OK(tc_signal_wait(signal, 1));
    OK(tc_block_free(block[0]));
    OK(tc_signal_test(signal));
    OK(tc_signal_rearm(signal));
    EXPECT_STATUS(tc_signal_test(signal), TC_AGAIN);
    OK(tc_plan_start(plan[1]));
    OK(tc_signal_wait(signal, 1));
    OK(tc_signal_rearm(signal));
    for (int i = 0; i < 2; i++) OK(tc_plan_free(plan[i]));
    close_two();
}

static atomic_int begun;

static void *start_long(void *user) {
    atomic_store(&begun, 1);
    return (void *)(intptr_t)tc_plan_start(user);
}

/* Block and signal are freed while a long put is being copied: the sender is told, and a new signal counts nothing. */
static void freed_under_way(void) {
    tc_options options = shm_options();
    int seen = 0;
    tc_memory *memory;
    tc_layout all = plain(0, LONG);
    unsigned char *data = calloc(LONG, 1);
    options.signals = 1;
    open_two(&options, NULL);
    OK(tc_memory_allocate(group[1], LONG, &memory));
    for (int tries = 0; tries < 50 && !seen; tries++) {
        tc_signal *signal;
        tc_block *block;
        tc_plan *plan;
        pthread_t thread;
        void *status;
        OK(tc_signal_create(group[1], TC_COUNTED, &signal));
        tc_target *target = give(memory, all, signal, group[0], 0, 0, &block);
        OK(tc_plan_create(group[0], TC_LOCAL, &plan));
        OK(tc_plan_put(plan, target, data, &all, 0));
        atomic_store(&begun, 0);
        EXPECT(pthread_create(&thread, NULL, start_long, plan) == 0);
        while (!atomic_load(&begun)) sched_yield();
        for (volatile int pause = 0; pause < 20000 << tries % 8; pause++) {}
        OK(tc_block_free(block));
        OK(tc_signal_free(signal));
        OK(tc_signal_create(group[1], TC_COUNTED, &signal));
        tc_target *other = give(memory, all, signal, group[0], 0, 1, &block);
        EXPECT(pthread_join(thread, &status) == 0);
        if ((int)(intptr_t)status == TC_ERR_STALE) {
            seen = 1;
            EXPECT_STATUS(tc_signal_test(signal), TC_AGAIN);
        } else {
            OK((int)(intptr_t)status); /* it was over before */
        }
        OK(tc_plan_free(plan));
        OK(tc_target_close(target));
        OK(tc_target_close(other));
        OK(tc_block_free(block));
        OK(tc_signal_free(signal));
    }
    EXPECT(seen);
    free(data);
    close_two();
}

typedef struct lane {
    tc_plan *plan;
    tc_signal *signal;
} lane;

static void *run_lane(void *user) {
    const lane *mine = user;
    for (int i = 0; i < 5000; i++) {
        OK(tc_plan_start(mine->plan));
        OK(tc_plan_wait(mine->plan, 10));
        OK(tc_signal_wait(mine->signal, 10));
        OK(tc_signal_rearm(mine->signal));
    }
    return NULL;
}

/* Each thread with a plan of its own: nothing is shared that is not guarded, and every message is counted. */
static void threads(void) {
    tc_options options = shm_options();
    tc_memory *memory;
    lane lanes[2];
    pthread_t thread[2];
    tc_block *block;
    tc_stats stats;
    open_two(&options, NULL);
    OK(tc_memory_allocate(group[1], 64, &memory));
    for (uint32_t i = 0; i < 2; i++) {
        OK(tc_signal_create(group[1], TC_COUNTED, &lanes[i].signal));
        lanes[i].plan = putter(memory, lanes[i].signal, i, &block);
    }
    for (int i = 0; i < 2; i++) EXPECT(pthread_create(&thread[i], NULL, run_lane, &lanes[i]) == 0);
    for (int i = 0; i < 2; i++) EXPECT(pthread_join(thread[i], NULL) == 0);
    OK(tc_plan_free(lanes[0].plan));
    OK(tc_context_stats(group[0], &stats));
    EXPECT(stats.messages == 10000 && stats.bytes == 80000);
    OK(tc_plan_free(lanes[1].plan));
    OK(tc_context_stats(group[0], &stats));
    EXPECT(stats.messages == 10000 && stats.bytes == 80000);
    close_two();
}

/* A start that is refused has not re-armed; one that is only held back has. */
static void refused(void) {
    tc_options options = shm_options();
    uint64_t epoch, expected, arrived, early, surplus;
    tc_memory *memory;
    tc_signal *signal, *far;
    tc_block *block, *there;
    options.checked = 1;
    open_two(&options, NULL);
    OK(tc_memory_allocate(group[1], 64, &memory));
    OK(tc_signal_create(group[1], TC_COUNTED, &signal));
    tc_plan *plan = putter(memory, signal, 0, &block);
    OK(tc_plan_start(plan));
    OK(tc_signal_wait(signal, 1));
    for (int i = 0; i < 2; i++) {
        EXPECT_STATUS(tc_plan_start_after(plan, signal), TC_ERR_NOT_PROVEN);
        OK(tc_signal_state(signal, &epoch, &expected, &arrived, &early, &surplus));
        EXPECT(epoch == 0 && arrived == 1);
    }
    OK(tc_plan_free(plan));
    close_two();

    options.checked = 0;
    open_two(&options, NULL);
    OK(tc_memory_allocate(group[1], 64, &memory));
    OK(tc_signal_create(group[1], TC_COUNTED, &signal));
    OK(tc_signal_create(group[1], TC_COUNTED, &far));
    plan = putter(memory, signal, 0, &block);
    tc_plan *ahead = putter(memory, far, 1, &there);
    for (int i = 0; i < 3; i++) OK(tc_plan_start(ahead));
    OK(tc_plan_start(plan));
    OK(tc_signal_wait(signal, 1));
    EXPECT_STATUS(tc_plan_start_after(ahead, signal), TC_FULL);
    OK(tc_signal_state(signal, &epoch, &expected, &arrived, &early, &surplus));
    EXPECT(epoch == 1);
    OK(tc_signal_rearm(far));
    OK(tc_plan_start_after(ahead, NULL));
    OK(tc_plan_free(plan));
    OK(tc_plan_free(ahead));
    close_two();
}

/* --- proofs over a network come behind the data -------------------------------------------------------------------- */
#define PROOF 5u /* a message's kind, its second word */

static struct {
    char bytes[8][4096];
    size_t length[8];
    uint32_t count;
    double due;
} post;

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int hand_over(void *user, uint32_t peer_rank, const void *data, size_t bytes) {
    (void)user, (void)peer_rank;
    if (((const uint32_t *)data)[1] != PROOF) return tc_message_in(group[0], data, bytes);
    EXPECT(post.count < 8 && bytes <= sizeof post.bytes[0]);
    memcpy(post.bytes[post.count], data, bytes);
    post.length[post.count++] = bytes;
    return TC_OK;
}

static int deliver(void *user) {
    (void)user;
    uint32_t count = seconds() < post.due ? 0 : post.count;
    post.count -= count;
    for (uint32_t i = 0; i < count; i++) OK(tc_message_in(group[0], post.bytes[i], post.length[i]));
    return TC_OK;
}

/* Two alternating blocks of one rank's own: a start waits for the proof that must be on its way, however long; where none
 * is, it is refused at once. */
static void late_proof(void) {
    tc_options options;
    tc_memory *memory;
    tc_signal *signal[2];
    tc_block *block[2];
    tc_plan *plan[2];
    unsigned char address[TC_ADDRESS_BYTES];
    size_t n;
    tc_options_default(&options);
    options.transports = TC_MSG;
    options.checked = 1;
    OK(tc_context_open(&options, &group[0]));
    OK(tc_context_messages(group[0], hand_over, deliver, NULL));
    OK(tc_context_address(group[0], address, sizeof address, &n));
    OK(tc_context_connect(group[0], 0, address, n));
    OK(tc_memory_allocate(group[0], 64, &memory));
    for (uint32_t i = 0; i < 2; i++) {
        OK(tc_signal_create(group[0], TC_COUNTED, &signal[i]));
        plan[i] = putter(memory, signal[i], i, &block[i]);
    }
    OK(tc_plan_start(plan[0]));
    OK(tc_signal_wait(signal[0], 1));
    OK(tc_plan_start_after(plan[1], signal[0]));
    post.due = seconds() + 0.5;
    OK(tc_signal_wait(signal[1], 1));
    EXPECT(seconds() < post.due);
    OK(tc_plan_start_after(plan[0], signal[1]));
    EXPECT(seconds() >= post.due);
    OK(tc_signal_wait(signal[0], 1));
    OK(tc_signal_rearm(signal[0]));
    OK(tc_context_progress(group[0]));
    double begin = seconds();
    EXPECT_STATUS(tc_plan_start(plan[0]), TC_ERR_NOT_PROVEN);
    EXPECT(seconds() - begin < 0.2);
    for (int i = 0; i < 2; i++) OK(tc_plan_free(plan[i]));
    OK(tc_context_close(group[0]));
}

int main(void) {
    late_proof();
    overtaken();
    freed_in_between();
    freed_under_way();
    threads();
    refused();
    return 0;
}
