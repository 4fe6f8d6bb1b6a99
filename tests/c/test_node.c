/* Collectives through the lines of a node: every collective in random order and size with data that say who gave them,
 * ranks that make different calls, that leave one, that die. Ranks are threads, or processes where one is killed. */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <stdbool.h>
#include <unistd.h>

#include "expect.h"
#include "given.h"
#include "node.h"

#define MOST 8
#define ROOM (MOST * TC_NODE_LARGEST)

typedef struct rank {
    uint32_t rank, size, calls;
    tc_node *node;
    pthread_t thread;
    unsigned char send[ROOM], recv[ROOM + 1], wanted[ROOM];
} rank;

static rank ranks[MOST];
static int failing_code;

static void open_node(uint32_t size) {
    tc_node_address address;
    for (uint32_t r = 0; r < size; r++) {
        rank *k = &ranks[r];
        k->rank = r;
        k->size = size;
        if (r == 0) OK(tc_node_create(0, size, NULL, &k->node, &address));
        else OK(tc_node_attach(r, size, NULL, &address, &k->node));
    }
    for (uint32_t r = 0; r < size; r++) OK(tc_node_seal(ranks[r].node, 2));
}

static void close_node(uint32_t size) {
    for (uint32_t r = size; r-- > 0;) OK(tc_node_free(ranks[r].node));
}

static void on_all(uint32_t size, void *(*body)(void *)) {
    for (uint32_t r = 0; r < size; r++) EXPECT(pthread_create(&ranks[r].thread, NULL, body, &ranks[r]) == 0);
    for (uint32_t r = 0; r < size; r++) EXPECT(pthread_join(ranks[r].thread, NULL) == 0);
}

/* --- what comes out, computed from what all give --------------------------------------------------------------- */
/* Fill in what the rank wants; return its bytes. */
static uint64_t expected(rank *k, const tc_node_arguments *a, uint32_t call) {
    uint64_t n = a->bytes, before = 0;
    bool at_root = a->root == k->rank;
    for (uint32_t r = 0; a->counts && r < k->rank; r++) before += a->counts[r];
    switch (a->collective) {
    case TC_BCAST:
        for (uint64_t i = 0; i < n && !at_root; i++) k->wanted[i] = given(call, a->root, i);
        return at_root ? 0 : n;
    case TC_SCATTER:
        for (uint64_t i = 0; i < n; i++) k->wanted[i] = given(call, a->root, k->rank * n + i);
        return n;
    case TC_GATHER:
    case TC_ALLGATHER:
        for (uint32_t r = 0; r < k->size; r++)
            for (uint64_t i = 0; i < n; i++) k->wanted[r * n + i] = given(call, r, i);
        return a->collective == TC_ALLGATHER || at_root ? n * k->size : 0;
    case TC_ALLTOALL:
        for (uint32_t r = 0; r < k->size; r++)
            for (uint64_t i = 0; i < n; i++) k->wanted[r * n + i] = given(call, r, k->rank * n + i);
        return n * k->size;
    case TC_REDUCE_SCATTER_BLOCK: before = k->rank * n; break;
    case TC_REDUCE_SCATTER: n = a->counts[k->rank]; break;
    case TC_REDUCE: n = at_root ? n : 0; break;
    case TC_ALLREDUCE: break;
    default: return 0;
    }
    for (uint64_t i = 0; i < n; i++) k->wanted[i] = summed(call, k->size, before + i);
    return n;
}

static bool is_framed(const tc_node_arguments *a) {
    return a->collective == TC_FRAMES || a->collective == TC_ROOT_FRAME;
}

static uint64_t header_of(uint32_t call, uint32_t who, uint64_t room) {
    const uint64_t behind[] = {0, 1, 40, 41, room - 9, room - 8, room + 1000};
    return behind[(call * 3 + who) % 7] | (uint64_t)(call * 16 + who) << 32;
}

/* A random call, the same on all ranks. */
static tc_node_arguments draw(uint32_t *state, uint32_t size, uint64_t *counts) {
    static const uint32_t sizes[] = {0, 1, 8, 40, 48, 49, 100, 500, 4096};
    tc_node_arguments a = {.collective = next(state) % TC_COLLECTIVES, .root = next(state) % size};
    uint32_t most = sizes[next(state) % 9];
    a.choice = (tc_operation_choice){.by = TC_BY_KERNEL, .operation = TC_SUM, .element = TC_UINT8};
    a.item = 1;
    a.bytes = a.collective == TC_ALLTOALL || a.collective == TC_SCATTER || a.collective == TC_REDUCE_SCATTER_BLOCK
                  ? most / size : most;
    if (a.collective == TC_BARRIER) a.bytes = 0;
    if (is_framed(&a)) a.bytes = most < 100 ? 64 : most / 8 * 8;
    if (a.collective != TC_REDUCE_SCATTER) return a;
    for (uint32_t r = 0; r < size; r++) counts[r] = next(state) % (most / size + 1);
    a.counts = counts;
    a.bytes = 0;
    return a;
}

static void run_to_end(rank *k, const tc_node_arguments *a, const void *send) {
    tc_node_call *made;
    OK(tc_node_call_new(k->node, a, &made));
    int status = tc_node_run(made, send, k->recv, 1e-4);
    while (status == TC_AGAIN) status = tc_node_wait(k->node, 1e-4);
    OK(status);
    OK(tc_node_call_free(made));
}

/* Every rank's frame has another length, maybe more than there is room for: then it is cut, and its header says so. */
static void make_frames(rank *k, const tc_node_arguments *a, uint32_t call) {
    bool all = a->collective == TC_FRAMES;
    uint64_t header = header_of(call, k->rank, a->bytes);
    memcpy(k->send, &header, sizeof header);
    for (uint64_t i = 8; i < a->bytes; i++) k->send[i] = given(call, k->rank, i);
    memset(k->recv, 0xee, ROOM + 1);
    run_to_end(k, a, k->send);
    for (uint32_t r = 0; r < k->size; r++) {
        if (all || (r == a->root && r != k->rank)) {
            unsigned char *got = k->recv + (all ? r * a->bytes : 0);
            header = header_of(call, r, a->bytes);
            EXPECT(memcmp(got, &header, sizeof header) == 0);
            uint64_t bytes = (uint32_t)header + 8 < a->bytes ? (uint32_t)header + 8 : a->bytes;
            for (uint64_t i = 8; i < bytes; i++) EXPECT(got[i] == given(call, r, i));
        }
    }
    EXPECT(k->recv[all ? a->bytes * k->size : a->bytes] == 0xee);
}

static void make_one(rank *k, const tc_node_arguments *a, uint32_t call) {
    if (is_framed(a)) {
        make_frames(k, a, call);
        return;
    }
    bool here = a->collective == TC_ALLREDUCE && call % 3 == 0; /* in place */
    uint64_t bytes = expected(k, a, call);
    for (uint64_t i = 0; i < TC_NODE_LARGEST; i++) k->send[i] = given(call, k->rank, i);
    memset(k->recv, 0xee, ROOM + 1);
    if (here) memcpy(k->recv, k->send, TC_NODE_LARGEST);
    run_to_end(k, a, here ? k->recv : k->send);
    EXPECT(memcmp(k->recv, k->wanted, bytes) == 0);
    EXPECT(here || k->recv[bytes] == 0xee);
}

static void *many_calls(void *user) {
    rank *k = user;
    uint32_t shared = 17 * k->size, own = k->rank + 1;
    uint64_t counts[MOST];
    for (uint32_t call = 0; call < k->calls; call++) {
        tc_node_arguments a = draw(&shared, k->size, counts);
        if (next(&own) % 5 == 0) sched_yield();
        make_one(k, &a, call);
    }
    return NULL;
}

/* A root that is never waited for runs ahead until its lines are full, and no further. */
static void *one_way(void *user) {
    rank *k = user;
    tc_node_arguments a = {.collective = TC_BCAST, .root = 0, .bytes = 8};
    if (k->rank == 1) usleep(20000);
    for (uint32_t call = 0; call < 300; call++) {
        a.bytes = call % 100 == 99 ? 1000 : 8;
        make_one(k, &a, call);
    }
    return NULL;
}

static void *late(void *user) { /* while one is late, the others learn that it is not over */
    rank *k = user;
    tc_node_arguments a = {.collective = TC_BARRIER};
    tc_node_call *made;
    OK(tc_node_call_new(k->node, &a, &made));
    if (k->rank == 0) usleep(400000); /* long enough for a look whether it is alive */
    int status = tc_node_run(made, NULL, NULL, 0.01), times = 0;
    for (; status == TC_AGAIN; times++) {
        EXPECT_STATUS(tc_node_run(made, NULL, NULL, 0.01), TC_ERR_BUSY);
        EXPECT_STATUS(tc_node_call_free(made), TC_ERR_BUSY);
        status = tc_node_wait(k->node, 0.01);
    }
    OK(status);
    EXPECT(k->rank == 0 || times > 1);
    EXPECT_STATUS(tc_node_wait(k->node, 0.01), TC_ERR_ARGUMENT);
    OK(tc_node_call_free(made));
    return NULL;
}

/* --- mistakes --------------------------------------------------------------------------------------------------- */
static int call_of(rank *k, tc_node_arguments a) {
    tc_node_call *made;
    OK(tc_node_call_new(k->node, &a, &made));
    int status = tc_node_run(made, k->send, k->recv, 0.01);
    while (status == TC_AGAIN) status = tc_node_wait(k->node, 0.01);
    OK(tc_node_call_free(made));
    return status;
}

static const tc_node_arguments pairs[][2] = {
    {{.collective = TC_ALLGATHER, .bytes = 8}, {.collective = TC_ALLGATHER, .bytes = 16}},
    {{.collective = TC_ALLGATHER, .bytes = 8}, {.collective = TC_BARRIER}},
    {{.collective = TC_ALLGATHER, .bytes = 8}, {.collective = TC_BCAST, .root = 2, .bytes = 8}},
    {{.collective = TC_BCAST, .root = 0, .bytes = 8}, {.collective = TC_BCAST, .root = 2, .bytes = 8}},
    {{.collective = TC_BARRIER}, {.collective = TC_GATHER, .root = 2, .bytes = 8}},
    {{.collective = TC_FRAMES, .bytes = 64, .item = 1, .choice = {.operation = 1}},
     {.collective = TC_FRAMES, .bytes = 64, .item = 1, .choice = {.operation = 2}}},
    {{.collective = TC_FRAMES, .bytes = 64, .item = 1, .root = 1}, {.collective = TC_FRAMES, .bytes = 64, .item = 1}},
};
static const tc_node_arguments (*pair)[2];
static tc_node_fault faults[MOST];

static void *differ(void *user) { /* rank 2 makes another call; whoever could go on learns of it in the next one */
    rank *k = user;
    int status = call_of(k, (*pair)[k->rank == 2]);
    if (status == TC_OK) status = call_of(k, (tc_node_arguments){.collective = TC_BARRIER});
    EXPECT_STATUS(status, TC_ERR_MISMATCH);
    EXPECT_STATUS(call_of(k, (tc_node_arguments){.collective = TC_BARRIER}), TC_ERR_MISMATCH);
    OK(tc_node_failure(k->node, &faults[k->rank]));
    return NULL;
}

static void check_differing(void) {
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        pair = &pairs[i];
        open_node(3);
        on_all(3, differ);
        for (uint32_t r = 1; r < 3; r++) EXPECT(memcmp(&faults[r], &faults[0], sizeof *faults) == 0);
        EXPECT(faults[0].rank != faults[0].peer);
        EXPECT(faults[0].mine.collective == (*pair)[faults[0].rank == 2].collective || faults[0].number == 1);
        close_node(3);
    }
}

static void *leave(void *user) {
    rank *k = user;
    tc_node_arguments a = {.collective = TC_BARRIER};
    tc_node_call *made;
    OK(tc_node_call_new(k->node, &a, &made));
    if (k->rank == 1) {
        int status = tc_node_run(made, NULL, NULL, 0.005);
        EXPECT_STATUS(status, TC_AGAIN);
        OK(tc_node_leave(k->node));
    } else {
        if (k->rank == 0) usleep(50000);
        EXPECT_STATUS(call_of(k, a), TC_ERR_LEFT);
    }
    EXPECT_STATUS(call_of(k, a), TC_ERR_LEFT);
    OK(tc_node_call_free(made));
    return NULL;
}

static int probe(int source, int tag, intptr_t comm, int *flag, void *status) {
    (void)status;
    EXPECT(source == -2 && tag == -1 && comm == -7);
    *flag = 0;
    return failing_code;
}

static void check_refused(void) {
    tc_node_mpi mpi = {.iprobe = (uintptr_t)probe, .handle = -7, .any_source = -2, .any_tag = -1};
    tc_node_address address;
    tc_node *node, *second;
    tc_node_call *call;
    tc_node_fault fault;
    EXPECT_STATUS(tc_node_create(2, 2, NULL, &node, &address), TC_ERR_ARGUMENT);
    EXPECT_STATUS(tc_node_create(0, TC_NODE_RANKS + 1, NULL, &node, &address), TC_ERR_ARGUMENT);
    OK(tc_node_create(0, 2, &mpi, &node, &address));
    EXPECT(address.bytes == tc_node_bytes(2) && tc_node_bytes(2) == 4096 + 2 * 16384);
    tc_node_address wrong = address;
    wrong.nonce++;
    EXPECT_STATUS(tc_node_attach(1, 2, NULL, &wrong, &second), TC_ERR_UNREACHABLE);
    OK(tc_node_seal(node, 1));
    EXPECT_STATUS(tc_node_attach(1, 2, NULL, &address, &second), TC_ERR_UNREACHABLE);
    tc_node_arguments a = {.collective = TC_BARRIER}, large = {.collective = TC_BCAST, .bytes = TC_NODE_LARGEST + 1};
    tc_node_arguments blocks = {.collective = TC_ALLTOALL, .bytes = TC_NODE_LARGEST / 2 + 1}, sum = {
        .collective = TC_ALLREDUCE, .bytes = 8, .item = 8, .choice = {.by = TC_BY_CALLER}};
    EXPECT_STATUS(tc_node_call_new(node, &large, &call), TC_ERR_RANGE);
    EXPECT_STATUS(tc_node_call_new(node, &blocks, &call), TC_ERR_RANGE);
    EXPECT_STATUS(tc_node_call_new(node, &sum, &call), TC_ERR_UNSUPPORTED);
    sum.choice.by = TC_BY_MPI; /* of which no address is known */
    EXPECT_STATUS(tc_node_call_new(node, &sum, &call), TC_ERR_UNSUPPORTED);
    OK(tc_node_call_new(node, &a, &call));
    EXPECT_STATUS(tc_node_failure(node, &fault), TC_ERR_ARGUMENT);
    failing_code = 5; /* MPI fails while it is driven */
    EXPECT_STATUS(tc_node_run(call, NULL, NULL, 1), TC_ERR_MPI);
    OK(tc_node_failure(node, &fault));
    EXPECT(fault.code == 5);
    OK(tc_node_free(node));
    EXPECT_STATUS(tc_node_run(call, NULL, NULL, 1), TC_ERR_FREED);
    OK(tc_node_call_free(call));
}

/* --- processes --------------------------------------------------------------------------------------------------- */
static void member(uint32_t r, tc_node_address *address, volatile int *attached) {
    rank *k = &ranks[r];
    k->rank = r;
    k->size = 3;
    OK(tc_node_attach(r, 3, NULL, address, &k->node));
    __atomic_add_fetch(attached, 1, __ATOMIC_SEQ_CST);
    tc_node_arguments sum = {.collective = TC_ALLREDUCE, .bytes = 1000, .item = 1, .choice = {.operation = TC_SUM,
                             .element = TC_UINT8}};
    OK(tc_node_seal(k->node, 2));
    for (uint32_t call = 0; call < 200; call++) make_one(k, &sum, call);
    if (r == 2) pause(); /* until it is killed */
    EXPECT_STATUS(call_of(k, sum), TC_ERR_PEER_LOST);
    exit(0);
}

static void check_processes(void) {
    volatile int *attached = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    rank *k = &ranks[0];
    tc_node_address address;
    pid_t child[2];
    tc_node_fault fault;
    k->rank = 0;
    k->size = 3;
    OK(tc_node_create(0, 3, NULL, &k->node, &address));
    for (uint32_t r = 1; r < 3; r++)
        if ((child[r - 1] = fork()) == 0) member(r, &address, attached);
    while (__atomic_load_n(attached, __ATOMIC_SEQ_CST) < 2) usleep(1000);
    OK(tc_node_seal(k->node, 2));
    tc_node_arguments sum = {.collective = TC_ALLREDUCE, .bytes = 1000, .item = 1, .choice = {.operation = TC_SUM,
                             .element = TC_UINT8}};
    for (uint32_t call = 0; call < 200; call++) make_one(k, &sum, call);
    kill(child[1], SIGKILL);
    EXPECT_STATUS(call_of(k, sum), TC_ERR_PEER_LOST); /* a process that nobody has waited for is dead, too */
    OK(tc_node_failure(k->node, &fault));
    EXPECT(fault.peer == 2);
    int status;
    EXPECT(waitpid(child[0], &status, 0) == child[0] && status == 0);
    EXPECT(waitpid(child[1], &status, 0) == child[1] && WIFSIGNALED(status));
    OK(tc_node_free(k->node));
}

int main(void) {
    static const uint32_t sizes[] = {1, 2, 3, 4, 8};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        open_node(sizes[i]);
        for (uint32_t r = 0; r < sizes[i]; r++) ranks[r].calls = 600;
        on_all(sizes[i], many_calls);
        close_node(sizes[i]);
    }
    open_node(3);
    on_all(3, one_way);
    on_all(3, late);
    close_node(3);
    check_differing();
    open_node(3);
    on_all(3, leave);
    close_node(3);
    check_refused();
    check_processes();
    return 0;
}
