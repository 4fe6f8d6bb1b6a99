/* The C core beside the MPI library it runs under, two ranks on two cores, in alternating rounds of one run: one-way
 * times of a bare shared flag, a notified put (data read and checked), MPI_Send and MPI_Recv, and, where the library
 * has it (-DPUT_NOTIFY), MPIX_Put_notify. 8 bytes each. Prints one JSON object. Usage: rma_mpi [rounds [iterations]]
 */
#define _GNU_SOURCE
#include <mpi.h>

#include "pair.h"

static double send_round(int iterations) {
    static uint64_t turn, data;
    int peer = 1 - (int)me;
    meet();
    double start = seconds();
    for (int i = 0; i < iterations; i++) {
        uint64_t sent = ++turn;
        if (me == 0) MPI_Send(&sent, 8, MPI_BYTE, peer, 0, MPI_COMM_WORLD);
        MPI_Recv(&data, 8, MPI_BYTE, peer, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        if (data != turn) _exit(2);
        if (me == 1) MPI_Send(&sent, 8, MPI_BYTE, peer, 0, MPI_COMM_WORLD);
    }
    return (seconds() - start) / iterations / 2;
}

#ifdef PUT_NOTIFY
static MPI_Win window;
static volatile uint64_t *inbox;

static void notify_open(void) {
    void *base;
    MPI_Win_allocate(64, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &base, &window);
    MPIX_Win_create_notify(window, 1);
    MPIX_Win_set_notify(window, 0, 0);
    inbox = base;
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Win_lock_all(0, window);
}

static void notify_send(uint64_t turn) {
    MPIX_Put_notify(&turn, 8, MPI_BYTE, 1 - (int)me, 0, 8, MPI_BYTE, 0, window);
    MPI_Win_flush_local(1 - (int)me, window);
}

static double notify_round(int iterations) {
    static uint64_t turn;
    meet();
    double start = seconds();
    for (int i = 0; i < iterations; i++) {
        MPI_Count seen = 0;
        turn++;
        if (me == 0) notify_send(turn);
        while (seen < (MPI_Count)turn) MPIX_Win_get_notify(window, 0, &seen);
        if (*inbox != turn) _exit(2);
        if (me == 1) notify_send(turn);
    }
    return (seconds() - start) / iterations / 2;
}

static void notify_close(void) {
    MPI_Win_unlock_all(window);
    MPIX_Win_free_notify(window);
    MPI_Win_free(&window);
}
#endif

static void print(const char *name, double *times, double *shares, int rounds, const char *of) {
    printf(",\n \"%s_ns\": %.1f, \"%s_per_%s\": %.3f", name, 1e9 * median(times, rounds), name, of,
           median(shares, rounds));
}

static void compare(end *e, int rounds, int iterations) {
    uint64_t data = 0;
    double flag[MAX_ROUNDS], put[MAX_ROUNDS], send[MAX_ROUNDS], over_flag[MAX_ROUNDS], over_put[MAX_ROUNDS];
    tc_plan *plan = plan_of(e, &data, 8);
    flag_round(iterations);
#ifdef PUT_NOTIFY
    double notify[MAX_ROUNDS], notify_over_put[MAX_ROUNDS];
    notify_open();
#endif
    for (int r = 0; r < rounds; r++) {
        flag[r] = flag_round(iterations);
        put[r] = put_round(e, plan, &data, iterations);
        send[r] = send_round(iterations);
        over_flag[r] = put[r] / flag[r];
        over_put[r] = send[r] / put[r];
#ifdef PUT_NOTIFY
        notify[r] = notify_round(iterations);
        notify_over_put[r] = notify[r] / put[r];
#endif
    }
    CHECK(tc_plan_free(plan));
    if (me == 0) {
        printf("{\"rounds\": %d, \"iterations\": %d, \"flag_ns\": %.1f", rounds, iterations,
               1e9 * median(flag, rounds));
        print("put", put, over_flag, rounds, "flag");
        print("send", send, over_put, rounds, "put");
#ifdef PUT_NOTIFY
        print("put_notify", notify, notify_over_put, rounds, "put");
#endif
        printf("}\n");
    }
#ifdef PUT_NOTIFY
    notify_close();
#endif
}

int main(int argc, char **argv) {
    int rounds = argc > 1 ? atoi(argv[1]) : 101, iterations = argc > 2 ? atoi(argv[2]) : 2000, rank, size, unit;
    MPI_Aint bytes;
    MPI_Win shared;
    void *base;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (size != 2 || rounds < 1 || rounds > MAX_ROUNDS) MPI_Abort(MPI_COMM_WORLD, 2);
    me = (uint32_t)rank;
    MPI_Win_allocate_shared(rank ? 0 : sizeof *b, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &base, &shared);
    MPI_Win_shared_query(shared, 0, &bytes, &unit, &base);
    b = base;
    if (!rank) memset(b, 0, sizeof *b);
    MPI_Barrier(MPI_COMM_WORLD);
    bind_to_core();
    end e = open_end();
    compare(&e, rounds, iterations);
    meet();
    tc_context_close(e.context);
    MPI_Win_free(&shared);
    MPI_Finalize();
    return 0;
}
