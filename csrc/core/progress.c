/* Progress: driving all transports, once or until nothing is under way. */
#include "internal.h"

#define LOST_SECONDS 1.0 /* how long a flush goes on once a peer is lost */

int progress(tc_context *context) {
    if (pthread_mutex_trylock(&context->lock)) return TC_OK;
    int status = TC_OK;
    bool found = false;
    for (uint32_t i = 0; i < TRANSPORTS && status >= 0; i++) {
        tc_transport *t = context->transports[i];
        if (t && t->progress) status = t->progress(t);
        found |= status > 0;
    }
    if (found) context->looked = now();
    pthread_mutex_unlock(&context->lock);
    return status < 0 ? status : TC_OK;
}

int tc_context_progress(tc_context *context) {
    return context ? progress(context) : TC_ERR_ARGUMENT;
}

static bool idle(tc_context *context) {
    bool quiet = true;
    enter(context);
    for (uint32_t i = 0; i < TRANSPORTS; i++) {
        tc_transport *t = context->transports[i];
        if (t && t->idle && !t->idle(t)) quiet = false;
    }
    leave(context);
    return quiet;
}

static int somebody_lost(tc_context *context) {
    for (uint32_t r = 0; r < context->options.size; r++)
        if (context->peers[r].connected && tc_peer_alive(context, r) == TC_ERR_PEER_LOST) return lose(context, r);
    return TC_OK;
}

/* Drives everything until no operation of this rank is under way. Which peers those lead to only the transports know, so
 * that a lost one may not matter: it is named where the rest does not end soon after. */
int tc_context_flush(tc_context *context, double seconds) {
    patience p;
    bool check;
    double lost = 0;
    if (!context) return TC_ERR_ARGUMENT;
    patience_start(&p, seconds);
    while (!idle(context)) {
        int status = progress(context);
        if (status < 0) return status;
        status = patience_step(context, &p, &check);
        if (check && lost == 0 && somebody_lost(context) != TC_OK) lost = now();
        if (lost > 0 && now() - lost > LOST_SECONDS) return TC_ERR_PEER_LOST;
        if (status) return status;
    }
    return TC_OK;
}
