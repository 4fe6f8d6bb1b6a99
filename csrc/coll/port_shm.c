/* Messages of a run to and from the ranks of this host, through shared memory.
 *
 * A line says which message it belongs to, so the order of lines means nothing. Short messages lie in the line, longer
 * ones beside it. Large ones are announced: the receiver fetches them out of the sender's memory and answers; if it may
 * not, it says so, being ready, and the sender sends them in parts.
 */
#include <stdlib.h>
#include <string.h>

#include "port_shm.h"

enum stage { UNWRITTEN, WAITING, IN_PARTS };

typedef struct ticket { /* of a message that is sent; as small as any library's request */
    uint8_t stage, slot;
} ticket;

static ticket *ticket_of(const tc_run *run, uint32_t message) {
    return (ticket *)(void *)(run->requests + (uint64_t)message * run->chunks * run->comm->mpi.request_bytes);
}

static pair *pair_of(const tc_run *run, const step *s) {
    return run->comm->shared->of[s->peer];
}

static uint32_t number_of(const tc_run *run, const step *s, uint32_t message) {
    return (uint32_t)s->message + message - run->program->message[s - run->program->steps];
}

/* --- sending ------------------------------------------------------------------------------------------------------- */
static int sent(tc_run *run, uint32_t message) {
    run->comm->shared->unsent--;
    run->moved++;
    message_over(run, message);
    return TC_OK;
}

static int write_whole(tc_run *run, shm_line line, uint32_t message, pair *q) {
    line.kind = line.bytes <= INLINE ? SHORT : LONG;
    if (line.kind == SHORT && line.bytes) memcpy(line.data, run->data[message], line.bytes);
    if (line.kind == LONG) line.part = line.bytes;
    int status = pair_write(q, line, run->data[message]);
    return status == TC_OK ? sent(run, message) : status;
}

static int announce(tc_run *run, shm_line line, uint32_t message, pair *q) {
    if (q->slots == UINT32_MAX) return TC_AGAIN;
    line.slot = (uint16_t)__builtin_ctz(~q->slots);
    line.kind = ANNOUNCED;
    line.at = (uintptr_t)run->data[message];
    atomic_store_explicit(&q->in->answers[line.slot], NOT_YET, memory_order_relaxed);
    if (pair_write(q, line, NULL) != TC_OK) return TC_AGAIN;
    q->slots |= 1u << line.slot;
    *ticket_of(run, message) = (ticket){WAITING, (uint8_t)line.slot};
    return TC_AGAIN;
}

static int write_parts(tc_run *run, shm_line line, uint32_t message, pair *q) {
    for (line.kind = PART;; run->finished[message]++) {
        line.from = (uint64_t)run->finished[message] * PIECE;
        if (line.from >= line.bytes) return sent(run, message);
        line.part = line.bytes - line.from < PIECE ? line.bytes - line.from : PIECE;
        if (pair_write(q, line, run->data[message] + line.from) != TC_OK) return TC_AGAIN;
        run->moved++;
    }
}

/* Look for the answer to an announcement. */
static int look(tc_run *run, const step *s, uint32_t message, pair *q) {
    ticket *t = ticket_of(run, message);
    uint64_t answer = atomic_load_explicit(&q->in->answers[t->slot], memory_order_acquire);
    if ((answer & 3) == NOT_YET) return TC_AGAIN;
    q->slots &= ~(1u << t->slot);
    if ((answer & 3) == REFUSED) {
        t->stage = IN_PARTS;
        return TC_OK;
    }
    sent(run, message);
    if ((answer & 3) == FETCHED) return TC_OK;
    int status = message_failed(run, s, message, TC_ERR_LENGTH, 0, (uint64_t)run->length[message]);
    run->failure.needed = answer >> 2;
    run->failure.sent = 1;
    return status;
}

/* Go on with a message that is not sent. */
static int push(tc_run *run, const step *s, uint32_t message) {
    pair *q = pair_of(run, s);
    const ticket *t = ticket_of(run, message);
    int64_t bytes = run->length[message];
    if (t->stage == WAITING) {
        int status = look(run, s, message, q);
        if (status != TC_OK || run->state[message] == DONE) return status;
    }
    shm_line line = {.run = run->number, .message = number_of(run, s, message), .bytes = (uint64_t)bytes};
    if (t->stage == IN_PARTS) return write_parts(run, line, message, q);
    return bytes <= EAGER ? write_whole(run, line, message, q) : announce(run, line, message, q);
}

static int shm_send(tc_run *run, const step *s, uint32_t message) {
    int status = pair_open(pair_of(run, s));
    if (status != TC_OK) return message_failed(run, s, message, status, 0, 0);
    run->comm->shared->unsent++;
    *ticket_of(run, message) = (ticket){UNWRITTEN, 0};
    status = push(run, s, message);
    return status == TC_AGAIN ? TC_OK : status;
}

/* --- receiving ----------------------------------------------------------------------------------------------------- */
static tc_run *find_run(const tc_comm *comm, uint64_t number) {
    tc_run *run = comm->active;
    while (run && run->number != number) run = run->next;
    return run;
}

/* Return the message that is a peer's number `number` to this rank, or NONE. */
static uint32_t find_message(const tc_program *p, uint32_t peer, uint32_t number) {
    uint32_t low = 0, high = p->nsources;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if ((uint32_t)p->sources[middle].peer < peer) low = middle + 1;
        else high = middle;
    }
    const source *found = &p->sources[low];
    return low < p->nsources && (uint32_t)found->peer == peer && number < found->count ? found->first + number : NONE;
}

static int answer(pair *q, const shm_line *line, uint64_t with) {
    if (line->kind != ANNOUNCED) return TC_OK;
    int status = pair_open(q);
    if (status == TC_OK) atomic_store_explicit(&q->out->answers[line->slot % ANSWERS], with, memory_order_release);
    return status;
}

/* Note that a message is none that the run expects, or has another length; the run ends with that. */
static int wrong(tc_run *run, pair *q, const shm_line *line, uint64_t needed) {
    run->failure = (tc_failure){.peer = q->peer, .message = line->message, .found = line->bytes, .needed = needed,
                                .step = run->at.step};
    run->fault = TC_ERR_LENGTH;
    return answer(q, line, needed << 2 | OTHER_LENGTH);
}

static int received(tc_run *run, pair *q, uint32_t message) {
    q->expected--;
    run->moved++;
    message_over(run, message);
    return TC_OK;
}

static int take_part(tc_run *run, pair *q, const shm_line *line, uint32_t message, const char *data) {
    if (line->part > line->bytes || line->from > line->bytes - line->part) return TC_ERR_PROGRAM;
    memcpy(run->data[message] + line->from, data, line->part);
    run->moved++;
    run->finished[message]++;
    return (uint64_t)run->finished[message] * PIECE >= line->bytes ? received(run, q, message) : TC_OK;
}

static int fetch(tc_run *run, pair *q, const shm_line *line, uint32_t message) {
    int status = run->comm->shared->way == TC_SHARE_READ
                     ? pair_fetch(q, run->data[message], line->at, line->bytes) : TC_ERR_DENIED;
    if (status == TC_ERR_PEER_LOST) return TC_OK; /* whoever waits finds that out */
    if (status == TC_OK) received(run, q, message);
    return answer(q, line, status == TC_OK ? FETCHED : REFUSED);
}

/* The first run that has not begun here: not started, or waiting for its tag. */
static uint64_t first_to_come(const tc_comm *comm) {
    return comm->waiting ? comm->waiting->number : comm->calls;
}

/* Give a line to the run that it is for. TC_OK: it is of no more use · TC_AGAIN: nobody expects it yet. */
static int deliver(tc_comm *comm, pair *q, const shm_line *line, const char *data) {
    tc_run *run = find_run(comm, line->run);
    if (run == NULL && line->run >= first_to_come(comm)) return TC_AGAIN;
    if (run == NULL) return answer(q, line, FETCHED); /* of a run that failed */
    uint32_t message = find_message(run->program, q->peer, line->message);
    if (message == NONE) return wrong(run, q, line, 0);
    if (run->state[message] == ABSENT) return TC_AGAIN;
    uint64_t needed = (uint64_t)run->length[message];
    if (run->state[message] == DONE || line->bytes != needed) return wrong(run, q, line, needed);
    if (line->kind == ANNOUNCED) return fetch(run, q, line, message);
    if (line->kind == PART) return take_part(run, q, line, message, data);
    if (needed) memcpy(run->data[message], data, needed);
    return received(run, q, message);
}

/* Take what has come, as long as something is expected. */
static int poll(tc_comm *comm, pair *q) {
    const char *data;
    for (const shm_line *line = pair_next(q, &data); line && q->expected; line = pair_next(q, &data)) {
        int status = deliver(comm, q, line, data);
        if (status == TC_AGAIN) status = pair_keep(q, line, data);
        if (status != TC_OK) return status;
        pair_took(q, line);
    }
    return TC_OK;
}

/* Lines that came too early were kept; is one of them the message? */
static int find_kept(tc_run *run, pair *q, uint32_t number) {
    for (kept **at = &q->kept; *at; at = &(*at)->next) {
        kept *k = *at;
        if (k->line.run != run->number || k->line.message != number) continue;
        int status = deliver(run->comm, q, &k->line, k->data);
        *at = k->next;
        free(k);
        return status;
    }
    return TC_OK;
}

static int shm_receive(tc_run *run, const step *s, uint32_t message) {
    pair *q = pair_of(run, s);
    q->expected++;
    return q->kept ? find_kept(run, q, number_of(run, s, message)) : TC_OK;
}

static int shm_test(tc_run *run, const step *s, uint32_t message) {
    if (s->code == SEND) return push(run, s, message);
    int status = poll(run->comm, pair_of(run, s));
    if (status != TC_OK) return message_failed(run, s, message, status, 0, 0);
    return run->state[message] == DONE ? TC_OK : TC_AGAIN;
}

const port shm_port = {shm_send, shm_receive, shm_test, NULL};

/* --- for whoever waits --------------------------------------------------------------------------------------------- */
static int push_all(tc_run *run) {
    const tc_program *p = run->program;
    for (uint32_t k = 0; k < run->nposted; k++) {
        uint32_t message = run->posted[k];
        const step *s = &p->steps[p->poster[message]];
        if (s->code != SEND || run->state[message] == DONE || run->comm->ports[s->peer] != &shm_port) continue;
        int status = push(run, s, message);
        if (status < TC_OK) return status;
    }
    return TC_OK;
}

int shm_progress(tc_comm *comm) {
    struct shared *shared = comm->shared;
    for (uint32_t i = 0; i < shared->members; i++) {
        pair *q = &shared->pairs[i];
        int status = q->expected ? poll(comm, q) : TC_OK;
        if (status != TC_OK) return status;
    }
    for (tc_run *run = comm->active; run && shared->unsent; run = run->next)
        if (run->fault == TC_OK) run->fault = push_all(run);
    return TC_OK;
}

void shm_ended(tc_run *run) {
    struct shared *shared = run->comm->shared;
    if (run->status < TC_OK) shared->broken = true;
    /* runs that are under way at one time may end in another order: then this one is not said to have ended */
    if (run->status == TC_OK && run->comm->active == NULL)
        atomic_store_explicit(&shared->face->ended, first_to_come(run->comm), memory_order_release);
}

void shm_close(tc_comm *comm) {
    struct shared *shared = comm->shared;
    for (uint32_t i = 0; i < shared->members; i++) {
        pair *q = &shared->pairs[i];
        if (q->out && !q->pointer) pool_unmap(q->out, PAIR_BYTES);
        if (q->face && !q->pointer) pool_unmap(q->face, PAGE);
        for (kept *k = q->kept, *next; k; k = next) {
            next = k->next;
            free(k);
        }
    }
    atomic_store_explicit(&shared->face->key, 0, memory_order_release);
    if (!shared->broken) pool_give(shared->offset, shared->face, shared->bytes);
    free(shared->of);
    free(shared);
}
