/* Ten thousand times each: register and unregister, issue and free, contexts open and closed; descriptors and memory
 * maps must be as many as before (the address sanitizer watches the heap). Arguments: times, then for libfabric provider
 * and interface; its contexts, which take 10 to 100 ms to open, are opened 500 times less often. */
#include <stdbool.h>

#include "counting.h"
#include "expect.h"

static void handles(tc_context **group, int times) {
    static unsigned char array[4096];
    for (int i = 0; i < times; i++) {
        tc_memory *shared, *private;
        tc_signal *signal;
        tc_block *a, *b;
        tc_plan *plan;
        OK(tc_memory_allocate(group[1], 4096, &shared));
        OK(tc_memory_register(group[1], array, sizeof array, &private));
        OK(tc_signal_create(group[1], i % 2 ? TC_IDENTIFIED : TC_COUNTED, &signal));
        tc_target *to = give(shared, plain(0, 64), signal, group[0], 0, 1, &a);
        tc_target *too = give(private, plain(64, 64), signal, group[0], 0, 2, &b);
        OK(tc_plan_create(group[0], TC_LOCAL, &plan));
        tc_layout layout = plain(0, 64);
        OK(tc_plan_put(plan, to, array, &layout, 0));
        OK(tc_plan_put(plan, too, array, &layout, 0));
        OK(tc_plan_start(plan));
        int here = TC_AGAIN, there = TC_AGAIN;
        while (here == TC_AGAIN || there == TC_AGAIN) {
            here = tc_plan_test(plan);
            there = tc_signal_test(signal);
        }
        OK(here);
        OK(there);
        OK(tc_plan_free(plan));
        OK(tc_target_close(to));
        OK(tc_target_close(too));
        OK(tc_block_free(a));
        OK(tc_block_free(b));
        OK(tc_signal_free(signal));
        OK(tc_memory_free(shared));
        OK(tc_memory_free(private));
    }
}

int main(int argc, char **argv) {
    int times = argc > 1 ? atoi(argv[1]) : 10000;
    tc_options options = shm_options();
    tc_context *group[2];
    bool network = argc > 3;
    if (network) {
        options.transports = TC_OFI;
        snprintf(options.provider, sizeof options.provider, "%s", argv[2]);
        snprintf(options.nics, sizeof options.nics, "%s", argv[3]);
        open_group(1, &options, NULL, group); /* what libfabric opens once and keeps */
        OK(tc_context_close(group[0]));
    }
    int descriptors = count_descriptors(), maps = count_maps();
    open_group(2, &options, NULL, group);
    int inside = count_descriptors(), inside_maps = count_maps();
    handles(group, 1); /* a network connects when it is first used */
    if (network) inside = count_descriptors();
    handles(group, times);
    EXPECT(count_descriptors() == inside && count_maps() == inside_maps);
    OK(tc_context_close(group[0]));
    OK(tc_context_close(group[1]));
    for (int i = 0; i < (network ? times / 500 : times); i++) {
        open_group(1, &options, NULL, group);
        OK(tc_context_close(group[0]));
    }
    EXPECT(count_descriptors() == descriptors && count_maps() == maps);
    printf("%d times\n", times);
    return 0;
}
