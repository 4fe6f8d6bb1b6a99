/* The emulated transport: a put is a message that the target copies into place when it calls in; a get is asked for
 * and answered. The messages are carried by two functions of the caller (mpi4py's, for instance).
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

typedef struct pending { /* a get, or a put whose arrival was asked for */
    struct pending *next;
    uint64_t ticket;
    tc_op op;
} pending;

typedef struct msg_transport {
    tc_transport base;
    tc_send_function send;
    tc_poll_function poll;
    void *user;
    pending *waiting;
    uint64_t tickets;
} msg_transport;

static int expect(msg_transport *t, const tc_op *op, uint64_t *ticket) {
    pending *entry = malloc(sizeof *entry);
    if (!entry) return TC_ERR_NO_MEMORY;
    *entry = (pending){t->waiting, ++t->tickets, *op};
    t->waiting = entry;
    *ticket = entry->ticket;
    return TC_OK;
}

static bool resolve(msg_transport *t, uint64_t ticket, tc_op *op) {
    for (pending **link = &t->waiting; *link; link = &(*link)->next) {
        if ((*link)->ticket != ticket) continue;
        pending *entry = *link;
        *op = entry->op;
        *link = entry->next;
        free(entry);
        return true;
    }
    return false;
}

static int msg_post(tc_transport *transport, const tc_op *op) {
    msg_transport *t = (msg_transport *)transport;
    const tc_target *target = op->target;
    uint64_t payload = op->get ? 0 : op->bytes;
    char *data = malloc(sizeof(message) + payload);
    if (!data) return TC_ERR_NO_MEMORY;
    message head = {.magic = MESSAGE_MAGIC, .kind = op->get ? MESSAGE_GET : MESSAGE_PUT,
                    .origin = transport->context->options.rank, .block = target->wire.block,
                    .generation = target->wire.generation, .piece = op->piece, .pieces = op->pieces,
                    .wanted = op->remote, .epoch = op->epoch, .value = op->value, .number = op->number,
                    .offset = op->there->offset - target->wire.layout.offset, .from = op->from, .bytes = op->bytes};
    bool answered = op->get || op->remote;
    int status = answered ? expect(t, op, &head.ticket) : TC_OK;
    if (status == TC_OK) {
        memcpy(data, &head, sizeof head);
        if (payload) gather(data + sizeof head, op, op->from, payload);
        status = t->send(t->user, target->peer, data, sizeof head + payload);
        transport->context->stats.pieces++;
    }
    free(data);
    tc_op forgotten;
    if (status != TC_OK && answered) resolve(t, head.ticket, &forgotten);
    return status == TC_OK && answered ? TC_AGAIN : status;
}

static int msg_progress(tc_transport *transport) {
    msg_transport *t = (msg_transport *)transport;
    return t->poll(t->user);
}

static bool msg_idle(tc_transport *transport) {
    return ((msg_transport *)transport)->waiting == NULL;
}

static int answer(tc_context *context, const message *request, uint32_t kind, const char *data, uint64_t bytes) {
    msg_transport *t = (msg_transport *)context->transports[AT_MSG];
    message head = *request;
    char *reply = malloc(sizeof head + bytes);
    if (!reply) return TC_ERR_NO_MEMORY;
    head.kind = kind;
    head.origin = context->options.rank;
    memcpy(reply, &head, sizeof head);
    if (bytes) memcpy(reply + sizeof head, data, bytes);
    int status = t->send(t->user, request->origin, reply, sizeof head + bytes);
    context->stats.control++;
    free(reply);
    return status;
}

/* The part of the block a message speaks of, or false if it reaches outside. */
static bool part_of(const tc_block *block, const message *m, tc_layout *layout) {
    uint64_t end;
    if (__builtin_add_overflow(m->from, m->bytes, &end) || __builtin_add_overflow(end, m->offset, &end)) return false;
    if (end > block->bytes) return false;
    *layout = block->layout;
    if (!layout_contiguous(&block->layout)) return m->offset == 0;
    *layout = layout_simple(block->layout.offset + m->offset, block->bytes - m->offset);
    return true;
}

static int count(tc_context *context, const message *m) {
    arrival a = {.block = m->block, .generation = m->generation, .generation_mask = ~0u, .piece = m->piece,
                 .pieces = m->pieces, .epoch = m->epoch, .value = m->value};
    message done = *m;
    done.value = arrive(context, &a) == TC_ERR_STALE; /* what else it refuses is in the statistics and at the signal */
    return m->wanted && context->transports[AT_MSG] ? answer(context, &done, MESSAGE_DONE, NULL, 0) : TC_OK;
}

static int take_put(tc_context *context, const message *m, const char *payload) {
    tc_layout plain = layout_simple(0, m->from + m->bytes), layout;
    tc_block *block = block_of(context, m->block, m->generation, ~0u);
    if (block && !part_of(block, m, &layout)) return TC_ERR_BLOCK;
    if (block && m->bytes) layout_copy(block->memory->base, &layout, payload - m->from, &plain, m->from, m->bytes);
    return count(context, m);
}

static int take_get(tc_context *context, const message *m) {
    tc_layout plain = layout_simple(0, m->from + m->bytes), layout;
    tc_block *block = block_of(context, m->block, m->generation, ~0u);
    if (!block || !part_of(block, m, &layout)) return answer(context, m, MESSAGE_DONE, NULL, 0);
    char *data = malloc(m->bytes + 1);
    if (!data) return TC_ERR_NO_MEMORY;
    layout_copy(data - m->from, &plain, block->memory->base, &layout, m->from, m->bytes);
    int status = answer(context, m, MESSAGE_REPLY, data, m->bytes);
    free(data);
    if (status) return status;
    message read = *m;
    read.wanted = 0;
    return count(context, &read);
}

static int take_reply(tc_context *context, const message *m, const char *payload) {
    msg_transport *t = (msg_transport *)context->transports[AT_MSG];
    tc_op op;
    if (!t || !resolve(t, m->ticket, &op)) return TC_ERR_BLOCK;
    tc_layout plain = layout_simple(0, op.from + op.bytes);
    bool whole = m->kind == MESSAGE_REPLY && m->bytes == op.bytes;
    if (whole) layout_copy(op.local, op.layout, payload - op.from, &plain, op.from, op.bytes);
    op_done(op.plan, op.get ? (whole ? TC_OK : TC_ERR_STALE) : m->value ? TC_ERR_STALE : TC_OK);
    return TC_OK;
}

int tc_context_bye(tc_context *context) {
    if (!context) return TC_ERR_ARGUMENT;
    message head = {.magic = MESSAGE_MAGIC, .kind = MESSAGE_BYE, .origin = context->options.rank};
    msg_transport *t = (msg_transport *)context->transports[AT_MSG];
    int status = TC_OK;
    enter(context);
    for (uint32_t i = 0; t && i < context->options.size; i++) {
        const peer *p = &context->peers[i];
        if (i == context->options.rank || !p->connected || p->lost || p->inner != &t->base) continue;
        int sent = t->send(t->user, i, &head, sizeof head);
        if (sent != TC_OK) status = sent;
        else context->stats.control++;
    }
    leave(context);
    return status;
}

static int msg_tell(tc_transport *transport, uint32_t peer_rank, char *data, size_t bytes) {
    msg_transport *t = (msg_transport *)transport;
    int status = t->send(t->user, peer_rank, data, bytes);
    if (status != TC_FULL) free(data);
    return status;
}

int tc_message_in(tc_context *context, const void *data, size_t bytes) {
    message m;
    if (!context || !data) return TC_ERR_ARGUMENT;
    int status = message_read(context, data, bytes, &m);
    if (status) return status;
    const char *payload = (const char *)data + sizeof m;
    switch (m.kind) {
    case MESSAGE_PUT: return take_put(context, &m, payload);
    case MESSAGE_GET: return take_get(context, &m);
    case MESSAGE_REPLY:
    case MESSAGE_DONE: return take_reply(context, &m, payload);
    default: return message_handle(context, data, bytes);
    }
}

static int msg_connect(tc_transport *transport, peer *p) {
    (void)transport, (void)p; /* whoever gave the functions says that they lead everywhere */
    return TC_OK;
}

static int msg_capabilities(tc_transport *transport, tc_capability *list, uint32_t capacity, uint32_t *count) {
    (void)transport;
    if (!capacity) return TC_ERR_ARGUMENT;
    *list = (tc_capability){.transport = "mpi", .provider = "messages", .present = 1, .notify_bits = 64,
                            .value_bits = 64, .max_message = UINT64_MAX,
                            .note = "emulated: the target copies when it calls in"};
    *count = 1;
    return TC_OK;
}

static void msg_close(tc_transport *transport) {
    msg_transport *t = (msg_transport *)transport;
    for (pending *entry = t->waiting, *next; entry; entry = next) next = entry->next, free(entry);
    free(t);
}

int msg_open_transport(tc_context *context, tc_send_function send, tc_poll_function poll, void *user,
                       tc_transport **out) {
    msg_transport *t = calloc(1, sizeof *t);
    if (!t) return TC_ERR_NO_MEMORY;
    t->base = (tc_transport){.context = context, .kind = TC_MSG, .value_bits = 64, .connect = msg_connect,
                             .post = msg_post, .progress = msg_progress, .idle = msg_idle, .tell = msg_tell,
                             .capabilities = msg_capabilities, .close = msg_close};
    t->send = send;
    t->poll = poll;
    t->user = user;
    *out = &t->base;
    return TC_OK;
}
