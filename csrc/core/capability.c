/* What each transport really offers here. */
#include <stdio.h>
#include <string.h>

#include "internal.h"

int tc_capabilities(tc_context *context, tc_capability *list, uint32_t capacity, uint32_t *count) {
    if (!context || !list || !count || capacity < 3 + TC_MAX_RAILS) return TC_ERR_ARGUMENT;
    uint32_t n = 0;
    bool cma = true, others = false;
    for (uint32_t i = 0; i < context->options.size; i++) {
        const peer *p = &context->peers[i];
        if (!p->mapped || p->here) continue;
        others = true;
        cma = cma && p->cma;
    }
    tc_capability shm = {.transport = "shm", .provider = "stores + C11 atomics", .present = 1, .notify_bits = 64,
                         .value_bits = 64, .native = 1, .auto_progress = 1, .ordered = 1, .max_message = UINT64_MAX};
    snprintf(shm.note, sizeof shm.note, "registered arrays by cross-memory attach: %s",
             !others ? "not tried, no other process" : cma ? "yes" : "forbidden by the kernel");
    list[n++] = shm;
    uint32_t rails = 0;
    int status = ofi_capabilities(context, list + n, capacity - n - 1, &rails);
    if (status) return status;
    n += rails;
    tc_capability msg = {.transport = "mpi", .provider = "messages", .present = context->msg != NULL,
                         .notify_bits = 64, .value_bits = 64, .max_message = UINT64_MAX};
    snprintf(msg.note, sizeof msg.note, "%s", context->msg ? "emulated: the target copies when it calls in"
                                                           : "no message functions given (an mpi4py communicator brings them)");
    list[n++] = msg;
    *count = n;
    return TC_OK;
}
