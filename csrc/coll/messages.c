/* Messages of a run, whichever port leads to the peer: where they lie, and packing what does not lie together. */
#include <string.h>

#include "run.h"

/* Return where the runs of a step lie if they are one piece of memory, empty ones aside; else NULL and their bytes. */
static segment whole(const tc_run *run, const step *s, uint32_t turn) {
    segment out = {NULL, 0};
    bool apart = false;
    for (int32_t k = 0; k < s->runs; k++) {
        segment next = range_of(run, (uint32_t)s->first, (uint32_t)k, turn);
        if (next.bytes == 0) continue;
        if (out.bytes == 0) out.at = next.at;
        apart = apart || out.at + out.bytes != next.at;
        out.bytes += next.bytes;
    }
    if (apart) out.at = NULL;
    return out;
}

static void pack(const tc_run *run, const step *s, uint32_t turn, char *packed, bool out) {
    for (int32_t k = 0; k < s->runs; k++) {
        segment part = range_of(run, (uint32_t)s->first, (uint32_t)k, turn);
        if (part.bytes == 0) continue;
        memcpy(out ? part.at : packed, out ? packed : part.at, (size_t)part.bytes);
        packed += part.bytes;
    }
}

int message_post(tc_run *run, const step *s, uint32_t message) {
    uint32_t turn = message - run->program->message[s - run->program->steps];
    segment data = whole(run, s, turn);
    run->finished[message] = 0;
    run->length[message] = data.bytes;
    if (data.bytes == 0 && step_blocks(run->program, s)) {
        run->state[message] = DONE; /* neither side sends what holds no bytes */
        return TC_OK;
    }
    bool apart = data.bytes && data.at == NULL;
    if (apart || (data.bytes && s->code == RECV && s->flags & LAND)) data.at = landing_of(run, message);
    if (apart && s->code == SEND) pack(run, s, turn, data.at, false);
    run->data[message] = data.at;
    run->state[message] = UNDER_WAY;
    run->posted[run->nposted++] = message;
    run->pending++;
    run->under_way += (uint64_t)data.bytes;
    const port *to = run->comm->ports[s->peer];
    return s->code == SEND ? to->send(run, s, message) : to->receive(run, s, message);
}

/* A message that came packed is taken to where it belongs. */
static void unpack(tc_run *run, const step *s, uint32_t message) {
    if (s->code != RECV || s->flags & LAND || s->runs < 2) return;
    uint32_t turn = message - run->program->message[s - run->program->steps];
    if (whole(run, s, turn).at == NULL) pack(run, s, turn, run->data[message], true);
}

void message_over(tc_run *run, uint32_t message) {
    run->state[message] = DONE;
    run->pending--;
    run->under_way -= (uint64_t)run->length[message];
    unpack(run, &run->program->steps[run->program->poster[message]], message);
}

int message_test(tc_run *run, uint32_t message) {
    if (run->state[message] == DONE) return TC_OK;
    const step *s = &run->program->steps[run->program->poster[message]];
    return run->comm->ports[s->peer]->test(run, s, message);
}

void message_taken(tc_run *run, uint32_t message) {
    const step *s = &run->program->steps[run->program->poster[message]];
    const port *from = run->comm->ports[s->peer];
    if (from->taken) from->taken(run, s, message);
}
