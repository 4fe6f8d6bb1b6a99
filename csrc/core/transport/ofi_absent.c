/* Stands in for the other ofi_*.c where libfabric's headers were not there at build time. */
#include <stdio.h>

#include "internal.h"

int ofi_open_transport(tc_context *context, tc_transport **transport) {
    (void)transport;
    snprintf(context->note, sizeof context->note, "built without libfabric (its headers were not found)");
    return TC_ERR_UNSUPPORTED;
}

int ofi_address(tc_transport *transport, wire_address *address) {
    (void)transport, (void)address;
    return TC_OK;
}

int ofi_connect(tc_transport *transport, peer *p) {
    (void)transport, (void)p;
    return TC_ERR_UNSUPPORTED;
}

void ofi_disconnect(peer *p) {
    (void)p;
}

int ofi_register(tc_transport *transport, tc_memory *memory) {
    (void)transport, (void)memory;
    return TC_ERR_UNSUPPORTED;
}

void ofi_unregister(tc_memory *memory) {
    (void)memory;
}

void ofi_wire(const tc_block *block, wire_block *wire) {
    (void)block, (void)wire;
}

int ofi_capabilities(tc_context *context, tc_capability *list, uint32_t capacity, uint32_t *count) {
    (void)capacity;
    list[0] = (tc_capability){.transport = "ofi", .provider = "absent"};
    snprintf(list[0].note, sizeof list[0].note, "%s", context->note[0] ? context->note : "not asked for");
    *count = 1;
    return TC_OK;
}
