/* Capabilities: what each transport really offers on this machine. */
#include <stdio.h>

#include "internal.h"

/* Describe a transport that this context does not have. */
static tc_capability absent(const tc_context *context, uint32_t at) {
    tc_capability ofi = {.transport = "ofi", .provider = "absent"};
    tc_capability msg = {.transport = "mpi", .provider = "messages", .notify_bits = 64, .value_bits = 64,
                         .max_message = UINT64_MAX,
                         .note = "no message functions given (an mpi4py communicator brings them)"};
    snprintf(ofi.note, sizeof ofi.note, "%s", context->note[0] ? context->note : "not asked for");
    return at == AT_OFI ? ofi : msg;
}

int tc_capabilities(tc_context *context, tc_capability *list, uint32_t capacity, uint32_t *count) {
    if (!context || !list || !count || capacity < 3 + TC_MAX_RAILS) return TC_ERR_ARGUMENT;
    uint32_t n = 0;
    for (uint32_t at = AT_SHM; at < TRANSPORTS; at++) {
        tc_transport *t = context->transports[at];
        uint32_t more = 1;
        int status = t ? t->capabilities(t, list + n, capacity - n, &more) : TC_OK;
        if (status) return status;
        if (!t) list[n] = absent(context, at);
        n += more;
    }
    *count = n;
    return TC_OK;
}
