/* The transports' interface, and who implements it. */
#ifndef TOPOCOMM_TRANSPORT_H
#define TOPOCOMM_TRANSPORT_H
#include "handles.h"

/* One piece of one message, on its way. */
typedef struct tc_op {
    tc_plan *plan;
    tc_target *target;
    const tc_layout *layout, *there; /* of the local side, and of the remote one */
    char *local;
    const char *head;    /* the message's first bytes; then come those that `layout` describes */
    uint64_t head_bytes; /* of puts only */
    uint64_t epoch, value, number;
    uint64_t from, bytes; /* the bytes of the message that this piece carries */
    uint64_t total;       /* bytes of the whole message */
    uint32_t piece, pieces;
    bool get, remote; /* remote: done only when the peer has it */
    bool track;       /* note each piece, so that one that comes twice is seen */
} tc_op;

/* A transport brings pieces and their notifications to peers; outside its files only this interface is known. A function
 * may be NULL where there is nothing to do, except connect, post, capabilities and close. */
struct tc_transport {
    tc_context *context;
    uint32_t kind, value_bits;
    uint64_t longest; /* length limit of a piece in bytes; 0: none */
    bool network;     /* strided blocks need a landing (memory.c), and probe connections (live.c) tell who lives */

    /* Peers. */
    int (*address)(tc_transport *, wire_address *); /* adds what peers need to connect */
    int (*connect)(tc_transport *, peer *);         /* TC_OK: it leads to this peer */
    void (*disconnect)(tc_transport *, peer *);

    /* Memory, blocks, targets. */
    int (*enrol)(tc_transport *, tc_memory *);                        /* makes it reachable */
    void (*withdraw)(tc_transport *, tc_memory *);                    /* also after an enrol that failed */
    void (*describe)(tc_transport *, const tc_block *, wire_block *); /* adds what holders need to reach the block */
    int (*map)(tc_transport *, tc_target *);
    void (*unmap)(tc_transport *, tc_target *);

    /* Transfers. */
    int (*post)(tc_transport *, const tc_op *); /* TC_OK: done · TC_AGAIN: op_done() follows · TC_FULL · error */
    int (*progress)(tc_transport *);            /* > 0: something came or went · TC_OK · error */
    bool (*idle)(tc_transport *);
    int (*tell)(tc_transport *, uint32_t peer, char *message, size_t bytes); /* of message.c; frees it unless TC_FULL */

    int (*capabilities)(tc_transport *, tc_capability *list, uint32_t capacity, uint32_t *count);
    void (*close)(tc_transport *);
};

int shm_open_transport(tc_context *context, tc_transport **transport);
int ofi_open_transport(tc_context *context, tc_transport **transport);
int msg_open_transport(tc_context *context, tc_send_function send, tc_poll_function poll, void *user,
                       tc_transport **transport);
int sim_open_transport(tc_context *context, const tc_faults *faults, tc_transport **transport);
#endif
