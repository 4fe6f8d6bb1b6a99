/* Two processes: registered private memory by cross-memory attach, gets, strided both ways, streams, a block freed by
 * its owner, and a killed peer, which every waiter must notice and name. */
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "expect.h"

typedef struct shared { /* how parent and child exchange addresses and blocks, in place of MPI */
    unsigned char address[2][TC_ADDRESS_BYTES], block[4][TC_BLOCK_BYTES];
    volatile int step;
} shared;

static shared *board;

static void reach(int step) {
    __atomic_store_n(&board->step, step, __ATOMIC_RELEASE);
}

static void await(int step) {
    for (int i = 0; __atomic_load_n(&board->step, __ATOMIC_ACQUIRE) < step; i++) {
        EXPECT(i < 20000);
        usleep(1000);
    }
}

static tc_context *open_end(uint32_t rank, int mine, int theirs) {
    tc_options options = shm_options();
    tc_context *context;
    size_t bytes;
    options.rank = rank;
    options.size = 2;
    OK(tc_context_open(&options, &context));
    OK(tc_context_address(context, board->address[rank], TC_ADDRESS_BYTES, &bytes));
    if (mine > theirs) await(theirs);
    reach(mine);
    if (mine < theirs) await(theirs);
    for (uint32_t p = 0; p < 2; p++) OK(tc_context_connect(context, p, board->address[p], bytes));
    return context;
}

static const tc_layout strided = {.offset = 4, .run = 4, .count = {3, 5, 1}, .stride = {100, 12, 0}};

static void owner(void) {
    static unsigned char array[1000];
    tc_context *context = open_end(1, 2, 1);
    tc_memory *private, *common;
    tc_signal *signal, *stream;
    tc_block *a, *b, *c;
    size_t length;
    tc_layout first = plain(0, 400), flow = plain(400, 80);
    OK(tc_memory_register(context, array, sizeof array, &private));
    OK(tc_memory_allocate(context, 1000, &common));
    OK(tc_signal_create(context, TC_COUNTED, &signal));
    OK(tc_signal_create(context, TC_STREAM, &stream));
    OK(tc_block_issue(private, &strided, signal, 0, 1, &a));
    OK(tc_block_issue(common, &first, signal, 0, 2, &b));
    OK(tc_block_issue(private, &flow, stream, 0, 3, &c));
    OK(tc_block_export(a, board->block[0], TC_BLOCK_BYTES, &length));
    OK(tc_block_export(b, board->block[1], TC_BLOCK_BYTES, &length));
    OK(tc_block_export(c, board->block[2], TC_BLOCK_BYTES, &length));
    reach(3);
    OK(tc_signal_wait(signal, 20));
    for (int i = 0; i < 60; i++)
        EXPECT(array[4 + i / 20 * 100 + i % 20 / 4 * 12 + i % 4] == (unsigned char)(i * 3 + 1));
    OK(tc_signal_rearm(signal));
    OK(tc_signal_take_wait(stream, 10, 20));
    for (int i = 0; i < 80; i++) EXPECT(array[400 + i] == (unsigned char)(200 - i));
    reach(4);
    OK(tc_signal_wait(signal, 20)); /* both were read by gets */
    OK(tc_block_free(b));
    reach(5);
    await(6);
    tc_target *target;
    tc_plan *plan;
    tc_layout word = plain(0, 8);
    OK(tc_target_open(context, board->block[3], TC_BLOCK_BYTES, &target));
    OK(tc_plan_create(context, TC_LOCAL, &plan));
    OK(tc_plan_put(plan, target, array, &word, 0));
    OK(tc_plan_start(plan));
    reach(7);
    pause();
}

static void put_all(tc_context *context, tc_target **t) {
    unsigned char data[60], items[80], block[400] = {0};
    tc_layout dense = plain(0, 60), part = plain(0, 8), all = plain(0, 400);
    tc_plan *plan;
    for (int i = 0; i < 60; i++) data[i] = (unsigned char)(i * 3 + 1);
    for (int i = 0; i < 80; i++) items[i] = (unsigned char)(200 - i);
    OK(tc_plan_create(context, TC_LOCAL, &plan));
    OK(tc_plan_put(plan, t[0], data, &dense, 0));
    OK(tc_plan_put(plan, t[1], block, &all, 0));
    for (uint64_t i = 0; i < 10; i++) OK(tc_plan_put_part(plan, t[2], 8 * i, items + 8 * i, &part, 0));
    OK(tc_plan_start(plan));
    OK(tc_plan_wait(plan, 5));
    OK(tc_plan_free(plan));
}

static void get_all(tc_context *context, tc_target **t) {
    unsigned char back[60] = {0}, block[400];
    tc_layout dense = plain(0, 60), all = plain(0, 400);
    tc_plan *plan;
    OK(tc_plan_create(context, TC_LOCAL, &plan));
    OK(tc_plan_get(plan, t[0], back, &dense, 0));
    OK(tc_plan_get(plan, t[1], block, &all, 0));
    OK(tc_plan_start(plan));
    OK(tc_plan_wait(plan, 5));
    for (int i = 0; i < 60; i++) EXPECT(back[i] == (unsigned char)(i * 3 + 1));
    OK(tc_plan_free(plan));
}

static void lose_peer(tc_context *context, pid_t child) {
    tc_memory *memory;
    tc_signal *signal, *other;
    tc_block *block;
    tc_layout layout = plain(0, 8);
    struct timespec start, end;
    uint32_t lost, index;
    tc_event event;
    size_t length;
    OK(tc_memory_allocate(context, 64, &memory));
    OK(tc_signal_create(context, TC_COUNTED, &signal));
    OK(tc_signal_create(context, TC_IDENTIFIED, &other));
    OK(tc_block_issue(memory, &layout, signal, 1, 9, &block));
    OK(tc_block_issue(memory, &layout, other, 1, 9, &block));
    OK(tc_block_export(block, board->block[3], TC_BLOCK_BYTES, &length));
    reach(6);
    await(7);
    OK(tc_signal_wait(other, 1)); /* its epoch is complete: the child owes it nothing */
    OK(tc_signal_event(other, &event));
    EXPECT_STATUS(tc_signal_wait(signal, 0.1), TC_ERR_TIMEOUT);
    EXPECT_STATUS(tc_signal_test(signal), TC_AGAIN);
    kill(child, SIGKILL);
    clock_gettime(CLOCK_MONOTONIC, &start);
    int status = TC_AGAIN;
    do { /* who only polls is told, too */
        usleep(1000);
        status = tc_signal_test(signal);
        clock_gettime(CLOCK_MONOTONIC, &end);
    } while (status == TC_AGAIN && end.tv_sec - start.tv_sec < 2);
    EXPECT_STATUS(status, TC_ERR_PEER_LOST);
    EXPECT_STATUS(tc_signal_wait(signal, 30), TC_ERR_PEER_LOST);
    clock_gettime(CLOCK_MONOTONIC, &end);
    EXPECT(end.tv_sec - start.tv_sec < 2);
    OK(tc_context_lost(context, &lost));
    EXPECT(lost == 1);
    tc_signal *both[] = {signal, other};
    OK(tc_signal_wait_any(both, 2, 30, &index));
    EXPECT(index == 1);
    EXPECT_STATUS(tc_signal_wait_any(both, 1, 30, &index), TC_ERR_PEER_LOST);
    EXPECT_STATUS(tc_signal_event_wait(other, 30, &event), TC_ERR_PEER_LOST);
    while ((status = tc_signal_event(other, &event)) == TC_AGAIN) usleep(1000);
    EXPECT_STATUS(status, TC_ERR_PEER_LOST);
}

int main(void) {
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t child = fork();
    if (child == 0) {
        owner();
        _exit(0);
    }
    tc_context *context = open_end(0, 1, 2);
    tc_target *t[3];
    uint32_t kind;
    await(3);
    OK(tc_peer_transport(context, 1, &kind));
    EXPECT(kind == TC_SHM);
    for (int i = 0; i < 3; i++) OK(tc_target_open(context, board->block[i], TC_BLOCK_BYTES, &t[i]));
    put_all(context, t);
    await(4);
    get_all(context, t);
    await(5);
    tc_plan *plan;
    unsigned char block[400];
    tc_layout all = plain(0, 400);
    OK(tc_plan_create(context, TC_LOCAL, &plan));
    OK(tc_plan_put(plan, t[1], block, &all, 0));
    EXPECT_STATUS(tc_plan_start(plan), TC_ERR_STALE);
    lose_peer(context, child);
    EXPECT_STATUS(tc_plan_start(plan), TC_ERR_PEER_LOST);
    OK(tc_plan_free(plan));
    OK(tc_context_close(context));
    waitpid(child, NULL, 0);
    return 0;
}
