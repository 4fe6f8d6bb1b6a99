/* Waiting for the other ranks of a node: polls, yields and late sleep; MPI is driven meanwhile, the dead are named. */
#include "pause.h"
#include "shared_node.h"

#define CHECK 0.25         /* seconds between two looks whether those waited for are alive */

void wait_again(tc_node *node) {
    node->polls = 0;
    node->since = 0;
}

/* Let MPI move messages of the program: another rank may need them before it comes here. */
static int drive_mpi(tc_node *node) {
    const tc_node_mpi *mpi = &node->mpi;
    int code = mpi_progress(mpi->iprobe, mpi->any_source, mpi->any_tag, mpi->handle);
    if (code == 0) return TC_OK;
    tc_node_fault fault = {.rank = node->rank, .peer = node->rank, .number = node->calls - 1, .code = code};
    return node_break(node, TC_ERR_MPI, &fault);
}

static bool alive(const tc_node *node, uint32_t rank) {
    const station *s = &node->stations[rank];
    return process_state(atomic_load(&s->pid), atomic_load(&s->start)) != GONE;
}

static int find_dead(tc_node *node, missing_function missing) {
    for (uint32_t rank = 0; rank < node->size; rank++) {
        if (!missing(node, rank) || alive(node, rank) || !missing(node, rank)) continue; /* its line outlives it */
        tc_node_fault fault = {.rank = node->rank, .peer = rank, .number = node->calls - 1};
        return node_break(node, TC_ERR_PEER_LOST, &fault);
    }
    return TC_OK;
}

int wait_pause(tc_node *node, missing_function missing, double seconds) {
    if (seconds < 0) return TC_AGAIN; /* of whoever only looks */
    if (node->polls++ < node->spins) {
        relax();
        return TC_OK;
    }
    double time = seconds_now();
    if (node->since == 0) node->since = node->checked = time;
    if (node->limit == 0) node->limit = time + seconds;
    int status = node_sound(node);
    if (status == TC_OK && time - node->since > AT_ONCE) status = drive_mpi(node);
    if (status != TC_OK) return status;
    double waited = time - node->since;
    time = waited < LATE ? yield_core(&node->spins, 0, node->most_spins, time) : sleep_late(waited);
    if (time - node->checked > CHECK) {
        node->checked = time;
        status = find_dead(node, missing);
        if (status != TC_OK) return status;
    }
    return time < node->limit ? TC_OK : TC_AGAIN;
}
