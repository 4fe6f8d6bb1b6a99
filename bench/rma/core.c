/* The C core beside its bounds, two processes on two cores, in alternating rounds of one run:
 *   one-way time of a notified 8-byte put (data read and checked) against a bare shared flag;
 *   bandwidth of notified puts against plain copies between the same two areas.
 * Prints one JSON object. Usage: rma_core [rounds [iterations]]
 */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/wait.h>

#include "pair.h"

/* One way, acknowledged each time by a flag in both forms, so that only the way of the data differs. */
static double stream_round(end *e, tc_plan *plan, const char *data, size_t bytes, int iterations) {
    static uint64_t turn = 1u << 30;
    meet();
    double start = seconds();
    for (int i = 0; i < iterations; i++) {
        turn++;
        if (me == 0) {
            if (plan) {
                CHECK(tc_plan_start(plan));
            } else {
                memcpy(b->area[1], data, bytes);
                atomic_store_explicit(&b->flag[0][0], turn, memory_order_release);
            }
            while (atomic_load_explicit(&b->flag[1][0], memory_order_acquire) != turn) {}
        } else {
            if (plan) {
                CHECK(tc_signal_wait(e->signal, 10));
                CHECK(tc_signal_rearm(e->signal));
            } else {
                while (atomic_load_explicit(&b->flag[0][0], memory_order_acquire) != turn) {}
            }
            atomic_store_explicit(&b->flag[1][0], turn, memory_order_release);
        }
    }
    return (seconds() - start) / iterations;
}

static void latency(end *e, int rounds, int iterations) {
    uint64_t data = 0;
    double flag[MAX_ROUNDS], put[MAX_ROUNDS], ratio[MAX_ROUNDS];
    tc_plan *plan = plan_of(e, &data, 8);
    for (int r = 0; r < rounds; r++) {
        flag[r] = flag_round(iterations);
        put[r] = put_round(e, plan, &data, iterations);
        ratio[r] = put[r] / flag[r];
    }
    CHECK(tc_plan_free(plan));
    if (me == 0)
        printf("{\"rounds\": %d, \"iterations\": %d, \"flag_ns\": %.1f, \"put_ns\": %.1f, \"put_per_flag\": %.3f,\n"
               " \"copy_per_put\": {", rounds, iterations, 1e9 * median(flag, rounds), 1e9 * median(put, rounds),
               median(ratio, rounds));
}

static void bandwidth(end *e, int rounds) {
    static char data[AREA];
    memset(data, 1, sizeof data);
    for (size_t bytes = 4096; bytes <= AREA; bytes *= 4) {
        int iterations = (int)((32u << 20) / bytes);
        double ratio[MAX_ROUNDS];
        tc_plan *plan = plan_of(e, data, bytes);
        for (int r = 0; r < rounds; r++) {
            double put = stream_round(e, plan, data, bytes, iterations);
            ratio[r] = stream_round(e, NULL, data, bytes, iterations) / put;
        }
        CHECK(tc_plan_free(plan));
        if (me == 0) printf("%s\"%zu\": %.3f", bytes > 4096 ? ", " : "", bytes, median(ratio, rounds));
    }
    if (me == 0) printf("}}\n");
}

int main(int argc, char **argv) {
    int rounds = argc > 1 ? atoi(argv[1]) : 21, iterations = argc > 2 ? atoi(argv[2]) : 20000;
    if (rounds < 1 || rounds > MAX_ROUNDS) return 2;
    b = mmap(NULL, sizeof *b, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memset(b, 0, sizeof *b);
    pid_t child = fork();
    me = child == 0;
    bind_to_core();
    end e = open_end();
    latency(&e, rounds, iterations);
    bandwidth(&e, rounds);
    meet();
    tc_context_close(e.context);
    if (me) _exit(0);
    int status;
    waitpid(child, &status, 0);
    return status ? 1 : 0;
}
