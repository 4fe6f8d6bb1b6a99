/* Large collectives in arrays that the ranks of a node reach, and through stages where a buffer lies elsewhere: every
 * collective in random order and size, in place or not. Ranks are threads, or processes. */
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "expect.h"
#include "given.h"
#include "node.h"

#define MOST 8
#define LARGEST 200001u
#define CALLS 40u
#define ROOM (MOST * (uint64_t)LARGEST)

typedef struct rank {
    uint32_t rank, size, calls;
    tc_node *node;
    pthread_t thread;
    unsigned char *send, *recv, *elsewhere, *far, *wanted;
} rank;

static rank ranks[MOST];
static unsigned made;

static int sum_by_mpi(const void *in, void *inout, int n, intptr_t type, intptr_t op) {
    EXPECT(type == 5 && op == 6);
    const unsigned char *x = in;
    unsigned char *y = inout;
    for (int i = 0; i < n; i++) y[i] = (unsigned char)(x[i] + y[i]);
    return 0;
}

static const tc_node_mpi functions = {.reduce_local = (uintptr_t)sum_by_mpi};

/* A random call, the same on all ranks. */
static tc_node_arguments draw(uint32_t *state, uint32_t size, uint64_t *counts) {
    static const uint32_t kinds[] = {TC_ALLREDUCE, TC_BCAST, TC_ALLGATHER, TC_ALLTOALL, TC_REDUCE_SCATTER_BLOCK,
                                     TC_REDUCE_SCATTER};
    static const uint32_t sizes[] = {1, 100, 4096, 30000, 70000, LARGEST};
    tc_node_arguments a = {.collective = kinds[next(state) % 6], .root = next(state) % size, .item = 1,
                           .staged = 1};
    a.choice = (tc_operation_choice){.by = next(state) % 4 ? TC_BY_KERNEL : TC_BY_MPI, .operation = TC_SUM,
                                     .element = TC_UINT8, .type = 5, .op = 6};
    a.bytes = sizes[next(state) % 6];
    if (a.collective != TC_REDUCE_SCATTER) return a;
    for (uint32_t r = 0; r < size; r++) counts[r] = next(state) % (uint32_t)(a.bytes + 1);
    a.counts = counts;
    a.bytes = 0;
    return a;
}

/* Fill in what the rank wants; return its bytes. */
static uint64_t expected(rank *k, const tc_node_arguments *a, uint32_t call) {
    uint64_t n = a->bytes, before = 0;
    switch (a->collective) {
    case TC_BCAST:
        for (uint64_t i = 0; i < n; i++) k->wanted[i] = given(call, a->root, i);
        return a->root == k->rank ? 0 : n;
    case TC_ALLGATHER:
        for (uint64_t i = 0; i < n * k->size; i++) k->wanted[i] = given(call, (uint32_t)(i / n), i % n);
        return n * k->size;
    case TC_ALLTOALL:
        for (uint64_t i = 0; i < n * k->size; i++)
            k->wanted[i] = given(call, (uint32_t)(i / n), k->rank * n + i % n);
        return n * k->size;
    case TC_REDUCE_SCATTER_BLOCK: before = k->rank * n; break;
    case TC_REDUCE_SCATTER:
        for (uint32_t r = 0; r < k->rank; r++) before += a->counts[r];
        n = a->counts[k->rank];
        break;
    default: break;
    }
    for (uint64_t i = 0; i < n; i++) k->wanted[i] = summed(call, k->size, before + i);
    return n;
}

static uint64_t sent(const rank *k, const tc_node_arguments *a) {
    uint64_t n = a->collective == TC_ALLTOALL || a->collective == TC_REDUCE_SCATTER_BLOCK ? a->bytes * k->size : a->bytes;
    for (uint32_t r = 0; a->counts && r < k->size; r++) n += a->counts[r];
    return n;
}

static int run(tc_node_large *call, const void *send, void *recv) {
    int status = tc_node_large_run(call, send, recv, 1e-4);
    while (status == TC_AGAIN) {
        EXPECT_STATUS(tc_node_large_run(call, send, recv, 1e-4), TC_ERR_BUSY);
        status = tc_node_large_wait(call, 1e-4);
    }
    return status;
}

enum way { SEPARATE, IN_PLACE, ONE_ELSEWHERE, ONE_FAR, ALL_ELSEWHERE, ALL_IN_PLACE_ELSEWHERE, WAYS };

/* Choose where the buffers lie. */
static void place(const rank *k, const tc_node_arguments *a, uint32_t call, enum way way, unsigned char **send,
                  unsigned char **recv) {
    bool mine = k->rank == call % k->size;
    *send = k->send;
    *recv = k->recv;
    if (way == ALL_ELSEWHERE || (way == ONE_ELSEWHERE && mine)) *send = k->elsewhere;
    if (way == ALL_ELSEWHERE || way == ALL_IN_PLACE_ELSEWHERE || (way == ONE_FAR && mine)) *recv = k->far;
    if ((way == IN_PLACE || way == ALL_IN_PLACE_ELSEWHERE) && a->collective != TC_BCAST)
        *send = a->collective == TC_ALLGATHER ? *recv + k->rank * a->bytes : *recv;
}

static void make_one(rank *k, const tc_node_arguments *a, uint32_t call, enum way way) {
    tc_node_large *large;
    unsigned char *send, *recv;
    OK(tc_node_large_new(k->node, a, &large));
    uint64_t bytes = expected(k, a, call), n = sent(k, a);
    place(k, a, call, way, &send, &recv);
    memset(recv, 0xee, bytes + 1);
    for (uint64_t i = 0; i < n; i++) send[i] = given(call, k->rank, i);
    OK(run(large, send, recv));
    EXPECT(memcmp(recv, k->wanted, bytes) == 0);
    EXPECT(way == IN_PLACE || way == ALL_IN_PLACE_ELSEWHERE || recv[bytes] == 0xee);
    __atomic_add_fetch(&made, 1, __ATOMIC_SEQ_CST);
    OK(tc_node_large_free(large));
}

static void *many_calls(void *user) {
    rank *k = user;
    uint32_t shared = 17 * k->size;
    uint64_t counts[MOST];
    void *arrays[2];
    for (int i = 0; i < 2; i++) OK(tc_array_new(ROOM + 1, &arrays[i]));
    k->send = arrays[0];
    k->recv = arrays[1];
    for (uint64_t i = 0; i < 100; i++) EXPECT(k->send[i * 1000] == 0);
    k->elsewhere = malloc(ROOM);
    k->far = malloc(ROOM + 1);
    k->wanted = malloc(ROOM);
    for (uint32_t call = 0; call < k->calls; call++) {
        tc_node_arguments a = draw(&shared, k->size, counts);
        make_one(k, &a, call, (enum way)(next(&shared) % WAYS));
    }
    for (int i = 0; i < 2; i++) OK(tc_array_free(arrays[i]));
    EXPECT_STATUS(tc_array_free(arrays[0]), TC_ERR_ARGUMENT);
    free(k->elsewhere);
    free(k->far);
    free(k->wanted);
    return NULL;
}

static void check_threads(uint32_t size) {
    tc_node_address address;
    for (uint32_t r = 0; r < size; r++) {
        rank *k = &ranks[r];
        *k = (rank){.rank = r, .size = size, .calls = CALLS};
        if (r == 0) OK(tc_node_create(0, size, &functions, &k->node, &address));
        else OK(tc_node_attach(r, size, &functions, &address, &k->node));
    }
    for (uint32_t r = 0; r < size; r++) OK(tc_node_seal(ranks[r].node, 2));
    for (uint32_t r = 0; r < size; r++) EXPECT(pthread_create(&ranks[r].thread, NULL, many_calls, &ranks[r]) == 0);
    for (uint32_t r = 0; r < size; r++) EXPECT(pthread_join(ranks[r].thread, NULL) == 0);
    for (uint32_t r = size; r-- > 0;) OK(tc_node_free(ranks[r].node));
}

/* --- processes ------------------------------------------------------------------------------------------------------ */
static void in_process(rank *k, volatile int *attached) {
    __atomic_add_fetch(attached, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(attached, __ATOMIC_SEQ_CST) < (int)k->size) usleep(1000);
    OK(tc_node_seal(k->node, 2));
    many_calls(k);
    OK(tc_node_free(k->node));
}

static void check_processes(uint32_t size) {
    volatile int *attached = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    rank *k = &ranks[0];
    tc_node_address address;
    pid_t child[MOST];
    *k = (rank){.size = size, .calls = CALLS};
    OK(tc_node_create(0, size, &functions, &k->node, &address));
    for (uint32_t r = 1; r < size; r++)
        if ((child[r] = fork()) == 0) {
            k = &ranks[r];
            *k = (rank){.rank = r, .size = size, .calls = CALLS};
            OK(tc_node_attach(r, size, &functions, &address, &k->node));
            in_process(k, attached);
            _exit(0);
        }
    in_process(k, attached);
    for (uint32_t r = 1; r < size; r++) {
        int status;
        EXPECT(waitpid(child[r], &status, 0) == child[r] && status == 0);
    }
}

/* --- refusals ------------------------------------------------------------------------------------------------------- */
static void check_refused(void) {
    tc_node_address address;
    tc_node *node;
    tc_node_large *large;
    OK(tc_node_create(0, 1, NULL, &node, &address));
    tc_node_arguments sum = {.collective = TC_ALLREDUCE, .bytes = 1000, .item = 1, .choice = {.by = TC_BY_MPI}};
    EXPECT_STATUS(tc_node_large_new(node, &sum, &large), TC_ERR_UNSUPPORTED); /* no function that reduces */
    sum.choice.by = TC_BY_CALLER;
    EXPECT_STATUS(tc_node_large_new(node, &sum, &large), TC_ERR_UNSUPPORTED);
    sum = (tc_node_arguments){.collective = TC_GATHER, .bytes = 1000};
    EXPECT_STATUS(tc_node_large_new(node, &sum, &large), TC_ERR_UNSUPPORTED);
    sum.bytes = UINT64_MAX;
    EXPECT_STATUS(tc_node_large_new(node, &sum, &large), TC_ERR_RANGE);
    void *none;
    EXPECT_STATUS(tc_array_new(UINT64_MAX, &none), TC_ERR_ARGUMENT);
    OK(tc_node_free(node));
}

/* Without memory for its stage a rank says so, and nothing is done. */
static void check_no_memory(void) {
    struct rlimit before, none = {0, RLIM_INFINITY};
    unsigned char in[5000] = {1}, out[5000] = {0};
    tc_node_address address;
    tc_node *node;
    tc_node_large *large;
    tc_node_arguments sum = {.collective = TC_ALLREDUCE, .bytes = sizeof in, .item = 1, .staged = 1};
    sum.choice = (tc_operation_choice){.by = TC_BY_KERNEL, .operation = TC_SUM, .element = TC_UINT8};
    OK(tc_node_create(0, 1, NULL, &node, &address));
    OK(tc_node_seal(node, 2));
    OK(tc_node_large_new(node, &sum, &large));
    signal(SIGXFSZ, SIG_IGN);
    EXPECT(getrlimit(RLIMIT_FSIZE, &before) == 0);
    none.rlim_max = before.rlim_max;
    EXPECT(setrlimit(RLIMIT_FSIZE, &none) == 0);
    EXPECT_STATUS(tc_node_large_run(large, in, out, 1), TC_APART);
    EXPECT(out[0] == 0);
    EXPECT(setrlimit(RLIMIT_FSIZE, &before) == 0);
    OK(tc_node_large_run(large, in, out, 1));
    EXPECT(out[0] == 1);
    OK(tc_node_large_free(large));
    sum.staged = 0;
    OK(tc_node_large_new(node, &sum, &large));
    EXPECT_STATUS(tc_node_large_run(large, in, out, 1), TC_APART);
    OK(tc_node_large_free(large));
    OK(tc_node_free(node));
}

int main(void) {
    check_no_memory();
    static const uint32_t sizes[] = {1, 2, 3, 5, 8};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) check_threads(sizes[i]);
    EXPECT(made == CALLS * (1 + 2 + 3 + 5 + 8));
    check_processes(3);
    check_refused();
    return 0;
}
